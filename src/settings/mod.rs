//! What the operator wants: one TOML file, or arguments, to checked values with one config per room.
//!
//! Everything that is wrong is reported at once, each with its place and a next step. A value that
//! comes out of here is valid. Must not know how the rooms act on it, and reads no clock.

mod admin;
mod arguments;
mod capture;
mod dns;
mod docker;
mod endpoint;
mod finding;
mod gateways;
mod grant;
mod instant;
mod keeping;
mod local;
mod names;
mod qtype;
mod render;
mod rules;
mod sandbox;
mod scalar;
mod section;
mod suggest;
mod tap;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use toml::de::DeTable;

use crate::admin::AdminConfig;
use crate::dns::{DnsConfig, OnMiss, TapConfig};
use crate::gate::{ClientMatch, Defaults, Ech, LedgerConfig, Mode, Policy};
use crate::nft::CaptureConfig;
use crate::proxy::ProxyConfig;
use crate::record::{RecordConfig, Target};

pub use arguments::{Arguments, from_arguments};
pub use docker::{ALLOW, DockerSettings, deny_all, label_rules};
pub use finding::{Finding, Place, Report, Severity};
pub use local::{LocalSettings, LocalWho};
pub use sandbox::{CheckedSandbox, SandboxArguments, SandboxSettings, sandbox};

use finding::{Sheet, Source, Span};
use rules::{ECH, MODES};
use section::Section;

/// Name of our table in the kernel ruleset.
pub const TABLE: &str = "namegate";

/// Where the configuration is looked for when nothing is said.
pub const DEFAULT_PATH: &str = "/etc/namegate/namegate.toml";

/// A checked configuration: one value per room.
#[derive(Debug)]
pub struct Settings {
    /// The file it came from, to be read again on reload; `None`: arguments.
    pub path: Option<PathBuf>,
    /// The rules, compiled, and what holds where they say nothing.
    pub policy: Policy,
    /// Times and sizes of the ledger.
    pub ledger: LedgerConfig,
    /// Limits of the connection corridor.
    pub proxy: ProxyConfig,
    /// The forwarder; in external mode, our own look-ups. `no_ipv6` is for the daemon to find out.
    pub dns: DnsConfig,
    /// What a missing lease leads to.
    pub on_miss: OnMiss,
    /// Where the forwarder listens besides captured questions.
    pub dns_listen: Vec<SocketAddr>,
    /// The dnstap tap.
    pub tap: TapConfig,
    /// What the kernel captures; interfaces of Docker networks and links of `gateways` are for the daemon to find out.
    pub capture: CaptureConfig,
    /// Default gateways that this host is to be, each with the length of its network's prefix.
    pub gateways: Vec<IpNet>,
    /// Which processes of this host are captured; `capture.local` is for the daemon to find out.
    pub local: Option<LocalSettings>,
    /// What is asked of Docker; `None`: nothing.
    pub docker: Option<DockerSettings>,
    /// The audit log.
    pub record: RecordConfig,
    /// Where the gate can be asked how it is; `None`: nowhere.
    pub admin: Option<AdminConfig>,
}

/// A configuration that can be used, and what the operator should know about it.
#[derive(Debug)]
pub struct Checked {
    /// The values.
    pub settings: Settings,
    /// Warnings only.
    pub report: Report,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It has errors.
    #[error("{}", report.headline())]
    Faulty {
        /// All of them.
        report: Report,
    },
}

/// Reads and checks a configuration file. `now` tells which dates have passed.
///
/// # Errors
/// [`Error::Unreadable`] when there is no such regular file of sane size; [`Error::Faulty`] with every
/// fault that was found.
pub fn load(path: &Path, now: SystemTime) -> Result<Checked, Error> {
    let text = read_file(path)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut checked = check(path, base, &text, now)?;
    checked.settings.path = Some(path.to_owned());
    Ok(checked)
}

/// Reads of a file where its gate can be asked how it is, and nothing else: a file that became faulty while the gate
/// runs is no reason not to ask. `None`: nowhere.
///
/// # Errors
/// As [`load`], for what is wrong with `[admin]` itself.
pub fn load_admin(path: &Path) -> Result<(Option<AdminConfig>, Report), Error> {
    let text = read_file(path)?;
    let sheet = Sheet::default();
    let source = sheet.add_source(Source::new(path, text.clone()));
    let (document, faults) = DeTable::parse_recoverable(&text);
    tell_syntax(&sheet, source, &text, &faults);
    let base = path.parent().unwrap_or(Path::new(""));
    let admin = admin::read(Section::document(&sheet, base, source, document.get_ref()).section("admin"));
    let report = sheet.into_report();
    if report.errors() == 0 { Ok((admin, report)) } else { Err(Error::Faulty { report }) }
}

fn read_file(path: &Path) -> Result<String, Error> {
    names::read_bounded(path, LARGEST_FILE).map_err(|why| Error::Unreadable { path: path.to_owned(), why })
}

