//! Kernel tests without root: a test runs itself again in user, network, mount and process namespaces of its
//! own, where it is root over nothing but a network that nobody else sees.
//!
//! Must not know what is tested.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::print_stdout, reason = "the harness shows it when asked")]

use std::process::Command;

/// Whether this process is the test inside its namespaces. Outside, runs the test of that full name there,
/// fails if it fails, and says false.
///
/// ```ignore
/// #[test]
/// fn a_sentence() {
///     if !inside("a_sentence") {
///         return;
///     }
///     ...
/// }
/// ```
///
/// Where namespaces are impossible it says why and passes; with `NAMEGATE_TEST_ALL=1` that is a failure.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        furnish();
        return true;
    }
    if let Err(why) = probe() {
        let notice = format!("SKIPPED {test}: {why}");
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
        // Past the capture of the test harness: a skip that nobody sees is a lie.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n{notice}\n"));
        return false;
    }
    let program = std::env::current_exe().expect("path of this test");
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "unshare"])
        .args(NAMESPACES)
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("timeout, of coreutils");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "inside its namespaces:\n{said}");
    assert!(said.contains("1 passed"), "no test of the name {test}:\n{said}");
    // What it told is seen with `--nocapture`.
    print!("{}", String::from_utf8_lossy(&output.stdout));
    false
}

/// Runs a shell script and returns what it printed.
pub(crate) fn sh(script: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh").args(["-euc", script]).env("PATH", path).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a network namespace of that name, its loopback up.
pub(crate) fn netns(name: &str) {
    sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
}

/// Does something in a network namespace made by [`netns`]: sockets born there stay there.
pub(crate) fn at<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let there = std::fs::File::open(format!("/run/netns/{name}")).expect("a network namespace");
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&there), Some(kind))
                .expect("move into the network namespace");
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Room for the names of network namespaces, and loopback up.
fn furnish() {
    sh("mount -t tmpfs tmpfs /run; mkdir /run/netns; ip link set lo up");
}

fn probe() -> Result<(), String> {
    for tool in ["ip", "nft"] {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"]
            .iter()
            .any(|folder| std::path::Path::new(folder).join(tool).exists());
        if !found {
            return Err(format!("{tool} is not installed"));
        }
    }
    match Command::new("unshare").args(NAMESPACES).arg("true").output() {
        Err(error) => Err(format!("unshare, of util-linux, cannot be run: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "no user namespaces here (container profile, user.max_user_namespaces, AppArmor?): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

const NAMESPACES: [&str; 8] =
    ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

const INSIDE: &str = "NAMEGATE_INSIDE";
