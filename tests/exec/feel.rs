//! A command in a sandbox is to feel as if it were not in one: exit codes, streams, files, signals, localhost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::world::{text, wait_until};
use crate::world::{BOTH, GOOD, PLAIN, Ran, World, each};

/// Runs a shell script in the world, where `$NAMEGATE` is the gate with what most tests need.
fn script(world: &World, line: &str) -> Ran {
    let mut command = world.outside("bash");
    let gate = format!(
        "/run/tools/namegate exec --dns-upstream udp://192.0.2.53 --audit {} --allow {GOOD}",
        world.path("audit.jsonl").display()
    );
    command.args(["-c", line]).env("NAMEGATE", gate).output().unwrap().into()
}

#[test]
fn exit_codes_are_the_commands_own() {
    each(BOTH, |world| {
        for code in [0, 1, 2, 3, 7, 42, 255] {
            let ran = world.run(&format!("exit {code}"));
            assert_eq!((ran.code(), &*ran.err), (Some(code), ""), "{ran:?}");
        }
        let file = world.write("not-executable", "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        for (program, code) in
            [("./not-executable", 126), ("/tmp", 126), ("no-such-program", 127), ("./none", 127)]
        {
            let ran: Ran = world.exec(&["--allow", GOOD], &[program]).output().unwrap().into();
            assert_eq!(ran.code(), Some(code), "{program}: {ran:?}");
            assert!(ran.err.contains(program), "{ran:?}");
        }
        // As execvp(3) has it: a script that does not say what it is for is one for sh.
        let plain = world.write("script", "exit 9\n");
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
        let ran: Ran = world.exec(&["--allow", GOOD], &["./script"]).output().unwrap().into();
        assert_eq!(ran.code(), Some(9), "{ran:?}");
    });
}

#[test]
fn a_signal_that_ends_the_command_is_what_the_parent_sees() {
    each(BOTH, |world| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGPIPE, libc::SIGTERM, libc::SIGSEGV]
        {
            let ran = world.run(&format!("kill -{signal} $$"));
            assert_eq!(ran.signal(), Some(signal), "{ran:?}");
            assert!(!ran.status.core_dumped(), "{ran:?}");
        }
    });
}

#[test]
fn ten_megabytes_pass_both_ways_byte_for_byte() {
    each(BOTH, |world| {
        let mut sent = vec![0_u8; 10 << 20];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut sent).unwrap();
        let mut command = world.exec(&["--allow", GOOD], &["sh", "-c", "tee copy; echo done >&2"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let copy = sent.clone();
        let feeder = std::thread::spawn(move || input.write_all(&copy).unwrap());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == sent && fs::read(world.path("copy")).unwrap() == sent);
        assert_eq!(text(&output.stderr), "done\n");
    });
}

#[test]
fn pipelines_end_as_they_do_without_a_sandbox() {
    each(BOTH, |world| {
        // The reader goes away: the writer inside is ended by SIGPIPE, and the gate with it.
        let ran = script(world, "$NAMEGATE -- yes | head -n1; echo ${PIPESTATUS[@]}");
        assert_eq!(ran.out, "y\n141 0\n", "{ran:?}");
        let ran = script(world, "$NAMEGATE -- bash -c 'yes | head -n1; echo ${PIPESTATUS[@]}'");
        assert_eq!(ran.out, "y\n141 0\n", "{ran:?}");
        // The command closes its output long before it ends: the reader sees that.
        let ran = script(
            world,
            "$NAMEGATE -- sh -c 'echo one; exec >&-; sleep 3; exit 4' | (cat; date +%s%N) ; date +%s%N",
        );
        let lines: Vec<_> = ran.out.lines().collect();
        let [one, closed, over] = lines[..] else { panic!("{ran:?}") };
        assert_eq!(one, "one");
        let millis = (over.parse::<u64>().unwrap() - closed.parse::<u64>().unwrap()) / 1_000_000;
        assert!(millis > 1500, "{ran:?}");
        // What the command does not read is there for the next one.
        let ran = script(world, "printf 'a\\nb\\n' > lines; (read x; $NAMEGATE -- cat; echo $x) < lines");
        assert_eq!(ran.out, "b\na\n", "{ran:?}");
        let ran = script(world, "$NAMEGATE -- true <&- && $NAMEGATE -- true >&- 2>&-; echo $?");
        assert_eq!(ran.out, "0\n", "{ran:?}");
    });
}

#[test]
fn process_substitution_and_files_opened_by_the_shell_work() {
    each(BOTH, |world| {
        let ran = script(world, "$NAMEGATE -- cat <(echo hi) <(echo there)");
        assert_eq!(ran.out, "hi\nthere\n", "{ran:?}");
        let ran = script(
            world,
            "$NAMEGATE -- tee >(tr a-z A-Z > upper) <<< shout > /dev/null; sleep 0.3; cat upper",
        );
        assert_eq!(ran.out, "SHOUT\n", "{ran:?}");
        let ran = script(
            world,
            "exec 7> seven; $NAMEGATE -- sh -c 'echo lucky >&7; cat /dev/stdin' <<< in; cat seven",
        );
        assert_eq!(ran.out, "in\nlucky\n", "{ran:?}");
    });
}

