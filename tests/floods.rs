//! Clients that flood: what they cost the gate, and that nobody else notices. The real daemon in a world of its own;
//! memory is what the kernel counts for the process. The bounds are those of docs/limits.md, with room for a busy
//! machine and a build without optimisation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::far::Far;
use common::namespace::inside;
use common::world::{Gate, World, sh, text, wait_until, within};
use namegate::facts::{Address, Client, Name, Observation, Source};
use namegate::gate::{Gate as Judge, LedgerConfig};
use namegate::settings;
use namegate::sys::clock;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[dns]
upstreams = ["udp://192.0.2.53"]

[admin]
listen = "unix:@DIR@/admin.sock"

[audit]
to = ["@DIR@/log/audit.jsonl"]

[[rule]]
id = "all"
names = ["*.example.com"]
"#;

/// A world with a gate; the rules with these changes.
fn world(changes: &[(&str, &str)]) -> (World, Gate, Far) {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let mut world = World::new();
    let far = Far::start(&world);
    fs::create_dir_all(world.path("log")).unwrap();
    let rules = changes.iter().fold(RULES.to_owned(), |rules, (from, to)| {
        assert!(rules.contains(from), "{from}");
        rules.replace(from, to)
    });
    let rules = rules.replace("@DIR@", &world.dir.path().display().to_string());
    fs::write(world.path("namegate.toml"), rules).unwrap();
    let file = world.path("namegate.toml").display().to_string();
    let audit = world.path("log/audit.jsonl");
    let gate = world.start_gate_with(&["serve", "--config", &file], audit);
    (world, gate, far)
}

/// Memory of the gate, KiB.
fn resident(gate: &Gate) -> usize {
    // The process was started by nsenter, which became it.
    resident_of(gate.pid)
}

fn resident_of(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The gate's counters of one family, summed over the series that contain a text.
fn counted(world: &World, family: &str, of: &str) -> u64 {
    let line =
        format!("curl -sS --unix-socket {} http://localhost/metrics", world.path("admin.sock").display());
    let page = text(&world.run("gw", &line).stdout);
    assert!(page.contains(family), "{page}");
    let of_family = page.lines().filter(|line| line.starts_with(family) && line.contains(of));
    of_family.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until a family no longer counts up, and returns what it came to.
fn settled(world: &World, family: &str) -> u64 {
    let mut seen = counted(world, family, "");
    wait_until("everything is counted", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut seen, counted(world, family, ""));
        before == seen
    });
    seen
}

/// Lines with a reason, and how many events they tell of.
fn told(gate: &Gate, action: &str, reason: &str) -> (usize, u64) {
    let lines: Vec<_> =
        gate.events(action).into_iter().filter(|line| line["event"]["reason"] == reason).collect();
    let events = lines.iter().map(|line| 1 + line["namegate"]["repeated"].as_u64().unwrap_or(0)).sum();
    (lines.len(), events)
}

/// A question for an A record.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Asks from c2, every 20 ms until told to stop; returns how long each answer took, sorted.
fn answers_for_another(stop: &AtomicBool) -> Vec<Duration> {
    within("c2", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("198.51.100.53:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let id = took.len() as u16;
            let asked = Instant::now();
            socket.send(&question(id, "good.example.com")).unwrap();
            let mut reply = [0; 512];
            let len = socket.recv(&mut reply).expect("an answer within two seconds");
            assert!(reply[..2] == id.to_be_bytes() && reply[3] & 0xf == 0 && len > 40, "{:?}", &reply[..len]);
            took.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        took.sort_unstable();
        took
    })
}

fn served(world: &World) -> Duration {
    let asked = Instant::now();
    let curl = world.curl("c2", "https://good.example.com/");
    assert!(curl.greeted(), "{curl:?}");
    asked.elapsed()
}

