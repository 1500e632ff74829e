//! `[docker]` and what depends on it: networks by name, clients by container, labels as rules.
//!
//! Must not know how Docker is asked.

use std::path::PathBuf;
use std::sync::Arc;

use crate::facts::Container;
use crate::gate::{Action, ClientMatch, MatchBy, Pattern, Ports, Rule};

use super::grant::{self, Grant};
use super::scalar::Complaint;
use super::section::Section;

/// What is asked of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// The socket that Docker listens on.
    pub socket: PathBuf,
    /// Networks that are captured, by name; empty: containers of every network are known.
    pub networks: Vec<String>,
    /// Whether labels on containers are rules.
    pub labels: bool,
    /// Whether containers of one captured bridge are kept apart.
    pub isolate: bool,
}

/// What `[docker]` itself says.
pub(super) struct Said {
    socket: Option<PathBuf>,
    labels: bool,
    isolate: bool,
    /// Whether there is such a table.
    there: bool,
}

/// Reads `[docker]`.
pub(super) fn read(mut section: Section<'_>) -> Said {
    let there = section.at.is_some();
    let socket = section.parsed("socket", socket);
    let (labels, _) = section.flag("labels");
    let (isolate, _) = section.flag("isolate");
    section.finish();
    Said { socket, labels, isolate, there }
}

impl Said {
    /// Returns what is asked of Docker; `None`: nothing here needs it. `clients`: whether a rule names containers.
    pub(super) fn settle(self, networks: Vec<String>, clients: bool) -> Option<DockerSettings> {
        let needed = self.there || clients || !networks.is_empty();
        needed.then(|| DockerSettings {
            socket: self.socket.unwrap_or_else(|| PathBuf::from(SOCKET)),
            networks,
            labels: self.labels,
            isolate: self.isolate,
        })
    }
}

/// Parses `unix:///run/docker.sock` or a plain absolute path.
fn socket(text: &str) -> Result<PathBuf, Complaint> {
    let hint = format!("\"{SOCKET}\", or \"unix://{SOCKET}\"");
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.contains("://") {
        let what = "only a unix socket tells containers apart from who pretends to be Docker";
        return Err(Complaint::new(what).hint(hint));
    }
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(Complaint::new("not the absolute path of a socket").hint(hint));
    }
    Ok(PathBuf::from(path))
}

/// Parses the name of a network, as Docker takes it.
pub(super) fn network(text: &str) -> Result<String, Complaint> {
    if is_name(text) && text.len() <= LONGEST_NAME {
        return Ok(text.to_owned());
    }
    Err(Complaint::new("not the name of a Docker network")
        .hint("as `docker network ls` prints it: letters, digits, '_', '.', '-'"))
}

/// Parses a client that is not an address: `container:`, `label:`, `service:` or `user:` and who.
///
/// `None`: it is none of these.
pub(super) fn client(text: &str) -> Option<Result<ClientMatch, Complaint>> {
    let (kind, who) = text.split_once(':')?;
    let bad = |what: &str, hint: &str| Err(Complaint::new(what).hint(hint));
    Some(match kind {
        "container" if is_name(who) => Ok(ClientMatch::Container(who.into())),
        "container" => bad("not the name of a container", "\"container:shop-web-1\", or 12 digits of its id"),
        "service" if is_name(who) => Ok(ClientMatch::Service(who.into())),
        "service" => {
            bad("not the name of a Compose service", "\"service:web\", as it stands in the Compose file")
        }
        "label" => match who.split_once('=') {
            Some((key, value)) if key.len() > LONGEST_KEY || value.len() > LONGEST_LABEL => {
                let what =
                    format!("a key of {} or a value of {} bytes is never read", key.len(), value.len());
                Err(Complaint::new(what).hint(format!("at most {LONGEST_KEY} and {LONGEST_LABEL} bytes")))
            }
            Some((key, value)) if !key.is_empty() && key.trim() == key => {
                Ok(ClientMatch::Label { key: key.into(), value: value.into() })
            }
            Some(_) | None => bad("not a label", "key and value: \"label:tier=ci\""),
        },
        "user" => user(who),
        _ => return None,
    })
}

fn user(who: &str) -> Result<ClientMatch, Complaint> {
    let hint = "a name or a number of a user of this host: \"user:app\", \"user:1000\"";
    if who.bytes().all(|byte| byte.is_ascii_digit()) {
        // The last number stands for no user (chown(2)).
        let uid = who.parse().ok().filter(|uid| *uid != u32::MAX);
        return uid
            .map(ClientMatch::User)
            .ok_or_else(|| Complaint::new("not the number of a user").hint(hint));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-$@\\".contains(&byte);
    if who.len() > LONGEST_NAME || who.starts_with('-') || !who.bytes().all(plain) {
        return Err(Complaint::new("not a user").hint(hint));
    }
    Ok(ClientMatch::UserName(who.into()))
}

/// Whether a rule for this client needs word of containers.
pub(super) fn is_of_containers(client: &ClientMatch) -> bool {
    match client {
        ClientMatch::Container(_) | ClientMatch::Label { .. } | ClientMatch::Service(_) => true,
        ClientMatch::Net(_) | ClientMatch::User(_) | ClientMatch::UserName(_) => false,
    }
}

/// As Docker takes names: a letter or digit, then also `_`, `.` and `-`.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Rules that stand in a container's label.
///
/// # Errors
/// Why the label cannot be read, one line. Such a container is for [`deny_all`].
pub fn label_rules(container: &Container) -> Result<Vec<Rule>, String> {
    let Some(text) = container.label(ALLOW) else { return Ok(Vec::new()) };
    if text.len() > LONGEST_LABEL {
        return Err(format!("{ALLOW} has more than {LONGEST_LABEL} bytes"));
    }
    let mut rules: Vec<Rule> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let grant = grant::allow(entry)
            .map_err(|complaint| format!("{ALLOW}: \"{}\": {}", entry.escape_debug(), complaint.what))?;
        let Grant { kind, pattern, ports } = grant;
        let same = rules.iter_mut().find(|rule| rule.by == kind.by() && rule.ports == ports);
        match same {
            Some(rule) => rule.names.push(pattern),
            None => rules.push(rule(container, Action::Allow, kind.by(), pattern, ports)),
        }
    }
    Ok(rules)
}

