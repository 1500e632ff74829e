//! One event, one JSON line, with the field names of the Elastic Common Schema (nested objects).
//!
//! Fields that ECS does not have stand under `namegate`. Durations are nanoseconds, as `event.duration`
//! is. A field that is not known is absent, never null. It knows no files and no queue.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::facts::{Client, Flow, Moment, Name, Tick, Via};
use crate::gate::{Evidence, Reason, Rule};

use super::dns_words::{record_type, response_code};
use super::json::Object;
use super::{
    Closed, Decided, DnsEvent, Ending, Event, Gap, Origin, Over, PolicyEvent, RulesetEvent, SandboxEvent,
    TapEvent, TapRefusal, TapWhat,
};

/// The ECS release whose field names are used.
const ECS: &str = "8.11.0";

/// Bytes of a container's labels that are written, ours and those of Compose first: a line for each question must not
/// be as long as a stranger likes.
const LABELS: usize = 2_048;

/// Appends the line of an event, its newline included.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    Object::line(out, |root| {
        root.time("@timestamp", event.at().wall);
        root.object("ecs", |ecs| ecs.text("version", ECS));
        match event {
            Event::Decided(event) => decided(root, event),
            Event::Closed(event) => closed(root, event),
            Event::Dns(event) => dns(root, event),
            Event::Policy(event) => policy(root, event),
            Event::Ruleset(event) => ruleset(root, event),
            Event::Tap(event) => tap(root, event),
            Event::Sandbox(event) => sandbox(root, event),
            Event::Gap(event) => gap(root, event),
        }
    });
}

fn decided(root: &mut Object<'_>, event: &Decided) {
    let passes = event.reason.lets_pass();
    root.object("event", |inner| {
        let action = if event.later { "name" } else { "decision" };
        head(inner, "network", &["connection", verdict(passes)], action, passes);
        inner.text("reason", event.reason.code());
        inner.shown("id", event.flow.id);
        inner.number("duration", nanos(event.at.tick.since(event.flow.at)));
    });
    root.object("source", |inner| socket(inner, event.flow.source));
    root.object("destination", |inner| {
        socket(inner, event.flow.destination);
        inner.maybe("domain", event.name.as_ref().map(Name::as_str));
    });
    network(root, &event.flow, event.protocol.map(|protocol| protocol.as_str()));
    claimed(root, event.name.as_ref(), event.via);
    origin(root, event.flow.client(), &event.origin);
    rule(root, event.rule.as_deref());
    root.object("namegate", |inner| {
        inner.maybe("via", event.via.map(Via::as_str));
        inner.maybe("would", event.would.map(Reason::code));
        inner.maybe("fault", event.fault.map(|fault| fault.as_str()));
        if event.ech {
            inner.truth("ech");
        }
        if !event.held.is_zero() {
            inner.number("held", nanos(event.held));
        }
        over(inner, event.over);
        if let Some(found) = &event.evidence {
            inner.object("evidence", |inner| evidence(inner, found, event.at));
        }
    });
}

fn closed(root: &mut Object<'_>, event: &Closed) {
    let reached = event.ending != Ending::UpstreamFailed;
    root.object("event", |inner| {
        head(inner, "network", &["connection", "end"], "close", reached);
        inner.text("reason", event.ending.code());
        inner.shown("id", event.flow.id);
        inner.number("duration", nanos(event.at.tick.since(event.flow.at)));
    });
    root.object("source", |inner| {
        socket(inner, event.flow.source);
        inner.number("bytes", event.sent);
    });
    root.object("destination", |inner| {
        socket(inner, event.flow.destination);
        inner.number("bytes", event.received);
        inner.maybe("domain", event.name.as_ref().map(Name::as_str));
    });
    network(root, &event.flow, None);
    origin(root, event.flow.client(), &event.origin);
    root.object("error", |inner| inner.maybe("message", event.error.as_deref()));
}

