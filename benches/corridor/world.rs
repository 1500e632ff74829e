//! The network of the bench: client - gateway - servers, in namespaces that end with this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Says that the namespaces are there.
const INSIDE: &str = "NAMEGATE_BENCH_INSIDE";

/// Clock ticks in a second, as the kernel tells them (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Servers that DNS tells of, and one more that it does not.
const SERVERS: std::ops::Range<u8> = 10..26;
const UNTOLD: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 26);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
pub const PORT: u16 = 443;
pub const ALLOWED: &str = "allowed.test";
pub const DENIED: &str = "denied.test";

/// Starts this program again where the only network is its own, the only processes its own, and `/run` is empty: nothing
/// outside is touched, and nothing outlives it.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        tool("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        tool("ip", &["link", "set", "lo", "up"])?;
        return Ok(());
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(command.exec()).context("unshare, of util-linux")
}

/// Runs a tool to its end.
pub fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("{program} cannot be run"))?;
    let words = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {}: {}", arguments.join(" "), words.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Whether a program can be started.
pub fn has(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// The addresses of the servers.
pub fn servers() -> Vec<SocketAddr> {
    SERVERS.map(|last| SocketAddr::from(([10, 77, 2, last], PORT))).collect()
}

/// A server that no DNS answer tells of.
pub fn untold() -> SocketAddr {
    (UNTOLD, PORT).into()
}

/// The three namespaces, with servers running. New ones carry no memory of connections that were.
pub struct World {
    _servers: Running,
}

impl World {
    pub fn new() -> Result<Self> {
        for name in ["client", "gateway", "servers"] {
            let _ = tool("ip", &["netns", "del", name]);
            tool("ip", &["netns", "add", name])?;
            tool("ip", &["-n", name, "link", "set", "lo", "up"])?;
        }
        for (link, name, other, far) in
            [("client0", "client", "gate0", "gateway"), ("gate1", "gateway", "server0", "servers")]
        {
            tool(
                "ip",
                &["link", "add", link, "netns", name, "type", "veth", "peer", "name", other, "netns", far],
            )?;
        }
        let mut addresses = vec![
            ("client", "client0", "10.77.1.2/24".to_owned()),
            ("gateway", "gate0", format!("{GATEWAY}/24")),
            ("gateway", "gate1", "10.77.2.1/24".to_owned()),
            ("servers", "server0", format!("{UNTOLD}/24")),
        ];
        addresses.extend(SERVERS.map(|last| ("servers", "server0", format!("10.77.2.{last}/24"))));
        for (name, link, address) in &addresses {
            tool("ip", &["-n", name, "addr", "add", address, "dev", link])?;
            tool("ip", &["-n", name, "link", "set", link, "up"])?;
        }
        tool("ip", &["-n", "client", "route", "add", "default", "via", "10.77.1.1"])?;
        tool("ip", &["-n", "servers", "route", "add", "default", "via", "10.77.2.1"])?;
        inside("gateway", &["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        for name in ["client", "gateway", "servers"] {
            for setting in [
                "net.ipv4.ip_local_port_range=1024 65000",
                "net.ipv4.tcp_max_syn_backlog=8192",
                "net.core.somaxconn=8192",
            ] {
                inside(name, &["sysctl", "-qw", setting])?;
            }
        }
        let servers = Running::start("servers", &own(&["serve"])?, Stdio::null())?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(Self { _servers: servers })
    }

    /// Sends captured connections to a port of the gateway.
    pub fn redirect(&self, port: u16) -> Result<()> {
        let rules = format!(
            "table ip bench {{ chain pre {{ type nat hook prerouting priority dstnat; iifname \"gate0\" tcp dport {PORT} redirect to :{port}; }}; }}"
        );
        inside("gateway", &["nft", &rules]).map(drop)
    }
}

/// This program, with other arguments.
pub fn own(arguments: &[&str]) -> Result<Vec<String>> {
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok(std::iter::once(program).chain(arguments.iter().map(|word| (*word).to_owned())).collect())
}

/// Runs a tool to its end in a namespace.
pub fn inside(name: &str, command: &[&str]) -> Result<String> {
    tool("ip", &[&["netns", "exec", name][..], command].concat())
}

/// A program in a namespace; ended when dropped.
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    pub fn start(name: &str, command: &[String], output: impl Into<Stdio>) -> Result<Self> {
        let mut started = Command::new("ip");
        started.args(["netns", "exec", name]).args(command).stdin(Stdio::piped()).stdout(output);
        if std::env::var_os("NAMEGATE_BENCH_TALK").is_none() {
            started.stderr(Stdio::null());
        }
        let child = started.spawn().with_context(|| format!("{command:?} cannot be started"))?;
        Ok(Self { child, name: command.join(" ") })
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => Ok(()),
        }
    }

    pub fn output(&mut self) -> Result<std::process::ChildStdout> {
        self.child.stdout.take().context("no output")
    }

    /// User and system time so far, of it and its children, seconds.
    pub fn cpu(&self) -> Result<f64> {
        let ticks: u64 = self.tree().iter().filter_map(|pid| ticks(Path::new(&format!("/proc/{pid}")))).sum();
        Ok(ticks as f64 / TICKS)
    }

    /// The same of its threads of this name alone.
    pub fn cpu_of(&self, name: &str) -> f64 {
        let tree = self.tree();
        let folders = tree.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        let threads = folders.flatten().flatten();
        let named = threads.filter(|thread| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let ticks: u64 = named.filter_map(|thread| ticks(&thread.path())).sum();
        ticks as f64 / TICKS
    }

    /// Anonymous memory, bytes.
    pub fn memory(&self) -> u64 {
        self.tree().iter().filter_map(|pid| field(*pid, "status", "RssAnon:")).sum::<u64>() * 1024
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> u64 {
        let count = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.tree().iter().map(count).sum::<usize>() as u64
    }

    fn tree(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            at += 1;
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let children =
                tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
            found.extend(
                children.flat_map(|line| line.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>()),
            );
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.tree().into_iter().rev() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let _ = self.child.wait();
    }
}

/// Ticks that a process, or a thread, by its folder below `/proc`, has used.
fn ticks(folder: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// A folder of the bench, in memory.
pub fn folder() -> PathBuf {
    PathBuf::from("/run/bench")
}
