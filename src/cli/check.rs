//! `check`: what is wrong with a configuration. Here the findings are the data.
//!
//! Must not know how they were found.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::settings::{self, Error, Report, SandboxArguments};
use crate::sys::clock;

use super::output::{Failure, Screen};
use super::serve::{count, unreadable};
use super::tree::CheckArgs;

pub(super) fn check(arguments: &CheckArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let now = clock::now().wall;
    let outcome = if arguments.exec {
        let policy = SandboxArguments { policy: Some(arguments.file.clone()), ..SandboxArguments::default() };
        settings::sandbox(&policy, now).map(|checked| (checked.settings.policy, checked.report))
    } else {
        settings::load(&arguments.file, now).map(|checked| (checked.settings.policy, checked.report))
    };
    let (rules, report) = match outcome {
        Ok((policy, report)) => (Some(policy.rules().len()), report),
        Err(Error::Faulty { report }) => (None, report),
        Err(error @ Error::Unreadable { .. }) => return Err(unreadable(error)),
    };
    let text = if arguments.json {
        let findings: Vec<_> = report.findings().iter().map(|finding| spell(&report, finding)).collect();
        let value = json!({ "ok": rules.is_some(), "rules": rules, "findings": findings });
        format!("{value:#}\n")
    } else {
        let end = match rules {
            Some(rules) => {
                let (rules, warnings) = (count(rules, "rule"), count(report.warnings(), "warning"));
                format!("{}: fine: {rules}, {warnings}\n", arguments.file.display())
            }
            None => {
                let (errors, warnings) =
                    (count(report.errors(), "error"), count(report.warnings(), "warning"));
                format!("{}: {errors}, {warnings}\n", arguments.file.display())
            }
        };
        report.render(screen.stdout_colour()) + &end
    };
    screen.data(&text)?;
    Ok(if rules.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn spell(report: &Report, finding: &settings::Finding) -> Value {
    let mut value = json!({ "severity": finding.severity().as_str(), "message": finding.message() });
    if let Some(place) = report.place(finding) {
        value["file"] = json!(place.path.to_string_lossy());
        value["line"] = json!(place.line);
        value["column"] = json!(place.column);
        value["text"] = json!(place.text);
    }
    if let Some(hint) = finding.hint_text() {
        value["hint"] = json!(hint);
    }
    value
}