#[test]
fn connections_that_say_nothing_cost_little_memory_and_nobody_else_waits() {
    if !inside("connections_that_say_nothing_cost_little_memory_and_nobody_else_waits") {
        return;
    }
    const MANY: usize = 15_000;
    let limits = "[proxy]\nsniff_timeout = '300s'\nmax_connections_per_client = 16000\n\
                  new_connections_per_second = 1000000\ndrain = '0s'\n\n[dns]";
    let (world, gate, far) = world(&[("[dns]", limits)]);
    served(&world);
    let before = resident(&gate);
    let open: Vec<TcpStream> = within("c1", || {
        (0..MANY).map(|_| TcpStream::connect("203.0.113.10:443").expect("the gate accepts")).collect()
    });
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", gate.pid)).unwrap().count();
    wait_until("all are accepted", Duration::from_secs(20), || descriptors() > MANY);
    let took = served(&world);
    let each = (resident(&gate) - before) as f64 / MANY as f64;
    println!("{MANY} silent connections: {each:.2} KiB each; another client was served in {took:?}");
    assert!(each < 8.0, "{each} KiB for each");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(far.all_connections(), 2, "nothing was dialled for them");
    // They went away, each is decided, and their memory serves the next ones.
    drop(open);
    wait_until("each is decided", Duration::from_secs(20), || {
        told(&gate, "decision", "silent").1 == MANY as u64
    });
    let after = (resident(&gate) - before) as f64 / MANY as f64;
    assert!(after < 8.0, "{after} KiB for each");
    served(&world);
}

#[test]
fn a_flood_of_connections_is_refused_in_few_lines_that_tell_of_all() {
    if !inside("a_flood_of_connections_is_refused_in_few_lines_that_tell_of_all") {
        return;
    }
    let (mut world, gate, far) = world(&[]);
    served(&world);
    let before = resident(&gate);
    let started = Instant::now();
    let flooding = AtomicBool::new(true);
    let (sent, slowest) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            within("c1", || {
                let mut sent = 0_u64;
                while started.elapsed() < Duration::from_secs(3) {
                    sent += u64::from(TcpStream::connect("203.0.113.10:443").is_ok());
                }
                flooding.store(false, Ordering::Relaxed);
                sent
            })
        });
        let mut slowest = Duration::ZERO;
        while flooding.load(Ordering::Relaxed) {
            slowest = slowest.max(served(&world));
        }
        (flood.join().unwrap(), slowest)
    });
    let seconds = started.elapsed().as_secs() + 1;
    let grown = resident(&gate).saturating_sub(before);
    // Those that were closed before they were accepted are no flows.
    let flows = settled(&world, "namegate_flows_total");
    let refused = counted(&world, "namegate_over_limit_total", "new_connections");
    assert_eq!(refused, counted(&world, "namegate_flows_total", "over_limit"));
    println!("{sent} connections in 3 s, {refused} refused; another waited {slowest:?} at most; {grown} KiB");
    assert!(refused > 0 && refused + 500 * seconds + 500 >= sent, "{refused} of {sent}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(grown < 32 * 1024, "{grown} KiB");
    world.end(gate.pid, Signal::TERM);
    let (lines, events) = told(&gate, "decision", "over_limit");
    assert_eq!(events, refused, "each refusal is told");
    assert!(lines as u64 <= seconds + 2, "{lines} lines");
    let all = gate.events("decision");
    let repeated: u64 = all.iter().filter_map(|line| line["namegate"]["repeated"].as_u64()).sum();
    assert_eq!(
        all.len() as u64 + repeated,
        flows,
        "one decision for each flow, told by a line or counted in one"
    );
    let dialled = all.iter().filter(|line| line["event"]["reason"] == "allowed").count();
    assert_eq!(far.all_connections(), dialled);
}

