//! Where the Docker daemon of the tests lives: namespaces of their own for network, mounts and processes, one for all
//! tests. When their first process ends, however it ends, the kernel ends every daemon, container, mount and network in
//! them; what is written is on a tmpfs. Only cgroups outlive that: each run removes its own, and those of dead runs.
//!
//! It needs root of the machine: a daemon in a user namespace would be another one than users run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::common::world::{text, wait_until};

/// Whether this process is the one inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Name of the cgroup under which the daemon puts its containers.
pub(crate) fn cgroup() -> String {
    std::env::var(INSIDE).expect("set outside")
}

/// Runs the tests that this process was asked for inside, once, and fails if this one failed there.
pub(crate) fn outside(test: &str) {
    static RUN: OnceLock<Result<String, String>> = OnceLock::new();
    let said = match RUN.get_or_init(run) {
        Ok(said) => said,
        Err(why) => {
            let notice = format!("SKIPPED {test}: {why}");
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
            // Past the capture of the test harness: a skip that nobody sees is a lie.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n{notice}\n"));
            return;
        }
    };
    let passed = said.lines().any(|line| line == format!("test {test} ... ok"));
    let mut parts = said.split("\n---- ").filter(|part| part.starts_with(&format!("{test} stdout")));
    assert!(passed, "inside its namespaces:\n{}", parts.next().unwrap_or(said));
}

fn run() -> Result<String, String> {
    probe()?;
    sweep();
    let name = format!("{CGROUP}{}", std::process::id());
    let program = std::env::current_exe().expect("path of this test");
    // The same choice of tests, in a form that can be read.
    let choice = std::env::args().skip(1).filter(|word| word != "--nocapture" && word != "--show-output");
    let output = Command::new("timeout")
        .args(["--kill-after=5", "600"])
        .args(ENTRANCE)
        .arg(program)
        .args(choice)
        .env(INSIDE, &name)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .output()
        .expect("timeout, of coreutils");
    wait_until("the cgroups of the run are gone", Duration::from_secs(10), || {
        cgroups().iter().filter(|path| path.ends_with(&name)).all(|path| remove(path))
    });
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    // Seen with `--nocapture`.
    println!("{said}");
    Ok(said)
}

/// Removes what runs left that were ended together with this part of them.
fn sweep() {
    for path in cgroups() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let run = name.strip_prefix(CGROUP).unwrap_or("");
        if !Path::new("/proc").join(run).exists() && !remove(&path) {
            eprintln!("cannot remove {}", path.display());
        }
    }
}

/// Cgroups of runs, in every hierarchy.
fn cgroups() -> Vec<PathBuf> {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = entries(root).chain([root.to_owned()]);
    let ours = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(CGROUP))
    };
    hierarchies.flat_map(|hierarchy| entries(&hierarchy)).filter(ours).collect()
}

/// Removes a cgroup and those below it; false while a process is in one of them.
fn remove(cgroup: &Path) -> bool {
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).all(|path| remove(&path)) && fs::remove_dir(cgroup).is_ok()
}

/// Why there can be no daemon here.
fn probe() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a Docker daemon needs root".to_owned());
    }
    for tool in ["dockerd", "docker", "docker-compose", "busybox", "nft", "curl", "dig", "gcc", "strip"] {
        let found = std::env::split_paths(PATH).any(|folder| folder.join(tool).exists());
        if !found {
            return Err(format!("{tool} is not installed"));
        }
    }
    match Command::new("env").args(ENTRANCE).arg("true").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no namespaces here: {}", text(&output.stderr).trim())),
        Err(error) => Err(format!("unshare, of util-linux, cannot be run: {error}")),
    }
}

/// Where Debian has its programs. What stands elsewhere on the path may be of another version.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

const ENTRANCE: [&str; 7] =
    ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

const INSIDE: &str = "NAMEGATE_DOCKER_RUN";

const CGROUP: &str = "namegate-test-";
