//! What a command tries that wants out. One test for each way; `hostile.py` has the tricks.
//!
//! Each asserts what the trick hears inside, and that nothing arrived outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::namespace::{User, sh};
use crate::common::world::wait_until;
use crate::world::{BOTH, EVERYBODY, GOOD, PLAIN, ROOTS, Ran, World, each};

/// Asserts that every line ends in this outcome, and that there are as many.
fn all(said: &str, count: usize, outcome: &str) {
    assert!(said.lines().all(|line| line.ends_with(outcome)), "not {outcome}:\n{said}");
    assert_eq!(said.lines().count(), count, "{said}");
}

/// Listens on unix sockets for as long as the test runs, and counts what comes.
#[derive(Clone, Default)]
struct Servers {
    heard: Arc<AtomicUsize>,
}

impl Servers {
    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    fn listen(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        self.serve(UnixListener::bind(path).unwrap());
    }

    fn serve(&self, listener: UnixListener) {
        let heard = Arc::clone(&self.heard);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                heard.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    fn listen_for_datagrams(&self, path: &Path) {
        let socket = UnixDatagram::bind(path).unwrap();
        let heard = Arc::clone(&self.heard);
        std::thread::spawn(move || {
            while socket.recv(&mut [0; 99]).is_ok() {
                heard.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

/// # Limitations
/// A socket is found by the kernel's list, by the environment, by mounts and in the usual folders. One that was
/// bound under another path than it has now, or in another network namespace, and lies elsewhere is not.
#[test]
fn unix_sockets_of_the_host_are_out_of_reach_wherever_programs_put_them() {
    each(EVERYBODY, |world| {
        let user = rustix::process::geteuid().as_raw();
        let paths = [
            "/run/docker.sock".into(),
            "/run/dbus/system_bus_socket".into(),
            format!("/run/user/{user}/bus"),
            "/run/deep/deeper/deepest/engine.sock".into(),
            "/tmp/engine.sock".into(),
            format!("/tmp/tmux-{user}/default"),
            "/tmp/.X11-unix/X0".into(),
            "/tmp/ssh-abc/agent.1".into(),
            world.path("home/.docker/run/docker.sock").display().to_string(),
            world.path("home/.gnupg/S.gpg-agent").display().to_string(),
            world.path("work/a/b/c/d/e/own.sock").display().to_string(),
        ];
        let servers = Servers::default();
        for path in &paths {
            servers.listen(Path::new(path));
        }
        servers.listen_for_datagrams(Path::new("/run/log"));
        servers.listen_for_datagrams(Path::new("/tmp/log"));
        let mut paths: Vec<_> = paths.iter().map(String::as_str).collect();
        paths.extend(["/run/log", "/tmp/log"]);
        all(&world.play_outside("unix_sockets", &paths), 13, " done");
        wait_until("all are there", Duration::from_secs(5), || servers.heard() == 13);

        let said = world.play("unix_sockets", &paths);
        assert_eq!(said.lines().count(), 13, "{said}");
        for line in said.lines() {
            let outcome = line.rsplit(' ').next().unwrap();
            assert!(["ECONNREFUSED", "ENOENT"].contains(&outcome), "{line}");
        }
        assert_eq!(servers.heard(), 13, "a socket of the host was reached");
        // Whoever asks for one gets that one.
        let ran = world.played(&["--allow-socket", "/run/docker.sock"], "unix_sockets", &paths);
        assert_eq!(ran.out.lines().filter(|line| line.ends_with("done")).count(), 1, "{ran:?}");
        assert!(ran.out.contains("/run/docker.sock done"), "{ran:?}");
    });
}

/// # Limitations
/// The socket of an agent lies in `/tmp` or `/run` nearly always, and would be found there too: here it does not.
#[test]
fn a_socket_that_the_environment_names_is_out_of_reach() {
    each(BOTH, |world| {
        // Listened on by nobody's list: another network namespace has it.
        let socket = world.path("home/agents/of/mine/agent");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let script = format!(
            "unshare --net socat -u UNIX-LISTEN:{0},fork OPEN:{1},creat,append & echo $!",
            socket.display(),
            world.path("heard").display()
        );
        let mut server =
            std::process::Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
        wait_until("the agent listens", Duration::from_secs(5), || socket.exists());
        let path = socket.display().to_string();
        let mut command = world.exec(&["--allow", GOOD], &["python3", "hostile.py", "unix_sockets", &path]);
        let ran: Ran = command.env("SSH_AUTH_SOCK", &socket).output().unwrap().into();
        assert_eq!(ran.out, format!("{path} ECONNREFUSED\n"), "{ran:?}");
        assert!(!world.path("heard").exists());
        assert_eq!(world.play_outside("unix_sockets", &[&path]), format!("{path} done\n"));
        sh("kill $(ps -e -o pid=,comm= | awk '$2 == \"socat\" { print $1 }')");
        server.wait().unwrap();
    });
}

/// # Limitations
/// In `/run` alone. Elsewhere such a socket is reached, unless the kernel has Landlock's ABI 9.
#[test]
fn a_socket_that_is_made_in_run_after_the_start_does_not_show() {
    each(BOTH, |world| {
        let flag = world.path("made");
        let (flag_path, socket) = (flag.display().to_string(), "/run/late.sock");
        let words = ["python3", "hostile.py", "unix_socket_when_told", &flag_path, socket];
        let child = world.exec(&["--allow", GOOD], &words).stdout(Stdio::piped()).spawn().unwrap();
        wait_until("the command runs", Duration::from_secs(10), || {
            !world.audit().events("sandbox").is_empty()
        });
        let servers = Servers::default();
        servers.listen(Path::new(socket));
        fs::write(&flag, "").unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ran.out, "late ENOENT\n", "{ran:?}");
        assert_eq!(servers.heard(), 0);
    });
}

/// # Limitations
/// None known: abstract names belong to a network namespace.
#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    each(EVERYBODY, |world| {
        let servers = Servers::default();
        let address = SocketAddr::from_abstract_name("namegate-test").unwrap();
        servers.serve(UnixListener::bind_addr(&address).unwrap());
        assert_eq!(world.play_outside("abstract_socket", &["namegate-test"]), "abstract done\n");
        assert_eq!(world.play("abstract_socket", &["namegate-test"]), "abstract ECONNREFUSED\n");
        wait_until("one was heard", Duration::from_secs(5), || servers.heard() == 1);
    });
}

/// # Limitations
/// Named pipes and files of the same user are shared with the host on purpose.
#[test]
fn shared_memory_of_the_host_does_not_show() {
    each(BOTH, |world| {
        let made = sh("ipcmk -M 64 -p 0666; ipcs -m | awk '$1 ~ /^0x/ { print $1 }' | tail -n 1");
        let key = i64::from_str_radix(made.trim().rsplit("0x").next().unwrap(), 16).unwrap().to_string();
        fs::write("/dev/shm/mine", "x").unwrap();
        let said = world.play("shared_memory", &[&key, "/dev/shm/mine"]);
        assert_eq!(said, "segment ENOENT\nfile ENOENT\n");
    });
}

/// # Limitations
/// A family that a kernel gets later is refused as well: those that are known are allowed, not the others refused.
#[test]
fn socket_families_that_know_no_network_namespace_are_not_there() {
    each(EVERYBODY, |world| all(&world.play("families", &[]), 14, " EAFNOSUPPORT"));
}

/// # Limitations
/// ping(8) with a set-user-id bit or a file capability fails, too.
#[test]
fn raw_sockets_are_refused() {
    each(EVERYBODY, |world| {
        let said = world.play("raw_sockets", &[]);
        assert_eq!(said, "raw EPERM\nicmp EPERM\nicmpv6 EPERM\necho EACCES\necho6 EACCES\n");
    });
}

/// # Limitations
/// None known: these options need capabilities over the network namespace.
#[test]
fn marks_and_foreign_source_addresses_are_refused() {
    each(EVERYBODY, |world| all(&world.play("socket_options", &[]), 4, " EPERM"));
}

/// # Limitations
/// Routes and addresses of the sandbox's own network may be read: the C library asks for them.
#[test]
fn netlink_is_there_for_reading_routes_alone() {
    each(EVERYBODY, |world| {
        let said = world.play("netlink", &[]);
        let (others, route) = said.trim_end().rsplit_once('\n').unwrap();
        all(others, 23, " EAFNOSUPPORT");
        assert_eq!(route, "route done");
    });
}

/// # Limitations
/// Nobody can change the sandbox's own network either, so that nothing can be set up in it as a test network.
#[test]
fn the_sandboxs_network_cannot_be_changed_and_goes_on_working() {
    each(EVERYBODY, |world| {
        for line in [
            "nft flush ruleset",
            "ip link set lo down",
            "ip addr add 192.0.2.99/32 dev lo",
            "ip route add 203.0.113.66/32 dev lo",
            "ip route flush table local",
            "ip rule add prio 1 unreachable",
            "sysctl -w net.ipv4.ip_unprivileged_port_start=1024",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ] {
            let ran = world.run(line);
            assert!(ran.code() != Some(0), "{line}: {ran:?}");
        }
        let ran = world.run(
            "{ nft flush ruleset; ip link set lo down; ip route flush table local; } >/dev/null 2>&1
             curl -sS --max-time 9 http://good.example.com/",
        );
        assert!(ran.out.contains("hello"), "{ran:?}");
    });
}

/// # Limitations
/// QUIC is refused and not read: browsers go on with TCP.
#[test]
fn datagrams_that_are_no_questions_are_refused_at_once() {
    each(EVERYBODY, |world| {
        let places = [
            "203.0.113.10:443",
            "203.0.113.10:9",
            "203.0.113.10:853",
            "2001:db8:1::10:443",
            "192.0.2.53:5353",
        ];
        let said = world.play("datagrams", &places);
        let expected: String = places.iter().map(|place| format!("{place} EPERM\nin time\n")).collect();
        assert_eq!(said, expected);
        let said = world.play("from_port_53", &["203.0.113.10", "9"]);
        assert!(!said.contains("done"), "{said}");
        let said = world.play("other_protocols", &["203.0.113.10"]);
        assert!(!said.contains("done"), "{said}");
        assert_eq!(world.arrived(), 0);
    });
}

/// # Limitations
/// The gate sees the bytes, and answers them.
#[test]
fn data_in_the_first_packet_is_judged_as_any() {
    each(PLAIN, |world| {
        let request = "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
        let said = world.play("fast_open", &["203.0.113.66", "80", request]);
        assert!(!said.contains("hello"), "{said}");
        assert_eq!(world.last_decision()["event"]["outcome"], "failure");
        assert_eq!(world.arrived(), 0);
    });
}

/// # Limitations
/// The command may know that there is a gate, and on which port of its own network.
#[test]
fn the_gates_own_listener_cannot_be_dialled() {
    each(EVERYBODY, |world| {
        let said = world.play("proxy_port", &["203.0.113.66"]);
        let (own, foreign) = said.trim_end().rsplit_once('\n').unwrap();
        let own = own.strip_prefix("listeners 1\n").unwrap();
        all(own, 6, " ECONNREFUSED");
        // The same port of somebody else is a destination as any other.
        assert_eq!(foreign, "203.0.113.66 EACCES");
        assert_eq!(world.arrived(), 0);
    });
}

/// # Limitations
/// What a command does to its own connections inside its network is its own affair.
#[test]
fn nobody_inside_can_sit_where_the_gate_listens() {
    each(EVERYBODY, |world| {
        let said = world.play("take_ports", &[]);
        assert!(said.starts_with("0.0.0.0:53 EADDRINUSE\n127.0.0.1:53 EADDRINUSE\n"), "{said}");
        assert!(said.ends_with("ask EACCES\ntaken 0\n"), "{said}");
        assert_eq!(world.arrived(), 0);
    });
}

/// # Limitations
/// A name of an allowed zone, asked for as an address, travels: a rule with a wildcard lets labels out.
#[test]
fn a_tunnel_in_questions_never_travels() {
    each(PLAIN, |world| {
        let long = "a".repeat(63);
        let ran = world.run(&format!(
            "for server in 203.0.113.66 192.0.2.53; do for way in +notcp +tcp; do
                dig +tries=1 +time=3 $way @$server {long}.{long}.{long}.evil.test A
                dig +tries=1 +time=3 $way @$server good.example.com TXT
                dig +tries=1 +time=3 $way @$server good.example.com NULL
                dig +tries=1 +time=3 $way @$server {long}.good.example.com A
                dig +tries=1 +time=3 $way @$server -x 203.0.113.66
            done; done"
        ));
        assert_eq!(ran.out.matches("status: REFUSED").count(), 20, "{ran:?}");
        assert!(world.far.seen.lock().questions.is_empty(), "{:?}", world.far.seen.lock().questions);
        assert_eq!(world.arrived(), 0);
    });
}

/// # Limitations
/// A pipe or file that the caller left open on purpose is the caller's wish, as with any program.
#[test]
fn descriptors_that_lead_out_are_closed_and_pipes_and_files_are_not() {
    each(EVERYBODY, |world| {
        let mut command = world.outside("python3");
        let audit = world.path("audit.jsonl").display().to_string();
        command.args(["hostile.py", "hand_down", "/run/tools/namegate", "exec", "--allow", GOOD]);
        command.args(["--audit", &audit, "--", "python3", "hostile.py", "descriptors"]);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.out, "44 pipe\n45 file\nread through the pipe\n", "{ran:?}");
    });
}

/// # Limitations
/// A terminal stays what it is: what is written to it is seen, and may steer it.
#[test]
fn a_stream_that_is_a_socket_is_a_pipe_inside_and_the_bytes_pass() {
    each(EVERYBODY, |world| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let stream = || Stdio::from(OwnedFd::from(far.try_clone().unwrap()));
        let mut command = world.exec(&["--allow", GOOD], &["python3", "hostile.py", "streams"]);
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let mut child = command.spawn().unwrap();
        drop((command, far));
        near.write_all(b"a word\n").unwrap();
        assert!(child.wait().unwrap().success());
        let mut said = String::new();
        near.read_to_string(&mut said).unwrap();
        // Both streams end in one socket, each at its own pace.
        let expected = "0 pipe ENOTSOCK\n1 pipe ENOTSOCK\n2 pipe ENOTSOCK\nheard a word\n";
        assert_eq!(said.replace("aside\n", ""), expected);
        assert!(said.contains("aside\n"), "{said}");
    });
}

