//! Settings of one command: what the command line grants it, and a file of rules if there is one.
//!
//! The file is read as any other; what has no meaning for one command is an error there. Must not know how
//! the command line is parsed, nor what a sandbox is made of.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use toml::de::DeTable;

use crate::dns::{DnsConfig, Upstream};
use crate::gate::{Action, Defaults, LedgerConfig, MatchBy, Mode, Pattern, Policy, PolicyFault, Ports, Rule};
use crate::proxy::ProxyConfig;
use crate::record::{RecordConfig, Target};

use super::endpoint::{audit_target, upstream};
use super::finding::{Finding, Report, Sheet, Source, Span};
use super::grant::{self, Grant, Kind};
use super::scalar::Complaint;
use super::section::Section;
use super::{Error, capture, dns, keeping, read_defaults, read_file, rules, tell_syntax};

/// What one command is granted on the command line.
#[derive(Debug, Clone, Default)]
pub struct SandboxArguments {
    /// `NAME[:PORT]` (without a port: 80 and 443) or `tcp:NAME:PORT` (the address alone decides).
    pub allow: Vec<String>,
    /// `NAME[:PORT]`; without a port: every port.
    pub deny: Vec<String>,
    /// A file of rules, which hold besides.
    pub policy: Option<PathBuf>,
    /// Denials are not carried out, where no rule of the file insists.
    pub observe: bool,
    /// The names of `allow` may lead to private addresses.
    pub private: bool,
    /// Ports of this host's own localhost.
    pub host_ports: Vec<u16>,
    /// Upstreams of the forwarder, in place of the file's.
    pub upstreams: Vec<String>,
    /// Audit targets, in place of the file's.
    pub audit: Vec<String>,
}

/// Checked settings of one command: one value per room. A missing lease is a denial.
#[derive(Debug)]
pub struct SandboxSettings {
    /// The rules of the file and of the arguments, compiled.
    pub policy: Policy,
    /// Times and sizes of the ledger.
    pub ledger: LedgerConfig,
    /// Limits of the connection corridor.
    pub proxy: ProxyConfig,
    /// The forwarder. `no_ipv6` is for the daemon to find out.
    pub dns: DnsConfig,
    /// The audit log.
    pub record: RecordConfig,
}

/// Settings that can be used, and what the operator should know about them.
#[derive(Debug)]
pub struct CheckedSandbox {
    /// The values.
    pub settings: SandboxSettings,
    /// Warnings only.
    pub report: Report,
}

/// Why a key is refused in a file of rules for one command.
pub(super) const FOR_ONE: &str = "for one command";

/// Checks what one command is granted. Relative paths start at the file, or at the working directory.
///
/// A rule that another one leaves nothing to is an error within the file; between file and arguments the one
/// that is covered is left out.
///
/// # Errors
/// [`Error::Unreadable`]: the file. [`Error::Faulty`]: every fault of the file, then of the arguments, quoted
/// as they were typed.
pub fn sandbox(arguments: &SandboxArguments, now: SystemTime) -> Result<CheckedSandbox, Error> {
    // Without a file all its defaults hold.
    let path = arguments.policy.as_deref().unwrap_or(Path::new(""));
    let text = if arguments.policy.is_some() { read_file(path)? } else { String::new() };
    let sheet = Sheet::default();
    let source = sheet.add_source(Source::new(path, text.clone()));
    let (document, faults) = DeTable::parse_recoverable(&text);
    tell_syntax(&sheet, source, &text, &faults);
    let said = Said::read(&sheet, arguments);
    let settings = if faults.is_empty() {
        let base = path.parent().unwrap_or(Path::new(""));
        read(Section::document(&sheet, base, source, document.get_ref()), arguments, said, now)
    } else {
        None
    };
    let report = sheet.into_report();
    match settings {
        Some(settings) if report.errors() == 0 => Ok(CheckedSandbox { settings, report }),
        Some(_) | None => Err(Error::Faulty { report }),
    }
}

