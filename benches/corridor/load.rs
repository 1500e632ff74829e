//! The load and its servers: run inside the namespaces, print one line of figures.
//!
//! A client says a TLS hello and, behind it in the same write, a command in a record of early data; the server answers
//! with a ServerHello and does as it is told. Any proxy that reads names can stand between. Every block of a stream
//! begins with its number, and both ends of a checked stream compare every byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Bytes of a stream that carry one number.
const BLOCK: usize = 64 * 1024;
/// Bytes of a round trip.
const PING: usize = 64;
/// A ServerHello that asks for nothing.
const ANSWER: [u8; 47] = {
    let mut answer = [7; 47];
    let head = [22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    let mut at = 0;
    while at < head.len() {
        answer[at] = head[at];
        at += 1;
    }
    answer
};

/// What a server is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Say a byte and close.
    Close = 1,
    /// Send blocks, so many bytes.
    Down = 2,
    /// Take blocks, look at their numbers.
    Up = 3,
    /// Send back what comes.
    Echo = 4,
    /// Wait.
    Idle = 5,
    /// Take blocks, so many bytes, compare every one, and say a byte.
    Compare = 6,
}

/// A load: what, to which servers, under which name.
#[derive(Debug, Clone)]
pub struct Load {
    pub what: String,
    pub to: Vec<SocketAddr>,
    pub name: String,
    /// Connections at a time.
    pub at_once: usize,
    pub time: Duration,
    /// Bytes of a checked stream.
    pub bytes: u64,
}

/// Serves until it is killed.
pub fn serve(port: u16) -> Result<()> {
    run(async move {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(([0, 0, 0, 0], port).into())?;
        let listener = socket.listen(8192)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(obey(stream));
        }
    })
}

/// Puts the load on and prints what came of it.
pub fn put(load: Load) -> Result<()> {
    run(async move {
        match load.what.as_str() {
            "connect" => connections(load).await,
            "down" => streams(load, Order::Down).await,
            "up" => streams(load, Order::Up).await,
            "echo" => echoes(load).await,
            "idle" => idle(load).await,
            "check" => check(load).await,
            "probe" => probe(load).await,
            other => bail!("no load is called {other}"),
        }
    })
}

fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn obey(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let hello = record(&mut stream).await?;
    ensure!(hello.first() == Some(&1), "no ClientHello");
    let order = record(&mut stream).await?;
    let (order, bytes) = order.split_first().context("no order")?;
    let bytes = u64::from_be_bytes(bytes.try_into()?);
    stream.write_all(&ANSWER).await?;
    if *order == Order::Down as u8 {
        let mut block = vec![0x41; BLOCK];
        for number in 0..bytes / BLOCK as u64 {
            block[..8].copy_from_slice(&number.to_be_bytes());
            stream.write_all(&block).await?;
        }
    } else if *order == Order::Up as u8 || *order == Order::Compare as u8 {
        let mut block = vec![0; BLOCK];
        for number in 0..bytes / BLOCK as u64 {
            stream.read_exact(&mut block).await?;
            let whole = *order == Order::Up as u8 || is_block(&block, number);
            ensure!(whole && block.starts_with(&number.to_be_bytes()), "a block is not what was sent");
        }
        stream.write_all(b"k").await?;
    } else if *order == Order::Echo as u8 {
        let mut ping = [0; PING];
        loop {
            stream.read_exact(&mut ping).await?;
            stream.write_all(&ping).await?;
        }
    }
    if *order != Order::Idle as u8 {
        stream.shutdown().await?;
    }
    let _ = stream.read(&mut [0; 16]).await;
    Ok(())
}

/// Whether it is the block of this number: every byte of it.
fn is_block(block: &[u8], number: u64) -> bool {
    block.starts_with(&number.to_be_bytes()) && block[8..].iter().all(|byte| *byte == 0x41)
}

async fn record(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Connects, says hello and order; ready when the server has answered.
async fn order(load: &Load, number: usize, order: Order, bytes: u64) -> Result<TcpStream> {
    let to = load.to[number % load.to.len()];
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut words = hello(&load.name);
    words.extend([23, 3, 3, 0, 9, order as u8]);
    words.extend(bytes.to_be_bytes());
    stream.write_all(&words).await?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == ANSWER, "not the server's answer");
    Ok(stream)
}

/// A ClientHello of TLS 1.3 with two suites, a key share and the name.
pub fn hello(name: &str) -> Vec<u8> {
    fn counted(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()[..], bytes].concat()
    }
    fn extension(number: u16, body: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &counted(body)].concat()
    }
    let server = [&[0][..], &counted(name.as_bytes())].concat();
    let share = [&[0, 29][..], &counted(&[7; 32])].concat();
    let extensions = [
        extension(0, &counted(&server)),
        extension(10, &counted(&[0, 29])),
        extension(13, &counted(&[4, 3, 8, 4])),
        extension(16, &counted(b"\x02h2\x08http/1.1")),
        extension(43, &[2, 3, 4]),
        extension(51, &counted(&share)),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[32],
        &[5; 32],
        &counted(&[0x13, 1, 0x13, 3]),
        &[1, 0],
        &counted(&extensions),
    ];
    let body = body.concat();
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &counted(&message)].concat()
}

