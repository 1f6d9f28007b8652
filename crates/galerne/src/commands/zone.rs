//! `galerne dns` (CONF-84): the records that a sender domain needs in its zone.

use std::path::Path;
use std::process::ExitCode;

use galerne_core::zone_records::{ZoneRecords, zone_records};
use serde_json::{Value, json};

use super::keygen::domain;
use super::{fail, print_json, settings};
use crate::cli::DnsArgs;
use crate::keys::public_record;
use crate::out::print;

/// Prints the records as lines for a zone file, or as JSON.
pub fn dns(root: &Path, args: &DnsArgs) -> ExitCode {
    let records = domain(&args.domain).and_then(|domain| {
        let settings = settings(root)?;
        Ok(zone_records(&settings, &domain, &public_record))
    });
    match records {
        Ok(records) if args.json => print_json(&document(&records), ExitCode::SUCCESS),
        Ok(records) => print(&records.to_string(), ExitCode::SUCCESS),
        Err(text) => fail(&text),
    }
}

fn document(found: &ZoneRecords) -> Value {
    let record = |record: &galerne_core::zone_records::ZoneRecord| {
        json!({
            "name": record.name(&found.domain),
            "type": record.data.kind(),
            "value": record.data.value(),
        })
    };
    let records: Vec<Value> = found.records.iter().map(record).collect();
    json!({
        "domain": found.domain,
        "records": records,
        "mtasts": {"url": found.policy.url, "text": found.policy.text},
        "notes": found.notes,
    })
}