/// Checks a configuration text. `path` is its name in findings; relative paths in it start at `base`.
fn check(path: &Path, base: &Path, text: &str, now: SystemTime) -> Result<Checked, Error> {
    let sheet = Sheet::default();
    let source = sheet.add_source(Source::new(path, text.to_owned()));
    let (document, faults) = DeTable::parse_recoverable(text);
    tell_syntax(&sheet, source, text, &faults);
    // What follows a syntax error is a guess; findings about it would mislead.
    let settings = if faults.is_empty() {
        read(Section::document(&sheet, base, source, document.get_ref()), now)
    } else {
        None
    };
    let report = sheet.into_report();
    match settings {
        Some(settings) if report.errors() == 0 => Ok(Checked { settings, report }),
        Some(_) | None => Err(Error::Faulty { report }),
    }
}

/// Reports syntax errors. The parser goes on behind a fault and stumbles again over the rest of the line:
/// only the first of a line is worth reading.
fn tell_syntax(sheet: &Sheet, source: usize, text: &str, faults: &[toml::de::Error]) {
    let mut told = HashSet::new();
    for fault in faults {
        let range = fault.span().unwrap_or(0..0);
        let line = text.as_bytes().iter().take(range.start).filter(|byte| **byte == b'\n').count();
        if told.insert(line) {
            let span = Span { source, start: range.start, end: range.end };
            sheet.push(Finding::error(span, fault.message().replace('\n', ", ")));
        }
    }
}

fn read(mut document: Section<'_>, now: SystemTime) -> Option<Settings> {
    let defaults = read_defaults(&mut document, now);
    let before = document.sheet.errors();
    let (tap, hold) = tap::read(document.section("dnstap"));
    // A faulty listener has been told of; it is not a missing one.
    let tapped = !tap.listen.is_empty() || document.sheet.errors() > before;
    let dns = dns::read(document.section("dns"), tapped);
    let (ports, proxy) = capture::read_proxy(document.section("proxy"), hold);
    let docker = docker::read(document.section("docker"));
    let capture::Capture { config: capture, networks, gateways, local } =
        capture::read_capture(document.section("capture"), ports, &dns);
    let ledger = keeping::read_ledger(document.section("ledger"));
    let record = keeping::read_audit(document.section("audit"), Some(Target::Stdout));
    let admin = admin::read(document.section("admin"));
    refuse_a_shared_port(&document, admin.as_ref(), &capture, local.as_ref());
    let policy = rules::read(&mut document, defaults, now);
    let document_sheet = document.sheet;
    document.finish();
    let policy = policy?;
    if local.is_none() {
        warn_of_users(document_sheet, &policy);
    }
    let clients = policy.rules().iter().flat_map(|rule| &rule.clients).any(docker::is_of_containers);
    Some(Settings {
        path: None,
        policy,
        ledger,
        proxy,
        dns: dns.config,
        on_miss: dns.on_miss,
        dns_listen: dns.listen,
        tap,
        capture,
        gateways,
        local,
        docker: docker.settle(networks, clients),
        record,
        admin,
    })
}

/// The listeners of a gate share one host.
fn refuse_a_shared_port(
    document: &Section<'_>,
    admin: Option<&AdminConfig>,
    capture: &CaptureConfig,
    local: Option<&LocalSettings>,
) {
    let Some(AdminConfig::Tcp { address, .. }) = admin else { return };
    let of_local = local.into_iter().flat_map(|local| [local.proxy_port, local.dns_port]);
    let mut taken = [capture.proxy_port, capture.dns_port].into_iter().chain(of_local);
    let asked = capture.dns_listen.iter().any(|listen| listen.port() == address.port());
    if taken.any(|port| port == address.port()) || asked {
        let message =
            format!("port {} cannot serve as admin socket: it is the proxy's or DNS's", address.port());
        document
            .missing(&message, "`admin.listen`, `proxy.port`, `dns.port` and `dns.listen` share this host");
    }
}

/// Warns of rules for users where no process of this host is captured.
fn warn_of_users(sheet: &Sheet, policy: &Policy) {
    let of_user = |client: &ClientMatch| match client {
        ClientMatch::User(_) | ClientMatch::UserName(_) => true,
        ClientMatch::Net(_)
        | ClientMatch::Container(_)
        | ClientMatch::Label { .. }
        | ClientMatch::Service(_) => false,
    };
    for rule in policy.rules().iter().filter(|rule| rule.clients.iter().any(of_user)) {
        let message =
            format!("rule `{}` is for a user of this host, and no process of it is captured", rule.id);
        let finding = Finding::absence(Severity::Warning, message);
        sheet.push(finding.hint("[capture] local = { users = [\"app\"] }"));
    }
}

fn read_defaults(document: &mut Section<'_>, now: SystemTime) -> Defaults {
    let before = document.sheet.errors();
    let mode = document.choice("mode", &MODES).map_or(Mode::default(), |(mode, _)| mode);
    let mode_is_sound = document.sheet.errors() == before;
    let ech = document.choice("ech", &ECH).map_or(Ech::default(), |(ech, _)| ech);
    if mode == Mode::Enforce && mode_is_sound {
        let hint = "it ends observing; enforcing does not end";
        document.without_effect(&["until"], "without `mode = \"observe\"`", hint);
        return Defaults { mode, until: None, ech };
    }
    let until = rules::read_until(document, now, "the date has passed: denials are carried out");
    Defaults { mode, until, ech }
}

/// Ten thousand rules are about 2 MiB.
const LARGEST_FILE: u64 = 64 << 20;

#[cfg(test)]
mod tests;
