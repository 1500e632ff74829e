//! How a sandbox begins and ends: nothing is left of it, whoever dies first, and where it cannot be built it says why.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::far::Record;
use crate::common::namespace::{User, sh};
use crate::common::world::wait_until;
use crate::world::{BOTH, GOOD, PLAIN, Ran, World, each};

/// What a sandbox could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: BTreeSet<String>,
    networks: BTreeSet<String>,
    mounts: String,
    files: BTreeSet<String>,
}

impl Traces {
    fn now(world: &World) -> Self {
        let mut processes = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for process in processes_here() {
            networks.extend(
                fs::read_link(format!("/proc/{process}/ns/net")).map(|net| net.display().to_string()),
            );
            processes.insert(process);
        }
        let list = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect()
        };
        let folders = [Path::new("/tmp"), Path::new("/run"), &world.path(""), &world.path("home")];
        Self {
            processes,
            networks,
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap(),
            files: folders.into_iter().flat_map(list).collect(),
        }
    }
}

/// Processes of this world that have not ended, by number and name.
fn processes_here() -> Vec<String> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let described = numbers.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        // One that nobody has waited for yet is over all the same.
        (!rest.starts_with(" Z")).then(|| format!("{number} {}", name.rsplit('(').next().unwrap_or_default()))
    });
    described.collect()
}

