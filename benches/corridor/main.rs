//! The corridor against its peers, in one run: the kernel's own forwarding, HAProxy reading the same names, namegate.
//!
//! ```text
//! cargo bench --bench corridor                                   # everything, some seven minutes
//! cargo bench --bench corridor -- --seconds 3 --rounds 3 --only connect,down,up,echo,idle,check,growth,dns
//! cargo bench --bench corridor -- --save benches/runs/2026-11-26  # the table and the picture, into files
//! ```
//! Contenders take turns in namespaces of their own, new for each turn; medians of the rounds are compared. Every byte of
//! a checked stream is compared, every block of a timed one is counted, and while each load runs a name that is denied
//! (for namegate also an address that DNS never gave) is tried and must be refused. Client, servers and proxy share the
//! machine, so only ratios mean anything. Needs `unshare`, `ip`, `nft`, `dig`, `unbound`; HAProxy, dnsmasq and dnsperf
//! where they are to be compared.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its table and measures the wall clock"
)]

mod contenders;
mod dns;
mod load;
mod measure;
mod table;
mod world;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use contenders::Contender;
use measure::Figures;

/// What is asked for.
struct Asked {
    time: Duration,
    rounds: usize,
    only: Vec<String>,
    save: Option<std::path::PathBuf>,
    /// Bytes of the checked stream, each way.
    bytes: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => load::serve(world::PORT),
        ["load", what, to, name, at_once, time, bytes] => load::put(load::Load {
            what: what.to_owned(),
            to: to.split(',').map(str::parse).collect::<Result<_, _>>()?,
            name: name.to_owned(),
            at_once: at_once.parse()?,
            time: Duration::from_secs_f64(time.parse()?),
            bytes: bytes.parse()?,
        }),
        _ => {
            let asked = asked(&arguments)?;
            if !world::has("unshare") || !world::has("nft") || !world::has("unbound") {
                println!("unshare, nft or unbound is missing: nothing is measured");
                return Ok(());
            }
            world::enter()?;
            compare(&asked)
        }
    }
}

fn asked(arguments: &[String]) -> Result<Asked> {
    // As a test it only shows that it runs.
    let mut asked = if arguments.iter().any(|word| word == "--bench") {
        Asked { time: Duration::from_secs(3), rounds: 3, only: Vec::new(), save: None, bytes: 1 << 30 }
    } else {
        let only = ["check", "connect", "echo"].map(str::to_owned).to_vec();
        Asked { time: Duration::from_millis(300), rounds: 1, only, save: None, bytes: 8 << 20 }
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--bench" => {}
            "--seconds" => asked.time = Duration::from_secs_f64(value()?.parse()?),
            "--rounds" => asked.rounds = value()?.parse()?,
            "--only" => asked.only = value()?.split(',').map(str::to_owned).collect(),
            "--save" => asked.save = Some(std::path::absolute(value()?)?),
            "--quick" => (asked.time, asked.rounds) = (Duration::from_secs(1), 1),
            other => bail!("{other} is not known; see benches/corridor/main.rs"),
        }
    }
    Ok(asked)
}

fn compare(asked: &Asked) -> Result<()> {
    let wanted = |what: &str| asked.only.is_empty() || asked.only.iter().any(|one| one == what);
    let present = Contender::present();
    let mut found: Vec<(Contender, Vec<Figures>)> = present.iter().map(|who| (*who, Vec::new())).collect();
    let figures = asked.only.is_empty() || asked.only.iter().any(|one| one != "growth" && one != "dns");
    for round in (0..asked.rounds).filter(|_| figures) {
        for (who, rounds) in &mut found {
            eprintln!("round {} of {}: {}", round + 1, asked.rounds, who.name());
            rounds.push(measure::round(*who, asked.time, &asked.only, asked.bytes)?);
        }
    }
    let mut text = table::head(asked.time, asked.rounds, &asked.only, &present);
    if figures {
        text += &table::figures(&found);
    }
    if wanted("dns") && world::has("dnsmasq") && world::has("dnsperf") {
        eprintln!("questions");
        text += &table::dns(&dns::compare(asked.time, asked.rounds)?);
    }
    let mut picture = None;
    if wanted("growth") {
        eprintln!("growth");
        let points = measure::growth(asked.time)?;
        text += &table::growth(&points);
        picture = Some(table::picture(&points));
    }
    println!("{text}");
    if let Some(folder) = &asked.save {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("corridor.txt"), &text)?;
        if let Some(picture) = picture {
            std::fs::write(folder.join("growth.svg"), picture)?;
        }
    }
    Ok(())
}
