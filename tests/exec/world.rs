//! The world around a sandbox: the network namespace of a test, where the Internet is at home on `lo` and a counter
//! sees whatever arrives there, and the command line that starts the gate in it.
//!
//! ```text
//! namegate exec ── this host 198.51.100.7, 2001:db8:9::7, localhost
//!                  the Internet 203.0.113.0/24, 2001:db8:1::/64 (all ports of `Far`), dns: 192.0.2.53
//! ```
//!
//! The Internet has routes, not addresses: addresses would be this host's own, and be refused as such.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use serde_json::Value;

use crate::common::far::Far;
use crate::common::namespace::{User, enter, sh};
use crate::common::world::{Gate, text};

/// A user without any right, and root of a user namespace.
pub(crate) const BOTH: &[User] = &[User::Plain, User::Root];
/// Root of the machine too, where the suite runs as that.
pub(crate) const EVERYBODY: &[User] = &[User::Plain, User::Root, User::MachineRoot];
/// Those who are root.
pub(crate) const ROOTS: &[User] = &[User::Root, User::MachineRoot];
/// A user without any right.
pub(crate) const PLAIN: &[User] = &[User::Plain];

/// The world of one test.
pub(crate) struct World {
    /// Who runs `namegate`.
    pub(crate) user: User,
    /// What the world has beyond it.
    pub(crate) far: Far,
    folder: tempfile::TempDir,
}

/// Runs the calling test's work in a world of its own for each of these users.
pub(crate) fn each<Work: Fn(&World)>(users: &[User], work: Work) {
    if let Some(user) = User::here() {
        return work(&World::new(user));
    }
    // `exec::module::test::{{closure}}`: the work is a closure of the test.
    let path = std::any::type_name::<Work>();
    let test = path.split_once("::").and_then(|(_, rest)| rest.rsplit_once("::")).expect("a closure").0;
    let tools = tools();
    for user in users.iter().filter(|user| user.is_to_be_had()) {
        let mut program = Command::new(tools.path().join("test"));
        program.env(TOOLS, tools.path()).env("PATH", PATH);
        enter(test, *user, program);
    }
}

/// The programs where everybody can read them, whoever built them.
fn tools() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("namegate-tools-").tempdir().expect("temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let test = std::env::current_exe().expect("path of this test");
    for (from, name) in [(test.as_path(), "test"), (Path::new(env!("CARGO_BIN_EXE_namegate")), "namegate")] {
        let to = folder.path().join(name);
        // Another name is enough on the same file system.
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to).expect("copied");
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    folder
}

const TOOLS: &str = "NAMEGATE_TOOLS";

/// Where Debian has its programs: what the suite's own user prefers may be closed to others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the programs are in the world, whose `/tmp` is its own.
const NAMEGATE: &str = "/run/tools/namegate";

impl World {
    fn new(user: User) -> Self {
        let tools = std::env::var(TOOLS).expect("set outside");
        sh(&format!(
            "mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/tools; mount --bind {tools} /run/tools
             mount -t tmpfs -o mode=1777 tmpfs /tmp; mount -t tmpfs -o mode=1777 tmpfs /dev/shm
             {NETWORK}"
        ));
        let folder = tempfile::Builder::new().prefix("namegate-exec-").tempdir_in("/tmp").expect("a folder");
        let far = Far::start_in(None, folder.path());
        let world = Self { user, far, folder };
        fs::create_dir(world.path("home")).expect("a home folder");
        let resolver = world.write("resolv.conf", "nameserver 198.51.100.53\noptions attempts:1 timeout:5\n");
        if let Ok(real) = fs::canonicalize("/etc/resolv.conf") {
            sh(&format!("mount --bind {} {}", resolver.display(), real.display()));
        }
        world.write("hostile.py", include_str!("hostile.py"));
        world
    }