/// The first child of a process: of the supervisor, the keeper; of the keeper, the command.
fn child_of(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn kill(number: u32) {
    kill_process(Pid::from_raw(i32::try_from(number).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// Starts a sandbox with a script that makes the file `ready` when it runs.
fn start(world: &World, script: &str) -> Child {
    let mut command = world.exec(&["--allow", GOOD], &["bash", "-c", script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command runs", Duration::from_secs(10), || world.path("ready").exists());
    child
}

fn end_of(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

#[test]
fn when_the_supervisor_is_killed_the_command_hears_it_and_everything_ends() {
    each(BOTH, |world| {
        let before = Traces::now(world);
        // It does not want to end, and goes on trying.
        let script = "trap 'date +%s%N > term' TERM
            exec 5<>/dev/tcp/good.example.com/80
            touch ready
            cat <&5 > held; echo over > held-ended
            while :; do
                start=$(date +%s%N)
                curl -sS --max-time 5 http://good.example.com/ >> answers 2>&1
                echo \"$? $((($(date +%s%N) - start) / 1000000))\" >> tries
                sleep 0.2
            done";
        let child = start(world, script);
        kill(child.id());
        let killed = Instant::now();
        wait_until("the command is told", Duration::from_secs(3), || world.path("term").exists());
        wait_until("the open connection ends", Duration::from_secs(3), || world.path("held-ended").exists());
        wait_until("it tries again", Duration::from_secs(5), || {
            fs::read_to_string(world.path("tries")).is_ok_and(|tries| tries.lines().count() > 3)
        });
        wait_until("nothing is left", Duration::from_secs(12).saturating_sub(killed.elapsed()), || {
            Traces::now(world).processes == before.processes
        });
        let ran = end_of(child);
        assert_eq!(ran.signal(), Some(libc::SIGKILL));
        assert!(ran.err.contains("the gate is gone"), "{ran:?}");
        for line in fs::read_to_string(world.path("tries")).unwrap().lines() {
            let (code, millis) = line.split_once(' ').unwrap();
            assert_ne!(code, "0", "something was reached");
            assert!(millis.parse::<u64>().unwrap() < 2500, "not refused at once: {line}");
        }
        assert_eq!(Traces::now(world).networks, before.networks);
        assert_eq!(Traces::now(world).mounts, before.mounts);
    });
}

#[test]
fn a_command_that_ends_when_it_is_told_does_not_wait() {
    each(PLAIN, |world| {
        let before = Traces::now(world);
        let child = start(world, "touch ready; sleep 100");
        let killed = Instant::now();
        kill(child.id());
        wait_until("nothing is left", Duration::from_secs(3), || {
            Traces::now(world).processes == before.processes
        });
        assert!(killed.elapsed() < Duration::from_secs(3));
        drop(end_of(child));
    });
}

#[test]
fn when_the_keeper_is_killed_the_exit_code_says_so_and_nothing_is_left() {
    each(BOTH, |world| {
        let before = Traces::now(world);
        let child = start(world, "(trap '' TERM HUP; sleep 100) & touch ready; sleep 100");
        kill(child_of(child.id()));
        let ran = end_of(child);
        assert_eq!(ran.code(), Some(3), "{ran:?}");
        assert!(ran.err.contains("the sandbox was killed"), "{ran:?}");
        wait_until("nothing is left", Duration::from_secs(3), || {
            Traces::now(world).processes == before.processes
        });
    });
}

#[test]
fn whenever_it_is_ended_while_it_is_built_nothing_is_left() {
    each(BOTH, |world| {
        let before = Traces::now(world);
        for signal in [Signal::TERM, Signal::KILL] {
            for millis in (0..60).step_by(3) {
                let mut child = world.exec(&["--allow", GOOD], &["sleep", "100"]).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(millis));
                kill_process(Pid::from_child(&child), signal).unwrap();
                wait_until("it ends", Duration::from_secs(5), || child.try_wait().unwrap().is_some());
                wait_until("nothing is left", Duration::from_secs(3), || {
                    Traces::now(world).processes == before.processes
                });
            }
        }
        let now = Traces::now(world);
        assert_eq!((now.networks, now.mounts), (before.networks, before.mounts));
    });
}

#[test]
fn what_the_command_leaves_in_the_background_ends_with_it() {
    each(PLAIN, |world| {
        let before = Traces::now(world);
        let ran = world.run("trap '' HUP TERM; setsid sleep 100 & (sleep 100 &) ; exit 5");
        assert_eq!(ran.code(), Some(5), "{ran:?}");
        assert_eq!(Traces::now(world).processes, before.processes);
    });
}

#[test]
fn two_hundred_runs_in_a_row_end_as_they_should_and_leave_nothing() {
    each(BOTH, |world| {
        world.write("audit.jsonl", "");
        let before = Traces::now(world);
        for number in 0..200 {
            let ran = world.run(&format!("exit {number}"));
            assert_eq!(ran.code(), Some(number), "{ran:?}");
            assert_eq!((&*ran.out, &*ran.err), ("", ""));
        }
        assert_eq!(Traces::now(world), before);
    });
}

#[test]
fn eight_at_once_each_reach_their_own_name_alone() {
    each(BOTH, |world| {
        let before = Traces::now(world);
        let names: [&'static str; 8] = [
            "w0.example.com",
            "w1.example.com",
            "w2.example.com",
            "w3.example.com",
            "w4.example.com",
            "w5.example.com",
            "w6.example.com",
            "w7.example.com",
        ];
        for (name, last) in names.into_iter().zip(100..) {
            world.far.set(name, vec![Record::A(300, Ipv4Addr::new(203, 0, 113, last))]);
        }
        let script = "for round in 1 2 3 4 5; do
                for n in 0 1 2 3 4 5 6 7; do
                    said=$(curl -s --max-time 20 http://w$n.example.com/)
                    case $n$said in
                    $OWN'hello from 203.0.113.10'$OWN*) echo own ;;
                    *hello*) echo \"reached $n: $said\"; exit 9 ;;
                    esac
                done
            done
            exit $((OWN + 10))";
        let running: Vec<_> = (0..8)
            .map(|own| {
                let name = format!("w{own}.example.com");
                let mut command = world.exec(&["--allow", &name], &["bash", "-c", script]);
                command
                    .env("OWN", own.to_string())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for (own, child) in running.into_iter().enumerate() {
            let ran = end_of(child);
            assert_eq!(ran.code(), i32::try_from(own + 10).ok(), "{own}: {ran:?}");
            assert_eq!(ran.out, "own\n".repeat(5));
        }
        assert_eq!(world.far.all_connections(), 40);
        assert_eq!(Traces::now(world).processes, before.processes);
    });
}

/// Asserts that there is no sandbox, with this cause and next step, and that the command did not run.
fn refused(world: &World, ran: &Ran, cause: &str, hint: &str) {
    assert_eq!(ran.code(), Some(3), "{ran:?}");
    assert!(ran.err.contains(cause) && ran.err.contains("hint:") && ran.err.contains(hint), "{ran:?}");
    assert!(!world.path("ran").exists(), "the command ran without its sandbox");
    assert_eq!(ran.out, "");
}

#[test]
fn without_user_namespaces_the_setting_and_its_remedy_are_told() {
    each(PLAIN, |world| {
        sh("echo 0 > /proc/sys/user/max_user_namespaces");
        refused(
            world,
            &world.run("touch ran"),
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces",
        );
    });
}

/// As in a container that has the rights and not the namespaces.
#[test]
fn root_needs_no_user_namespace_and_is_kept_in_without_one() {
    each(&[User::Root], |world| {
        sh("echo 0 > /proc/sys/user/max_user_namespaces");
        let ran = world.run("curl -sS --max-time 9 http://good.example.com/; curl -s http://203.0.113.66/");
        assert!(ran.out.contains("hello from"), "{ran:?}");
        let said = world.play("status", &[]);
        assert_eq!(said.matches("\t0000000000000000\n").count(), 5, "{said}");
        let said = world.play("switches", &[]);
        assert!(said.contains("sysrq covered\npattern E"), "{said}");
        let sandbox = world.audit().events("sandbox").pop().unwrap();
        assert!(sandbox["namegate"]["missing"].to_string().contains("user_namespace"), "{sandbox}");
        assert_eq!(world.arrived(), 1);
    });
}

#[test]
fn in_a_chroot_the_way_out_of_it_is_told() {
    each(PLAIN, |world| {
        let jail = world.path("jail");
        sh(&format!(
            "mkdir {0}; cd {0}; mkdir -p usr bin sbin lib lib64 etc proc dev run tmp
             for folder in /usr /bin /sbin /lib /lib64 /etc /proc /dev /run /tmp; do
                 [ ! -d $folder ] || mount --rbind $folder {0}$folder
             done",
            jail.display()
        ));
        let mut command = std::process::Command::new("chroot");
        command.arg(&jail).args(["setpriv", "--ambient-caps=-all", "--inh-caps=-all", "/run/tools/namegate"]);
        command.args(["exec", "--allow", GOOD, "--", "touch", "/tmp/ran"]).current_dir("/");
        refused(world, &command.output().unwrap().into(), "inside a chroot", "pivot_root");
        assert!(!Path::new("/tmp/ran").exists());
    });
}

#[test]
fn under_a_filter_as_containers_have_it_the_profile_is_told() {
    each(PLAIN, |world| {
        let filter = world.write("filter.py", FILTER);
        let mut command = world.outside("python3");
        command.arg(filter).args(["/run/tools/namegate", "exec", "--allow", GOOD, "--", "touch", "ran"]);
        refused(world, &command.output().unwrap().into(), "seccomp filter", "seccomp=unconfined");
    });
}

/// A seccomp filter that refuses clone with `CLONE_NEWUSER`, and then becomes the rest of the command line.
const FILTER: &str = r#"
import ctypes, os, platform, struct, sys

clone = 56 if platform.machine() == "x86_64" else 220
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # the call's number
        (0x15, 0, 3, clone),
        (0x20, 0, 0, 16),  # its first argument
        (0x45, 0, 1, 0x10000000),
        (0x06, 0, 0, 0x00050001),  # EPERM
        (0x06, 0, 0, 0x7FFF0000),
    ]
)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HxxxxxxP", 6, ctypes.addressof(buffer)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn without_nft_the_ports_of_the_rules_are_read_and_others_refused() {
    each(BOTH, |world| {
        // The world's counter has been made; from here on there is no program of that name, or one that fails.
        for instead in ["/dev/null", "/bin/false"] {
            let mut real = BTreeSet::new();
            for place in ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"] {
                real.extend(fs::canonicalize(place).ok());
            }
            for place in &real {
                sh(&format!("mount --bind {instead} {}", place.display()));
            }
            let ran = world.run_with(
                &["--allow", "good.example.com:80", "--allow", "also.example.com:8080"],
                "for url in http://good.example.com/ http://also.example.com:8080/; do
                     curl -sS --max-time 9 $url || exit 1; echo
                 done
                 curl -s -o /dev/null --max-time 9 -w '%{http_code}\\n' http://203.0.113.66/
                 curl -s -o /dev/null --max-time 9 http://203.0.113.66:9999/; echo $?
                 python3 hostile.py datagrams 203.0.113.66:443 203.0.113.66:9",
            );
            for place in &real {
                sh(&format!("umount {}", place.display()));
            }
            assert_eq!(ran.code(), Some(0), "{instead}: {ran:?}");
            assert_eq!(ran.out.matches("hello from").count(), 2, "{instead}: {ran:?}");
            let after = ran.out.lines().skip(2).collect::<Vec<_>>();
            assert_eq!(after.get(..2), Some(&["403", "7"][..]), "{instead}: {ran:?}");
            assert!(!after.contains(&"too late"), "{instead}: {ran:?}");
            assert!(ran.err.contains("without nft"), "{instead}: {ran:?}");
        }
        assert_eq!(world.arrived(), 4);
    });
}
