//! Names that captured processes of this host learn past port 53: over sockets of services that look them up.
//!
//! Must not know DNS.

use crate::doctor::facts::{Facts, LookupService};
use crate::doctor::finding::{Code, Finding};
use crate::settings::Settings;

use super::known;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    if settings.local.is_none() || facts.lookups.services.is_empty() {
        return;
    }
    let Some(line) = known(&facts.lookups.line, "/etc/nsswitch.conf", found) else { return };
    found.extend(facts.lookups.services.iter().map(|service| judge(*service, line)));
}

/// What programs use by themselves is a risk; what one has to look for is worth knowing.
fn judge(service: LookupService, line: &str) -> Finding {
    let socket = service.socket();
    let told = |what: String, fix: String| Finding::new(Code::NamesBySocket, socket, what, fix);
    let hide = format!("`InaccessiblePaths=-{socket}` in the unit of each captured service");
    let module = match service {
        LookupService::Resolved => "resolve",
        LookupService::Sssd => "sss",
        // Libc asks it whatever the line says.
        LookupService::Nscd => {
            let what = "programs ask nscd for hosts before they ask DNS".to_owned();
            return told(what, "systemctl disable --now nscd".to_owned());
        }
    };
    if line.split_whitespace().any(|word| word == module) {
        let fix = format!("write `hosts: {}` in /etc/nsswitch.conf, and {hide}", without(line, module));
        return told(format!("/etc/nsswitch.conf says `hosts: {line}`"), fix);
    }
    let what = format!("/etc/nsswitch.conf does not name `{module}`, but whoever asks there is answered");
    told(what, hide).into_advice()
}

/// The line without this module and what is to be done about its answers, and with DNS.
fn without(line: &str, module: &str) -> String {
    let mut kept = Vec::new();
    let (mut dropping, mut in_brackets) = (false, false);
    for word in line.split_whitespace() {
        let opens = word.starts_with('[');
        if !opens && !in_brackets {
            dropping = word == module;
        }
        in_brackets = (opens || in_brackets) && !word.ends_with(']');
        if !dropping {
            kept.push(word);
        }
    }
    if !kept.contains(&"dns") {
        kept.push("dns");
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_goes_with_its_actions_and_dns_stays() {
        for (line, module, expected) in [
            (
                "files mymachines resolve [!UNAVAIL=return] myhostname dns",
                "resolve",
                "files mymachines myhostname dns",
            ),
            ("resolve [NOTFOUND=return SUCCESS=return] files", "resolve", "files dns"),
            (
                "files [SUCCESS=merge] sss dns [ !UNAVAIL=return ]",
                "sss",
                "files [SUCCESS=merge] dns [ !UNAVAIL=return ]",
            ),
            ("resolve", "resolve", "dns"),
        ] {
            assert_eq!(without(line, module), expected, "{line}");
        }
    }
}
