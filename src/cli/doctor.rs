//! `doctor`: what is wrong on this machine, worst first. Here the findings are the data.
//!
//! Must not know how they were found. Starts no thread before the sandbox was looked at.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::daemon;
use crate::doctor::{self, Finding, Severity};
use crate::settings::{DEFAULT_PATH, Settings};

use super::output::{Failure, Screen};
use super::serve::load;
use super::tree::DoctorArgs;

pub(super) fn doctor(arguments: &DoctorArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let mut settings = settings(arguments, screen)?;
    let sandbox = doctor::look_at_sandbox();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system(anyhow::Error::new(error).context("cannot start the runtime")))?;
    let facts = runtime.block_on(async {
        let obstacle = match &mut settings {
            Some(settings) => decide(settings).await,
            None => None,
        };
        doctor::look(settings.as_ref(), obstacle, sandbox).await
    });
    // A look that was given up may still hold a thread.
    runtime.shutdown_background();
    let findings = doctor::diagnose(settings.as_ref(), &facts);
    screen.data(&if arguments.json { spell(&findings) } else { tell(&findings, screen.stdout_colour()) })?;
    Ok(ExitCode::from(doctor::exit_code(&findings)))
}

/// A file that was named must be sound; the usual one must be, if it is there.
fn settings(arguments: &DoctorArgs, screen: &mut Screen) -> Result<Option<Settings>, Failure> {
    let usual = Path::new(DEFAULT_PATH);
    match &arguments.config {
        Some(file) => load(file, screen).map(Some),
        // One that cannot be looked for is not taken for none.
        None if matches!(usual.try_exists(), Ok(false)) => Ok(None),
        None => load(usual, screen).map(Some),
    }
}

/// Puts into the settings all that serve would capture here; returns what hinders telling it, and the next step.
async fn decide(settings: &mut Settings) -> Option<(String, String)> {
    let error = match tokio::time::timeout(PATIENCE, daemon::captured(settings)).await {
        Ok(Ok(config)) => {
            settings.capture = config;
            return None;
        }
        Ok(Err(error)) => error,
        Err(_) => return Some(("Docker or the kernel did not answer".to_owned(), LOOK.to_owned())),
    };
    let hint = error.hint().unwrap_or_else(|| LOOK.to_owned());
    Some((format!("{:#}", anyhow::Error::new(error)), hint))
}

/// For Docker and the kernel to say which interfaces there are.
const PATIENCE: Duration = Duration::from_secs(10);

const LOOK: &str = "`ip -brief address` and `docker network ls` show what there is";

fn spell(findings: &[Finding]) -> String {
    let all: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.as_str(),
                "code": finding.code.as_str(),
                "subject": finding.subject,
                "what": finding.what,
                "why": finding.code.why(),
                "fix": finding.fix,
            })
        })
        .collect();
    format!("{:#}\n", json!(all))
}

fn tell(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = finding.severity.as_str().to_ascii_uppercase();
        let (start, cyan, plain) =
            if colour { (paint(finding.severity), "\u{1b}[1;96m", "\u{1b}[0m") } else { ("", "", "") };
        text.push_str(&format!("{start}{severity:<8}{plain}{}  {}\n", finding.code, finding.subject));
        text.push_str(&format!("        {}\n        ({})\n", finding.what, finding.code.why()));
        text.push_str(&format!("   {cyan}fix{plain}: {}\n\n", finding.fix.replace('\n', "\n        ")));
    }
    text.push_str(&summary(findings));
    text
}

fn paint(severity: Severity) -> &'static str {
    match severity {
        Severity::Leak | Severity::Broken => "\u{1b}[1;91m",
        Severity::Risk | Severity::Unseen => "\u{1b}[1;93m",
        Severity::Advice => "\u{1b}[1;94m",
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counted = Severity::ALL.map(|severity| (severity.as_str(), count(severity)));
    let told: Vec<String> = counted
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if told.is_empty() { "nothing found\n".to_owned() } else { format!("{}\n", told.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Code;

    fn findings() -> Vec<Finding> {
        let finding = |code: Code, subject: &str, what: &str, fix: &str| Finding {
            severity: code.severity(),
            code,
            subject: subject.to_owned(),
            what: what.to_owned(),
            fix: fix.to_owned(),
        };
        vec![
            finding(
                Code::ForwardingUnfenced,
                "br-egress, IPv6",
                "there is no table inet namegate, and br-egress, IPv6 is routed",
                "ip -6 rule add iif br-egress priority 101 protocol 78 prohibit, then start namegate serve",
            ),
            finding(Code::ContainerNetRaw, "web", "it has the capability NET_RAW", "cap_drop: [NET_RAW]"),
            finding(Code::NotSeen, "ruleset", "no privilege", "sudo namegate doctor"),
            finding(Code::ExecUnavailable, "namespaces", "AppArmor", "write this:\n  profile x {}"),
        ]
    }

    #[test]
    fn people_read_a_paragraph_for_each_and_a_sum() {
        insta::assert_snapshot!(tell(&findings(), false));
        assert_eq!(tell(&[], false), "nothing found\n");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let coloured = tell(&findings(), true);
        assert!(coloured.contains("\u{1b}[1;91mLEAK    \u{1b}[0mforwarding_unfenced"));
        assert!(!tell(&findings(), false).contains('\u{1b}'));
    }

    #[test]
    fn programs_read_an_array_with_the_same_fields_for_each() {
        insta::assert_snapshot!(spell(&findings()));
        assert_eq!(spell(&[]), "[]\n");
    }
}
