//! `status`: asks a running gate how it is.
//!
//! Must not know how it is asked, nor what makes it well.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::admin::{AdminConfig, AskError, TokenError};
use crate::daemon;
use crate::settings::{self, DEFAULT_PATH};
use crate::sys::socket_file::Access;

use super::output::{Failure, Screen};
use super::serve::accept;
use super::tree::StatusArgs;

/// Where it listens when neither an argument nor a configuration file says.
const DEFAULT_SOCKET: &str = "/run/namegate/admin.sock";

pub(super) fn status(arguments: &StatusArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let config = whom(arguments, screen)?;
    let text = daemon::ask(&config).map_err(|error| unanswered(error, &config))?;
    let told: Value = serde_json::from_str(&text)
        .map_err(|_| unanswered(daemon::AskFailure::Ask(AskError::Foreign), &config))?;
    let spelled = if arguments.json { text } else { spell(&told) };
    screen.data(&spelled)?;
    if told["healthy"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    screen.talk(&format!("not healthy: {}\n", words(&told["problems"]).join("; ")));
    Ok(ExitCode::from(1))
}

fn whom(arguments: &StatusArgs, screen: &mut Screen) -> Result<AdminConfig, Failure> {
    let at = |path: PathBuf| AdminConfig::Unix { path, access: Access { mode: 0o600, group: None } };
    if let Some(path) = &arguments.socket {
        let text = path.to_string_lossy();
        return Ok(at(text.strip_prefix("unix:").map_or_else(|| path.clone(), PathBuf::from)));
    }
    let file = match &arguments.config {
        Some(file) => file.as_path(),
        None if !Path::new(DEFAULT_PATH).exists() => return Ok(at(DEFAULT_SOCKET.into())),
        None => Path::new(DEFAULT_PATH),
    };
    match settings::load_admin(file) {
        Ok((Some(config), report)) => accept(Ok((config, report)), screen),
        Ok((None, _)) => Err(Failure::usage(anyhow::anyhow!("{} has no [admin] to ask at", file.display()))
            .hint(format!("[admin] listen = \"unix:{DEFAULT_SOCKET}\", or `namegate status --socket PATH`"))),
        Err(error) => accept(Err(error), screen),
    }
}

/// Says why there is no answer. Not running is an answer of a kind: no.
fn unanswered(failure: daemon::AskFailure, config: &AdminConfig) -> Failure {
    let place = match config {
        AdminConfig::Unix { path, .. } => path.display().to_string(),
        AdminConfig::Tcp { address, .. } => address.to_string(),
    };
    let error = match failure {
        daemon::AskFailure::Ask(error) => error,
        daemon::AskFailure::Runtime(error) => {
            return Failure::system(anyhow::Error::new(error).context("cannot start the runtime"));
        }
    };
    let (code, hint) = match &error {
        AskError::Absent { .. } => (1, "`namegate serve` opens the socket once `[admin] listen` names it"),
        AskError::Mute | AskError::Broken { .. } => {
            (1, "its own log tells more; a hung gate lets nothing pass")
        }
        AskError::Foreign => (1, "another program listens there"),
        AskError::Refused { source: Some(_) } => {
            (3, "root may, or `admin.socket_mode` and `admin.socket_group`")
        }
        AskError::Refused { source: None } => (3, "the gate reads `admin.token_file` when it starts"),
        AskError::Token(TokenError::Unreadable { .. }) => (3, "whoever may read the token may ask"),
        AskError::Token(TokenError::Unfit { .. }) => (2, "`head -c 32 /dev/urandom | base64` makes a token"),
    };
    Failure::system(anyhow::Error::new(error).context(format!("no status from {place}")))
        .code(code)
        .hint(hint)
}

/// Spells a status for people.
fn spell(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let health = if told["healthy"] == true { "healthy" } else { "NOT HEALTHY" };
    let mut lines =
        format!("namegate {}: {health}, since {}\n", text(&told["version"]), text(&told["since"]));
    let (policy, capture) = (&told["policy"], &told["capture"]);
    let reload = match policy["reload"]["outcome"].as_str() {
        Some(outcome) => format!("last reload {outcome}, {}", text(&policy["reload"]["at"])),
        None => "not reloaded".to_owned(),
    };
    let mut row = |what: &str, how: String| {
        let _ = writeln!(lines, "  {what:<10} {how}");
    };
    row("rules", format!("{} in force, mode {}; {reload}", number(&policy["rules"]), text(&told["mode"])));
    let captured = [words(&capture["networks"]), words(&capture["interfaces"]), words(&capture["local"])]
        .concat()
        .join(", ");
    let kernel = format!("kernel rules {} at {}", text(&capture["ruleset"]), text(&capture["checked"]));
    row("capture", format!("{captured}; {}; {kernel}", text(&capture["form"])));
    let flows = &told["flows"];
    let (open, allowed, denied) =
        (number(&flows["open"]), number(&flows["allowed"]), number(&flows["denied"]));
    row("flows", format!("{open} open; {allowed} let through, {denied} denied since the start"));
    row("answers", format!("{} in the ledger", number(&told["leases"])));
    row("audit", format!("{} lines lost", number(&told["log"]["lost"])));
    if let Some(connected) = told["docker"]["connected"].as_bool() {
        row("docker", if connected { "connected" } else { "not connected" }.to_owned());
    }
    for (kind, list) in [("problem", &told["problems"]), ("warning", &told["warnings"])] {
        for what in words(list) {
            row(kind, what);
        }
    }
    lines
}

fn words(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_a_few_lines_with_what_is_wrong_at_the_end() {
        let told = json!({
            "healthy": false, "problems": ["the kernel rules are missing"],
            "warnings": ["the audit log lost lines: 3"],
            "version": "0.1.0", "since": "2026-11-23T17:21:46Z", "mode": "observe",
            "policy": { "rules": 3, "generation": 1,
                "reload": { "at": "2026-11-23T17:22:46Z", "outcome": "refused", "why": "x" } },
            "leases": 12, "flows": { "open": 2, "allowed": 40, "denied": 3 },
            "capture": { "interfaces": ["br-a", "br-b"], "networks": ["egress"], "form": "redirect",
                "ruleset": "missing", "checked": "2026-11-23T17:23:46Z" },
            "listeners": [], "log": { "lost": 3 }, "docker": { "connected": true },
        });
        insta::assert_snapshot!(spell(&told));
    }

    #[test]
    fn an_answer_that_says_nothing_is_not_taken_for_health() {
        let told = spell(&json!({}));
        assert!(told.contains("NOT HEALTHY"), "{told}");
    }
}
