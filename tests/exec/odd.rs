//! Odd circumstances: what a launcher leaves behind, folders that are gone, streams that nobody reads, a second `/proc`.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::namespace::{User, sh};
use crate::world::{BOTH, EVERYBODY, GOOD, PLAIN, ROOTS, Ran, each};

/// Waits for a child's end; kills it and fails when it takes longer than that.
fn ends_within(limit: Duration, mut child: Child) -> Option<i32> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("it has not ended after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A pipe that takes nothing more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(writer.as_fd()).unwrap();
    rustix::fs::fcntl_setfl(writer.as_fd(), flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(writer.as_fd(), &[b'.'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(writer.as_fd(), flags).unwrap();
    (reader, writer)
}

#[test]
fn a_launcher_that_ignores_its_children_gets_the_exit_code_all_the_same() {
    each(BOTH, |world| {
        let mut command = world.outside("env");
        command.args(["--ignore-signal=CHLD", "/run/tools/namegate", "exec", "--allow", GOOD, "--"]);
        let child = command.args(["sh", "-c", "true & exit 4"]).stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(ends_within(Duration::from_secs(8), child), Some(4));
    });
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    each(BOTH, |world| {
        let (mut reader, writer) = full_pipe();
        let mut command = world.exec(
            &["--allow", GOOD],
            &[
                "bash",
                "-c",
                "exec 2>/dev/null; for n in 1 2 3; do getent hosts denied$n.example; done; exit 5",
            ],
        );
        let child = command.stderr(writer).spawn().unwrap();
        drop(command);
        assert_eq!(ends_within(Duration::from_secs(12), child), Some(5));
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
    });
}

#[test]
fn a_killed_gate_ends_its_sandbox_though_nobody_reads_its_standard_error() {
    each(PLAIN, |world| {
        let (_reader, writer) = full_pipe();
        let mut command = world.exec(&["--allow", GOOD], &["sh", "-c", "echo $$ > started; exec sleep 77"]);
        let mut child = command.stderr(writer).spawn().unwrap();
        while !world.path("started").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while sh("ps -e -o args=").contains("sleep 77") {
            assert!(Instant::now() < end, "{}", sh("ps -ef"));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn the_audit_log_is_out_of_the_commands_hands() {
    each(EVERYBODY, |world| {
        let ran = world.run(
            "curl -sS -o /dev/null http://good.example.com/
             : > audit.jsonl; echo forged >> audit.jsonl; rm -f audit.jsonl; mv audit.jsonl other; ls other
             wc -c < audit.jsonl",
        );
        assert_eq!(ran.out.trim(), "0", "{ran:?}");
        assert!(!world.audit().events("decision").is_empty());
        assert!(!fs::read_to_string(world.path("audit.jsonl")).unwrap().contains("forged"));
    });
}

#[test]
fn the_audit_log_may_be_where_the_sandbox_has_nothing() {
    each(BOTH, |world| {
        let target = "/dev/shm/audit.jsonl";
        let mut command = world.outside("/run/tools/namegate");
        command.args(["exec", "--allow", GOOD, "--audit", target, "--", "sh", "-c", "exit 6"]);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.code(), Some(6), "{ran:?}");
        let log = fs::read_to_string(target).unwrap();
        fs::remove_file(target).unwrap();
        assert!(log.contains("\"action\":\"sandbox\""), "{log}");
    });
}

#[test]
fn a_working_folder_that_cannot_be_named_again_is_kept() {
    each(PLAIN, |world| {
        // Deleted, and behind a folder that is closed to this user: sudo -u leaves programs there.
        let closed = world.path("closed/inner");
        fs::create_dir_all(&closed).unwrap();
        let gate = "/run/tools/namegate exec --allow good.example.com --";
        let mut command = world.outside("bash");
        command.args([
            "-c",
            &format!("mkdir gone; cd gone; rmdir ../gone; {gate} true; echo $?; cd ../closed/inner; chmod 0 ..; {gate} pwd; chmod 755 .."),
        ]);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.out, format!("0\n{}\n", closed.display()), "{ran:?}");
    });
}

#[test]
fn a_working_folder_that_is_not_there_inside_gives_way_to_one_that_is() {
    each(BOTH, |world| {
        fs::create_dir("/dev/shm/work").unwrap();
        fs::set_permissions("/dev/shm/work", fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = world.exec(&["--allow", GOOD], &["pwd"]);
        let ran: Ran = command.current_dir("/dev/shm/work").output().unwrap().into();
        fs::remove_dir("/dev/shm/work").unwrap();
        assert_eq!((ran.code(), ran.out.trim()), (Some(0), "/dev/shm"), "{ran:?}");
        assert!(ran.err.contains("/dev/shm/work is not there inside"), "{ran:?}");
    });
}

#[test]
fn many_files_in_one_folder_of_run_hide_nothing_in_the_others() {
    each(BOTH, |world| {
        sh("mkdir -p /run/a/data; for n in $(seq 1500); do : > /run/a/data/$n; done
            mkdir -p /run/z; echo here > /run/z/file; ln -s /usr /run/current-system");
        let ran = world.run("cat /run/z/file; readlink /run/current-system");
        sh("rm -r /run/a /run/z /run/current-system");
        assert_eq!(ran.out, "here\n/usr\n", "{ran:?}");
    });
}

/// # Limitations
/// Shown for a file of another user, not for every combination of owner, group and mode.
#[test]
fn the_picture_of_run_shows_root_nothing_that_was_closed_to_it() {
    each(&[User::MachineRoot], |world| {
        sh("echo secret > /run/of-another; chown 65534 /run/of-another; chmod 600 /run/of-another");
        let ran = world.run("cat /run/of-another");
        sh("rm /run/of-another");
        assert!(!ran.out.contains("secret"), "{ran:?}");
    });
}

#[test]
fn a_loader_that_hangs_means_the_form_that_needs_none() {
    each(PLAIN, |world| {
        let script = world.write("hangs", "#!/bin/sh\nsleep 60\n");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let nft = fs::canonicalize("/usr/sbin/nft").unwrap();
        sh(&format!("mount --bind {} {}", script.display(), nft.display()));
        let started = Instant::now();
        let ran = world.run("curl -sS --max-time 9 http://good.example.com/");
        sh(&format!("umount {}", nft.display()));
        assert!(ran.out.contains("hello from"), "{ran:?}");
        assert!(ran.err.contains("without nft"), "{ran:?}");
        assert!(started.elapsed() < Duration::from_secs(9));
    });
}

#[test]
fn nobody_changes_what_the_kernel_is_told_in_sys() {
    // A delegated cgroup there could freeze and kill processes outside.
    each(EVERYBODY, |world| {
        let ran = world.run(
            "for folder in /sys /sys/fs/cgroup /sys/fs/cgroup/*/; do
                 mkdir $folder/mine 2>&1 | grep -q 'Read-only' || echo $folder can be written
             done
             ls /sys/class/net",
        );
        assert_eq!(ran.out.split_whitespace().last(), Some("lo"), "{ran:?}");
        assert!(!ran.out.contains("can be written"), "{ran:?}");
    });
}

/// # Limitations
/// File systems by which other modules take orders, under names that are not in the list, are not covered.
#[test]
fn a_second_proc_as_a_chroot_has_it_is_covered() {
    each(ROOTS, |world| {
        let second = world.path("chroot/proc");
        fs::create_dir_all(&second).unwrap();
        sh(&format!("mount -t proc proc {}", second.display()));
        let ran = world.run("ls -A chroot/proc | wc -l");
        sh(&format!("umount {}", second.display()));
        assert_eq!(ran.out.trim(), "0", "{ran:?}");
    });
}

#[test]
fn an_inherited_file_of_the_kernels_is_closed() {
    each(BOTH, |world| {
        let mut command = world.outside("bash");
        let line = "exec 5</proc/self/ns/net 6</etc/passwd; /run/tools/namegate exec --allow good.example.com -- \
                    bash -c '[ -e /proc/self/fd/5 ] && echo open; [ -e /proc/self/fd/6 ] && echo plain'";
        let ran: Ran = command.args(["-c", line]).output().unwrap().into();
        assert_eq!(ran.out, "plain\n", "{ran:?}");
    });
}

/// # Limitations
/// Shown for a second `/proc` that root stands in; the check does not look at what kind of cover it is.
#[test]
fn standing_below_a_cover_shows_nothing_of_what_is_covered() {
    each(ROOTS, |world| {
        let second = world.path("chroot/proc");
        fs::create_dir_all(&second).unwrap();
        sh(&format!("mount -t proc proc {}", second.display()));
        let mut command = world.exec(&["--allow", GOOD], &["sh", "-c", "pwd; ls -A | wc -l; cat 1/comm"]);
        let ran: Ran = command.current_dir(&second).output().unwrap().into();
        sh(&format!("umount {}", second.display()));
        assert_eq!(ran.out, format!("{}\n0\n", second.display()), "{ran:?}");
    });
}

#[test]
fn a_timer_and_a_signal_by_name_reach_the_command() {
    each(BOTH, |world| {
        // An alarm outlives exec(2): the kernel signals the supervisor alone.
        let mut command = world.outside("python3");
        command.args(["-c", "import os, signal, sys; signal.alarm(1); os.execvp(sys.argv[1], sys.argv[1:])"]);
        command.args(["/run/tools/namegate", "exec", "--allow", GOOD, "--", "sleep", "30"]);
        let started = Instant::now();
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.signal(), Some(14), "{ran:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
        for by in ["-x namegate", "-f 'namegat[e] exec --allow named'"] {
            let mut command = world.outside("/run/tools/namegate");
            command.args([
                "exec",
                "--allow",
                "named.example.com",
                "--",
                "sh",
                "-c",
                "touch runs; exec sleep 30",
            ]);
            let child = command.stderr(Stdio::null()).spawn().unwrap();
            while !world.path("runs").exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
            fs::remove_file(world.path("runs")).unwrap();
            sh(&format!("pkill -TERM {by}"));
            assert_eq!(ends_within(Duration::from_secs(8), child), None, "{by}: by a signal");
        }
    });
}

#[test]
fn without_a_terminal_a_stop_of_the_command_is_its_own_affair() {
    each(BOTH, |world| {
        let mut command = world.outside("setsid");
        command.args(["--wait", "/run/tools/namegate", "exec", "--allow", GOOD, "--", "sh", "-c"]);
        command.arg("(sleep 1; kill -CONT $$) & kill -STOP $$; exit 3").stderr(Stdio::null());
        assert_eq!(ends_within(Duration::from_secs(10), command.spawn().unwrap()), Some(3));
    });
}