/// # Limitations
/// With the terminal of a shell the command can be stopped and ended by its keys, as any command.
#[test]
fn signals_end_at_the_sandbox() {
    each(EVERYBODY, |world| {
        let mut victim = world.outside("sleep").arg("60").spawn().unwrap();
        let pid = victim.id().to_string();
        let said = world.play("signals", &[&pid]);
        for line in said.lines() {
            let (what, outcome) = line.rsplit_once(' ').unwrap();
            match what.split(' ').next().unwrap() {
                // Without Landlock the kernel takes the signal, and spares process 1 all the same.
                "keeper" => assert!(["EPERM", "done"].contains(&outcome), "{line}"),
                "victim" | "group" | "everybody" | "owner" => assert_eq!(outcome, "ESRCH", "{line}"),
                "own" => assert_eq!(outcome, "done", "{line}"),
                "answer" => assert_eq!(outcome, "200", "{line}"),
                _ => panic!("{line}"),
            }
        }
        assert!(victim.try_wait().unwrap().is_none(), "a process outside was ended");
        victim.kill().unwrap();
        victim.wait().unwrap();
    });
}

/// # Limitations
/// Root sees which numbers the keeper's descriptors have.
#[test]
fn the_keepers_memory_and_descriptors_are_closed_to_the_command() {
    each(EVERYBODY, |world| {
        let said = world.play("keeper", &[]);
        for line in said.lines() {
            let allowed = ["EACCES", "EPERM"].iter().any(|outcome| line.ends_with(outcome));
            assert!(allowed || line == "open done", "{said}");
        }
        assert_eq!(said.lines().count(), 28, "{said}");
    });
}

