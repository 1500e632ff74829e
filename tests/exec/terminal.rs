//! A terminal stays a terminal: job control, keys, sizes. Played in tmux, which is what a user sits at.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::world::text;
use crate::world::{BOTH, GOOD, PLAIN, World, each};

/// A terminal with a shell of the world's user.
struct Seat<'a> {
    world: &'a World,
    /// Of its own: a server that is told to end still takes connections for a moment.
    socket: PathBuf,
}

impl<'a> Seat<'a> {
    /// Opens it. `None`: there is no tmux, which is said.
    fn open(world: &'a World) -> Option<Self> {
        Self::open_on(world, "")
    }

    /// The same on a kernel as it was before Landlock knew signals.
    fn open_on_an_older_kernel(world: &'a World) -> Option<Self> {
        let script = world.write("older.py", OLDER);
        Self::open_on(world, &format!("python3 {} ", script.display()))
    }

    fn open_on(world: &'a World, before: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "tmux is not installed");
            eprintln!("SKIPPED: tmux is not installed");
            return None;
        }
        let gate = format!(
            "{before}/run/tools/namegate exec --dns-upstream udp://192.0.2.53 --audit {} --allow {GOOD} --",
            world.path("audit.jsonl").display()
        );
        world.write(
            "bashrc",
            &format!("PS1='outer> '\nPROMPT_COMMAND=\nalias gate='{gate}'\nset +o history\n"),
        );
        world.write("inner", "PS1='inner> '\nPROMPT_COMMAND=\nset +o history\n");
        static SEATS: AtomicUsize = AtomicUsize::new(0);
        let socket = world.path(&format!("tmux-{}", SEATS.fetch_add(1, Ordering::Relaxed)));
        let seat = Self { world, socket };
        let shell = format!("bash --rcfile {} -i", world.path("bashrc").display());
        seat.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", &shell]);
        seat.sees("outer> ");
        Some(seat)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = self.world.outside("tmux");
        let output = command
            .arg("-S")
            .arg(&self.socket)
            .args(words)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/bash")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Types a line.
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.presses("Enter");
    }

    fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-200"])
    }

    /// Waits until the screen ends in this text.
    fn sees(&self, end: &str) {
        self.waits(&format!("the screen ends in {end:?}"), |screen| {
            screen.trim_end().ends_with(end.trim_end())
        });
    }

    /// Waits until this text is somewhere on the screen.
    fn shows(&self, part: &str) {
        self.waits(&format!("the screen shows {part:?}"), |screen| screen.contains(part));
    }

    fn waits(&self, what: &str, fits: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let screen = self.screen();
            if fits(&screen) {
                return;
            }
            assert!(Instant::now() < end, "waited in vain: {what}\n{}", screen.trim_end());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Starts a shell in a sandbox.
    fn enters(&self) {
        self.types("gate bash --rcfile inner -i");
        self.sees("inner> ");
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut command = self.world.outside("tmux");
        let _ = command.arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

#[test]
fn a_shell_in_a_sandbox_has_its_jobs() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.enters();
        assert!(!seat.screen().contains("job control"), "{}", seat.screen());
        seat.types("sleep 100");
        std::thread::sleep(Duration::from_millis(300));
        seat.presses("C-z");
        seat.shows("Stopped");
        seat.sees("inner> ");
        seat.types("jobs; bg; fg");
        seat.shows("sleep 100 &");
        std::thread::sleep(Duration::from_millis(300));
        seat.presses("C-c");
        seat.sees("inner> ");
        seat.types("echo code $?");
        seat.shows("code 130");
        seat.types("exit 3");
        seat.sees("outer> ");
        seat.types("echo outer $?");
        seat.shows("outer 3");
    });
}

#[test]
fn programs_know_the_terminal_and_its_size() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate python3 -c 'import os, sys; print(\"size\", os.get_terminal_size(), [s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)])'");
        seat.shows("size os.terminal_size(columns=100, lines=30) [True, True, True]");
        seat.enters();
        seat.types("stty size; tty; ls --color=auto -d /tmp | cat -v; echo x > /dev/tty");
        seat.shows("30 100");
        seat.shows("/dev/console");
        seat.types("trap 'echo resized' WINCH; clear");
        seat.sees("inner> ");
        seat.tmux(&["resize-window", "-x", "90", "-y", "25"]);
        std::thread::sleep(Duration::from_millis(200));
        seat.types("stty size");
        seat.shows("25 90");
        seat.shows("resized");
        seat.types("exit");
        seat.sees("outer> ");
    });
}

