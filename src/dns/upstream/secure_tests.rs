//! Tests of the encrypted upstreams against TLS servers on loopback, with a throw-away authority.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, NULL, SOA};
use hickory_proto::rr::{Name as WireName, RData, Record};
use tokio::net::TcpListener;

use super::secure_far::{Far, LASTING, Patience, Says, address, doh, dot, response, says};
use super::tests::{ANY, answered, ask, config, given};
use super::*;
use crate::facts::Name;
use crate::wire::dns::answer;

/// Both kinds of server, each with a pool that asks it.
async fn each(patience: Patience, says: &Says) -> [(Far, Pool); 2] {
    let tls = dot(patience, Arc::clone(says)).await;
    let over_tls = tls.pool(vec![tls.tls("dns.example.net")]);
    let https = doh(patience, Arc::clone(says)).await;
    let over_https = https.pool(vec![https.https("/dns-query")]);
    [(tls, over_tls), (https, over_https)]
}

/// The certificate's fault that an error is about.
fn certificate_fault(outcome: Result<Vec<u8>, UpstreamError>) -> rustls::CertificateError {
    let error = outcome.unwrap_err();
    let UpstreamError::Exchange(NetError::Io(error)) = &error else { panic!("{error:?}") };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => fault.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn questions_share_one_connection_and_the_server_is_told_its_name() {
    for (far, pool) in each(LASTING, &address()).await {
        for _ in 0..3 {
            assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
        }
        assert_eq!((far.connections(), far.questions()), (1, 3));
        assert_eq!(*far.seen.names.lock(), [Some("dns.example.net".to_owned())]);
        assert!(far.seen.authorities.lock().iter().all(|authority| authority == "dns.example.net"));
    }
}

#[tokio::test]
async fn many_questions_at_once_open_one_connection_too() {
    for (far, pool) in each(LASTING, &address()).await {
        let pool = Arc::new(pool);
        let asking: Vec<_> = (0..300)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { given(&pool.ask(&ask()).await.unwrap()) })
            })
            .collect();
        for task in asking {
            assert_eq!(task.await.unwrap(), ["203.0.113.1"]);
        }
        assert_eq!((far.connections(), far.questions()), (1, 300));
    }
}

#[tokio::test]
async fn more_questions_than_one_connection_takes_spread_over_several() {
    let far = dot(LASTING, says(|_| None)).await;
    let pool = Arc::new(far.pool(vec![far.tls("dns.example.net")]));
    let asking: Vec<_> = (0..900)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.ask(&ask()).await })
        })
        .collect();
    for task in asking {
        assert!(matches!(task.await.unwrap(), Err(UpstreamError::Timeout)));
    }
    assert_eq!((far.connections(), far.questions()), (2, 900));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let tls = dot(LASTING, address()).await;
    let https = doh(LASTING, address()).await;
    let other = Name::parse("other.example.net").unwrap();
    let pools = [
        tls.pool(vec![tls.tls("other.example.net")]),
        https.pool(vec![Upstream::Https(https.address, other, "/dns-query".to_owned())]),
    ];
    for pool in pools {
        let fault = certificate_fault(pool.ask(&ask()).await);
        assert!(matches!(fault, rustls::CertificateError::NotValidForNameContext { .. }), "{fault:?}");
    }
    assert_eq!(tls.questions() + https.questions(), 0);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let stranger = dot(LASTING, address()).await;
    let tls = dot(LASTING, address()).await;
    let https = doh(LASTING, address()).await;
    let upstreams = [tls.tls("dns.example.net"), https.https("/dns-query")];
    for upstream in upstreams {
        let fault = certificate_fault(stranger.pool(vec![upstream]).ask(&ask()).await);
        let unknown =
            matches!(fault, rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature);
        assert!(unknown, "{fault:?}");
    }
    assert_eq!(tls.questions() + https.questions(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_passed_over_for_one_that_can() {
    let far = dot(LASTING, address()).await;
    let pool = far.pool(vec![far.tls("other.example.net"), far.tls("dns.example.net")]);
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
}

#[tokio::test]
async fn a_server_without_tls_is_never_asked_in_the_clear() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        let mut records = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            records.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
        }
        records
    });
    let far = dot(LASTING, self::address()).await;
    let name = Name::parse("dns.example.net").unwrap();
    let pool = far.pool(vec![
        Upstream::Tls(address, name.clone()),
        Upstream::Https(address, name, "/dns-query".to_owned()),
    ]);
    assert!(matches!(pool.ask(&ask()).await, Err(UpstreamError::Exchange(_))));
    // 22: a TLS handshake record (RFC 8446 section 5.1).
    assert_eq!(plain.await.unwrap(), [22, 22]);
}