fn read(
    mut document: Section<'_>,
    arguments: &SandboxArguments,
    said: Said,
    now: SystemTime,
) -> Option<SandboxSettings> {
    let defaults = read_defaults(&mut document, now);
    document.without_effect(
        &["capture"],
        FOR_ONE,
        "all that the command sends is captured, and nothing else",
    );
    document.without_effect(&["dnstap"], FOR_ONE, "the built-in forwarder answers it and is the evidence");
    document.without_effect(&["admin"], FOR_ONE, "`--report` and `--audit` tell how it went");
    let dns = dns::read_for_one(document.section("dns"), said.upstreams);
    let proxy = capture::read_proxy_for_one(document.section("proxy"));
    let ledger = keeping::read_ledger_for_one(document.section("ledger"));
    let record = keeping::read_audit(document.section("audit"), None);
    let mut sections = document.sections("rule");
    for section in &mut sections {
        section.without_effect(&["clients"], FOR_ONE, "there is one client: every rule is for it");
    }
    let policy = rules::compile(document.sheet, sections, defaults, now);
    document.finish();
    let defaults =
        if arguments.observe { Defaults { mode: Mode::Observe, until: None, ..defaults } } else { defaults };
    Some(SandboxSettings {
        policy: join(&policy?, said.rules, defaults),
        ledger,
        proxy,
        dns,
        record: RecordConfig { to: said.audit.unwrap_or(record.to), ..record },
    })
}

/// Compiles the rules of a sound policy together with more of them. One that then can never decide anything
/// is left out; one with an id that is taken gets another.
fn join(policy: &Policy, more: Vec<Rule>, defaults: Defaults) -> Policy {
    let mut rules: Vec<Rule> = policy.rules().iter().map(|rule| Rule::clone(rule)).chain(more).collect();
    loop {
        let faults = match Policy::compile(rules.clone(), defaults) {
            Ok(policy) => return policy,
            Err(faults) => faults,
        };
        let mut covered = HashSet::new();
        for fault in faults {
            match fault {
                PolicyFault::Unreachable { rule, .. } => drop(covered.insert(rule)),
                PolicyFault::DuplicateId { second, .. } => {
                    if let Some(rule) = rules.get_mut(second) {
                        rule.id = Arc::from(format!("{}-argument", rule.id));
                    }
                }
            }
        }
        let mut at = 0..;
        rules.retain(|_| at.next().is_none_or(|at| !covered.contains(&at)));
    }
}

/// What the arguments say, checked.
struct Said {
    rules: Vec<Rule>,
    upstreams: Option<Vec<Upstream>>,
    audit: Option<Vec<Target>>,
}

impl Said {
    /// Reads the arguments. Faults stand in a text that spells them as they were typed, one a line.
    fn read(sheet: &Sheet, arguments: &SandboxArguments) -> Self {
        let mut typed = Typed::default();
        let allow = typed.lines("--allow", &arguments.allow);
        let deny = typed.lines("--deny", &arguments.deny);
        let ports: Vec<String> = arguments.host_ports.iter().map(u16::to_string).collect();
        let host_ports = typed.lines("--host-port", &ports);
        let upstreams = typed.lines("--dns-upstream", &arguments.upstreams);
        let audit = typed.lines("--audit", &arguments.audit);
        let source = sheet.add_source(Source::new(Path::new("<arguments>"), typed.0));

        let check = Check { sheet, source };
        let mut grants = check.all(&allow, grant::allow, warn_of_grant);
        grants.extend(check.all(&deny, grant::deny, warn_of_grant));
        let mut rules = group(grants, arguments.private);
        rules.extend(host_rule(&arguments.host_ports));
        for ((_, range), port) in host_ports.iter().zip(&arguments.host_ports) {
            rules::warn_of_dns_port(sheet, check.span(range), (*port, *port));
        }
        let upstreams = check.all(&upstreams, upstream, |_, _, _| {});
        let audit = check.targets(&audit);
        Self {
            rules,
            upstreams: Some(upstreams).filter(|upstreams| !upstreams.is_empty()),
            audit: Some(audit).filter(|audit| !audit.is_empty()),
        }
    }
}

/// Arguments as they were typed, one option and value a line.
#[derive(Default)]
struct Typed(String);

