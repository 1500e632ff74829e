//! Frames at every prefix, every cut and every changed byte. Knows the captures of real senders.

use proptest::prelude::*;

use super::*;

const CAPTURES: [&[u8]; 7] = [
    include_bytes!("../../tests/data/dnstap/bind9.fstrm"),
    include_bytes!("../../tests/data/dnstap/dnsdist.fstrm"),
    include_bytes!("../../tests/data/dnstap/knot-auth.fstrm"),
    include_bytes!("../../tests/data/dnstap/knot-resolver.fstrm"),
    include_bytes!("../../tests/data/dnstap/nsd-auth.fstrm"),
    include_bytes!("../../tests/data/dnstap/pdns-recursor.fstrm"),
    include_bytes!("../../tests/data/dnstap/unbound.fstrm"),
];

/// What a session sees in a whole stream, and what it ended with.
fn walk(bytes: &[u8]) -> (Vec<String>, Look<()>) {
    let mut session = Session::default();
    let (mut seen, mut rest) = (Vec::new(), bytes);
    loop {
        match session.step(rest) {
            Look::Got((step, used)) => {
                assert!(used > 0 && used <= rest.len());
                seen.push(match step {
                    Step::Data(data) => format!("{} bytes", data.len()),
                    Step::Accept | Step::Started | Step::Stopped(_) => format!("{step:?}"),
                });
                rest = &rest[used..];
                if matches!(step, Step::Stopped(_)) {
                    return (seen, Look::Got(()));
                }
            }
            Look::More => return (seen, Look::More),
            Look::Foreign => return (seen, Look::Foreign),
            Look::Bad(fault) => return (seen, Look::Bad(fault)),
        }
    }
}

fn data(payload: &[u8]) -> Vec<u8> {
    [&length_bytes(payload)[..], payload].concat()
}

fn control_frame(number: u32, fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    for (kind, value) in fields {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&length_bytes(value));
        body.extend_from_slice(value);
    }
    [&[0; 4][..], &length_bytes(&body), &body].concat()
}

fn bidirectional(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [Control::Ready.encode(), Control::Start.encode()].concat();
    for payload in payloads {
        bytes.extend(data(payload));
    }
    bytes.extend(Control::Stop.encode());
    bytes
}

#[test]
fn a_bidirectional_sender_is_accepted_and_waits_for_the_finish() {
    let (seen, end) = walk(&bidirectional(&[b"one", b"three"]));
    assert_eq!(end, Look::Got(()));
    assert_eq!(seen, ["Accept", "Started", "3 bytes", "5 bytes", "Stopped(true)"]);
    assert_eq!(frame(&[data(b"one"), data(b"three")].concat()), Look::Got((Frame::Data(b"one"), 7)));
}

#[test]
fn every_capture_is_a_unidirectional_stream() {
    for capture in CAPTURES {
        let (seen, end) = walk(capture);
        assert_eq!(end, Look::Got(()));
        assert_eq!(seen.first().unwrap(), "Started");
        assert_eq!(seen.last().unwrap(), "Stopped(false)");
        assert!(seen.len() > 10);
    }
}

#[test]
fn every_prefix_of_a_stream_asks_for_more_and_every_cut_sees_the_same_frames() {
    for capture in CAPTURES {
        let (whole, _) = walk(capture);
        for end in 0..capture.len() {
            let (seen, outcome) = walk(&capture[..end]);
            assert_eq!(outcome, Look::More, "at {end}");
            assert!(whole.starts_with(&seen), "at {end}");
        }
    }
}

#[test]
fn control_frames_are_spelled_as_real_senders_spell_them() {
    assert!(CAPTURES[0].starts_with(&Control::Start.encode()));
    assert!(CAPTURES[0].ends_with(&Control::Stop.encode()));
    for kind in [Control::Accept, Control::Start, Control::Stop, Control::Ready, Control::Finish] {
        let bytes = kind.encode();
        let dnstap = !matches!(kind, Control::Stop | Control::Finish);
        assert_eq!(frame(&bytes), Look::Got((Frame::Control { kind, dnstap }, bytes.len())));
    }
}

#[test]
fn what_does_not_begin_with_a_control_frame_is_foreign_from_the_first_byte_that_tells() {
    for bytes in [&b"G"[..], b"GET / HTTP/1.1\r\n", b"\0\0\0\x05hello", b"\0\x01"] {
        assert_eq!(walk(bytes).1, Look::Foreign, "{bytes:?}");
    }
}

