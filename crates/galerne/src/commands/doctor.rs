//! `galerne doctor`: looks at the machine, the configuration and at what others see of us, and says
//! for each finding what to do. What is found is weighed in `galerne_core::doctor`; here it is asked
//! and measured. Every look has an end: without a network it says so.

pub mod certificates;
mod clock;
mod machine;
mod names;
mod reach;
mod tls;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use galerne_config::Level;
use galerne_core::doctor::{Finding, Severity};
use galerne_core::settings::Settings;
use galerne_dns::HickoryResolver;
use serde_json::{Value, json};

use super::{fail, is_root_of_a_tree, print_json};
use crate::cli::DoctorArgs;
use crate::house::load;
use crate::out::print;

/// Looks at everything; exit 1 when somebody must act.
pub fn doctor(root: &Path, args: &DoctorArgs) -> ExitCode {
    let findings = match findings(root, args) {
        Ok(findings) => findings,
        Err(text) => return fail(&text),
    };
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (act, advice, good) = (
        count(Severity::Act),
        count(Severity::Advice),
        count(Severity::Good),
    );
    let code = match act {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    eprintln!("{act} to act on, {advice} with advice, {good} ok");
    if args.json {
        let findings: Vec<Value> = findings.iter().map(document).collect();
        let document = json!({"act": act, "advice": advice, "ok": good, "findings": findings});
        return print_json(&document, code);
    }
    let lines: Vec<String> = findings.iter().map(|f| format!("{f}\n")).collect();
    print(&lines.concat(), code)
}

fn document(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.word(),
        "check": finding.check,
        "subject": finding.subject,
        "found": finding.found,
        "expected": finding.expected,
        "do": finding.advice,
    })
}

fn findings(root: &Path, args: &DoctorArgs) -> Result<Vec<Finding>, String> {
    is_root_of_a_tree(root)?;
    let loaded = load(root, true, false);
    let mut findings = configuration(&loaded);
    let Some(settings) = loaded.settings else {
        return Ok(findings);
    };
    let settings = Arc::new(settings);
    findings.extend(machine::findings(root, &settings, args.no_bind_check));
    findings.extend(certificates::findings(&root.join("certs"), &settings));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    findings.extend(runtime.block_on(outside(settings, args)));
    Ok(findings)
}

/// What `galerne check` says, in short.
fn configuration(loaded: &galerne_config::Loaded) -> Vec<Finding> {
    let advice = "`galerne check` shows all of it";
    let errors = loaded.findings.iter().filter(|f| f.level == Level::Error);
    let mut findings: Vec<Finding> = errors
        .map(|f| {
            let place = format!("{}:{}", f.file, f.line);
            Finding::act("config", place, &f.text, "no error", advice)
        })
        .collect();
    match loaded.count(Level::Warning) {
        _ if !findings.is_empty() => {}
        0 => findings.push(Finding::good(
            "config",
            "galerne.ini",
            "no error, no warning",
        )),
        more => findings.push(
            Finding::act(
                "config",
                "galerne.ini",
                format!("{more} warning(s)"),
                "none",
                advice,
            )
            .or_advice(),
        ),
    }
    findings
}

/// All that needs the network, at the same time.
async fn outside(settings: Arc<Settings>, args: &DoctorArgs) -> Vec<Finding> {
    let resolver = match HickoryResolver::new(&settings.dns) {
        Ok(resolver) => Arc::new(resolver),
        Err(why) => {
            let advice = "correct [dns] in galerne.ini, or /etc/resolv.conf";
            return vec![Finding::act("dns", "resolver", why, "name servers", advice)];
        }
    };
    let (clock, reach, names, tls) = tokio::join!(
        clock::finding(&resolver, &args.clock),
        reach::findings(&settings, &resolver, args.probe.as_deref()),
        names::findings(settings.clone(), resolver.clone()),
        tls::findings(settings.clone(), resolver.clone()),
    );
    let mut findings = vec![clock];
    findings.extend(reach);
    findings.extend(names);
    findings.extend(tls);
    findings
}