/// # Limitations
/// None known.
#[test]
fn processes_outside_are_neither_seen_nor_touched() {
    each(EVERYBODY, |world| {
        let mut victim = world.outside("sleep").arg("60").spawn().unwrap();
        let said = world.play("processes", &[&victim.id().to_string()]);
        assert_eq!(said, "python3 sandbox-keeper\nattach ESRCH\nmemory ENOENT\nopen ESRCH\n");
        victim.kill().unwrap();
        victim.wait().unwrap();
    });
}

/// # Limitations
/// Their numbers and command lines are seen there.
#[test]
fn where_proc_cannot_be_mounted_as_in_containers_processes_outside_are_closed_all_the_same() {
    each(BOTH, |world| {
        let servers = Servers::default();
        servers.listen(Path::new("/run/docker.sock"));
        // What is covered in the old one must not show in a new one: the kernel refuses it.
        sh("mount --bind /dev/null /proc/version");
        let mut victim = world.outside("sleep").arg("60").spawn().unwrap();
        let pid = victim.id().to_string();
        let said = world.play("side_doors", &[&pid]);
        sh("umount /proc/version");
        let sandbox = world.audit().events("sandbox").pop().unwrap();
        assert!(sandbox["namegate"]["missing"].to_string().contains("process_list"), "{sandbox}");
        all(&said, 8, " EACCES");
        assert_eq!(servers.heard(), 0);
        victim.kill().unwrap();
        victim.wait().unwrap();
    });
}