#[test]
fn a_flood_of_questions_costs_nobody_else_an_answer() {
    if !inside("a_flood_of_questions_costs_nobody_else_an_answer") {
        return;
    }
    let (mut world, gate, _far) = world(&[]);
    served(&world);
    let before = resident(&gate);
    let stop = AtomicBool::new(false);
    let (sent, took) = std::thread::scope(|scope| {
        let others = scope.spawn(|| answers_for_another(&stop));
        // 10,000 a second, each for another name.
        let sent = within("c1", || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("198.51.100.53:53").unwrap();
            let (started, mut sent) = (Instant::now(), 0_u32);
            while started.elapsed() < Duration::from_secs(4) {
                while f64::from(sent) < started.elapsed().as_secs_f64() * 10_000.0 {
                    let question = question(sent as u16, &format!("a{sent}.example.com"));
                    sent += u32::from(socket.send(&question).is_ok());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        stop.store(true, Ordering::Relaxed);
        (sent, others.join().unwrap())
    });
    let grown = resident(&gate).saturating_sub(before);
    let (median, most) = (took[took.len() / 2], took[took.len() * 9 / 10]);
    settled(&world, "namegate_dns_questions_total");
    let questions = counted(&world, "namegate_over_limit_total", "\"questions");
    let names = counted(&world, "namegate_over_limit_total", "new_names");
    println!(
        "{sent} questions in 4 s, {questions} too many, {names} for too many names; {} answers for another: \
         median {median:?}, nine tenths {most:?}, slowest {:?}; {grown} KiB",
        took.len(),
        took[took.len() - 1]
    );
    assert!(took.len() > 50 && median < Duration::from_millis(50), "{median:?}");
    assert!(questions > 0 && names > 0);
    assert!(grown < 32 * 1024, "{grown} KiB");
    world.end(gate.pid, Signal::TERM);
    let (lines, events) = told(&gate, "dns", "over_limit");
    assert_eq!(events, questions + names);
    assert!(lines <= 3 * 8, "{lines} lines");
}

#[test]
fn made_up_source_addresses_fill_no_memory_and_hold_others_up_only_while_they_come() {
    if !inside("made_up_source_addresses_fill_no_memory_and_hold_others_up_only_while_they_come") {
        return;
    }
    const MANY: u16 = 20_000;
    let (world, gate, _far) = world(&[]);
    served(&world);
    let before = resident(&gate);
    // Any address of the link will do, and no answer of the neighbour is waited for.
    sh("nsenter --net=/run/netns/c1 sysctl -qw net.ipv6.ip_nonlocal_bind=1
        mac=$(ip -n gw -o link show br-egress | sed 's/.*ether //; s/ .*//')
        ip -n c1 -6 neigh replace 2001:db8:77::1 lladdr $mac dev eth0 nud permanent");
    within("c1", || {
        for number in 0..MANY {
            let source = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0xf, 0, 0, number);
            let socket = UdpSocket::bind((source, 0)).expect("any address of the prefix");
            let server: SocketAddr = "[2001:db8:2::53]:53".parse().unwrap();
            socket.send_to(&question(number, &format!("a{number}.example.com")), server).expect("sent");
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    wait_until("the gate saw them", Duration::from_secs(10), || {
        counted(&world, "namegate_dns_questions_total", "") > u64::from(MANY) / 2
    });
    let grown = resident(&gate).saturating_sub(before);
    println!("{MANY} sources: {grown} KiB");
    assert!(grown < 64 * 1024, "{grown} KiB");
    // Their questions are under way for `dns.timeout` at most, and then others find room again.
    let ended = Instant::now();
    wait_until("another client is served", Duration::from_secs(10), || {
        world.curl("c2", "--max-time 3 https://good.example.com/").greeted()
    });
    println!("another client was served {:?} after the flood", ended.elapsed());
}

#[test]
fn a_million_names_under_a_wildcard_have_a_bound_for_one_client_and_for_all() {
    if !inside("a_million_names_under_a_wildcard_have_a_bound_for_one_client_and_for_all") {
        return;
    }
    let arguments = settings::Arguments {
        interfaces: vec!["br0".to_owned()],
        names: vec!["*.example.com".to_owned()],
        ..settings::Arguments::default()
    };
    let settings = settings::from_arguments(&arguments, std::time::SystemTime::now()).unwrap().settings;
    assert_eq!((settings.ledger.max_leases, settings.ledger.max_leases_per_client), (1_000_000, 100_000));
    // The million takes a minute without optimisation; a fifth of it, against a fifth of the bounds, does not.
    let part = if std::env::var_os("NAMEGATE_TEST_LONG").is_some() { 1 } else { 5 };
    let config = LedgerConfig {
        max_leases: 1_000_000 / part,
        max_leases_per_client: 100_000 / part,
        ..settings.ledger
    };
    let gate = Judge::new(settings.policy, config);
    let scaled = |names: u32| names / u32::try_from(part).unwrap();
    let see = |client: u32, number: u32| {
        let at = clock::now();
        let ip = std::net::Ipv4Addr::from(0x0800_0000 + number).into();
        gate.observe(
            &Observation {
                client: Client::User(client),
                chain: vec![Name::parse(format!("a{number}.example.com")).unwrap()],
                addresses: vec![Address { ip, ttl_secs: 86_400 }],
                source: Source::Forwarder,
                at: at.tick,
            },
            at,
        );
    };
    let own = || resident_of(std::process::id());
    let before = own();
    (0..scaled(1_000_000)).for_each(|number| see(1, number));
    let (one, leases) = (own() - before, gate.lease_count());
    println!("{} names of one client: {leases} leases, {} MiB", scaled(1_000_000), one / 1024);
    assert_eq!(leases, 100_000 / part);
    assert_eq!(gate.leases_evicted(), 900_000 / part as u64, "what gives way is counted");
    assert!(one < 64 * 1024 / part, "{one} KiB");
    (0..scaled(1_500_000)).for_each(|number| see(2 + number % 30, number));
    let (all, leases) = (own() - before, gate.lease_count());
    println!("{} of thirty more: {leases} leases, {} MiB", scaled(1_500_000), all / 1024);
    assert!((900_000 / part..=1_000_000 / part).contains(&leases), "{leases}");
    assert!(all < 512 * 1024 / part, "{all} KiB");
}

/// Floods a gate whose log is on a disk of one MiB.
fn full_disk(when_full: &str) {
    let mut world_of = World::new();
    let far = Far::start(&world_of);
    fs::create_dir_all(world_of.path("log")).unwrap();
    let folder = world_of.path("log").display().to_string();
    sh(&format!("mount -t tmpfs -o size=1m tmpfs {folder}"));
    let dir = world_of.dir.path().display().to_string();
    let rules =
        RULES.replace("@DIR@", &dir).replace("[audit]\n", &format!("[audit]\nwhen_full = '{when_full}'\n"));
    fs::write(world_of.path("namegate.toml"), rules).unwrap();
    let file = world_of.path("namegate.toml").display().to_string();
    let gate = world_of.start_gate_with(&["serve", "--config", &file], world_of.path("log/audit.jsonl"));
    served(&world_of);
    let before = resident(&gate);
    // Refusals within the limits: each has a line.
    within("c1", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("198.51.100.53:53").unwrap();
        for number in 0..4_000_u16 {
            socket.send(&question(number, &format!("{}.evil.test", "x".repeat(60)))).ok();
            std::thread::sleep(Duration::from_micros(1_300));
        }
    });
    let lost = || counted(&world_of, "namegate_audit_lines_lost_total", "");
    wait_until("the disk is full", Duration::from_secs(10), || lost() > 0);
    let (connections, took) = (far.all_connections(), served(&world_of));
    assert_eq!(far.all_connections(), connections + 1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let evil = world_of.curl("c2", "--resolve evil.test:443:203.0.113.66 https://evil.test/");
    assert!(!evil.greeted() && far.all_connections() == connections + 1, "{evil:?}");
    let grown = resident(&gate).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    let lost = lost();
    println!(
        "{when_full}: {lost} lines lost on a full disk, {grown} KiB; another client was served in {took:?}"
    );
    // Room again: what is missing is told, and lines are whole.
    sh(&format!("mount -o remount,size=16m {folder}"));
    served(&world_of);
    wait_until("a gap is told", Duration::from_secs(10), || !gate.events("gap").is_empty());
    let missing: u64 = gate.events("gap").iter().filter_map(|line| line["namegate"]["lines"].as_u64()).sum();
    assert!(missing >= lost, "{missing} of {lost}");
    sh(&format!("umount -l {folder}"));
}

#[test]
fn a_full_disk_stops_nobody_and_says_what_is_missing() {
    if !inside("a_full_disk_stops_nobody_and_says_what_is_missing") {
        return;
    }
    full_disk("block");
}

#[test]
fn a_full_disk_under_a_log_that_sheds_stops_nobody_either() {
    if !inside("a_full_disk_under_a_log_that_sheds_stops_nobody_either") {
        return;
    }
    full_disk("shed");
}
