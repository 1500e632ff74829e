//! `[dnstap]`: where a resolver that is not ours tells what it answered, and how long we wait for it.
//!
//! Must not know `[dns]`.

use std::time::Duration;

use crate::dns::{TapAddress, TapConfig};

use super::endpoint::tap;
use super::finding::Finding;
use super::scalar::{Complaint, group, network, permissions};
use super::section::{Section, integer};

/// Reads `[dnstap]`; the second value is how long a flow is held for a frame on its way.
pub(super) fn read(mut section: Section<'_>) -> (TapConfig, Duration) {
    let before = section.sheet.errors();
    let base = section.base;
    let listen = section.parsed_list("listen", |text| tap(text, base));
    let empty = listen.as_ref().is_none_or(Vec::is_empty);
    if section.at.is_some() && empty && section.sheet.errors() == before {
        let hint = "listen = [\"unix:/run/namegate/dnstap.sock\"], or leave the table out";
        section.missing("[dnstap] listens nowhere, so nothing in it has an effect", hint);
    }
    let listen = listen.unwrap_or_default();
    let sound = section.sheet.errors() == before;
    let hold_default = if listen.is_empty() { Duration::ZERO } else { HOLD };
    let hold = section.duration("hold", hold_default, Duration::ZERO..=Duration::from_secs(30));
    if sound && !listen.is_empty() {
        refuse_what_no_listener_heeds(&mut section, &listen);
    }
    let config = TapConfig {
        listen,
        allow_from: section.parsed_list("allow_from", network).unwrap_or_default(),
        socket_mode: section.parsed("socket_mode", permissions).unwrap_or(0o660),
        socket_group: section.parsed("socket_group", group),
        allow_uids: read_uids(&mut section),
        max_senders: section.number("max_senders", 1..=4_096).unwrap_or(64),
    };
    warn_of_open_sockets(&mut section, &config);
    section.finish();
    (config, hold)
}

fn is_unix(address: &TapAddress) -> bool {
    match address {
        TapAddress::Unix(_) => true,
        TapAddress::Tcp(_) => false,
    }
}

fn refuse_what_no_listener_heeds(section: &mut Section<'_>, listen: &[TapAddress]) {
    if !listen.iter().any(is_unix) {
        let keys = ["socket_mode", "socket_group", "allow_uids"];
        section.without_effect(
            &keys,
            "without a unix socket in `listen`",
            "over TCP, `allow_from` says who may send",
        );
    }
    if listen.iter().all(is_unix) {
        let hint = "on a unix socket, `socket_mode`, `socket_group` and `allow_uids` say who may send";
        section.without_effect(&["allow_from"], "without a tcp address in `listen`", hint);
    }
    let far = listen.iter().any(|address| match address {
        TapAddress::Tcp(socket) => !socket.ip().is_loopback(),
        TapAddress::Unix(_) => false,
    });
    if far && section.value("allow_from").is_none() {
        let hint = "allow_from = [\"172.18.0.2\"]: whoever may send decides which addresses are open";
        section.missing("dnstap over TCP beyond loopback needs `allow_from`", hint);
    }
}

fn warn_of_open_sockets(section: &mut Section<'_>, config: &TapConfig) {
    if config.socket_mode & 0o002 != 0
        && config.allow_uids.is_empty()
        && let Some(value) = section.value("socket_mode")
    {
        let message = "any user of this host may say what DNS answered, and so open addresses";
        let finding = Finding::warning(section.span(value.span()), message);
        section.sheet.push(finding.hint("\"0660\" with `socket_group`, or `allow_uids`"));
    }
}

fn read_uids(section: &mut Section<'_>) -> Vec<u32> {
    let Some(value) = section.value("allow_uids") else { return Vec::new() };
    let Some(items) = value.get_ref().as_array() else {
        let finding = section.mistyped(value, "allow_uids", "a list of user ids");
        section.sheet.push(finding);
        return Vec::new();
    };
    let mut uids = Vec::new();
    for item in items.iter() {
        match integer(item).flatten().and_then(|number| u32::try_from(number).ok()) {
            Some(uid) => uids.push(uid),
            None => {
                let complaint = Complaint::new("not a user id").hint("a number, as `id -u USER` prints it");
                section.complain(section.span(item.span()), complaint);
            }
        }
    }
    if items.is_empty() {
        let complaint =
            Complaint::new("`allow_uids` is empty").hint("leave it out to let in whoever the mode lets in");
        section.complain(section.span(value.span()), complaint);
    }
    uids
}

/// A frame lags its answer by up to 2 s (libfstrm flushes every second, as was measured), plus the way here.
const HOLD: Duration = Duration::from_millis(2_500);