/// # Limitations
/// Programs that make a sandbox of their own (browsers, bubblewrap) have to be told to go without.
#[test]
fn new_namespaces_are_refused() {
    each(EVERYBODY, |world| {
        let said = world.play("namespaces", &[]);
        let clone3 = said.lines().filter(|line| *line == "clone3 ENOSYS").count();
        assert_eq!(clone3, 1, "{said}");
        let rest = said.replace("clone3 ENOSYS\n", "");
        all(&rest, 23, " EPERM");
    });
}

/// # Limitations
/// What the host mounts later shows.
#[test]
fn the_view_of_the_file_system_cannot_be_changed() {
    each(EVERYBODY, |world| {
        let servers = Servers::default();
        let socket = world.path("engine.sock");
        servers.listen(&socket);
        let said = world.play("mounts", &[&socket.display().to_string()]);
        let (calls, rest) = said.split_once("unlink").unwrap();
        all(calls, 15, " EPERM");
        assert_eq!(rest, " EBUSY\nrename EBUSY\nlink EXDEV\n");
        assert!(
            ["open_tree_attr EPERM\n", "open_tree_attr ENOSYS\n"]
                .contains(&&*world.play("newer_mounts", &[]))
        );
        assert!(socket.exists());
        assert_eq!(servers.heard(), 0);
    });
}