#[test]
fn an_interpreter_edits_lines_and_hears_keys() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate python3 -q");
        seat.sees(">>> ");
        seat.tmux(&["send-keys", "-l", "6*8"]);
        seat.presses("BSpace");
        seat.types("7");
        seat.shows("\n42\n");
        seat.types("import time; time.sleep(100)");
        std::thread::sleep(Duration::from_millis(400));
        seat.presses("C-c");
        seat.shows("KeyboardInterrupt");
        seat.sees(">>> ");
        seat.presses("C-d");
        seat.sees("outer> ");
        seat.types("echo code $?");
        // Python 3.11 that was interrupted once ends by that signal, in a sandbox or not.
        seat.waits("an exit code", |screen| screen.contains("code 0\n") || screen.contains("code 130\n"));
    });
}

#[test]
fn the_stop_key_stops_the_gate_and_fg_goes_on() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate python3 -c 'for n in range(3): print(\"line\", input())'");
        std::thread::sleep(Duration::from_millis(600));
        seat.types("one");
        seat.shows("line one");
        for round in ["two", "three"] {
            seat.presses("C-z");
            seat.shows("Stopped");
            seat.sees("outer> ");
            seat.types("jobs -l | cat; echo at the shell");
            seat.shows("\nat the shell\n");
            seat.types("clear; fg");
            std::thread::sleep(Duration::from_millis(300));
            seat.types(round);
            seat.shows(&format!("line {round}"));
        }
        seat.sees("outer> ");
        seat.types("echo code $?");
        seat.shows("code 0");
    });
}

#[test]
fn in_the_background_it_waits_for_the_terminal_and_goes_on_in_front() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate sh -c 'read word; echo got $word' &");
        std::thread::sleep(Duration::from_millis(600));
        seat.types("echo still here");
        seat.shows("\nstill here\n");
        seat.types("jobs");
        seat.shows("Stopped");
        seat.types("clear; fg");
        std::thread::sleep(Duration::from_millis(300));
        seat.types("it");
        seat.shows("got it");
        seat.sees("outer> ");
        // What needs no terminal runs on in the background.
        seat.types("clear; gate sh -c 'sleep 0.5; echo quiet > background' &");
        seat.types("wait; cat background");
        seat.shows("\nquiet\n");
    });
}

#[test]
fn the_interrupt_key_ends_the_command_and_the_script_around_it() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        world.write(
            "around.sh",
            "shopt -s expand_aliases; . ./bashrc\nfor n in 1 2 3; do echo round $n; gate sleep 100; done; echo went on\n",
        );
        seat.types("bash around.sh");
        seat.shows("round 1");
        std::thread::sleep(Duration::from_millis(800));
        seat.presses("C-c");
        seat.sees("outer> ");
        seat.types("echo code $?");
        seat.shows("code 130");
        let screen = seat.screen();
        assert!(!screen.contains("round 2") && !screen.contains("went on"), "{screen}");
        // The terminal is as it was.
        seat.types("clear; stty -a");
        seat.shows(" icanon ");
        seat.types("clear; gate sleep 100; echo after $?");
        std::thread::sleep(Duration::from_millis(800));
        seat.presses("C-\\");
        seat.shows("after 131");
    });
}

