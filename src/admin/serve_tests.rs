//! Visitors of every manner at a real socket. They know the desk from the outside.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::super::desk::tests::well;
use super::*;
use crate::admin::{AskError, ask};
use crate::sys::socket_file::Access;

struct Here {
    dir: TempDir,
    config: AdminConfig,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

const TOKEN: &str = "0123456789abcdef";

fn access() -> Access {
    Access { mode: 0o600, group: None }
}

fn start(dir: TempDir, config: AdminConfig) -> Here {
    let admin = Admin::bind(&config).unwrap();
    let config = match (config, admin.tcp_address()) {
        (AdminConfig::Tcp { token_file, .. }, Some(address)) => AdminConfig::Tcp { address, token_file },
        (config, _) => config,
    };
    let cancel = CancellationToken::new();
    let facts: Facts = Arc::new(well);
    let task = tokio::spawn(admin.serve(facts, Log::memory().0, cancel.clone()));
    Here { dir, config, cancel, task }
}

fn at_a_path() -> Here {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    start(dir, AdminConfig::Unix { path, access: access() })
}

fn at_a_port() -> Here {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    start(dir, AdminConfig::Tcp { address: ([127, 0, 0, 1], 0).into(), token_file })
}

impl Here {
    fn path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    async fn end(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

async fn say(path: &Path, words: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What comes before the end counts, however it ends.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_status_is_told_over_either_kind_of_socket() {
    for here in [at_a_path(), at_a_port()] {
        let told: serde_json::Value = serde_json::from_str(&ask(&here.config).await.unwrap()).unwrap();
        assert_eq!((&told["healthy"], &told["version"]), (&true.into(), &"1.2.3".into()));
        here.end().await;
    }
}

#[tokio::test]
async fn a_socket_is_for_its_owner_and_goes_with_the_gate() {
    let here = at_a_path();
    let (path, config) = (here.path(), here.config.clone());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    here.cancel.cancel();
    here.task.await.unwrap();
    assert!(!path.exists());
    assert!(matches!(ask(&config).await, Err(AskError::Absent { .. })));
}

#[tokio::test]
async fn another_token_is_refused_over_the_wire() {
    let here = at_a_port();
    let AdminConfig::Tcp { address, .. } = here.config else { panic!("not TCP") };
    let token_file = here.dir.path().join("other");
    std::fs::write(&token_file, "0123456789abcdeF").unwrap();
    let other = ask(&AdminConfig::Tcp { address, token_file }).await;
    assert!(matches!(other, Err(AskError::Refused { source: None })), "{other:?}");
    here.end().await;
}

#[tokio::test]
async fn one_connection_is_one_question_and_a_body_is_not_read() {
    let here = at_a_path();
    let twice = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
    assert_eq!(say(&here.path(), &twice).await.matches("HTTP/1.1 200").count(), 1);
    let endless = "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\nabc";
    assert!(say(&here.path(), endless).await.starts_with("HTTP/1.1 405 "));
    here.end().await;
}

#[tokio::test]
async fn what_is_no_question_is_hung_up_on() {
    let here = at_a_path();
    for words in ["\r\n\r\n\u{16}\u{3}\u{1}", "GET /healthz HTTP/9\r\n\r\n", "hello\r\n\r\n"] {
        let answer = say(&here.path(), words).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{words:?}: {answer}");
    }
    let long = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = say(&here.path(), &long).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(say(&here.path(), "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").await.contains(" 200 "));
    here.end().await;
}

#[tokio::test]
async fn whoever_keeps_silent_gives_way_to_the_others() {
    let here = at_a_path();
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 8 {
        let mut stream = UnixStream::connect(here.path()).await.unwrap();
        stream.write_all(b"GET /st").await.unwrap();
        silent.push(stream);
    }
    // Two rounds of silence at most are before it.
    let served = say(&here.path(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(served.contains(" 200 "), "{served}");
    drop(silent);
    here.end().await;
}