/// # Limitations
/// Debuggers work on the command's own children; profilers that need perf events do not.
#[test]
fn calls_to_other_parts_of_the_kernel_are_refused() {
    each(EVERYBODY, |world| {
        let said = world.play("forbidden", &[]);
        for line in said.lines() {
            // The clock's number is checked first; a kernel may be built without kexec.
            let fits =
                line.ends_with(" EPERM") || ["settimeofday EINVAL", "kexec_file_load ENOSYS"].contains(&line);
            assert!(fits, "{said}");
        }
        assert_eq!(said.lines().count(), 15, "{said}");
        all(&world.play("missing", &[]), 7, " ENOSYS");
    });
}

/// # Limitations
/// Programs of another architecture cannot be run at all.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_under_other_numbers_are_not_there() {
    each(BOTH, |world| {
        all(&world.play("other_numbers", &[]), 2, " ENOSYS");
        let ran = world.played(&[], "other_architecture", &[]);
        // A kernel without i386 has no such gate: the processor faults.
        assert!([Some(libc::SIGSYS), Some(libc::SIGSEGV)].contains(&ran.signal()), "{ran:?}");
        assert!(!ran.out.contains("done"), "{ran:?}");
    });
}

/// # Limitations
/// None known.
#[test]
fn no_capability_is_left_and_none_can_be_had() {
    each(EVERYBODY, |world| {
        let said = world.play("status", &[]);
        let mut lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.split_off(5), ["NoNewPrivs:\t1", "Seccomp:\t2"], "{said}");
        assert!(lines.iter().all(|line| line.ends_with("\t0000000000000000")), "{said}");
        // A program that is set-user-id root: mount(8) says what it may do.
        let ran = world.run("bash -pc 'mount -t tmpfs none /tmp'");
        assert!(ran.code() != Some(0), "{ran:?}");
    });
}

/// # Limitations
/// A set-user-id program of the machine is started as any program, as the user who the command is.
#[test]
fn a_set_user_id_program_gives_nothing() {
    each(&[User::MachineRoot], |world| {
        // As root of the machine the file can be made; the command is somebody else by then.
        let program = world.path("become");
        sh(&format!("cp /usr/bin/id {0}; chown 0:0 {0}; chmod 6755 {0}", program.display()));
        let line = format!("setpriv --reuid=65534 --regid=65534 --clear-groups {}", program.display());
        assert!(sh(&line).contains("euid=0"), "the trick works outside");
        sh(&format!("chmod 755 {0}; chmod 1777 {0}/home", world.path("").display()));
        let mut command = world.outside("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/run/tools/namegate", "exec"]);
        let ran: Ran = command.args(["--allow", GOOD, "--"]).arg(&program).output().unwrap().into();
        assert!(ran.out.contains("uid=65534") && !ran.out.contains("euid"), "{ran:?}");
    });
}

