//! The log under full queues, failing disks and moved files. Knows the samples and the scripted sink.

use std::io::ErrorKind;
use std::time::Duration;

use super::super::samples::{self, moment};
use super::super::{Ending, PolicyEvent, ScriptedSink, TapEvent, TapWhat};
use super::*;

fn event(number: usize) -> Event {
    let millis = u64::try_from(number).unwrap();
    Event::Policy(PolicyEvent { at: moment(millis), rules: number, outcome: Ok(()) })
}

fn scripted(when_full: WhenFull, queue: usize) -> (Log, ScriptedSink) {
    let sink = ScriptedSink::default();
    let log = Log::to_sinks(vec![("test".to_owned(), Box::new(sink.clone()))], when_full, queue).unwrap();
    (log, sink)
}

/// The numbers of the policy lines, and of the gap lines as negative numbers, in their order.
fn told(text: &str) -> Vec<i64> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match line["event"]["action"].as_str().unwrap() {
                "gap" => -line["namegate"]["lines"].as_i64().unwrap(),
                _ => line["namegate"]["rules"].as_i64().unwrap(),
            }
        })
        .collect()
}

#[tokio::test]
async fn events_arrive_in_order_and_a_burst_takes_few_writes() {
    let (log, sink) = scripted(WhenFull::Block, 4096);
    for number in 0..2_000 {
        log.record(event(number)).await;
    }
    log.close().await;
    assert_eq!(told(&sink.taken()), (0..2_000).collect::<Vec<_>>());
    assert!(sink.writes() < 500, "{} writes", sink.writes());
    assert_eq!(log.metrics().snapshot().policies, 2_000);
    assert_eq!(log.metrics().snapshot().gaps, 0);
}

#[tokio::test]
async fn a_full_queue_that_blocks_loses_nothing_and_leaves_the_runtime_free() {
    let (log, sink) = scripted(WhenFull::Block, 2);
    // The sink stands still for a while: forty times "would block", 5 ms apart.
    for _ in 0..40 {
        sink.script(Err(ErrorKind::WouldBlock));
    }
    let corridors: Vec<_> = (0..50)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.record(event(number)).await })
        })
        .collect();
    // One thread runs this test: were a corridor to block it, no timer would fire.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(corridors.iter().any(|corridor| !corridor.is_finished()));
    for corridor in corridors {
        corridor.await.unwrap();
    }
    log.close().await;
    let mut numbers = told(&sink.taken());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_queue_that_sheds_says_how_much() {
    let (log, sink) = scripted(WhenFull::Shed, 4);
    for _ in 0..20 {
        sink.script(Err(ErrorKind::WouldBlock));
    }
    for number in 0..100 {
        log.record(event(number)).await;
    }
    // No event comes behind the shed ones, and still they are told.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !sink.taken().contains("\"gap\"") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.close().await;
    let numbers = told(&sink.taken());
    let lost: i64 = numbers.iter().filter(|&&number| number < 0).map(|number| -number).sum();
    let kept = numbers.iter().filter(|&&number| number >= 0).count();
    assert!(lost > 0);
    assert_eq!(i64::try_from(kept).unwrap() + lost, 100);
    assert_eq!(log.metrics().snapshot().gaps, u64::try_from(lost).unwrap());
    assert_eq!(log.metrics().snapshot().policies, 100);
}

#[tokio::test]
async fn a_corridor_that_gives_up_while_it_waits_is_counted() {
    let (log, sink) = scripted(WhenFull::Block, 1);
    for _ in 0..40 {
        sink.script(Err(ErrorKind::WouldBlock));
    }
    let mut given_up = 0;
    for number in 0..6 {
        let waiting = tokio::time::timeout(Duration::from_millis(10), log.record(event(number)));
        given_up += i64::from(waiting.await.is_err());
    }
    log.close().await;
    assert!(given_up > 0);
    let numbers = told(&sink.taken());
    assert_eq!(numbers.iter().filter(|&&number| number < 0).sum::<i64>(), -given_up);
}

