//! The command tree: names, arguments, help.
//!
//! Values are only given their shape here; what they mean is checked by `settings`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::settings::DEFAULT_PATH;

/// An egress gate: a workload reaches only the names you allow, and only at the addresses that DNS
/// really gave for them.
#[derive(Debug, Parser)]
#[command(name = "namegate", version, max_term_width = 100, styles = STYLES, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 fine, 1 the answer is no, 2 usage or configuration, 3 the system refused;\n\
                        exec ends as its command did.\n\
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
    /// Run one command that reaches only the names you allow (needs no root)
    Exec(ExecArgs),
    /// Show the gate at work: allowed connections pass, the classic bypasses die with a reason each
    Demo(DemoArgs),
    /// Try attacks and ordinary uses on an egress filter, this one or any other, and print what came through
    Conformance(ConformanceArgs),
    /// Run the gate until it is told to stop (SIGTERM, SIGINT)
    Serve(ServeArgs),
    /// Check a configuration: every fault with its place and what to write instead
    Check(CheckArgs),
    /// Print the nftables ruleset that a configuration leads to
    Rules(RulesArgs),
    /// Walk a connection through the policy, step by step, without sending anything
    Explain(ExplainArgs),
    /// Ask a running gate how it is
    Status(StatusArgs),
    /// Look at this machine and the configuration: what is wrong, worst first, each with the exact fix
    Doctor(DoctorArgs),
    /// Remove what a gate that is gone left in the kernel (stop a running one first)
    Down,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        namegate exec --allow packages.example.com --allow files.example.com -- pip install requests\n  \
                        namegate exec --learn rules.toml -- make test     what does it need?\n  \
                        namegate exec --policy rules.toml -- make test    this, and nothing else\n\n\
                        Exit code: the command's own; 128 and the number when a signal ended it.\n\
                        Before it starts: 2 usage or configuration, 3 the system refused.")]
pub(super) struct ExecArgs {
    /// Let it reach this name: example.com, *.example.com (one label), **.example.com. Without a port: 80
    /// and 443. tcp:NAME:PORT is for protocols that send no name (SSH, databases): the DNS answer alone
    /// decides
    #[arg(long, value_name = "NAME[:PORT]", help_heading = "What it may reach")]
    pub(super) allow: Vec<String>,

    /// Refuse this name, whatever else allows it. Without a port: every port
    #[arg(long, value_name = "NAME[:PORT]", help_heading = "What it may reach")]
    pub(super) deny: Vec<String>,

    /// Take rules from a file too, as a configuration has them
    #[arg(long, value_name = "FILE", help_heading = "What it may reach")]
    pub(super) policy: Option<PathBuf>,

    /// The names of --allow may lead to private addresses
    #[arg(long, help_heading = "What it may reach")]
    pub(super) private: bool,

    /// Keep this port of this host's localhost reachable
    #[arg(long, value_name = "PORT", help_heading = "What it may reach")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) host_port: Vec<u16>,

    /// Keep this unix socket of this host reachable; what listens there acts outside of the sandbox
    #[arg(long, value_name = "PATH", help_heading = "What it may reach")]
    pub(super) allow_socket: Vec<PathBuf>,

    /// Keep this device node, besides the standard ones
    #[arg(long, value_name = "PATH", help_heading = "What it may reach")]
    pub(super) allow_device: Vec<PathBuf>,

    /// Resolver that namegate asks [default: that of the system]
    #[arg(long, value_name = "URL", help_heading = "What it may reach")]
    pub(super) dns_upstream: Vec<String>,

    /// Refuse nothing; what would have been refused is told by --report and --audit
    #[arg(long, help_heading = "What you hear of it")]
    pub(super) observe: bool,

    /// Write the rules that the run needed. Implies --observe: nothing is refused meanwhile
    #[arg(long, value_name = "FILE", help_heading = "What you hear of it")]
    pub(super) learn: Option<PathBuf>,

    /// Write every decision as a line of JSON: to a file, or - for standard output
    #[arg(long, value_name = "TARGET", help_heading = "What you hear of it")]
    pub(super) audit: Vec<String>,

    /// Show a table on stderr at the end: names, verdicts, connections, bytes
    #[arg(long, help_heading = "What you hear of it")]
    pub(super) report: bool,

    /// Say nothing on stderr about what is denied
    #[arg(short, long, help_heading = "What you hear of it")]
    pub(super) quiet: bool,

    /// Go on when a protective layer is missing on this machine
    #[arg(long)]
    pub(super) best_effort: bool,

    /// The command and its arguments; whatever follows it is its own
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("captured").multiple(true).args(["interface", "docker_network"]))]
#[command(
    after_help = "Without a file:\n  namegate serve --docker-network egress 'example.com' '*.example.com'\n  \
                        namegate serve --interface br-egress --dnstap unix:/run/tap.sock 'example.com' '*.example.com'"
)]
pub(super) struct ServeArgs {
    /// Configuration file [default: /etc/namegate/namegate.toml]
    #[arg(short, long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["interface", "docker_network", "dnstap", "resolver", "dns_upstream", "audit", "admin", "names"])]
    pub(super) config: Option<PathBuf>,