/// # Limitations
/// Escape sequences that a terminal acts on are bytes, and pass.
#[test]
fn nothing_is_typed_on_behalf_of_the_user() {
    each(BOTH, |world| all(&world.play("typing", &[]), 3, " EPERM"));
}

/// # Limitations
/// Device nodes outside `/dev` are as open to root as they are outside.
#[test]
fn only_the_devices_that_every_program_expects_are_there() {
    each(EVERYBODY, |world| {
        let nodes =
            ["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/loop0", "/dev/kvm", "/dev/net/tun"];
        let said = world.play("devices", &nodes);
        let (names, rest) = said.split_once('\n').unwrap();
        assert_eq!(names, "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero");
        all(rest, nodes.len(), " ENOENT");
        let ran = world.run_with(&["--allow-device", "/dev/net"], "ls /dev /dev/net");
        if Path::new("/dev/net").exists() {
            assert!(ran.out.contains("tun"), "{ran:?}");
        }
    });
}

/// # Limitations
/// Files whose permission bits are void, because the kernel asks for a capability at each write.
#[test]
fn roots_switches_of_the_machine_are_out_of_reach() {
    each(ROOTS, |world| {
        let said = world.play("switches", &[]);
        let open = said.lines().next().unwrap().strip_prefix("open").unwrap();
        let asks_for_more = |path: &str| path == "/proc/mtrr" || path.starts_with("/proc/pressure/");
        assert!(open.split_whitespace().all(asks_for_more), "{open}");
        // Root of a user namespace alone has no permission in the first place.
        let refused = ["sysrq covered\npattern EROFS\n", "sysrq covered\npattern EACCES\n"];
        assert!(refused.iter().any(|end| said.ends_with(end)), "{said}");
    });
}

/// The world's own counter would have seen each of these.
#[test]
fn without_a_sandbox_the_same_tricks_arrive() {
    each(BOTH, |world: &World| {
        let said = world.play_outside("datagrams", &["203.0.113.10:443"]);
        assert!(said.starts_with("203.0.113.10:443 ECONNREFUSED"), "{said}");
        assert_eq!(world.arrived(), 1);
        world.play_outside("connections", &["203.0.113.66:80", "127.0.0.1:80", "198.51.100.7:80"]);
        assert_eq!(world.arrived(), 4);
    });
}

/// Sockets that the kernel's list does not name as they are found.
///
/// # Limitations
/// A socket that a process of another mount namespace bound shows under that namespace's path only.
#[test]
fn a_socket_is_out_of_reach_under_whatever_name_it_has() {
    each(BOTH, |world| {
        let servers = Servers::default();
        let folder = world.path("work/a/b/c/d/e");
        fs::create_dir_all(&folder).unwrap();
        let folder = folder.display().to_string();
        servers.listen(Path::new(&format!("{folder}/first")));
        sh(&format!("mv {folder}/first {folder}/moved; mkdir /tmp/again; mount --bind {folder} /tmp/again"));
        servers.listen(Path::new(&format!("{folder}/own")));
        sh(
            "mkdir -p /tmp/stack /tmp/seen; mount -t tmpfs a /tmp/stack; mount -t tmpfs -o mode=777 b /tmp/stack",
        );
        sh("mount --bind /tmp/stack /tmp/seen");
        servers.listen(Path::new("/tmp/stack/stacked"));
        sh(&format!("ln {folder}/own {folder}/linked"));
        sh(&format!("cd {folder}; socat UNIX-LISTEN:relative,fork /dev/null >/dev/null 2>&1 & sleep 0.3"));
        sh(&format!(
            "unshare --net socat UNIX-LISTEN:{folder}/container,fork /dev/null >/dev/null 2>&1 & sleep 0.3"
        ));
        let paths = ["moved", "linked", "relative", "container"].map(|name| format!("{folder}/{name}"));
        let mut paths: Vec<_> = paths.iter().map(String::as_str).collect();
        paths.extend(["/tmp/again/own", "/tmp/seen/stacked"]);
        let said = world.play("unix_sockets", &paths);
        sh("kill $(ps -e -o pid=,comm= | awk '$2 == \"socat\" { print $1 }')");
        assert!(!said.contains("done"), "{said}");
    });
}