fn dns(root: &mut Object<'_>, event: &DnsEvent) {
    let passes = event.reason.lets_pass();
    root.object("event", |inner| {
        head(inner, "network", &["protocol", verdict(passes)], "dns", passes);
        inner.text("reason", event.reason.code());
        inner.shown("id", event.id);
    });
    root.object("source", |inner| {
        inner.shown("ip", event.source.ip());
        if event.source.port() != 0 {
            inner.number("port", event.source.port().into());
        }
    });
    root.object("destination", |inner| {
        if let Some(server) = event.server {
            inner.shown("ip", server);
        }
    });
    root.object("network", |inner| {
        inner.text("transport", event.transport.as_str());
        inner.text("protocol", "dns");
        inner.text("direction", "egress");
    });
    root.object("dns", |inner| {
        inner.object("question", |inner| {
            inner.maybe("name", event.name.as_ref().map(Name::as_str));
            inner.maybe("type", event.qtype.map(record_type).as_deref());
        });
        inner.objects("answers", answers(event), |inner, (owner, kind, data)| {
            inner.text("name", owner);
            inner.text("type", kind);
            inner.text("data", &data);
        });
        inner.list("resolved_ip", &event.addresses);
        inner.maybe("response_code", event.rcode.map(response_code).as_deref());
    });
    origin(root, event.client, &event.origin);
    rule(root, event.rule.as_deref());
    root.object("namegate", |inner| {
        inner.maybe("would", event.would.map(Reason::code));
        if event.stripped > 0 {
            inner.number("stripped", u64::try_from(event.stripped).unwrap_or(u64::MAX));
        }
        if event.tapped {
            inner.text("tap", "dnstap");
        }
        over(inner, event.over);
    });
}

/// Which limit was reached, and for how many others the line stands.
fn over(inner: &mut Object<'_>, over: Option<Over>) {
    let Some(Over { limit, repeated }) = over else { return };
    inner.text("limit", limit.code());
    if repeated > 0 {
        inner.number("repeated", repeated);
    }
}

/// The CNAME chain as records, then the addresses under its last name.
fn answers(event: &DnsEvent) -> impl Iterator<Item = (&str, &'static str, Cow<'_, str>)> {
    let links = event.chain.windows(2).filter_map(|pair| match pair {
        [owner, target] => Some((owner.as_str(), "CNAME", Cow::Borrowed(target.as_str()))),
        _ => None,
    });
    let last = event.chain.last().or(event.name.as_ref()).map_or("", Name::as_str);
    let addresses = event.addresses.iter().map(move |address| {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        (last, kind, Cow::Owned(address.to_string()))
    });
    links.chain(addresses)
}

fn policy(root: &mut Object<'_>, event: &PolicyEvent) {
    root.object("event", |inner| {
        head(inner, "configuration", &["change"], "policy", event.outcome.is_ok());
    });
    root.object("error", |inner| inner.maybe("message", event.outcome.as_ref().err().map(|text| &**text)));
    root.object("namegate", |inner| {
        inner.number("rules", u64::try_from(event.rules).unwrap_or(u64::MAX));
    });
}

fn ruleset(root: &mut Object<'_>, event: &RulesetEvent) {
    let wanted = matches!(event.what, "installed" | "removed");
    root.object("event", |inner| {
        head(inner, "configuration", &["change"], "ruleset", wanted);
        inner.text("reason", event.what);
    });
    root.object("namegate", |inner| inner.text("table", &event.table));
}

fn tap(root: &mut Object<'_>, event: &TapEvent) {
    let (types, reason): (&[&str], _) = match &event.what {
        TapWhat::Connected => (&["start"], "connected"),
        TapWhat::Disconnected(_) => (&["end"], "disconnected"),
        TapWhat::Refused { why, .. } => (&["denied"], why.code()),
        TapWhat::BadFrame(_) => (&["error"], "bad_frame"),
        TapWhat::Ignored => (&["info"], "ignored"),
    };
    let fault = match &event.what {
        TapWhat::Disconnected(tally) => tally.fault,
        TapWhat::Refused { why: TapRefusal::Handshake(fault), .. } | TapWhat::BadFrame(fault) => Some(*fault),
        TapWhat::Refused { .. } | TapWhat::Connected | TapWhat::Ignored => None,
    };
    let well = fault.is_none() && !matches!(event.what, TapWhat::Refused { .. });
    root.object("event", |inner| {
        head(inner, "network", types, "tap", well);
        inner.text("reason", reason);
    });
    root.object("network", |inner| inner.text("protocol", "dnstap"));
    root.object("namegate", |inner| {
        inner.text("sender", &event.sender);
        inner.maybe("fault", fault.map(|fault| fault.as_str()));
        match &event.what {
            TapWhat::Refused { times, .. } => inner.number("times", *times),
            TapWhat::Disconnected(tally) => {
                inner.number("frames", tally.frames);
                inner.number("answers", tally.answers);
                inner.number("bad_frames", tally.bad);
            }
            TapWhat::Connected | TapWhat::BadFrame(_) | TapWhat::Ignored => {}
        }
    });
}

fn sandbox(root: &mut Object<'_>, event: &SandboxEvent) {
    root.object("event", |inner| {
        head(inner, "process", &["start"], "sandbox", !event.breached);
    });
    root.object("process", |inner| inner.text("executable", &event.command));
    root.object("namegate", |inner| {
        inner.list("layers", &event.layers);
        inner.list("missing", &event.missing);
    });
}