#[tokio::test]
async fn negative_answers_come_whole() {
    let zone = WireName::from_ascii("example.com.").unwrap();
    let soa = SOA::new(zone.clone(), zone.clone(), 7, 3600, 600, 86_400, 300);
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let (zone, soa) = (zone.clone(), soa.clone());
        let negative = says(move |query| {
            Some(response(query, |message| {
                message.metadata.response_code = code;
                message.metadata.authentic_data = true;
                message.authorities.push(Record::from_rdata(zone.clone(), 120, RData::SOA(soa.clone())));
            }))
        });
        for (_far, pool) in each(LASTING, &negative).await {
            let bytes = pool.ask(&ask()).await.unwrap();
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.metadata.response_code, code);
            assert!(message.metadata.authentic_data && message.answers.is_empty());
            assert_eq!(message.authorities.len(), 1);
            assert_eq!(
                (message.authorities[0].ttl, &message.queries[0].name.to_ascii()[..]),
                (120, "www.example.com.")
            );
            assert_eq!(answer(&bytes).unwrap().question.name, ask().name);
        }
    }
}

#[tokio::test]
async fn a_chain_of_aliases_comes_whole_even_when_it_ends_in_nothing() {
    let alias = |owner: &str, target: &str| {
        let name = |name| WireName::from_ascii(name).unwrap();
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    };
    let chain = says(move |query| {
        Some(response(query, |message| {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.answers.push(alias("www.example.com.", "a.example.net."));
            message.answers.push(alias("a.example.net.", "b.example.net."));
        }))
    });
    for (_far, pool) in each(LASTING, &chain).await {
        let told = answer(&pool.ask(&ask()).await.unwrap()).unwrap();
        assert_eq!((told.rcode, told.addresses.len()), (3, 0));
        let names: Vec<_> = told.chain.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["www.example.com", "a.example.net", "b.example.net"]);
    }
}

#[tokio::test]
async fn a_failing_server_is_passed_over_but_its_word_counts_when_no_other_has_one() {
    let failing = says(|query| {
        Some(response(query, |message| message.metadata.response_code = ResponseCode::ServFail))
    });
    for (_far, mut pool) in each(LASTING, &failing).await {
        assert_eq!(answer(&pool.ask(&ask()).await.unwrap()).unwrap().rcode, 2);
        let well = dot(LASTING, address()).await;
        pool.members.extend(well.pool(vec![well.tls("dns.example.net")]).members);
        assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
    }
}

#[tokio::test]
async fn a_big_answer_comes_whole() {
    let big = says(|query| {
        Some(response(query, |message| {
            for index in 0..60 {
                let data = RData::NULL(NULL::with(vec![index; 1000]));
                message.answers.push(Record::from_rdata(message.queries[0].name.clone(), 60, data));
            }
        }))
    });
    for (_far, pool) in each(LASTING, &big).await {
        let bytes = pool.ask(&ask()).await.unwrap();
        assert!(bytes.len() > 60_000);
        assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 60);
    }
}

#[tokio::test]
async fn a_connection_closed_behind_our_back_is_replaced() {
    for pause in [0, 30] {
        for (far, pool) in each(Patience(1), &address()).await {
            for _ in 0..4 {
                assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            assert_eq!(far.connections(), 4);
        }
    }
}

#[tokio::test]
async fn a_connection_that_only_looks_open_is_replaced() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mute = says(move |query| (asked.fetch_add(1, Ordering::SeqCst) >= 3).then(|| answered(query, 1)));
    let far = dot(LASTING, mute).await;
    let mut pool = far.pool(vec![far.tls("dns.example.net")]);
    pool.timeout = Duration::from_millis(100);
    for _ in 0..3 {
        assert!(matches!(pool.ask(&ask()).await, Err(UpstreamError::Timeout)));
    }
    assert_eq!(far.connections(), 1);
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
    assert_eq!(far.connections(), 2);
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_error_not_an_answer() {
    let other = says(|query| {
        let mut wrong = answered(query, 66);
        wrong[13] = b'x';
        Some(wrong)
    });
    for (_far, pool) in each(LASTING, &other).await {
        assert!(matches!(pool.ask(&ask()).await, Err(UpstreamError::Garbled)));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_message_is_an_error_at_the_latest_at_the_deadline() {
    let garbage = says(|query| Some([&query[..2], &[0xff; 40]].concat()));
    for (_far, pool) in each(LASTING, &garbage).await {
        let outcome = pool.ask(&ask()).await;
        assert!(matches!(outcome, Err(UpstreamError::Exchange(_) | UpstreamError::Timeout)), "{outcome:?}");
    }
}

#[tokio::test]
async fn over_https_only_success_is_an_answer() {
    let far = doh(LASTING, address()).await;
    let missing = far.pool(vec![far.https("/elsewhere")]).ask(&ask()).await.unwrap_err();
    assert!(missing.source().unwrap().to_string().contains("404"), "{missing:?}");
    let mut config = config(vec![far.https("/with space")]);
    config.ca_file = Some(far.authority.path().to_path_buf());
    assert!(matches!(Pool::new(&config), Err(StartError::Path(_))));
}