async fn connections(load: Load) -> Result<()> {
    let end = Instant::now() + load.time;
    let (load, failed) = (Arc::new(load), Arc::new(AtomicU64::new(0)));
    let workers = (0..load.at_once).map(|worker| {
        let (load, failed) = (Arc::clone(&load), Arc::clone(&failed));
        tokio::spawn(async move {
            let mut took = Vec::new();
            let mut number = worker;
            while Instant::now() < end {
                let began = Instant::now();
                match timeout(Duration::from_secs(5), once(&load, number)).await {
                    Ok(Ok(())) => took.push(micros(began)),
                    Ok(Err(_)) | Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                number += 1;
            }
            took
        })
    });
    let mut took = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        took.extend(worker.await?);
    }
    print(took.len() as u64, load.time, took, failed.load(Ordering::Relaxed));
    Ok(())
}

async fn once(load: &Load, number: usize) -> Result<()> {
    let mut stream = order(load, number, Order::Close, 0).await?;
    ensure!(stream.read(&mut [0; 8]).await? == 0, "more than was asked for");
    Ok(())
}

async fn streams(load: Load, way: Order) -> Result<()> {
    let (load, moved) = (Arc::new(load), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let workers: Vec<_> = (0..load.at_once)
        .map(|number| {
            let (load, moved) = (Arc::clone(&load), Arc::clone(&moved));
            tokio::spawn(async move {
                let mut stream = order(&load, number, way, u64::MAX).await?;
                let mut block = vec![0x41; BLOCK];
                for number in 0_u64.. {
                    if way == Order::Down {
                        stream.read_exact(&mut block).await?;
                        ensure!(block.starts_with(&number.to_be_bytes()), "a block is not what was sent");
                    } else {
                        block[..8].copy_from_slice(&number.to_be_bytes());
                        stream.write_all(&block).await?;
                    }
                    moved.fetch_add(BLOCK as u64, Ordering::Relaxed);
                    if began.elapsed() >= load.time {
                        break;
                    }
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    print(moved.load(Ordering::Relaxed), began.elapsed(), Vec::new(), 0);
    Ok(())
}

async fn echoes(load: Load) -> Result<()> {
    let load = Arc::new(load);
    let workers: Vec<_> = (0..load.at_once)
        .map(|number| {
            let load = Arc::clone(&load);
            tokio::spawn(async move {
                let mut stream = order(&load, number, Order::Echo, 0).await?;
                let end = Instant::now() + load.time;
                let (mut took, mut sent, mut back) = (Vec::new(), [1; PING], [0; PING]);
                for number in 0_u64.. {
                    let began = Instant::now();
                    if began >= end {
                        break;
                    }
                    sent[..8].copy_from_slice(&number.to_be_bytes());
                    stream.write_all(&sent).await?;
                    stream.read_exact(&mut back).await?;
                    ensure!(sent == back, "not what was sent");
                    took.push(micros(began));
                }
                Result::<Vec<u32>>::Ok(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for worker in workers {
        took.extend(worker.await??);
    }
    print(took.len() as u64, load.time, took, 0);
    Ok(())
}

/// Opens connections, tells how many stand, and holds them until its standard input ends.
async fn idle(load: Load) -> Result<()> {
    let mut open = Vec::with_capacity(load.at_once);
    let mut failed = 0;
    for number in 0..load.at_once {
        match timeout(Duration::from_secs(5), order(&load, number, Order::Idle, 0)).await {
            Ok(Ok(stream)) => open.push(stream),
            Ok(Err(_)) | Err(_) => failed += 1,
        }
    }
    print(open.len() as u64, load.time, Vec::new(), failed);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

/// Both ways, every byte.
async fn check(load: Load) -> Result<()> {
    let blocks = load.bytes / BLOCK as u64;
    let mut block = vec![0x41; BLOCK];
    let mut up = order(&load, 0, Order::Compare, blocks * BLOCK as u64).await?;
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_be_bytes());
        up.write_all(&block).await?;
    }
    let mut end = Vec::new();
    up.read_to_end(&mut end).await?;
    ensure!(end == b"k", "the server found other bytes than were sent");
    let mut down = order(&load, 1, Order::Down, blocks * BLOCK as u64).await?;
    for number in 0..blocks {
        down.read_exact(&mut block).await?;
        ensure!(is_block(&block, number), "block {number} is not what was sent");
    }
    ensure!(down.read(&mut block).await? == 0, "more than was sent");
    print(blocks * 2 * BLOCK as u64, load.time, Vec::new(), 0);
    Ok(())
}

/// Tries again and again what is to be refused; counts tries, and those that a server answered.
async fn probe(load: Load) -> Result<()> {
    let end = Instant::now() + load.time;
    let (mut tries, mut answered) = (0, 0);
    while Instant::now() < end {
        tries += 1;
        // Silence is no answer.
        let tried = timeout(Duration::from_secs(1), order(&load, 0, Order::Close, 0)).await;
        answered += u64::from(matches!(tried, Ok(Ok(_))));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    print(tries, load.time, Vec::new(), answered);
    Ok(())
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// `count seconds p50_us p99_us failed`.
fn print(count: u64, time: Duration, mut took: Vec<u32>, failed: u64) {
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or(0);
    println!("{count} {} {} {} {failed}", time.as_secs_f64(), at(50), at(99));
}