impl Typed {
    /// Adds values of one option; returns each with its place.
    fn lines<'a>(&mut self, option: &str, values: &'a [String]) -> Vec<(&'a str, Range<usize>)> {
        values.iter().map(|value| (value.as_str(), self.line(option, value))).collect()
    }

    fn line(&mut self, option: &str, value: &str) -> Range<usize> {
        self.0.push_str(option);
        self.0.push(' ');
        let start = self.0.len();
        if value.is_empty() {
            self.0.push_str("''");
        }
        for letter in value.chars() {
            // A line stays a line, and a terminal is not steered.
            if letter.is_control() { self.0.extend(letter.escape_default()) } else { self.0.push(letter) }
        }
        let end = self.0.len();
        self.0.push('\n');
        start..end
    }
}

/// Checks typed values and says what is wrong with them.
struct Check<'a> {
    sheet: &'a Sheet,
    source: usize,
}

impl Check<'_> {
    fn span(&self, range: &Range<usize>) -> Span {
        Span { source: self.source, start: range.start, end: range.end }
    }

    fn all<T>(
        &self,
        values: &[(&str, Range<usize>)],
        parse: impl Fn(&str) -> Result<T, Complaint>,
        warn: impl Fn(&Sheet, Span, &T),
    ) -> Vec<T> {
        let mut parsed = Vec::with_capacity(values.len());
        for (value, range) in values {
            let span = self.span(range);
            match parse(value) {
                Ok(value) => {
                    warn(self.sheet, span, &value);
                    parsed.push(value);
                }
                Err(complaint) => self.complain(span, complaint),
            }
        }
        parsed
    }

    /// Reads audit targets; one given twice counts once.
    fn targets(&self, values: &[(&str, Range<usize>)]) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for target in self.all(values, |text| audit_target(text, Path::new("")), |_, _, _| {}) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    fn complain(&self, span: Span, complaint: Complaint) {
        let finding = Finding::error(span, complaint.what);
        self.sheet.push(match complaint.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }
}

fn warn_of_grant(sheet: &Sheet, span: Span, grant: &Grant) {
    for range in &grant.ports.0 {
        rules::warn_of_dns_port(sheet, span, *range);
    }
    if grant.kind == Kind::AllowAddress {
        let instead = format!("--allow {} where the connection says its name (TLS, HTTP)", grant.pattern);
        rules::warn_of_shared_ports(sheet, span, &grant.ports, &instead);
    }
}

/// Puts names of one kind with the same ports into one rule: a name given twice, or within another, is no
/// fault then.
fn group(grants: Vec<Grant>, private: bool) -> Vec<Rule> {
    let mut groups: Vec<(Kind, Ports, Vec<Pattern>)> = Vec::new();
    for Grant { kind, pattern, ports } in grants {
        match groups.iter_mut().find(|group| group.0 == kind && group.1 == ports) {
            Some((_, _, names)) if names.contains(&pattern) => {}
            Some((_, _, names)) => names.push(pattern),
            None => groups.push((kind, ports, vec![pattern])),
        }
    }
    let rule = |(kind, ports, names): (Kind, Ports, Vec<Pattern>)| Rule {
        private: private && kind.action() == Action::Allow,
        action: kind.action(),
        by: kind.by(),
        ..plain_rule(&id(kind, &ports), names, ports)
    };
    groups.into_iter().map(rule).collect()
}

/// The option and its ports: `allow`, `allow:8443`, `allow:tcp:5432`, `deny`.
fn id(kind: Kind, ports: &Ports) -> String {
    let word = match kind {
        Kind::Allow => "allow",
        Kind::AllowAddress => "allow:tcp",
        Kind::Deny => "deny",
    };
    match *ports.0 {
        [(1, u16::MAX)] if kind == Kind::Deny => word.to_owned(),
        [(first, last)] if first == last => format!("{word}:{first}"),
        [(first, last)] => format!("{word}:{first}-{last}"),
        _ => word.to_owned(),
    }
}

/// The rule behind `--host-port`.
fn host_rule(ports: &[u16]) -> Option<Rule> {
    let localhost = Pattern::parse("localhost", false).ok()?;
    let ports: Vec<(u16, u16)> = ports.iter().map(|port| (*port, *port)).collect();
    (!ports.is_empty()).then(|| Rule {
        by: MatchBy::Address,
        private: true,
        ..plain_rule("host-port", vec![localhost], Ports(ports))
    })
}

fn plain_rule(id: &str, names: Vec<Pattern>, ports: Ports) -> Rule {
    Rule {
        id: Arc::from(id),
        names,
        ports,
        clients: Vec::new(),
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
