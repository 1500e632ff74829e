//! The command tree: names, arguments, help.
//!
//! Values are only given their shape here; what they mean is checked by `settings`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::settings::DEFAULT_PATH;

/// An egress gate: a workload reaches only the names you allow, and only at the addresses that DNS
/// really gave for them.
#[derive(Debug, Parser)]
#[command(name = "namegate", version, max_term_width = 100, styles = STYLES, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 fine, 1 the answer is no, 2 usage or configuration, 3 the system refused.\n\
                        NAMEGATE_LOG=debug (or info,namegate::proxy=debug) chooses the diagnostics on stderr."
)]
pub(super) struct Cli {
    /// Say more on stderr (twice: everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gate until it is told to stop (SIGTERM, SIGINT)
    Serve(ServeArgs),
    /// Check a configuration: every fault with its place and what to write instead
    Check(CheckArgs),
    /// Print the nftables ruleset that a configuration leads to
    Rules(RulesArgs),
    /// Walk a connection through the policy, step by step, without sending anything
    Explain(ExplainArgs),
    /// Remove what a gate that is gone left in the kernel (stop a running one first)
    Down,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a file:\n  namegate serve --interface br-egress --dnstap unix:/run/tap.sock 'example.com' '*.example.com'"
)]
pub(super) struct ServeArgs {
    /// Configuration file [default: /etc/namegate/namegate.toml]
    #[arg(short, long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["interface", "dnstap", "resolver", "dns_upstream", "audit", "names"])]
    pub(super) config: Option<PathBuf>,

    /// Capture what enters by this interface
    #[arg(short, long, value_name = "IF", help_heading = "Without a file")]
    pub(super) interface: Vec<String>,

    /// Let your own resolver answer, and listen here for its dnstap frames
    #[arg(long, value_name = "ADDRESS", help_heading = "Without a file", requires = "interface")]
    pub(super) dnstap: Vec<String>,

    /// Address of that resolver [default: port 53 of the interface's own address]
    #[arg(long, value_name = "ADDR", help_heading = "Without a file", requires = "dnstap")]
    pub(super) resolver: Vec<String>,

    /// Resolver that namegate asks [default: that of the system]
    #[arg(long, value_name = "URL", help_heading = "Without a file", requires = "interface")]
    pub(super) dns_upstream: Vec<String>,

    /// Where audit lines go: a file, or - for standard output [default: -]
    #[arg(long, value_name = "TARGET", help_heading = "Without a file", requires = "interface")]
    pub(super) audit: Vec<String>,

    /// Names to allow on ports 80 and 443: example.com, *.example.com (one label), **.example.com
    #[arg(value_name = "NAME", requires = "interface")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) file: PathBuf,

    /// Print findings as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RulesArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,

    /// Form of capture, in place of the file's; `auto` asks this machine
    #[arg(long, value_name = "FORM")]
    pub(super) form: Option<FormArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormArg {
    /// What serve would choose on this machine
    Auto,
    /// NAT in prerouting
    Redirect,
    /// Transparent sockets
    Tproxy,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --address, any public address that DNS gave this client for the name is assumed.\n\
                        With --address, it counts as given by DNS only with --observed.\n\
                        Exit code 0: allowed. 1: denied."
)]
pub(super) struct ExplainArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,

    /// Client that connects [default: 192.0.2.254, an address for documentation]
    #[arg(long, value_name = "ADDR")]
    pub(super) client: Option<IpAddr>,

    /// Address that it dials
    #[arg(long, value_name = "ADDR")]
    pub(super) address: Option<IpAddr>,

    /// Port that it dials [default: the URL's, else 443]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,

    /// Assume that DNS gave this client the address for the name
    #[arg(long)]
    pub(super) observed: bool,

    /// The TLS hello carries an ECH extension, as those of browsers do
    #[arg(long)]
    pub(super) ech: bool,

    /// Print the steps as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// What the client wants: a URL, or a name
    #[arg(value_name = "URL-or-NAME")]
    pub(super) target: String,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightBlue.on_default().bold())
    .usage(AnsiColor::BrightBlue.on_default().bold())
    .literal(AnsiColor::BrightCyan.on_default());
