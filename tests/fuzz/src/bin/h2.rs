//! A client's HTTP/2 connection reads the same in one piece and in two, and nothing of a request passes before
//! it was shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::h2::{ClientFrames, ServerFrames, Step};

/// What was shown, and how many bytes were gone over.
fn run(data: &[u8], cuts: &[usize]) -> (Vec<Step>, usize) {
    let mut frames = ClientFrames::default();
    let (mut shown, mut at) = (Vec::new(), 0);
    for &end in cuts {
        loop {
            let step = frames.next(&data[at..end]);
            match step {
                Step::More => break,
                Step::Pass(len) | Step::Trailers(len) | Step::Drop(len) => {
                    assert!(len > 0);
                    at += len;
                }
                Step::Ack(len) | Step::Reset(len, _) => {
                    at += len;
                    shown.push(step);
                }
                Step::Request(ref request) => {
                    assert!(at + request.len <= end);
                    assert_eq!(frames.next(&data[at..end]), step);
                    // Every fourth stream is refused.
                    if request.stream % 8 == 7 {
                        frames.close();
                    } else {
                        frames.approve();
                    }
                    shown.push(step);
                }
                Step::Bad(_) => {
                    shown.push(step);
                    return (shown, at);
                }
            }
            assert!(at <= end);
        }
    }
    (shown, at)
}

fuzz_target!(|data: &[u8]| {
    let whole = run(data, &[data.len()]);
    let (shown, at) = run(data, &[namegate_fuzz::cut(data), data.len()]);
    assert_eq!(shown, whole.0);
    assert_eq!(at, whole.1);

    let mut server = ServerFrames::default();
    let mut told = Vec::new();
    server.feed(data, |what| told.push(what));
    let (mut again, mut retold) = (ServerFrames::default(), Vec::new());
    let (first, second) = data.split_at(namegate_fuzz::cut(data));
    again.feed(first, |what| retold.push(what));
    again.feed(second, |what| retold.push(what));
    assert_eq!((told, server.is_between()), (retold, again.is_between()));
});
