//! Who stands between: nobody (the kernel routes), HAProxy, namegate.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::world::{self, ALLOWED, GATEWAY, Running, World, inside};

const GATE: &str = env!("CARGO_BIN_EXE_namegate");
const HAPROXY_PORT: u16 = 8443;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    Direct,
    Haproxy,
    Namegate,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "HAProxy",
            Self::Namegate => "namegate",
        }
    }

    /// Those that are installed.
    pub fn present() -> Vec<Self> {
        let mut present = vec![Self::Direct];
        if world::has("haproxy") {
            present.push(Self::Haproxy);
        }
        present.push(Self::Namegate);
        present
    }

    pub fn version(self) -> Option<String> {
        let said = match self {
            Self::Direct => return None,
            Self::Haproxy => world::tool("haproxy", &["-v"]),
            Self::Namegate => world::tool(GATE, &["--version"]),
        };
        said.ok()?.lines().next().map(str::to_owned)
    }
}

/// What stands between, ready; and what it needs besides.
pub struct Between {
    pub proxy: Option<Running>,
    _resolver: Option<Running>,
}

impl Between {
    /// Starts it. `rules`: in namegate's policy, of which one allows what is asked for.
    pub fn start(who: Contender, world: &World, rules: usize) -> Result<Self> {
        fs::create_dir_all(world::folder())?;
        match who {
            Contender::Direct => Ok(Self { proxy: None, _resolver: None }),
            Contender::Haproxy => haproxy(world),
            Contender::Namegate => namegate(rules),
        }
    }
}

/// The same job as far as it can: the name is compared with a list, the destination is believed.
fn haproxy(world: &World) -> Result<Between> {
    let names = world::folder().join("names");
    fs::write(&names, format!("{ALLOWED}\n"))?;
    let config = world::folder().join("haproxy.cfg");
    let text = format!(
        "global\n nbthread {cores}\n tune.pipesize 1048576\n maxpipes 2000\n maxconn {most}\ndefaults\n mode tcp\n option splice-auto\n \
         option transparent\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nfrontend in\n bind 0.0.0.0:{HAPROXY_PORT}\n \
         tcp-request inspect-delay 5s\n acl hello req.ssl_hello_type 1\n acl allowed req.ssl_sni -i -f {names}\n \
         tcp-request content accept if hello allowed\n tcp-request content reject if hello\n default_backend out\n\
         backend out\n server there 0.0.0.0:0\n",
        cores = std::thread::available_parallelism()?,
        // With pipes in store, the descriptors do not reach for more.
        most = descriptors() / 4,
        names = names.display(),
    );
    fs::write(&config, text)?;
    let command = ["haproxy", "-db", "-f", &config.to_string_lossy()].map(str::to_owned);
    let mut proxy = Running::start("gateway", &command, Stdio::null())?;
    world.redirect(HAPROXY_PORT)?;
    std::thread::sleep(Duration::from_millis(500));
    proxy.check()?;
    Ok(Between { proxy: Some(proxy), _resolver: None })
}

/// The whole gate: it captures by itself, answers DNS, wants evidence and writes its log.
fn namegate(rules: usize) -> Result<Between> {
    let zone = world::servers().iter().fold(String::new(), |mut zone, server| {
        let _ = writeln!(zone, " local-data: \"{ALLOWED}. 3600 A {}\"", server.ip());
        zone
    });
    let resolver = unbound(&zone)?;
    let mut text = format!(
        "[capture]\ninterfaces = [\"gate0\"]\n[proxy]\nmax_connections = 65536\nmax_connections_per_client = 65536\n\
         new_connections_per_second = 1000000\n[dns]\nupstreams = [\"udp://127.0.0.1:5353\"]\n[audit]\nto = [\"/run/bench/audit.jsonl\"]\n\
         [[rule]]\nid = \"allowed\"\nnames = [\"{ALLOWED}\"]\nports = [{}]\nprivate = true\n",
        world::PORT
    );
    for number in 1..rules {
        let _ = write!(text, "[[rule]]\nid = \"r{number}\"\nnames = [\"*.zone{number}.example.net\"]\n");
    }
    let config = world::folder().join("namegate.toml");
    fs::write(&config, text)?;
    let _ = fs::remove_file("/run/bench/audit.jsonl");
    let command = [GATE, "serve", "--config", &config.to_string_lossy()].map(str::to_owned);
    let mut proxy = Running::start("gateway", &command, Stdio::null())?;
    let mut asked = Ok(String::new());
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        proxy.check()?;
        let question = ["dig", "+short", "+tries=1", "+time=1", &format!("@{GATEWAY}"), ALLOWED];
        asked = inside("client", &question);
        if asked.as_ref().is_ok_and(|answer| answer.lines().count() == world::servers().len()) {
            return Ok(Between { proxy: Some(proxy), _resolver: Some(resolver) });
        }
    }
    asked.context("the gate does not answer")?;
    anyhow::bail!("the gate does not give all addresses")
}

/// A resolver that knows only this zone, on loopback of the gateway.
pub fn unbound(zone: &str) -> Result<Running> {
    let config = world::folder().join("unbound.conf");
    let text = format!(
        "server:\n interface: 127.0.0.1\n port: 5353\n username: \"\"\n chroot: \"\"\n directory: \"/run/bench\"\n pidfile: \"\"\n \
         use-syslog: no\n logfile: \"\"\n verbosity: 0\n do-daemonize: no\n num-threads: 1\n minimal-responses: yes\n rrset-roundrobin: no\n \
         local-zone: \"test.\" static\n{zone}"
    );
    fs::write(&config, text)?;
    let command = ["unbound", "-c", &config.to_string_lossy()].map(str::to_owned);
    Running::start("gateway", &command, Stdio::null())
}

/// How many descriptors a process may have.
pub fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.maximum.unwrap_or(1 << 20).min(1 << 20)
}
