//! The judgement: a configuration and facts in, findings out, worst first.
//!
//! Pure: must not look at anything itself. One file for each family of checks.

mod capture;
mod containers;
mod evidence;
mod files;
mod limits;
mod names;
mod neighbours;
mod rules;
mod sandbox;
mod services;
#[cfg(test)]
mod tests;

use crate::settings::Settings;

pub(super) use rules::proxy_port;

use super::facts::{Facts, Seen};
use super::finding::{Code, Finding};

/// Judges a machine, with the configuration that is to hold on it or without any.
pub fn diagnose(settings: Option<&Settings>, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    match settings {
        Some(settings) => {
            capture::check(settings, facts, &mut found);
            rules::check(settings, facts, &mut found);
            services::check(settings, facts, &mut found);
            neighbours::check(settings, facts, &mut found);
            names::check(settings, facts, &mut found);
            evidence::check(settings, facts, &mut found);
            containers::check(settings, facts, &mut found);
            files::check(settings, facts, &mut found);
            limits::check(settings, facts, &mut found);
        }
        None => found.push(Finding::new(
            Code::NoConfiguration,
            crate::settings::DEFAULT_PATH,
            "there is no configuration file, and none was named",
            "namegate doctor --config FILE; config/minimal.toml is one to begin with",
        )),
    }
    sandbox::check(settings.is_some(), facts, &mut found);
    limits::check_clock(facts, &mut found);
    for finding in found.iter_mut().filter(|finding| finding.code == Code::NotSeen) {
        finding.fix = to_see(settings, facts);
    }
    found.sort_by(|one, other| {
        (one.severity, one.code, &one.subject).cmp(&(other.severity, other.code, &other.subject))
    });
    found
}

/// What makes a look succeed that failed.
fn to_see(settings: Option<&Settings>, facts: &Facts) -> String {
    if facts.looker.root && facts.looker.net_admin {
        return "run it where the gate runs: outside of this container or sandbox".to_owned();
    }
    match settings.and_then(|settings| settings.path.as_ref()) {
        Some(path) => format!("sudo namegate doctor --config {}", path.display()),
        None => "sudo namegate doctor".to_owned(),
    }
}

/// Returns what was seen; else says that it was not.
fn known<'a, T>(seen: &'a Seen<T>, subject: &str, found: &mut Vec<Finding>) -> Option<&'a T> {
    match seen {
        Ok(value) => Some(value),
        Err(why) => {
            found.push(Finding::not_seen(subject, why.clone()));
            None
        }
    }
}
