//! Any text as a configuration, as a container's label and as arguments of `exec`: what is taken has the
//! properties that the rest relies on, and what is found wrong has a place in the text.
#![no_main]

use std::cell::LazyCell;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use namegate::facts::Container;
use namegate::gate::{Action, ClientMatch, MatchBy, Mode, Pattern, Policy, Roster, Rule};
use namegate::settings::{
    ALLOW, Error, Report, SandboxArguments, Settings, Severity, deny_all, label_rules, load, load_admin,
    sandbox,
};

/// 2026-01-01: dates on both sides of it are written easily.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn sound_rule(rule: &Rule) {
    assert!(!rule.id.is_empty() && !rule.names.is_empty() && !rule.ports.0.is_empty(), "{rule:?}");
    assert!(rule.ports.0.iter().all(|(first, last)| 0 < *first && first <= last), "{rule:?}");
    for name in &rule.names {
        assert_eq!(Pattern::parse(name.as_str(), true).as_ref(), Ok(name), "{rule:?}");
    }
    if rule.by == MatchBy::Address {
        assert!(rule.action == Action::Allow && rule.protocols.is_empty() && rule.ech.is_none(), "{rule:?}");
    }
}

fn sound_policy(policy: &Policy) {
    for (at, rule) in policy.rules().iter().enumerate() {
        sound_rule(rule);
        assert!(policy.rules()[..at].iter().all(|other| other.id != rule.id), "{} twice", rule.id);
    }
    let defaults = policy.defaults();
    assert!(defaults.until.is_none() || defaults.mode == Mode::Observe);
}

fn sound_settings(settings: &Settings) {
    sound_policy(&settings.policy);
    let ledger = settings.ledger;
    assert!(ledger.max_leases >= 1 && ledger.max_leases_per_client >= 1);
    assert!(ledger.max_leases_per_client <= ledger.max_leases, "{ledger:?}");
    assert!(!settings.proxy.connect_timeout.is_zero() && !settings.proxy.sniff_timeout.is_zero());
    let needs_docker =
        settings.policy.rules().iter().flat_map(|rule| &rule.clients).any(|client| match client {
            ClientMatch::Container(_) | ClientMatch::Label { .. } | ClientMatch::Service(_) => true,
            ClientMatch::Net(_) | ClientMatch::User(_) | ClientMatch::UserName(_) => false,
        });
    assert!(settings.docker.is_some() || !needs_docker);
}

/// Renders it, and finds every place in one of the texts.
fn sound_report(report: &Report, text: &str) {
    assert_eq!(report.errors() + report.warnings(), report.findings().len());
    for finding in report.findings() {
        assert!(!finding.message().is_empty() && !finding.message().contains('\n'), "{finding:?}");
        let Some(place) = report.place(finding) else { continue };
        if place.path.ends_with("fuzzed.toml") {
            let line = text.split('\n').nth(place.line - 1).unwrap_or_else(|| panic!("{place:?}"));
            assert!(place.column <= line.chars().count() + 1, "{place:?}");
            assert!(text.contains(place.text));
        }
    }
    assert!(report.findings().is_empty() == report.render(false).is_empty());
    report.render(true);
    report.headline();
}

/// Returns what was accepted; what was not has errors that can be told.
fn settled<T>(result: Result<T, Error>, text: &str) -> Option<T> {
    match result {
        Ok(checked) => Some(checked),
        Err(Error::Faulty { report }) => {
            assert!(report.errors() > 0);
            sound_report(&report, text);
            None
        }
        Err(Error::Unreadable { .. }) => None,
    }
}

fn container(label: &str) -> Arc<Container> {
    Arc::new(Container {
        id: "c".repeat(64).into(),
        name: "web".into(),
        image: "image".into(),
        labels: vec![(ALLOW.into(), label.into())],
        started_at: "1".into(),
        addresses: vec![[192, 0, 2, 1].into()],
    })
}

fn as_label(text: &str) {
    let container = container(text);
    let rules = label_rules(&container).unwrap_or_else(|why| {
        assert!(!why.contains(char::is_control), "{why:?}");
        deny_all(&container).into_iter().collect()
    });
    let roster = Roster::default().succeed([&container], Default::default());
    let policy = Policy::compile(Vec::new(), Default::default()).unwrap();
    let policy = policy.and(rules.into_iter().map(Arc::new)).among(Arc::new(roster));
    for rule in policy.rules() {
        sound_rule(rule);
        // A label speaks of its own container alone, and opens nothing private.
        assert_eq!(rule.clients, [ClientMatch::Container(container.id.clone())]);
        assert!(!rule.private && rule.mode.is_none());
    }
}

fn as_arguments(text: &str) {
    let mut arguments = SandboxArguments::default();
    for (at, line) in text.lines().take(40).enumerate() {
        let list = match at % 4 {
            0 | 1 => &mut arguments.allow,
            2 => &mut arguments.deny,
            _ => &mut arguments.upstreams,
        };
        list.push(line.to_owned());
    }
    if let Some(checked) = settled(sandbox(&arguments, now()), text) {
        assert_eq!(checked.report.errors(), 0);
        sound_policy(&checked.settings.policy);
        // Nothing is allowed that no argument granted.
        let allowed = checked.settings.policy.rules().iter().filter(|rule| rule.action == Action::Allow);
        assert!(allowed.map(|rule| rule.names.len()).sum::<usize>() <= arguments.allow.len());
    }
}

fuzz_target!(|text: &str| {
    thread_local! {
        static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
    }
    FOLDER.with(|folder| {
        let path = folder.path().join("fuzzed.toml");
        fs::write(&path, text).unwrap();
        if let Some(checked) = settled(load(&path, now()), text) {
            assert!(checked.report.findings().iter().all(|finding| finding.severity() == Severity::Warning));
            sound_report(&checked.report, text);
            sound_settings(&checked.settings);
            // What one file says once it says again.
            assert!(load(&path, now()).is_ok() && load_admin(&path).is_ok());
        }
        let arguments = SandboxArguments { policy: Some(path), ..SandboxArguments::default() };
        if let Some(checked) = settled(sandbox(&arguments, now()), text) {
            sound_policy(&checked.settings.policy);
        }
    });
    as_label(text);
    as_arguments(text);
});
