//! The filter that is tried: a command in the gateway's network, told by its environment what it needs to know.
//!
//! Must not know what it is tried with.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::Error;
use super::map::{ALLOWED, GATEWAY, MAIL, RESOLVER};

/// When a filter is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ready {
    /// This shell command succeeds, in the gateway's network.
    When(String),
    After(Duration),
}

impl Ready {
    fn parse(text: &str) -> Self {
        if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
            return Self::When(format!("ss -Hltn 'sport = :{port}' | grep -q ."));
        }
        let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<u8>().ok());
        seconds.map_or_else(
            || Self::When(text.to_owned()),
            |count| Self::After(Duration::from_secs(count.into())),
        )
    }
}

/// How it is started.
#[derive(Debug)]
pub(super) struct Filter {
    command: String,
    ready: Ready,
    running: Option<Child>,
}

/// A folder of the filter's own, and where the suite keeps what it says.
const FOLDER: &str = "/run/conformance";
const LOG: &str = "/run/conformance/filter.log";
const NAMESPACE: &str = "/run/netns/gateway";

/// How long a filter may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(25);

impl Filter {
    pub(super) fn new(command: &str, ready: &str) -> Self {
        Self { command: command.to_owned(), ready: Ready::parse(ready), running: None }
    }

    pub(super) fn folder() -> &'static Path {
        Path::new(FOLDER)
    }

    /// Starts it, and waits until it is ready.
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        let log = File::create(LOG).map_err(Error::Filter)?;
        let output = log.try_clone().map_err(Error::Filter)?;
        let child = self.shell(&self.command).stdout(output).stderr(log).spawn().map_err(Error::Filter)?;
        self.running = Some(child);
        if timeout(PATIENCE, self.wait()).await.is_ok_and(|ready| ready) {
            return Ok(());
        }
        let said = fs::read_to_string(LOG).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        Err(Error::NotReady {
            said: lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n"),
        })
    }

    /// `false`: it failed. One that ends well has gone to the background.
    async fn wait(&mut self) -> bool {
        if let Ready::After(time) = self.ready {
            sleep(time).await;
        }
        loop {
            let ended = self.running.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some_and(|status| !status.success()) {
                return false;
            }
            let Ready::When(command) = &self.ready else { return true };
            let probe = self.shell(command).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
            if probe.is_ok_and(|status| status.success()) {
                return true;
            }
            sleep(LOOK).await;
        }
    }

    /// Kills every process in the gateway's network but one, and waits until they are gone.
    pub(super) async fn kill(&mut self, but: Option<u32>) -> io::Result<()> {
        let gone = async {
            loop {
                let there = processes(but)?;
                if there.is_empty() {
                    return Ok(());
                }
                for process in there {
                    // One that is gone already is as dead.
                    let _ = kill_process(process, Signal::KILL);
                }
                if let Some(child) = &mut self.running {
                    let _ = child.try_wait();
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Throws away every rule of nftables there.
    pub(super) async fn flush(&self) -> io::Result<()> {
        let status = self.shell("nft flush ruleset").status().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other("nft cannot flush the rules")) }
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .arg(format!("--net={NAMESPACE}"))
            .args(["sh", "-c", line])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env("CONFORMANCE_INSIDE", "inside")
            .env("CONFORMANCE_OUTSIDE", "outside")
            .env("CONFORMANCE_GATEWAY", GATEWAY.to_string())
            .env("CONFORMANCE_GATEWAY6", "2001:db8:77::1")
            .env("CONFORMANCE_CLIENTS", "10.77.0.0/24")
            .env("CONFORMANCE_CLIENTS6", "2001:db8:77::/64")
            .env("CONFORMANCE_NAMES", ALLOWED.join(" "))
            .env("CONFORMANCE_MAIL", MAIL)
            .env("CONFORMANCE_DNS", RESOLVER.ip().to_string())
            .env("CONFORMANCE_FOLDER", FOLDER);
        if let Ok(program) = std::env::current_exe() {
            command.env("CONFORMANCE_NAMEGATE", program);
        }
        command
    }
}

/// Processes in the gateway's network namespace.
fn processes(but: Option<u32>) -> io::Result<Vec<Pid>> {
    let there = fs::metadata(NAMESPACE)?.ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let path: PathBuf = entry.path().join("ns/net");
        // A process that ends meanwhile, or a zombie, is in none.
        let inside = fs::metadata(path).is_ok_and(|namespace| namespace.ino() == there);
        if inside && Some(id) != but {
            found.extend(i32::try_from(id).ok().and_then(Pid::from_raw));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_a_port_a_time_or_a_command() {
        assert_eq!(Ready::parse("2s"), Ready::After(Duration::from_secs(2)));
        assert!(matches!(Ready::parse(":8443"), Ready::When(command) if command.contains("sport = :8443")));
        assert_eq!(Ready::parse("test -e x"), Ready::When("test -e x".to_owned()));
        assert_eq!(Ready::parse("ls"), Ready::When("ls".to_owned()));
    }
}