#[tokio::test]
async fn a_full_disk_is_a_gap_and_a_cut_line_is_finished_later() {
    // Every place where a write can stop: at the start, inside a line, between lines.
    let mut length = Vec::new();
    super::super::line::write(&event(1), &mut length);
    for cut in [0, 1, length.len() - 1, length.len(), length.len() + 1] {
        let (log, sink) = scripted(WhenFull::Block, 16);
        sink.script(Ok(cut));
        sink.script(Err(ErrorKind::StorageFull));
        // The second batch fails again, before or inside what is owed.
        sink.script(Ok(3));
        sink.script(Err(ErrorKind::StorageFull));
        for number in 1..=3 {
            let before = sink.writes();
            log.record(event(number)).await;
            // Each event is a batch of its own: the next one comes when this one was tried.
            for _ in 0..2_000 {
                if sink.writes() > before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        log.close().await;
        let numbers = told(&sink.taken());
        let lost: i64 = numbers.iter().filter(|&&number| number < 0).map(|number| -number).sum();
        let kept = numbers.iter().filter(|&&number| number > 0).count();
        assert_eq!(i64::try_from(kept).unwrap() + lost, 3, "cut at {cut}: {numbers:?}");
        assert_eq!(log.metrics().snapshot().gaps, u64::try_from(lost).unwrap(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_line_cut_when_the_file_is_moved_stands_whole_in_the_new_one() {
    let (log, sink) = scripted(WhenFull::Block, 16);
    sink.script(Ok(40));
    sink.script(Err(ErrorKind::StorageFull));
    // Whether the writer finds the line and the request together or one by one, it tries once more.
    sink.script(Err(ErrorKind::StorageFull));
    log.record(event(1)).await;
    log.reopen().await.unwrap();
    assert_eq!(sink.files().first().unwrap().len(), 40);
    log.record(event(2)).await;
    log.close().await;
    assert_eq!(told(sink.files().last().unwrap()), [1, 2]);
    assert_eq!(log.metrics().snapshot().gaps, 0);
}

#[tokio::test]
async fn a_disk_that_never_heals_costs_lines_not_the_process() {
    let (log, sink) = scripted(WhenFull::Block, 4);
    for _ in 0..10_000 {
        sink.script(Err(ErrorKind::StorageFull));
    }
    for number in 0..1_000 {
        log.record(event(number)).await;
    }
    log.close().await;
    assert_eq!(sink.taken(), "");
    assert_eq!(log.metrics().snapshot().gaps, 1_000);
}

#[tokio::test]
async fn a_broken_target_does_not_hold_up_another() {
    let (broken, whole) = (ScriptedSink::default(), ScriptedSink::default());
    for _ in 0..1_000 {
        broken.script(Err(ErrorKind::StorageFull));
    }
    let sinks: Vec<(String, Box<dyn Sink>)> =
        vec![("broken".to_owned(), Box::new(broken.clone())), ("whole".to_owned(), Box::new(whole.clone()))];
    let log = Log::to_sinks(sinks, WhenFull::Block, 8).unwrap();
    for number in 0..20 {
        log.record(event(number)).await;
    }
    log.close().await;
    assert_eq!(told(&whole.taken()), (0..20).collect::<Vec<_>>());
    assert_eq!(broken.taken(), "");
}

#[tokio::test]
async fn reopening_follows_a_moved_file_and_appends() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
    let config = RecordConfig { to: vec![Target::File(path.clone())], when_full: WhenFull::Block, queue: 16 };
    let log = Log::open(&config).unwrap();
    log.record(event(1)).await;
    std::fs::rename(&path, &moved).unwrap();
    log.record(event(2)).await;
    log.reopen().await.unwrap();
    log.record(event(3)).await;
    log.close().await;
    assert_eq!(told(&std::fs::read_to_string(&moved).unwrap()), [1, 2]);
    assert_eq!(told(&std::fs::read_to_string(&path).unwrap()), [3]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);

    let log = Log::open(&config).unwrap();
    log.record(event(4)).await;
    log.close().await;
    assert_eq!(told(&std::fs::read_to_string(&path).unwrap()), [3, 4]);
}

#[tokio::test]
async fn a_reopen_that_fails_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let (sub, gone) = (dir.path().join("sub"), dir.path().join("gone"));
    std::fs::create_dir(&sub).unwrap();
    let path = sub.join("audit.jsonl");
    let config = RecordConfig { to: vec![Target::File(path.clone())], when_full: WhenFull::Block, queue: 16 };
    let log = Log::open(&config).unwrap();
    std::fs::rename(&sub, &gone).unwrap();
    let LogError::Open { path: named, .. } = log.reopen().await.unwrap_err() else { panic!("another error") };
    assert_eq!(named, path);
    log.record(event(1)).await;
    log.close().await;
    assert_eq!(told(&std::fs::read_to_string(gone.join("audit.jsonl")).unwrap()), [1]);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let path = PathBuf::from("/proc/no-such-dir/audit.jsonl");
    let config = RecordConfig { to: vec![Target::File(path)], when_full: WhenFull::Block, queue: 1 };
    let error = Log::open(&config).unwrap_err();
    assert_eq!(error.to_string(), "cannot open audit log /proc/no-such-dir/audit.jsonl");
}

#[tokio::test]
async fn closing_twice_or_recording_after_it_neither_hangs_nor_hides_the_loss() {
    let (log, sink) = scripted(WhenFull::Block, 4);
    log.record(event(1)).await;
    log.close().await;
    log.close().await;
    log.record(event(2)).await;
    log.reopen().await.unwrap();
    assert_eq!(told(&sink.taken()), [1]);
    assert_eq!(log.metrics().snapshot().gaps, 1);
}

#[tokio::test]
async fn without_a_target_events_are_counted() {
    let config = RecordConfig { to: Vec::new(), when_full: WhenFull::Block, queue: 1 };
    let log = Log::open(&config).unwrap();
    for (_, event) in samples::all() {
        log.record(event).await;
    }
    log.close().await;
    assert_eq!(log.metrics().snapshot().endings(Ending::Closed), 1);
}

#[tokio::test]
async fn a_memory_log_gives_events_back_and_frames_without_a_line_are_only_counted() {
    let (log, recorded) = Log::memory();
    log.record(event(7)).await;
    assert_eq!(recorded.events().len(), 1);
    assert_eq!(recorded.take().len(), 1);
    assert!(recorded.events().is_empty());

    let (log, sink) = scripted(WhenFull::Block, 4);
    let tap = TapEvent { at: moment(0), sender: "tcp:127.0.0.1:9".into(), what: TapWhat::Ignored };
    log.record(Event::Tap(tap)).await;
    log.close().await;
    assert_eq!(sink.taken(), "");
    assert_eq!(log.metrics().snapshot().tap.ignored, 1);
}

/// A listener that keeps what it hears.
fn ear() -> (Listener, Arc<Mutex<Vec<Event>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    (Box::new(move |event: &Event| kept.lock().push(event.clone())), heard)
}

/// The numbers of the policy events, and how many lines the gaps among them tell of.
fn heard_of(events: &[Event]) -> (Vec<usize>, u64) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    for event in events {
        if let Event::Policy(policy) = event {
            numbers.push(policy.rules);
        } else if let Event::Gap(gap) = event {
            lost += gap.lines;
        } else {
            panic!("{event:?}");
        }
    }
    (numbers, lost)
}

#[tokio::test]
async fn a_listener_hears_every_event_with_a_line_in_order_before_the_log_is_closed() {
    let (listener, heard) = ear();
    let config = RecordConfig { to: Vec::new(), when_full: WhenFull::Block, queue: 2 };
    let log = Log::open_with(&config, Some(listener)).unwrap();
    for number in 0..500 {
        log.record(event(number)).await;
        log.record(Event::Tap(TapEvent { at: moment(0), sender: "x".into(), what: TapWhat::Ignored })).await;
    }
    log.close().await;
    assert_eq!(heard_of(&heard.lock()), ((0..500).collect(), 0));
}

#[tokio::test]
async fn a_listener_and_a_target_get_the_same_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (listener, heard) = ear();
    let config = RecordConfig { to: vec![Target::File(path.clone())], when_full: WhenFull::Block, queue: 16 };
    let log = Log::open_with(&config, Some(listener)).unwrap();
    for number in 0..10 {
        log.record(event(number)).await;
    }
    log.close().await;
    assert_eq!(told(&std::fs::read_to_string(&path).unwrap()), (0..10).collect::<Vec<_>>());
    assert_eq!(heard_of(&heard.lock()), ((0..10).collect(), 0));
}

#[tokio::test]
async fn a_listener_is_told_of_what_a_full_queue_shed() {
    let (mut listener, heard) = ear();
    let slow: Listener = Box::new(move |event: &Event| {
        thread::park_timeout(Duration::from_millis(1));
        listener(event);
    });
    let log = Log::start(Vec::new(), Some(slow), WhenFull::Shed, 4).unwrap();
    for number in 0..2_000 {
        log.record(event(number)).await;
    }
    log.close().await;
    let (numbers, lost) = heard_of(&heard.lock());
    assert!(lost > 0, "nothing was shed");
    assert_eq!(numbers.len() as u64 + lost, 2_000);
}