/// Returns the rule that denies a container everything, whatever else allows it.
pub fn deny_all(container: &Container) -> Option<Rule> {
    let everything = Pattern::parse("**", true).ok()?;
    let by = MatchBy::NameAndAddress;
    Some(rule(container, Action::Deny, by, everything, Ports(vec![(1, u16::MAX)])))
}

fn rule(container: &Container, action: Action, by: MatchBy, name: Pattern, ports: Ports) -> Rule {
    Rule {
        id: format!("container:{}", container.name).into(),
        names: vec![name],
        ports,
        clients: vec![ClientMatch::Container(Arc::clone(&container.id))],
        action,
        by,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: Some(Arc::from("label namegate.allow of the container")),
    }
}

/// The label whose value is a list of names, as `exec --allow` takes them.
pub const ALLOW: &str = "namegate.allow";

/// Bytes of a label's key that are read.
const LONGEST_KEY: usize = 256;

/// Bytes of a label that are read; some 150 names.
const LONGEST_LABEL: usize = 4_096;

/// Bytes of a name.
const LONGEST_NAME: usize = 255;

/// Where Docker listens unless it is told otherwise.
const SOCKET: &str = "/var/run/docker.sock";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn container(allow: &str) -> Container {
        Container {
            id: format!("{:064x}", 7).into(),
            name: "web".into(),
            image: "image".into(),
            labels: vec![("namegate.allow".into(), allow.into())],
            started_at: "once".into(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn clients_are_containers_labels_services_and_users() {
        let label = |key: &str, value: &str| ClientMatch::Label { key: key.into(), value: value.into() };
        for (text, expected) in [
            ("container:web_1.x-2", ClientMatch::Container("web_1.x-2".into())),
            ("service:web", ClientMatch::Service("web".into())),
            ("label:tier=ci", label("tier", "ci")),
            ("label:a.b/c=x=y z", label("a.b/c", "x=y z")),
            ("label:flag=", label("flag", "")),
            ("user:1000", ClientMatch::User(1000)),
            ("user:0", ClientMatch::User(0)),
            ("user:app", ClientMatch::UserName("app".into())),
            ("user:DOM\\svc$", ClientMatch::UserName("DOM\\svc$".into())),
        ] {
            assert_eq!(client(text), Some(Ok(expected)), "{text}");
        }
        for text in [
            "container:",
            "container:/web",
            "container:a b",
            "service:",
            "service:-x",
            "label:tier",
            "label:=x",
            "label: a=b",
            "user:",
            "user:4294967295",
            "user:99999999999",
            "user:-x",
            "user:a b",
            "user:a:b",
        ] {
            assert!(client(text).unwrap().is_err(), "{text}");
        }
        for text in ["10.0.0.1", "2001:db8::1", "web", "Container:web", "group:x"] {
            assert_eq!(client(text), None, "{text}");
        }
    }

    #[test]
    fn a_label_grants_names_to_its_container_alone() {
        let rules =
            label_rules(&container(" github.com, *.example.org:443,tcp:db.example.net:5432 ,example.com,"))
                .unwrap();
        let told: Vec<_> = rules
            .iter()
            .map(|rule| {
                let names = rule.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                (names, rule.ports.0.clone(), rule.by, rule.private)
            })
            .collect();
        let by_name = MatchBy::NameAndAddress;
        assert_eq!(
            told,
            [
                ("github.com example.com".to_owned(), vec![(80, 80), (443, 443)], by_name, false),
                ("*.example.org".to_owned(), vec![(443, 443)], by_name, false),
                ("db.example.net".to_owned(), vec![(5432, 5432)], MatchBy::Address, false),
            ]
        );
        for rule in &rules {
            assert_eq!(rule.clients, [ClientMatch::Container(format!("{:064x}", 7).into())]);
            assert_eq!((&*rule.id, rule.action), ("container:web", Action::Allow));
        }
        assert_eq!(label_rules(&container("")), Ok(Vec::new()));
        assert_eq!(label_rules(&Container { labels: Vec::new(), ..container("") }), Ok(Vec::new()));
    }

    #[test]
    fn a_label_that_cannot_be_read_grants_nothing() {
        let long = "a.example,".repeat(500);
        for text in [
            "*.com",
            "https://example.com/",
            "192.0.2.1",
            "a b",
            "**",
            "example.com:0",
            "x.test;y.test",
            &long,
        ] {
            let why = label_rules(&container(&format!("example.com,{text}"))).unwrap_err();
            assert!(why.starts_with("namegate.allow") && why.len() < 200 && !why.contains('\n'), "{why}");
        }
        let deny = deny_all(&container("*")).unwrap();
        assert_eq!((deny.action, &deny.ports.0[..]), (Action::Deny, &[(1, u16::MAX)][..]));
    }

    #[test]
    fn docker_is_asked_by_a_unix_socket() {
        for text in ["/run/docker.sock", "unix:///run/docker.sock"] {
            assert_eq!(socket(text), Ok(PathBuf::from("/run/docker.sock")));
        }
        for text in ["", "docker.sock", "tcp://127.0.0.1:2375", "unix://", "/run/", "http://x"] {
            assert!(socket(text).is_err(), "{text}");
        }
    }
}