#[test]
fn when_the_terminal_goes_away_nothing_stays() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate sh -c 'touch ready; sleep 12345'");
        let end = Instant::now() + Duration::from_secs(10);
        while !world.path("ready").exists() {
            assert!(Instant::now() < end, "{}", seat.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(seat);
        let sleeping = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                text(&command).contains("sleep\u{0}12345") || text(&command).contains("namegate\u{0}exec")
            })
        };
        let end = Instant::now() + Duration::from_secs(12);
        while sleeping() {
            assert!(Instant::now() < end, "something stays when the terminal is gone");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn another_program_of_the_pipeline_keeps_the_terminal() {
    each(BOTH, |world| {
        let seats = [Seat::open, Seat::open_on_an_older_kernel];
        for open in seats {
            let Some(seat) = open(world) else { return };
            seat.types(
                "gate sh -c 'sleep 0.5; echo data' | { cat; read answer </dev/tty; echo got $answer; }",
            );
            seat.shows("\ndata\n");
            seat.types("yes");
            seat.shows("\ngot yes\n");
            seat.sees("outer> ");
        }
    });
}

#[test]
fn a_command_left_behind_by_a_script_takes_nothing_from_the_shell() {
    each(PLAIN, |world| {
        for open in [Seat::open, Seat::open_on_an_older_kernel] {
            let Some(seat) = open(world) else { return };
            seat.types("sh -c 'gate() { '\"${BASH_ALIASES[gate]}\"' \"$@\"; }; gate sleep 1 & sleep 0.3'");
            std::thread::sleep(Duration::from_millis(1_800));
            seat.types("echo still $((40 + 2))");
            seat.shows("\nstill 42\n");
        }
    });
}

#[test]
fn a_command_that_stops_or_interrupts_itself_does_it_to_nobody_else() {
    each(PLAIN, |world| {
        let Some(seat) = Seat::open(world) else { return };
        let gate = "'\"${BASH_ALIASES[gate]}\"'";
        seat.types(&format!(
            "sh -c '{gate} sh -c \"kill -TSTP \\$\\$\" </dev/null & sleep 1; echo DO\"\"NE'"
        ));
        seat.shows("DONE");
        seat.types(&format!("sh -c 'trap : INT; {gate} sh -c \"kill -INT \\$\\$\"; echo SUR\"\"VIVED'"));
        seat.shows("SURVIVED");
    });
}

#[test]
fn a_shell_that_suspends_itself_gets_the_terminal_back() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.enters();
        seat.types("suspend");
        seat.shows("Stopped");
        seat.sees("outer> ");
        seat.types("clear; fg");
        std::thread::sleep(Duration::from_millis(500));
        seat.types("echo back $((40 + 2))");
        seat.shows("\nback 42\n");
        seat.types("exit");
        seat.sees("outer> ");
    });
}

#[test]
fn a_shell_in_the_background_takes_nothing() {
    each(PLAIN, |world| {
        let Some(seat) = Seat::open(world) else { return };
        seat.types("gate bash --rcfile inner -i &");
        std::thread::sleep(Duration::from_millis(1_200));
        seat.types("echo outer is $((40 + 2))");
        seat.shows("\nouter is 42\n");
        seat.types("kill -KILL %1; wait; clear; echo still $((40 + 2))");
        seat.shows("still 42");
    });
}

#[test]
fn a_shell_has_its_jobs_on_an_older_kernel_too() {
    each(BOTH, |world| {
        let Some(seat) = Seat::open_on_an_older_kernel(world) else { return };
        seat.enters();
        seat.types("sleep 100");
        std::thread::sleep(Duration::from_millis(300));
        seat.presses("C-z");
        seat.shows("Stopped");
        seat.types("fg");
        std::thread::sleep(Duration::from_millis(300));
        seat.presses("C-c");
        seat.sees("inner> ");
        seat.types("exit 3");
        seat.sees("outer> ");
        seat.types("echo outer $?");
        seat.shows("outer 3");
        // Its group is not in front: it gets the terminal when it asks for it.
        seat.types("gate sh -c 'read word; echo got $word' | cat");
        std::thread::sleep(Duration::from_millis(800));
        seat.types("it");
        seat.shows("\ngot it\n");
        seat.types("gate sleep 100");
        std::thread::sleep(Duration::from_millis(600));
        seat.presses("C-z");
        seat.shows("namegate exec");
        seat.types("fg");
        std::thread::sleep(Duration::from_millis(300));
        seat.presses("C-c");
        seat.sees("outer> ");
        seat.types("echo code $?");
        seat.shows("code 130");
    });
}

/// Lets Landlock be unknown to whatever follows on the command line.
const OLDER: &str = r#"
import ctypes, os, struct, sys

program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # the call's number
        (0x35, 0, 2, 444),
        (0x25, 1, 0, 446),
        (0x06, 0, 0, 0x00050000 | 38),  # ENOSYS
        (0x06, 0, 0, 0x7FFF0000),
    ]
)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HxxxxxxP", 5, ctypes.addressof(buffer)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"#;
