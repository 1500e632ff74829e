//! Settings from arguments, without a file.
//!
//! Arguments are spelled out as the configuration they stand for and checked like any other, so that
//! both ways lead through the same door. Must not know how the command line is parsed.

use std::path::Path;
use std::time::SystemTime;

use super::{Checked, Error, check};

/// What `serve` can be told without a file.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// Interfaces to capture.
    pub interfaces: Vec<String>,
    /// Docker networks to capture, by name.
    pub docker_networks: Vec<String>,
    /// Where dnstap senders connect; empty: the built-in forwarder answers.
    pub dnstap: Vec<String>,
    /// The operator's resolvers. Empty with `dnstap`: whatever listens on port 53 of the captured
    /// interface's own address.
    pub resolvers: Vec<String>,
    /// Upstreams of the forwarder, or of our own look-ups.
    pub upstreams: Vec<String>,
    /// Audit targets; empty: standard output.
    pub audit: Vec<String>,
    /// Where the gate can be asked how it is.
    pub admin: Option<String>,
    /// Patterns of the one rule, which is for ports 80 and 443 and is called `arguments`.
    pub names: Vec<String>,
}

/// Checks arguments as if they were a file. Relative paths start at the working directory.
///
/// # Errors
/// [`Error::Faulty`] with every fault; places are in the configuration that the arguments stand for.
pub fn from_arguments(arguments: &Arguments, now: SystemTime) -> Result<Checked, Error> {
    check(Path::new("<arguments>"), Path::new(""), &spell(arguments), now)
}

/// Spells arguments as the file they stand for.
fn spell(arguments: &Arguments) -> String {
    let mut text = String::from("[capture]\n");
    for (key, items) in
        [("interfaces", &arguments.interfaces), ("docker_networks", &arguments.docker_networks)]
    {
        if !items.is_empty() {
            text.push_str(&format!("{key} = {}\n", list(items)));
        }
    }
    let external = !arguments.dnstap.is_empty();
    if external || !arguments.resolvers.is_empty() || !arguments.upstreams.is_empty() {
        text.push_str("[dns]\n");
    }
    if external {
        text.push_str("mode = \"external\"\n");
    }
    if !arguments.resolvers.is_empty() {
        text.push_str(&format!("resolver = {}\n", list(&arguments.resolvers)));
    }
    if !arguments.upstreams.is_empty() {
        text.push_str(&format!("upstreams = {}\n", list(&arguments.upstreams)));
    }
    if external {
        text.push_str(&format!("[dnstap]\nlisten = {}\n", list(&arguments.dnstap)));
    }
    if !arguments.audit.is_empty() {
        text.push_str(&format!("[audit]\nto = {}\n", list(&arguments.audit)));
    }
    if let Some(admin) = &arguments.admin {
        text.push_str(&format!("[admin]\nlisten = {}\n", quote(admin)));
    }
    text.push_str(&format!("[[rule]]\nid = \"arguments\"\nnames = {}\n", list(&arguments.names)));
    text
}

/// Spells a list of strings in TOML, one line.
fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(", "))
}

/// Spells a TOML basic string: what is not printable ASCII is escaped by number.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_argument_survives_the_way_through_the_file_it_stands_for() {
        for text in
            ["plain", "a\"b", "a\\b", "line\nline", "tab\t", "bücher.test", "\u{7f}\u{1}", "]\n[[rule]]", ""]
        {
            let document = format!("value = {}\n", list(&[text.to_owned()]));
            let parsed: toml::Table = document.parse().unwrap();
            assert_eq!(parsed["value"][0].as_str(), Some(text), "{document}");
        }
    }
}