#[test]
fn frames_out_of_turn_end_the_session() {
    let [accept, start, stop, ready, finish] =
        [Control::Accept, Control::Start, Control::Stop, Control::Ready, Control::Finish]
            .map(Control::encode);
    for (name, parts) in [
        ("accept from a sender", vec![&accept]),
        ("finish from a sender", vec![&finish]),
        ("stop before start", vec![&stop]),
        ("ready twice", vec![&ready, &ready]),
        ("stop after ready", vec![&ready, &stop]),
        ("start twice", vec![&start, &start]),
        ("ready after start", vec![&start, &ready]),
        ("finish instead of stop", vec![&start, &finish]),
    ] {
        let bytes = parts.into_iter().flatten().copied().collect::<Vec<_>>();
        assert_eq!(walk(&bytes).1, Look::Bad(Fault::Dnstap), "{name}");
    }
    let early = [ready, data(b"x")].concat();
    assert_eq!(walk(&early).1, Look::Bad(Fault::Dnstap), "data before start");
}

#[test]
fn nothing_is_taken_after_the_stop() {
    let mut session = Session::default();
    assert!(matches!(session.step(&Control::Start.encode()), Look::Got((Step::Started, _))));
    assert!(matches!(session.step(&Control::Stop.encode()), Look::Got((Step::Stopped(false), _))));
    assert_eq!(session.step(&data(b"late")), Look::Bad(Fault::Dnstap));
    assert_eq!(session.step(&Control::Start.encode()), Look::Bad(Fault::Dnstap));
}

#[test]
fn only_the_content_type_of_dnstap_opens_a_session() {
    let other: (u32, &[u8]) = (1, b"protobuf:other.Type");
    let ours = (1, CONTENT_TYPE);
    let long = vec![b'x'; MAX_CONTENT_TYPE + 1];
    for (bytes, expected) in [
        (control_frame(4, &[other, ours]), Look::More),
        (control_frame(4, &[ours]), Look::More),
        (control_frame(2, &[ours]), Look::More),
        (control_frame(4, &[]), Look::Bad(Fault::Dnstap)),
        (control_frame(4, &[other]), Look::Bad(Fault::Dnstap)),
        (control_frame(2, &[]), Look::Bad(Fault::Dnstap)),
        (control_frame(2, &[other]), Look::Bad(Fault::Dnstap)),
        (control_frame(2, &[ours, ours]), Look::Bad(Fault::Dnstap)),
        (control_frame(4, &[ours, (2, b"")]), Look::Bad(Fault::Dnstap)),
        (control_frame(4, &[ours, (1, &long)]), Look::Bad(Fault::Dnstap)),
        (control_frame(3, &[ours]), Look::Bad(Fault::Dnstap)),
        (control_frame(0, &[]), Look::Bad(Fault::Dnstap)),
        (control_frame(6, &[]), Look::Bad(Fault::Dnstap)),
        (control_frame(u32::MAX, &[]), Look::Bad(Fault::Dnstap)),
    ] {
        assert_eq!(walk(&bytes).1, expected, "{bytes:?}");
    }
}

#[test]
fn lengths_that_lie_are_refused_before_their_bytes_are_waited_for() {
    let over = u32::try_from(MAX_DATA).unwrap() + 1;
    let start = Control::Start.encode();
    for (tail, expected) in [
        (over.to_be_bytes().to_vec(), Look::Bad(Fault::TooBig)),
        (u32::MAX.to_be_bytes().to_vec(), Look::Bad(Fault::TooBig)),
        ((over - 1).to_be_bytes().to_vec(), Look::More),
        (vec![0, 0, 0, 0, 0, 0, 2, 1], Look::Bad(Fault::TooBig)),
        (vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], Look::Bad(Fault::TooBig)),
        (vec![0, 0, 0, 0, 0, 0, 2, 0], Look::More),
        // The escape is no empty data frame, and an empty control frame has no type.
        (vec![0, 0, 0, 0, 0, 0, 0, 0], Look::Bad(Fault::Length)),
        (vec![0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], Look::Bad(Fault::Length)),
        // A field that is longer than its frame, and half a field.
        (vec![0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1], Look::Bad(Fault::Length)),
        (vec![0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0], Look::Bad(Fault::Length)),
    ] {
        assert_eq!(walk(&[&start[..], &tail].concat()).1, expected, "{tail:?}");
    }
    let largest = data(&vec![7; MAX_DATA]);
    assert!(matches!(frame(&largest), Look::Got((Frame::Data(_), used)) if used == largest.len()));
}

#[test]
fn any_changed_byte_leaves_a_session_that_ends() {
    for capture in CAPTURES {
        let mut bytes = capture.to_vec();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                bytes[at] ^= flip;
                walk(&bytes);
                bytes[at] ^= flip;
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        walk(&bytes);
        walk(&[Control::Start.encode(), bytes].concat());
    }
}
