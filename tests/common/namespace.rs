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
    let program = std::env::current_exe().expect("path of this test");
    enter(test, User::Root, Command::new(program));
    false
}

/// As [`inside`], for a test that needs several users or control groups: only the machine's root has them.
pub(crate) fn as_root(test: &str) -> bool {
    if User::here().is_some() {
        return inside(test);
    }
    if User::MachineRoot.is_to_be_had() {
        enter(test, User::MachineRoot, Command::new(std::env::current_exe().expect("path of this test")));
    } else {
        skip(test, "it needs several users, and so root");
    }
    false
}

/// Who a test is inside its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Root of a user namespace.
    Root,
    /// Root of the machine, in no user namespace of its own. Only where the suite runs as that.
    MachineRoot,
    /// Somebody without any right, but for what it takes to build the world around.
    Plain,
}

impl User {
    /// Who this process is; `None`: it is outside.
    pub(crate) fn here() -> Option<Self> {
        let code = std::env::var(INSIDE).ok()?;
        [Self::Root, Self::MachineRoot, Self::Plain].into_iter().find(|user| user.code() == code)
    }

    /// Whether the suite could make this user.
    pub(crate) fn is_to_be_had(self) -> bool {
        self != Self::MachineRoot || rustix::process::geteuid().is_root()
    }

    fn code(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::MachineRoot => "machine-root",
            Self::Plain => "plain",
        }
    }

    /// What makes namespaces of this user's own, as the beginning of a command line.
    fn entrance(self) -> Vec<&'static str> {
        const REST: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let first: &[&str] = match self {
            Self::Root => &["unshare", "--user", "--map-root-user"],
            Self::MachineRoot => &["unshare"],
            Self::Plain if rustix::process::geteuid().is_root() => &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "unshare",
                "--user",
                "--map-current-user",
                "--keep-caps",
            ],
            Self::Plain => &["unshare", "--user", "--map-current-user", "--keep-caps"],
        };
        first.iter().chain(&REST).copied().collect()
    }
}

/// Runs the test of that full name in namespaces of that user's own, by this program; fails if it fails. Where
/// that is impossible it says why; with `NAMEGATE_TEST_ALL=1` that is a failure.
pub(crate) fn enter(test: &str, user: User, program: Command) {
    let entrance = user.entrance();
    if let Err(why) = probe(&entrance) {
        return skip(test, &why);
    }
    let settings = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120"])
        .args(entrance)
        .arg(program.get_program())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs(settings)
        .env(INSIDE, user.code())
        .output()
        .expect("timeout, of coreutils");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "inside its namespaces, {}:\n{said}", user.code());
    assert!(said.contains("1 passed"), "no test of the name {test}:\n{said}");
    // What it told is seen with `--nocapture`.
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

fn skip(test: &str, why: &str) {
    let notice = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
    // Past the capture of the test harness: a skip that nobody sees is a lie.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n{notice}\n"));
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

fn probe(entrance: &[&str]) -> Result<(), String> {
    for tool in ["ip", "nft"] {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"]
            .iter()
            .any(|folder| std::path::Path::new(folder).join(tool).exists());
        if !found {
            return Err(format!("{tool} is not installed"));
        }
    }
    match Command::new("env").args(entrance).arg("true").output() {
        Err(error) => Err(format!("unshare and setpriv, of util-linux, cannot be run: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "no user namespaces here (container profile, user.max_user_namespaces, AppArmor?): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

const INSIDE: &str = "NAMEGATE_INSIDE";
