//! The shell around the mirror: what entries say, and how often the kernel is asked.

use std::future::Future as _;

use rtnetlink::packet_route::neighbour::NeighbourCacheInfo;

use super::*;

fn entry(state: NeighbourState, link: &[u8], quiet_secs: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = 1;
    message.header.state = state;
    let age = quiet_secs * USER_HZ;
    let ages = [age, 0, age, 0].map(u32::to_ne_bytes).concat();
    let info = NeighbourCacheInfo::parse(&ages).unwrap();
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 77, 0, 2].into())),
        NeighbourAttribute::LinkLayerAddress(link.to_vec()),
        NeighbourAttribute::CacheInfo(info),
    ];
    message
}

#[test]
fn only_a_host_that_answered_is_seen() {
    use NeighbourState as State;
    let link = [2, 0, 0, 0, 0, 1];
    let day = 86_400;
    for (state, link, quiet, expected) in [
        (State::Reachable, &link[..], 0, "at"),
        (State::Stale, &link, day - 1, "at"),
        (State::Stale, &link, day, "gone"),
        (State::Delay, &link, 0, "at"),
        (State::Probe, &link, 0, "at"),
        (State::Permanent, &link, 2 * day, "at"),
        (State::Failed, &[], 0, "gone"),
        (State::Failed, &link, 0, "gone"),
        (State::Incomplete, &[], 0, "none"),
        (State::Noarp, &link, 0, "none"),
        (State::None, &link, 0, "none"),
        (State::Other(6), &link, 0, "none"),
        (State::Reachable, &[], 0, "none"),
        (State::Reachable, &[0; 6], 0, "none"),
        (State::Reachable, &[10, 0, 0, 1], 0, "none"),
    ] {
        let found = match sight(&entry(state, link, quiet)).map(|sight| sight.seen) {
            Some(Seen::At(_)) => "at",
            Some(Seen::Gone) => "gone",
            None => "none",
        };
        assert_eq!(found, expected, "{state} {link:?} {quiet}");
    }
}

#[tokio::test]
async fn a_flood_of_unknown_sources_makes_few_dumps_and_nobody_waits_for_ever() {
    let neighbours = std::sync::Arc::new(Neighbours::new(vec!["lo".to_owned()]));
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for last in 0..2000_u32 {
        let neighbours = std::sync::Arc::clone(&neighbours);
        asking.spawn(async move { neighbours.siblings(IpAddr::V4(last.into())).await });
    }
    while let Some(found) = asking.join_next().await {
        assert!(found.unwrap().is_empty());
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for _ in 0..3 {
        neighbours.siblings(IpAddr::V4(1.into())).await;
    }
    assert!(began.elapsed() >= 3 * BETWEEN, "dumps are spaced: {:?}", began.elapsed());
}

#[tokio::test]
async fn without_interfaces_nobody_has_siblings_and_no_kernel_is_asked() {
    let neighbours = Neighbours::none();
    assert!(neighbours.siblings(IpAddr::V4(1.into())).await.is_empty());
    assert_eq!(neighbours.mirror.read().read_at(), None);
}

#[tokio::test]
async fn those_who_stop_waiting_do_not_make_more_dumps() {
    let neighbours = Neighbours::new(vec!["lo".to_owned()]);
    let address = IpAddr::V4(1.into());
    let mut asking = Box::pin(neighbours.siblings(address));
    // Begun and given up: the kernel has been asked.
    std::future::poll_fn(|cx| {
        assert!(asking.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(asking);
    let given_up = Instant::now();
    neighbours.siblings(address).await;
    assert!(given_up.elapsed() >= BETWEEN / 2, "{:?}", given_up.elapsed());
}