    /// Capture what enters by this interface
    #[arg(short, long, value_name = "IF", help_heading = "Without a file")]
    pub(super) interface: Vec<String>,

    /// Capture what the containers of this Docker network send
    #[arg(long, value_name = "NAME", help_heading = "Without a file")]
    pub(super) docker_network: Vec<String>,

    /// Let your own resolver answer, and listen here for its dnstap frames
    #[arg(long, value_name = "ADDRESS", help_heading = "Without a file", requires = "captured")]
    pub(super) dnstap: Vec<String>,

    /// Address of that resolver [default: port 53 of the interface's own address]
    #[arg(long, value_name = "ADDR", help_heading = "Without a file", requires = "dnstap")]
    pub(super) resolver: Vec<String>,

    /// Resolver that namegate asks [default: that of the system]
    #[arg(long, value_name = "URL", help_heading = "Without a file", requires = "captured")]
    pub(super) dns_upstream: Vec<String>,

    /// Where audit lines go: a file, or - for standard output [default: -]
    #[arg(long, value_name = "TARGET", help_heading = "Without a file", requires = "captured")]
    pub(super) audit: Vec<String>,

    /// Where `status` and monitoring ask how the gate is [default: nowhere]
    #[arg(long, value_name = "ADDRESS", help_heading = "Without a file", requires = "captured")]
    pub(super) admin: Option<String>,

    /// Names to allow on ports 80 and 443: example.com, *.example.com (one label), **.example.com
    #[arg(value_name = "NAME", requires = "captured")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A resolver, servers and an attacker run in a network of their own; needs neither root nor a network.\n\
                        Exit code 0: every verdict is the expected one. 1: one is not."
)]
pub(super) struct DemoArgs {
    /// Print the verdicts as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Be one of the demo's clients: orders from standard input, answers to standard output
    #[arg(long, hide = true)]
    pub(super) act: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Clients, gateway and Internet are network namespaces; needs no root, but iproute2, util-linux and nftables.\n\
                        The filter's command is run by sh in the gateway's network; docs/conformance.md has what its environment says.\n\
                        Exit code 0: every attack was blocked and every ordinary use works. 1: not so."
)]
pub(super) struct ConformanceArgs {
    /// Command that starts the filter [default: namegate itself]
    #[arg(long, value_name = "CMD")]
    pub(super) filter: Option<String>,

    /// When it is ready: a command that succeeds then, a port that is listened on (:8443), a time (2s)
    #[arg(
        long,
        value_name = "CMD|:PORT|Ns",
        requires = "filter",
        default_value_if("filter", clap::builder::ArgPredicate::IsPresent, "1s")
    )]
    pub(super) ready: Option<String>,

    /// Try only this; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) only: Vec<String>,

    /// Print what came of it as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Be a client: orders from standard input, answers to standard output
    #[arg(long, hide = true)]
    pub(super) act: bool,

    /// Be the suite, in namespaces of its own
    #[arg(long, hide = true)]
    pub(super) alone: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) file: PathBuf,

    /// Check it as a policy file of exec, which captures nothing else
    #[arg(long)]
    pub(super) exec: bool,

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
#[command(
    after_help = "Exit code 0: healthy. 1: not healthy, or not running (stderr says which). 3: this user may not ask."
)]
pub(super) struct StatusArgs {
    /// Configuration file of the gate, for where its admin socket is [default: /etc/namegate/namegate.toml]
    #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,

    /// The gate's admin socket, without a file
    #[arg(short, long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// Print the status as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Reads only. Run it as root: what it may not see is told as UNSEEN.\n\
                        Exit code 0: nothing found (advice counts for nothing). 1: a leak, something broken, or a risk. \
                        2: a faulty configuration. 3: something that matters could not be looked at.")]
pub(super) struct DoctorArgs {
    /// Configuration file [default: /etc/namegate/namegate.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Print findings as JSON
    #[arg(long)]
    pub(super) json: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(arguments: &[&str]) -> ExecArgs {
        let line = ["namegate", "exec"].iter().chain(arguments);
        match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::Exec(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_tree_has_no_contradictions() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn whatever_follows_the_command_is_its_own() {
        for line in [
            &["-q", "curl", "-v", "--allow", "x", "--", "--report"][..],
            &["-q", "--", "curl", "-v", "--allow", "x", "--", "--report"],
        ] {
            let arguments = exec(line);
            assert_eq!(arguments.command, ["curl", "-v", "--allow", "x", "--", "--report"]);
            assert!(arguments.quiet && !arguments.report && arguments.allow.is_empty());
        }
        assert_eq!(exec(&["--", "-odd-program"]).command, ["-odd-program"]);
    }

    #[test]
    fn an_option_that_is_none_is_not_taken_for_the_command() {
        for line in
            [&["--alow", "x", "true"][..], &["-Z", "true"], &[], &["--"], &["--host-port", "0", "true"]]
        {
            assert!(Cli::try_parse_from(["namegate", "exec"].iter().chain(line)).is_err(), "{line:?}");
        }
    }
}
