//! Fuzz targets: functions that take any bytes and check what must always hold (T-09).

use std::net::IpAddr;

use crate::csv::Table;
use crate::document::Document;
use crate::registry::File;
use crate::sheet::Sheet;

/// Any bytes as an INI file. Holds: printing gives the text back; a change can be read back and
/// leaves every other entry as it was; reading by the registry ends and its findings are single
/// lines.
pub fn ini(data: &[u8]) {
    for kind in File::ALL {
        let sheet = Sheet::read("fuzz.ini", kind, data, Some("fuzz"));
        for finding in &sheet.findings {
            let line = finding.to_string();
            assert!(
                !line.contains(['\n', '\r']),
                "a finding of several lines: {line:?}"
            );
        }
    }
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(
            Document::from_bytes(data).is_err(),
            "took bytes that are not UTF-8"
        );
        return;
    };
    let document = Document::parse(text);
    assert_eq!(document.to_string(), text, "printing changed the text");
    assert_eq!(Document::parse(&document.to_string()), document);
    change(&document);
}

fn change(document: &Document) {
    let entry = document.entries().last();
    let (section, key) = entry.map_or(("new", "key"), |e| (e.section, e.key));
    let mut changed = document.clone();
    if changed.set(section, key, "value of the fuzz").is_err() {
        return;
    }
    let again = Document::parse(&changed.to_string());
    assert_eq!(again, changed, "a change could not be read back");
    assert_eq!(again.get(section, key), Some("value of the fuzz"));
    let others = |d: &Document| -> Vec<(String, String, String)> {
        let own = |s: &str, k: &str| s.eq_ignore_ascii_case(section) && k.eq_ignore_ascii_case(key);
        d.entries()
            .filter(|e| !own(e.section, e.key))
            .map(|e| (e.section.into(), e.key.into(), e.value.into()))
            .collect()
    };
    assert_eq!(
        others(&again),
        others(document),
        "a change touched other keys"
    );
}

/// Any bytes as a CSV table. Holds: what was read, printed and read again is the same.
pub fn csv(data: &[u8]) {
    let Ok(table) = Table::parse(data) else {
        return;
    };
    let Ok(again) = Table::parse(table.print().as_bytes()) else {
        assert!(
            table.columns.is_empty(),
            "a printed table could not be read"
        );
        return;
    };
    let fields = |t: &Table| t.rows.iter().map(|r| r.fields.clone()).collect::<Vec<_>>();
    if table.columns.len() > 1 {
        assert_eq!(again.columns, table.columns);
        assert_eq!(fields(&again), fields(&table));
    }
}

/// Any text as values of every kind, and as `galerne.opts`.
pub fn values(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for kind in File::ALL {
        for key in kind.keys() {
            let _ = key.kind.check(&text);
        }
    }
    let _ = crate::options::parse_options(&text);
    if let Ok(network) = crate::values::network(&text) {
        let longest = match network.address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        assert!(network.prefix <= longest);
    }
}
