//! `capture.local`: which processes of this host are captured.
//!
//! Must not know which users and control groups there are: that is a matter of the machine, asked at the start.

use toml::de::DeValue;

use crate::nft::{LocalConfig, Locals};

use super::finding::Finding;
use super::scalar::Complaint;
use super::section::{Section, Text};

/// The processes of this host that are captured, as they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// Whose.
    pub who: LocalWho,
    /// Port of the TCP listener for them.
    pub proxy_port: u16,
    /// Port of the DNS listener for them.
    pub dns_port: u16,
}

/// Whose processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalWho {
    /// Everybody's but those of the user that runs the gate.
    AllButGate,
    /// Those of these.
    These {
        /// Names or numbers.
        users: Vec<String>,
        /// Paths below the root of the cgroup2 hierarchy.
        cgroups: Vec<String>,
    },
}

impl LocalSettings {
    /// Says whose they are, for people.
    pub fn told(&self) -> Vec<String> {
        match &self.who {
            LocalWho::AllButGate => vec!["everybody but the gate".to_owned()],
            LocalWho::These { users, cgroups } => {
                let users = users.iter().map(|user| format!("user {user}"));
                users.chain(cgroups.iter().map(|group| format!("cgroup {group}"))).collect()
            }
        }
    }

    /// Returns what the ruleset is made of, once it is known who is meant.
    pub fn config(&self, who: Locals, gate: u32) -> LocalConfig {
        LocalConfig { who, proxy_port: self.proxy_port, dns_port: self.dns_port, gate }
    }
}

/// Reads `local`, a word or a table.
pub(super) fn read(section: &mut Section<'_>, proxy_port: u16, dns_port: u16) -> Option<LocalSettings> {
    let value = section.value("local")?;
    let settings = |who| Some(LocalSettings { who, proxy_port, dns_port });
    if let Some(text) = section.as_text(value) {
        if text.value == "all" {
            return settings(LocalWho::AllButGate);
        }
        section.complain(text.span, Complaint::new("unknown value of `local`").hint(HINT));
        return None;
    }
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        section.sheet.push(section.mistyped(value, "local", "\"all\" or a table").hint(HINT));
        return None;
    }
    let mut table = section.section("local");
    let before = table.sheet.errors();
    let users = once(&mut table, "users", user);
    let cgroups = once(&mut table, "cgroups", cgroup);
    if users.is_empty() && cgroups.is_empty() && table.sheet.errors() == before {
        table.sheet.push(Finding::error(table.span(value.span()), "`local` captures nobody").hint(HINT));
    }
    table.finish();
    settings(LocalWho::These { users, cgroups })
}

fn once(
    table: &mut Section<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), Complaint>,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for Text { value, span } in table.texts(key).unwrap_or_default() {
        match check(value) {
            Ok(()) if found.iter().any(|known| known == value) => {
                table.complain(span, Complaint::new(format!("`{value}` is listed twice")));
            }
            Ok(()) => found.push(value.to_owned()),
            Err(complaint) => table.complain(span, complaint),
        }
    }
    found
}

/// A name as useradd(8) takes it, or a number; the last number stands for no user (chown(2)).
fn user(text: &str) -> Result<(), Complaint> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-$@\\".contains(&byte));
    let fits = if number { text.parse().is_ok_and(|uid: u32| uid != u32::MAX) } else { name };
    if fits && !text.is_empty() && !text.starts_with('-') {
        return Ok(());
    }
    Err(Complaint::new("not a user").hint("a name or a number of a user of this host: \"app\", \"1000\""))
}

fn cgroup(text: &str) -> Result<(), Complaint> {
    let path = text.strip_prefix('/').unwrap_or(text);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(plain) && !path.contains('\0') && !path.starts_with("sys/fs/cgroup") {
        return Ok(());
    }
    Err(Complaint::new("not the path of a control group").hint(
        "below the root of the hierarchy, as `systemctl show -p ControlGroup app.service` or the line `0::` of \
         /proc/PID/cgroup says it: \"system.slice/app.service\"",
    ))
}

const HINT: &str = "local = { users = [\"app\"], cgroups = [\"system.slice/app.service\"] }, or local = \"all\" \
                    in the network namespace of a sidecar";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers() {
        for text in ["app", "1000", "0", "www-data", "_apt", "svc$", "user@example.com"] {
            assert!(user(text).is_ok(), "{text}");
        }
        for text in ["", "4294967295", "99999999999", "-1", "a b", "a\"", "a\n", "root;"] {
            assert!(user(text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_groups_are_paths_below_the_root() {
        for text in ["a", "/a", "system.slice/app.service", "a/b-c\\x2dd.scope"] {
            assert!(cgroup(text).is_ok(), "{text}");
        }
        for text in ["", "/", "a//b", "a/", "../a", "a/./b", "/sys/fs/cgroup/a"] {
            assert!(cgroup(text).is_err(), "{text}");
        }
    }
}
