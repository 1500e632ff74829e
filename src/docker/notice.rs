//! One event of the daemon, in the few words that matter to a picture.
//!
//! Total: what is strange is [`Notice::Changed`], which only makes one look. Must not know pictures.

use bollard::models::{EventActor, EventMessage, EventMessageTypeEnum};

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Notice {
    /// The container ended.
    Left {
        /// Its identifier.
        container: String,
    },
    /// The container has another name.
    Renamed {
        /// Its identifier.
        container: String,
    },
    /// A container has no address on this network any more.
    Detached {
        /// The container's identifier.
        container: String,
        /// The network's identifier.
        network: String,
    },
    /// The network is gone.
    Removed {
        /// Its identifier.
        network: String,
    },
    /// Something else than we know.
    Changed,
}

impl Notice {
    pub(super) fn read(event: EventMessage) -> Self {
        let EventMessage { typ, action, actor, .. } = event;
        let EventActor { id, attributes } = actor.unwrap_or_default();
        let Some(id) = id else { return Self::Changed };
        let action = action.unwrap_or_default();
        match (typ, action.as_str()) {
            (Some(EventMessageTypeEnum::CONTAINER), "die" | "destroy") => Self::Left { container: id },
            (Some(EventMessageTypeEnum::CONTAINER), "rename") => Self::Renamed { container: id },
            (Some(EventMessageTypeEnum::NETWORK), "destroy" | "remove") => Self::Removed { network: id },
            (Some(EventMessageTypeEnum::NETWORK), "disconnect") => {
                match attributes.unwrap_or_default().remove("container") {
                    Some(container) => Self::Detached { container, network: id },
                    None => Self::Changed,
                }
            }
            (_, _) => Self::Changed,
        }
    }
}

/// The events that are asked for, of containers and networks. Others (`exec_*`, `health_status`) may come by the
/// hundred and say nothing.
pub(super) const SUBSCRIBED: [&str; 9] =
    ["start", "die", "destroy", "rename", "update", "create", "remove", "connect", "disconnect"];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn notice(json: &str) -> Notice {
        Notice::read(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_takes_an_address_away_is_told_from_what_only_makes_one_look() {
        let left = Notice::Left { container: "aa".to_owned() };
        for (json, expected) in [
            (
                r#"{"Type":"container","Action":"die","Actor":{"ID":"aa","Attributes":{"exitCode":"0"}}}"#,
                left.clone(),
            ),
            (r#"{"Type":"container","Action":"destroy","Actor":{"ID":"aa"}}"#, left.clone()),
            (
                r#"{"Type":"container","Action":"rename","Actor":{"ID":"aa","Attributes":{"oldName":"/b"}}}"#,
                Notice::Renamed { container: "aa".to_owned() },
            ),
            (r#"{"Type":"container","Action":"start","Actor":{"ID":"aa"}}"#, Notice::Changed),
            (
                r#"{"Type":"network","Action":"disconnect","Actor":{"ID":"nn","Attributes":{"container":"aa","type":"bridge"}}}"#,
                Notice::Detached { container: "aa".to_owned(), network: "nn".to_owned() },
            ),
            (r#"{"Type":"network","Action":"disconnect","Actor":{"ID":"nn"}}"#, Notice::Changed),
            (
                r#"{"Type":"network","Action":"destroy","Actor":{"ID":"nn"}}"#,
                Notice::Removed { network: "nn".to_owned() },
            ),
            (r#"{"Type":"image","Action":"die","Actor":{"ID":"aa"}}"#, Notice::Changed),
            (r#"{"Type":"container","Action":"die"}"#, Notice::Changed),
            (r#"{}"#, Notice::Changed),
        ] {
            assert_eq!(notice(json), expected, "{json}");
        }
    }
}