#[test]
fn files_are_where_they_are_and_as_they_are() {
    each(BOTH, |world| {
        let deep = world.path("a folder/with spaces");
        fs::create_dir_all(&deep).unwrap();
        let mut command = world.exec(
            &["--allow", GOOD],
            &["sh", "-c", "pwd; umask 077; echo x > here; echo y > /tmp/there; stat -c '%u %g' ."],
        );
        let ran: Ran = command.current_dir(&deep).output().unwrap().into();
        let of = fs::metadata(&deep).unwrap();
        assert_eq!(ran.out, format!("{}\n{} {}\n", deep.display(), of.uid(), of.gid()), "{ran:?}");
        assert_eq!(fs::read_to_string(deep.join("here")).unwrap(), "x\n");
        assert_eq!(fs::metadata(deep.join("here")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string("/tmp/there").unwrap(), "y\n");
        // What is written outside meanwhile is seen inside.
        let ran = script(
            world,
            "(sleep 0.5; echo late > late) & $NAMEGATE -- sh -c 'while ! [ -s late ]; do sleep 0.05; done; cat late'",
        );
        assert_eq!(ran.out, "late\n", "{ran:?}");
        let ran = world
            .run("mkfifo pipe; cat pipe & echo through > pipe; wait; echo $$ > /dev/shm/x && cat /dev/shm/x");
        assert!(ran.out.starts_with("through\n"), "{ran:?}");
    });
}

#[test]
fn user_limits_environment_and_arguments_pass_as_they_are() {
    each(BOTH, |world| {
        let line = "id; ulimit -a; nice; umask; grep -E '^(Sig(Blk|Ign)|Groups)' /proc/self/status; hostname; \
                    cat /etc/resolv.conf; readlink /proc/self/cwd; env | grep -v '^_=' | sort; printf '%s|' \"$@\"";
        let arguments = ["bash", "-c", line, "name", "", "two words", "--allow", "-v", "ü\n*", "$HOME"];
        let with = |mut command: Command| -> Ran {
            command.env("ODD", "a=b\nc").env("EMPTY", "").env("https_proxy", "").output().unwrap().into()
        };
        let mut outside = world.outside("nice");
        outside.args(["-n", "3"]).args(arguments);
        let mut inside = world.outside("nice");
        let gate = world.exec(&["--allow", GOOD], &arguments);
        let words = gate.get_args().filter(|word| !word.to_string_lossy().contains("caps="));
        let words = words.skip_while(|word| *word != "exec");
        inside.args(["-n", "3", "/run/tools/namegate"]).args(words);
        let (outside, inside) = (with(outside), with(inside));
        assert_eq!(inside.out, outside.out);
        assert!(inside.out.ends_with("\n|two words|--allow|-v|ü\n*|$HOME|"), "{inside:?}");
        // Who ignores a signal goes on ignoring it: nohup(1).
        let line =
            "trap '' HUP USR2; grep SigIgn /proc/self/status; $NAMEGATE -- grep SigIgn /proc/self/status";
        let ran = script(world, line);
        let ignored: Vec<_> = ran.out.lines().collect();
        assert!(ignored.len() == 2 && ignored[0] == ignored[1] && ignored[0].ends_with("801"), "{ran:?}");
    });
}

#[test]
fn localhost_inside_is_the_commands_own_on_every_port() {
    each(BOTH, |world| {
        let ran = world.run(
            r#"echo welcome > page
            for place in '127.0.0.1 8000' '127.0.0.1 80' '::1 8000' '::1 80' '0.0.0.0 443' '127.0.0.5 9000'; do
                set -- $place
                python3 -m http.server --bind $1 $2 > server.log 2>&1 &
                server=$!
                host=$1; case $host in *:*) host="[$host]" ;; 0.0.0.0) host=localhost ;; esac
                for try in 1 2 3 4 5 6 7 8 9 10; do
                    curl -s --max-time 5 http://$host:$2/page && break
                    sleep 0.3
                done
                kill $server; wait $server 2>/dev/null
            done"#,
        );
        assert_eq!(
            ran.out,
            "welcome\n".repeat(6),
            "{ran:?} {:?}",
            fs::read_to_string(world.path("server.log"))
        );
        assert_eq!(world.audit().events("decision").len(), 0);
    });
}

