//! One figure of one contender at a time.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contenders::{Between, Contender, descriptors};
use super::world::{self, ALLOWED, DENIED, Running, World, inside, own};

/// What a client printed.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    pub count: f64,
    pub seconds: f64,
    pub median: f64,
    pub slowest: f64,
    pub failed: f64,
}

/// Figures of one contender in one round; `None`: it has none.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn set(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }
}

/// Every figure of one contender, in a world of its own.
pub fn round(who: Contender, time: Duration, only: &[String], bytes: u64) -> Result<Figures> {
    let wanted = |what: &str| only.is_empty() || only.iter().any(|one| one == what);
    let world = World::new()?;
    let between = Between::start(who, &world, 1)?;
    let mut figures = Figures::default();
    if wanted("check") {
        let checked = put("check", world::servers(), ALLOWED, 1, time, bytes)?;
        ensure!(checked.failed == 0.0, "bytes were lost");
    }
    if wanted("connect") {
        let logging = || between.proxy.as_ref().map_or(0.0, |proxy| proxy.cpu_of("audit"));
        let before = logging();
        let (said, cpu) = timed(&between, who, "connect", 32, time)?;
        if who == Contender::Namegate {
            figures.set("of it the log's thread, %", (logging() - before) * 100.0 / cpu);
        }
        figures.set("connections/s", said.count / said.seconds);
        figures.set("connection median, us", said.median);
        figures.set("connection 99 %, us", said.slowest);
        figures.set("connections failed", said.failed);
        figures.set("CPU us a connection", cpu * 1e6 / said.count);
    }
    let ways = [
        (
            "down",
            ["one stream down, Gbit/s", "eight streams down, Gbit/s"],
            ["CPU s a GB, one down", "CPU s a GB, eight down"],
        ),
        (
            "up",
            ["one stream up, Gbit/s", "eight streams up, Gbit/s"],
            ["CPU s a GB, one up", "CPU s a GB, eight up"],
        ),
    ];
    for (way, rates, costs) in ways {
        for (at, at_once) in [1, 8].into_iter().enumerate().filter(|_| wanted(way)) {
            let (said, cpu) = timed(&between, who, way, at_once, time)?;
            figures.set(rates[at], said.count * 8.0 / 1e9 / said.seconds);
            figures.set(costs[at], cpu * 1e9 / said.count);
        }
    }
    if wanted("echo") {
        for (at_once, rate, median, cost) in [
            (1, "1 ping-pong, /s", "1 ping-pong median, us", "CPU us a round trip, 1"),
            (16, "16 ping-pongs, /s", "16 ping-pongs median, us", "CPU us a round trip, 16"),
        ] {
            let (said, cpu) = timed(&between, who, "echo", at_once, time)?;
            figures.set(rate, said.count / said.seconds);
            figures.set(median, said.median);
            figures.set(cost, cpu * 1e6 / said.count);
        }
    }
    if let Some(proxy) = between.proxy.as_ref().filter(|_| wanted("idle")) {
        // A proxy that keeps pipes in store has a quarter of its descriptors for each.
        let count = usize::try_from((descriptors() - 600) / 4)?.min(10_000);
        let (memory, open) = (proxy.memory(), proxy.descriptors());
        let (said, held) = hold(count)?;
        let grown = proxy.memory().saturating_sub(memory);
        figures.set("kB an idle connection", grown as f64 / 1000.0 / said.count);
        figures.set("descriptors an idle connection", (proxy.descriptors() - open) as f64 / said.count);
        drop(held);
    }
    Ok(figures)
}

/// Puts a load on, beside one that is to be refused; returns what was said and the proxy's CPU time.
fn timed(
    between: &Between,
    who: Contender,
    what: &str,
    at_once: usize,
    time: Duration,
) -> Result<(Said, f64)> {
    let probes = match who {
        Contender::Direct => vec![],
        Contender::Haproxy => vec![(world::servers(), DENIED)],
        Contender::Namegate => vec![(world::servers(), DENIED), (vec![world::untold()], ALLOWED)],
    };
    let before = between.proxy.as_ref().map_or(Ok(0.0), Running::cpu)?;
    let mut tried = Vec::new();
    for (to, name) in probes {
        tried.push(client("probe", &to, name, 1, time, 0)?);
    }
    let said = put(what, world::servers(), ALLOWED, at_once, time, 0)?;
    for mut probe in tried {
        let probe = listen(&mut probe)?;
        ensure!(probe.count > 0.0 && probe.failed == 0.0, "what is denied was served under load");
    }
    let after = between.proxy.as_ref().map_or(Ok(0.0), Running::cpu)?;
    Ok((said, after - before))
}

