//! The built-in forwarder against dnsmasq: the same questions, the same upstream, in turns.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::contenders::unbound;
use super::measure::questions;
use super::world::{self, GATEWAY, Running, World, inside};

const GATE: &str = env!("CARGO_BIN_EXE_namegate");
const NAMES: usize = 5_000;

/// Questions a second and a CPU second, medians of the rounds.
#[derive(Debug, Clone)]
pub struct Answers {
    pub who: String,
    pub rate: f64,
    pub per_cpu: f64,
}

/// Each with its cache and without.
pub fn compare(time: Duration, rounds: usize) -> Result<Vec<Answers>> {
    let variants = [
        "dnsmasq, no cache",
        "namegate, no cache",
        "dnsmasq, cached",
        "namegate, cached",
        "namegate, cached, no log",
    ];
    let mut found: Vec<(f64, Vec<f64>, Vec<f64>)> = vec![(0.0, Vec::new(), Vec::new()); variants.len()];
    for _ in 0..rounds {
        for (variant, found) in variants.iter().zip(&mut found) {
            let (rate, per_cpu) = one(variant, time).with_context(|| (*variant).to_owned())?;
            found.1.push(rate);
            found.2.push(per_cpu);
        }
    }
    let answers = variants.iter().zip(found).map(|(who, (_, rates, per_cpu))| Answers {
        who: (*who).to_owned(),
        rate: super::table::median(rates),
        per_cpu: super::table::median(per_cpu),
    });
    Ok(answers.collect())
}

fn one(variant: &str, time: Duration) -> Result<(f64, f64)> {
    let _world = World::new()?;
    fs::create_dir_all(world::folder())?;
    let zone = (0..NAMES).fold(String::new(), |mut zone, number| {
        let _ =
            writeln!(zone, " local-data: \"n{number}.names.test. 3600 A 203.0.113.{}\"", number % 250 + 1);
        zone
    });
    let _resolver = unbound(&zone)?;
    let asked: String = (0..NAMES).map(|number| format!("n{number}.names.test A\n")).collect();
    let file = world::folder().join("questions");
    fs::write(&file, asked)?;
    let cached = variant.contains(", cached");
    let command = if variant.starts_with("dnsmasq") {
        dnsmasq(cached)
    } else {
        namegate(cached, !variant.contains("no log"))?
    };
    let mut running = Running::start("gateway", &command, Stdio::null())?;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        running.check()?;
        let question = ["dig", "+short", "+tries=1", "+time=1", &format!("@{GATEWAY}"), "n1.names.test"];
        if inside("client", &question).is_ok_and(|answer| !answer.trim().is_empty()) {
            break;
        }
    }
    let (server, file) = (GATEWAY.to_string(), file.to_string_lossy().into_owned());
    if cached {
        questions(&server, &running, &file, Duration::from_secs(1))?;
    }
    questions(&server, &running, &file, time)
}

fn dnsmasq(cached: bool) -> Vec<String> {
    let size = if cached { 10_000 } else { 0 };
    [
        "dnsmasq".to_owned(),
        "--keep-in-foreground".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--user=root".to_owned(),
        "--pid-file".to_owned(),
        "--dns-forward-max=10000".to_owned(),
        format!("--cache-size={size}"),
        format!("--listen-address={GATEWAY}"),
        "--bind-interfaces".to_owned(),
        "--server=127.0.0.1#5353".to_owned(),
    ]
    .to_vec()
}

fn namegate(cached: bool, log: bool) -> Result<Vec<String>> {
    let to = if log { "[\"/run/bench/audit.jsonl\"]" } else { "[]" };
    let cache = if cached { 10_000 } else { 0 };
    let _ = fs::remove_file("/run/bench/audit.jsonl");
    let text = format!(
        "[capture]\ninterfaces = [\"gate0\"]\n[dns]\nupstreams = [\"udp://127.0.0.1:5353\"]\ncache = {cache}\nquestions_per_second = 1000000\n\
         new_names_per_minute = 1000000\nmax_inflight = 10000\nmax_inflight_per_client = 10000\n[audit]\nto = {to}\n\
         [[rule]]\nid = \"names\"\nnames = [\"*.names.test\"]\n"
    );
    let config = world::folder().join("dns.toml");
    fs::write(&config, text)?;
    Ok([GATE, "serve", "--config", &config.to_string_lossy()].map(str::to_owned).to_vec())
}
