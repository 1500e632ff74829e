//! What the sandbox costs: the start of a command, one bulk stream through it, and a connection.
//!
//! ```text
//! cargo bench --bench exec
//! ```
//! Every figure stands beside the same thing without the sandbox, measured in turn in the same run; only the ratios
//! and differences mean anything on a machine that others use. The network is one of its own: needs no root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench may panic, prints its table and measures the wall clock"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use namegate::sys::{loopback, process};

const GATE: &str = env!("CARGO_BIN_EXE_namegate");
/// How much is measured; a test run only shows that it can be.
struct Scale {
    starts: usize,
    rounds: usize,
    bytes: u64,
    connections: u32,
}

const BENCH: Scale = Scale { starts: 60, rounds: 5, bytes: 2 << 30, connections: 2_000 };
const TEST: Scale = Scale { starts: 3, rounds: 1, bytes: 32 << 20, connections: 20 };
const NAME: &str = "bulk.example.com";
const SERVER: &str = "203.0.113.10:9000";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("pull") => return pull(&arguments[2], arguments[3].parse().unwrap()),
        Some("knock") => return knock(&arguments[2], arguments[3].parse().unwrap()),
        Some(_) | None => {}
    }
    let scale = if arguments.iter().any(|argument| argument == "--bench") { BENCH } else { TEST };
    starts(&scale);
    process::enter_own_network().unwrap();
    let home = (Ipv4Addr::new(198, 18, 255, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xff));
    process::in_a_copy(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(loopback::take_in_everything(home))
    })
    .unwrap();
    let questions = UdpSocket::bind("192.0.2.53:53").unwrap();
    let connections = TcpListener::bind(SERVER).unwrap();
    std::thread::spawn(move || resolver(&questions));
    std::thread::spawn(move || server(&connections));
    streams(&scale);
    knocks(&scale);
}

fn starts(scale: &Scale) {
    let (mut plain, mut gated) = (Vec::new(), Vec::new());
    for _ in 0..scale.starts {
        plain.push(time(&mut Command::new("/bin/true")));
        gated.push(time(Command::new(GATE).args(["exec", "--", "/bin/true"])));
    }
    let (plain, gated) = (median(plain), median(gated));
    println!("start and end of /bin/true, median of {}", scale.starts);
    println!("  plain {plain:>9.2?}   exec {gated:>9.2?}   added {:>9.2?}   (goal: 15 ms)", gated - plain);
}

fn streams(scale: &Scale) {
    let amount = scale.bytes.to_string();
    let (mut direct, mut gated) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        direct.push(rate(&mut this("pull", SERVER, &amount)));
        gated.push(rate(&mut through_the_gate("pull", &amount)));
    }
    let (direct, gated) = (median(direct), median(gated));
    println!("one stream of {} MiB down, median of {}", scale.bytes >> 20, scale.rounds);
    println!(
        "  direct {direct:>6.1} Gbit/s   exec {gated:>6.1} Gbit/s   ratio {:>5.2}   (goal: 0.6)",
        gated / direct
    );
}

fn knocks(scale: &Scale) {
    let amount = scale.connections.to_string();
    let (mut direct, mut gated) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        direct.push(rate(&mut this("knock", SERVER, &amount)));
        gated.push(rate(&mut through_the_gate("knock", &amount)));
    }
    let (direct, gated) = (median(direct), median(gated));
    println!("connect, one byte, close; one after the other, median of {} times {amount}", scale.rounds);
    println!("  direct {direct:>6.0} us   exec {gated:>6.0} us");
}

/// Client program: reads so many bytes, prints Gbit/s.
fn pull(server: &str, bytes: u64) {
    let mut stream = TcpStream::connect(server).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let started = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let got = stream.read(&mut buffer).unwrap();
        assert!(got > 0 && buffer[..got].iter().step_by(4096).all(|byte| *byte == b'n'), "wrong bytes");
        left = left.saturating_sub(got as u64);
    }
    println!("{}", bytes as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9);
}

/// Client program: connects again and again, prints microseconds for each.
fn knock(server: &str, connections: u32) {
    let address = std::net::ToSocketAddrs::to_socket_addrs(server).unwrap().next().unwrap();
    let started = Instant::now();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    println!("{}", started.elapsed().as_secs_f64() * 1e6 / f64::from(connections));
}

fn this(role: &str, server: &str, amount: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([role, server, amount]);
    command
}

fn through_the_gate(role: &str, amount: &str) -> Command {
    let mut command = Command::new(GATE);
    command.args([
        "exec",
        "--quiet",
        "--dns-upstream",
        "udp://192.0.2.53",
        "--allow",
        "tcp:bulk.example.com:9000",
    ]);
    command.arg("--").arg(std::env::current_exe().unwrap()).args([role, &format!("{NAME}:9000"), amount]);
    command
}

fn time(command: &mut Command) -> Duration {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).status().unwrap();
    let taken = started.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    taken
}

fn rate(command: &mut Command) -> f64 {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn median<T: PartialOrd + Copy>(mut figures: Vec<T>) -> T {
    figures.sort_by(|left, right| left.partial_cmp(right).unwrap());
    figures[figures.len() / 2]
}

/// Sends the letter n until the client has enough.
fn server(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let page = vec![b'n'; 256 << 10];
            while stream.write_all(&page).is_ok() {}
        });
    }
}

/// Answers every question with the server's address, and questions for IPv6 with none.
fn resolver(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer).unwrap();
        let question_end = 12 + buffer[12..len].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_a = buffer[question_end - 3] == 1;
        let mut answer = buffer[..question_end].to_vec();
        answer[2] |= 0x80;
        answer[3] = 0x80;
        answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 10]);
        }
        socket.send_to(&answer, peer).unwrap();
    }
}