    /// Returns a path in the world's folder, where commands start.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the world's folder.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// A program as the world's user runs it: without any capability, unless the user is root.
    pub(crate) fn outside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.user {
            User::Root | User::MachineRoot => Command::new(program),
            User::Plain => {
                let mut command = Command::new("setpriv");
                command.args(["--ambient-caps=-all", "--inh-caps=-all"]).arg(program);
                command
            }
        };
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.path("home"))
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// `namegate exec` with options, without the command.
    pub(crate) fn gate(&self, options: &[&str]) -> Command {
        let mut command = self.outside(NAMEGATE);
        command.args(["exec", "--dns-upstream", "udp://192.0.2.53", "--audit"]).arg(self.path("audit.jsonl"));
        command.args(options);
        command
    }

    /// `namegate exec` with options and a command.
    pub(crate) fn exec(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.gate(options);
        command.arg("--").args(words);
        command
    }

    /// Runs a shell script in a sandbox that may reach `good.example.com`.
    pub(crate) fn run(&self, script: &str) -> Ran {
        self.run_with(&["--allow", GOOD], script)
    }

    /// Runs a shell script in a sandbox with options.
    pub(crate) fn run_with(&self, options: &[&str], script: &str) -> Ran {
        self.exec(options, &["bash", "-c", script]).output().expect("namegate starts").into()
    }

    /// Plays a trick of `hostile.py` in a sandbox that may reach `good.example.com`, and returns what came of it.
    pub(crate) fn play(&self, trick: &str, arguments: &[&str]) -> String {
        let ran = self.played(&[], trick, arguments);
        assert!(ran.code() == Some(0), "{trick}: {ran:?}");
        ran.out
    }

    /// The same with options, whatever its end.
    pub(crate) fn played(&self, options: &[&str], trick: &str, arguments: &[&str]) -> Ran {
        let words = [&["python3", "hostile.py", trick], arguments].concat();
        let options = [&["--allow", GOOD], options].concat();
        self.exec(&options, &words).output().expect("namegate starts").into()
    }

    /// Plays a trick without a sandbox: it must work there, or the test proves nothing.
    pub(crate) fn play_outside(&self, trick: &str, arguments: &[&str]) -> String {
        let mut command = self.outside("python3");
        let ran: Ran =
            command.args(["hostile.py", trick]).args(arguments).output().expect("python3 starts").into();
        ran.out
    }

    /// The audit log, of all runs so far.
    pub(crate) fn audit(&self) -> Gate {
        Gate { audit: self.path("audit.jsonl"), pid: 0 }
    }

    /// The last decision in the audit log.
    pub(crate) fn last_decision(&self) -> Value {
        self.audit().events("decision").pop().unwrap_or_default()
    }

    /// What arrived in the world: connections that were tried, and packets that belong to none. The questions to
    /// the upstream name server are not among them.
    pub(crate) fn arrived(&self) -> u64 {
        let listing: Value =
            serde_json::from_str(&sh("nft -j list counters table inet watch")).expect("JSON");
        let counters = listing["nftables"].as_array().expect("a list");
        counters.iter().filter_map(|counter| counter["counter"]["packets"].as_u64()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let audit = fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
            let tail: Vec<_> = audit.lines().rev().take(20).collect();
            eprintln!("--- audit (newest first)\n{}", tail.join("\n"));
        }
    }
}

/// The name that most sandboxes may reach.
pub(crate) const GOOD: &str = "good.example.com";

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How `namegate` ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// The exit code; `None`: it was killed.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that killed it, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self { status: output.status, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// The last rule counts what is not an answer: a first packet of TCP, or any other packet but for what the kernel
/// says by itself. `2000::/3` makes the host one that has IPv6.
const NETWORK: &str = r"
ip link set lo up
ip addr add 198.51.100.7/32 dev lo
ip addr add 2001:db8:9::7/128 dev lo nodad
ip route add local 203.0.113.0/24 dev lo src 198.51.100.7
ip route add local 192.0.2.0/24 dev lo src 198.51.100.7
ip -6 route add local 2001:db8:1::/64 dev lo src 2001:db8:9::7
ip -6 route add 2000::/3 dev lo
nft -f - <<'N'
table inet watch {
    counter arrived { }
    chain see {
        type filter hook input priority 0; policy accept;
        ip daddr 192.0.2.53 meta l4proto { tcp, udp } th dport 53 accept
        ip saddr 192.0.2.53 meta l4proto { tcp, udp } th sport 53 accept
        icmp type != echo-request accept
        icmpv6 type != echo-request accept
        tcp flags & (syn | ack) != syn accept
        counter name arrived
    }
}
N
";
