//! One question, one answer: who may ask, what there is to ask.
//!
//! Reads the head of a request alone. Must not know connections.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::record::Log;

use super::token::Token;
use super::{Facts, exposition, status};

/// What answers.
pub(super) struct Desk {
    pub(super) facts: Facts,
    pub(super) log: Log,
    /// `None`: the socket's file mode says who may ask.
    pub(super) token: Option<Token>,
}

type Answer = Response<Full<Bytes>>;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Desk {
    /// Answers a request by its head.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Answer {
        if !self.may_ask(request) {
            let mut refusal = answer(StatusCode::UNAUTHORIZED, PLAIN, "a token is needed\n");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refusal;
        }
        // A page in a browser on this host can send requests here, under its own site's name.
        if !is_for_us(request) {
            return answer(StatusCode::MISDIRECTED_REQUEST, PLAIN, "the host has to be localhost\n");
        }
        let page = match request.uri().path() {
            "/status" => Self::status,
            "/metrics" => Self::metrics,
            "/healthz" => Self::healthz,
            _ => {
                return answer(StatusCode::NOT_FOUND, PLAIN, "there are /status, /metrics and /healthz\n");
            }
        };
        if request.method() != Method::GET {
            let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        page(self)
    }

    fn may_ask<B>(&self, request: &Request<B>) -> bool {
        let Some(token) = &self.token else { return true };
        let mut presented = request.headers().get_all(AUTHORIZATION).iter();
        let (Some(first), None) = (presented.next(), presented.next()) else { return false };
        first
            .as_bytes()
            .split_at_checked(SCHEME.len())
            .is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case(SCHEME) && token.is(rest.trim_ascii()))
    }

    fn status(&self) -> Answer {
        let text = status::spell(&(self.facts)(), &self.log.metrics().snapshot());
        answer(StatusCode::OK, JSON, text)
    }

    fn metrics(&self) -> Answer {
        let text = exposition::write(&(self.facts)(), &self.log.metrics().snapshot());
        answer(StatusCode::OK, EXPOSITION, text)
    }

    fn healthz(&self) -> Answer {
        let problems = (self.facts)().problems();
        if problems.is_empty() {
            answer(StatusCode::OK, PLAIN, "ok\n")
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, problems.join("; ") + "\n")
        }
    }
}

const SCHEME: &[u8] = b"Bearer ";

/// Whether a request names this host as itself, whatever the port: once in `Host`, and in the target if it is there too.
fn is_for_us<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let target = request.uri().authority().is_none_or(|authority| is_ours(authority.as_str()));
    target && host.to_str().is_ok_and(is_ours)
}

fn is_ours(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|ours| {
        let (Some(name), Some(rest)) = (authority.get(..ours.len()), authority.get(ours.len()..)) else {
            return false;
        };
        let port = rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        name.eq_ignore_ascii_case(ours) && (rest.is_empty() || port)
    })
}

fn answer(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
#[path = "desk_tests.rs"]
pub(super) mod tests;