fn gap(root: &mut Object<'_>, event: &Gap) {
    root.object("event", |inner| {
        head(inner, "process", &["error"], "gap", false);
        inner.time("start", event.since.wall);
        inner.time("end", event.at.wall);
    });
    root.object("namegate", |inner| inner.number("lines", event.lines));
}

/// The first five fields of every `event` object.
fn head(inner: &mut Object<'_>, category: &str, types: &[&str], action: &str, success: bool) {
    inner.text("kind", "event");
    inner.list("category", [category]);
    inner.list("type", types);
    inner.text("action", action);
    inner.text("outcome", if success { "success" } else { "failure" });
}

fn verdict(passes: bool) -> &'static str {
    if passes { "allowed" } else { "denied" }
}

fn socket(inner: &mut Object<'_>, socket: SocketAddr) {
    inner.shown("ip", socket.ip());
    inner.number("port", socket.port().into());
}

fn network(root: &mut Object<'_>, flow: &Flow, protocol: Option<&str>) {
    root.object("network", |inner| {
        inner.text("transport", flow.transport.as_str());
        inner.maybe("protocol", protocol);
        inner.text("direction", "egress");
    });
}

/// The claimed name once more, under the field of the protocol that it was read from.
fn claimed(root: &mut Object<'_>, name: Option<&Name>, via: Option<Via>) {
    let (Some(name), Some(via)) = (name, via) else { return };
    match via {
        Via::Sni | Via::Quic => root.object("tls", |inner| {
            inner.object("client", |inner| inner.text("server_name", name.as_str()));
        }),
        Via::Host | Via::Authority => root.object("url", |inner| inner.text("domain", name.as_str())),
        Via::Address => {}
    }
}

/// Who asks, besides its address: a container, or a user of this host and its process.
fn origin(root: &mut Object<'_>, client: Client, origin: &Origin) {
    if let Some(container) = &origin.container {
        root.object("container", |inner| {
            inner.text("id", &container.id);
            inner.text("name", &container.name);
            inner.object("image", |inner| inner.text("name", &container.image));
            let size = |(key, value): &(Arc<str>, Arc<str>)| key.len() + value.len();
            let mut room = LABELS;
            let fits = |label: &&(Arc<str>, Arc<str>)| {
                let left = room.checked_sub(size(label));
                room = left.unwrap_or(0);
                left.is_some()
            };
            let mut written = 0;
            inner.object("labels", |inner| {
                for (key, value) in container.labels.iter().take_while(fits) {
                    inner.pair(key, value);
                    written += 1;
                }
            });
            if written < container.labels.len() {
                let left = container.labels.len() - written;
                inner.number("labels_left_out", u64::try_from(left).unwrap_or(u64::MAX));
            }
        });
    }
    if let Some(process) = &origin.process {
        root.object("process", |inner| {
            inner.number("pid", process.pid.into());
            inner.maybe("executable", process.executable.as_deref().map(Path::to_string_lossy).as_deref());
        });
    }
    if let Some(uid) = client.user() {
        root.object("user", |inner| {
            inner.shown("id", uid);
            inner.maybe("name", origin.process.as_ref().and_then(|process| process.user.as_deref()));
        });
    }
}

/// A comment that is a link is where the rule is explained, ECS `rule.reference`.
fn rule(root: &mut Object<'_>, rule: Option<&Rule>) {
    let Some(rule) = rule else { return };
    root.object("rule", |inner| {
        inner.text("id", &rule.id);
        if let Some(comment) = rule.comment.as_deref() {
            let link = comment.starts_with("https://") || comment.starts_with("http://");
            inner.text(if link { "reference" } else { "description" }, comment);
        }
    });
}

fn evidence(inner: &mut Object<'_>, evidence: &Evidence, at: Moment) {
    inner.text("source", evidence.source.as_str());
    inner.time("answered_at", wall(at, evidence.answered_at));
    inner.number("ttl", evidence.ttl_secs.into());
    inner.time("expires_at", wall(at, evidence.expires_at));
    inner.list("chain", evidence.chain.iter());
}

/// The wall time of a tick, by the one reading of both clocks that the event carries.
fn wall(at: Moment, tick: Tick) -> SystemTime {
    if tick >= at.tick {
        // What no calendar has is the far end of the one that `time` writes.
        at.wall.checked_add(tick.since(at.tick)).unwrap_or(at.wall)
    } else {
        at.wall.checked_sub(at.tick.since(tick)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