#[test]
fn the_hosts_localhost_is_reached_where_the_user_says_so_and_nowhere_else() {
    each(BOTH, |world| {
        let all = "for url in http://127.0.0.1:8080 http://localhost:8080 http://[::1]:8080 http://198.51.100.7:8080 \
                   http://[2001:db8:9::7]:8080 http://0.0.0.0:8080 http://[::ffff:127.0.0.1]:8080; do
                       curl -s --max-time 5 -o body $url/ ; echo $? $(cat body) ; rm -f body; done";
        let start = Instant::now();
        let ran = world.run(all);
        assert!(!ran.out.contains("hello"), "{ran:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "not refused at once: {ran:?}");
        assert_eq!(world.arrived(), 0);

        let ran = world.run_with(&["--allow", GOOD, "--host-port", "8080"], all);
        let lines: Vec<_> = ran.out.lines().collect();
        assert!(lines[0].starts_with("0 hello from 127.0.0.1"), "{ran:?}");
        assert!(lines[1].starts_with("0 hello from 127.0.0.1"), "{ran:?}");
        assert!(lines[3..5].iter().all(|line| !line.contains("hello")), "{ran:?}");
        let ran = world.run_with(&["--host-port", "8080"], "curl -sS --max-time 5 http://127.0.0.1:80/");
        assert_eq!(ran.code(), Some(7), "another port: {ran:?}");
        let come = world.far.connections("127.0.0.1:8080");
        assert!((2..=4).contains(&come), "{come} connections");
        assert_eq!(world.far.connections("198.51.100.7:8080"), 0);
    });
}

#[test]
fn unix_sockets_and_locks_of_the_commands_own_work() {
    each(BOTH, |world| {
        let ran = world.run(
            r#"python3 - <<'P'
import multiprocessing, os, socket, tempfile

def double(number):
    return number * 2

for folder in (tempfile.gettempdir(), os.environ["HOME"], "/run/user/%d" % os.getuid()):
    if not os.path.isdir(folder):
        continue
    path = os.path.join(folder, "own.sock")
    server = socket.create_server(path, family=socket.AF_UNIX)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    peer, _ = server.accept()
    peer.sendall(b"hi")
    assert client.recv(9) == b"hi"
with multiprocessing.Pool(3) as pool:
    print(sum(pool.map(double, range(100))))
with multiprocessing.Manager() as manager:
    print(manager.list([1, 2]))
P"#,
        );
        assert_eq!(ran.out, "9900\n[1, 2]\n", "{ran:?}");
    });
}

#[test]
fn a_time_limit_around_the_gate_ends_all_of_it() {
    each(BOTH, |world| {
        let start = Instant::now();
        let ran = script(world, "timeout 1 $NAMEGATE -- sleep 100; echo $?");
        assert_eq!(ran.out, "124\n", "{ran:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
        let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            text(&command).starts_with("sleep\u{0}100")
        });
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn each_signal_reaches_the_command_exactly_once() {
    each(BOTH, |world| {
        let program = world.write(
            "count.py",
            "import signal, sys, time
heard = []
for name in ('TERM', 'INT', 'HUP', 'QUIT', 'USR1', 'USR2', 'ALRM', 'WINCH'):
    signal.signal(getattr(signal, 'SIG' + name), lambda number, _: heard.append(signal.Signals(number).name))
signal.signal(signal.SIGRTMIN + 3, lambda *_: heard.append('RT'))
open('ready', 'w')
end = time.time() + 20
while 'USR2' not in ' '.join(heard) and time.time() < end:
    time.sleep(0.01)
time.sleep(0.3)
print(*heard)
",
        );
        let program = program.display().to_string();
        let mut command = world.exec(&["--allow", GOOD], &["python3", &program]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        wait_until("the command runs", Duration::from_secs(10), || world.path("ready").exists());
        let pid = Pid::from_child(&child);
        let number = pid.as_raw_nonzero();
        for signal in
            [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::ALARM, Signal::WINCH]
        {
            kill_process(pid, signal).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        let real_time = world.outside("kill").args(["-37", &number.to_string()]).status().unwrap();
        assert!(real_time.success());
        std::thread::sleep(Duration::from_millis(50));
        kill_process(pid, Signal::USR2).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ran.out, "SIGTERM SIGINT SIGHUP SIGQUIT SIGUSR1 SIGALRM SIGWINCH RT SIGUSR2\n", "{ran:?}");
        assert_eq!(ran.code(), Some(0));
    });
}

#[test]
fn a_signal_to_the_whole_group_reaches_the_command_once_too() {
    each(PLAIN, |world| {
        let ran = script(
            world,
            r#"set -m
            $NAMEGATE -- bash -c 'trap "echo heard" INT; touch ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; exit 6' &
            while [ ! -e ready ]; do sleep 0.05; done
            kill -INT -$!
            wait $!; echo $?"#,
        );
        assert_eq!(ran.out, "heard\n6\n", "{ran:?}");
    });
}

#[test]
fn a_sandbox_in_a_sandbox_says_why_there_is_none() {
    each(BOTH, |world| {
        let ran = world.run("/run/tools/namegate exec --allow good.example.com -- true");
        assert_eq!(ran.code(), Some(3), "{ran:?}");
        assert!(ran.err.contains("hint:"), "{ran:?}");
    });
}