/// Runs a load to its end.
pub fn put(
    what: &str,
    to: Vec<std::net::SocketAddr>,
    name: &str,
    at_once: usize,
    time: Duration,
    bytes: u64,
) -> Result<Said> {
    listen(&mut client(what, &to, name, at_once, time, bytes)?)
}

/// Opens idle connections and holds them until what is returned is dropped.
pub fn hold(count: usize) -> Result<(Said, Running)> {
    let mut client = client("idle", &world::servers(), ALLOWED, count, Duration::from_secs(1), 0)?;
    let said = listen(&mut client)?;
    ensure!(said.failed == 0.0, "{} of {count} connections failed", said.failed);
    // What was needed to open them is given back.
    std::thread::sleep(Duration::from_millis(500));
    Ok((said, client))
}

fn client(
    what: &str,
    to: &[std::net::SocketAddr],
    name: &str,
    at_once: usize,
    time: Duration,
    bytes: u64,
) -> Result<Running> {
    let to: Vec<String> = to.iter().map(ToString::to_string).collect();
    let (at_once, time, bytes) = (at_once.to_string(), time.as_secs_f64().to_string(), bytes.to_string());
    Running::start(
        "client",
        &own(&["load", what, &to.join(","), name, &at_once, &time, &bytes])?,
        Stdio::piped(),
    )
}

fn listen(client: &mut Running) -> Result<Said> {
    let mut line = String::new();
    BufReader::new(client.output()?).read_line(&mut line)?;
    let words: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
    let [count, seconds, median, slowest, failed] = words[..] else {
        return Err(anyhow::anyhow!("{line:?}")).context("a load failed (NAMEGATE_BENCH_TALK=1 shows why)");
    };
    Ok(Said { count, seconds, median, slowest, failed })
}

/// Namegate alone: CPU of a connection and memory beside so many open connections, with so many rules.
pub fn growth(time: Duration) -> Result<Vec<Point>> {
    let most = usize::try_from((descriptors() - 1_000) / 2)?.min(10_000);
    let mut points = Vec::new();
    let open = [1, 10, 100, 1_000, most].map(|open| (open, 1));
    let rules = [10, 1_000, 100_000].map(|rules| (1, rules));
    for (open, rules) in open.into_iter().chain(rules) {
        let world = World::new()?;
        let between = Between::start(Contender::Namegate, &world, rules)?;
        let proxy = between.proxy.as_ref().context("no gate")?;
        let empty = proxy.memory();
        let (_, held) = hold(open)?;
        let memory = proxy.memory();
        let before = proxy.cpu()?;
        let said = put("connect", world::servers(), ALLOWED, 32, time, 0)?;
        let cpu = (proxy.cpu()? - before) * 1e6 / said.count;
        drop(held);
        points.push(Point { open, rules, cpu, memory, beyond: memory.saturating_sub(empty) });
    }
    Ok(points)
}

/// One point of the curves.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub open: usize,
    pub rules: usize,
    /// Microseconds of CPU a connection.
    pub cpu: f64,
    /// Anonymous memory, bytes.
    pub memory: u64,
    /// Of that, for the open connections.
    pub beyond: u64,
}

/// Questions a CPU second of a DNS server.
pub fn questions(server: &str, running: &Running, names: &str, time: Duration) -> Result<(f64, f64)> {
    let before = running.cpu()?;
    let seconds = time.as_secs().max(1).to_string();
    let said = inside(
        "client",
        &["dnsperf", "-s", server, "-d", names, "-l", &seconds, "-c", "4", "-q", "100", "-t", "2"],
    )?;
    let cpu = running.cpu()? - before;
    let value = |name: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(name))?;
        line.split_whitespace().find_map(|word| word.parse::<f64>().ok())
    };
    let (completed, lost) =
        (value("Queries completed:").context("dnsperf")?, value("Queries lost:").unwrap_or(0.0));
    ensure!(lost <= completed / 100.0, "{lost} of {completed} questions were lost");
    let refused = said.lines().any(|line| line.contains("REFUSED") || line.contains("SERVFAIL"));
    ensure!(!refused, "questions were refused: {said}");
    Ok((value("Queries per second:").context("dnsperf")?, completed / cpu))
}
