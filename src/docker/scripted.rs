//! A daemon for tests, which says what it is told to, however odd.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What is answered to one question.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Json(Value),
    Status(u16, &'static str),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// This, after a while.
    Late(Duration, Box<Reply>),
    /// A head, and then bytes without end.
    Endless,
    /// Nothing, ever.
    Silence,
}

/// One container, as the daemon knows it.
#[derive(Debug, Clone)]
pub(super) struct Boxed {
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) started_at: String,
    pub(super) labels: Value,
    /// Network's name, its identifier, endpoint, address.
    pub(super) places: Vec<(&'static str, String, String, String)>,
    /// What is said when it is asked for; none: the truth.
    pub(super) inspected: Option<Reply>,
}

/// What the daemon says.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) version: Reply,
    pub(super) networks: Vec<Value>,
    pub(super) containers: Vec<Boxed>,
    /// In place of the truth.
    pub(super) list: Option<Reply>,
    /// In place of events.
    pub(super) events: Option<Reply>,
    /// What was asked.
    pub(super) asked: Vec<String>,
}

/// A daemon at a socket.
pub(super) struct Scripted {
    dir: tempfile::TempDir,
    pub(super) script: Arc<Mutex<Script>>,
    /// Events, one chunk each; an empty one ends the streams.
    events: broadcast::Sender<String>,
    server: JoinHandle<()>,
}

/// Docker's form of an identifier.
pub(super) fn id(number: u32) -> String {
    format!("{number:064x}")
}

pub(super) fn network(name: &str, number: u32) -> Value {
    json!({"Name": name, "Id": id(number), "Driver": "bridge", "Internal": false, "EnableIPv6": false, "Options": {},
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"}]}})
}

impl Boxed {
    /// A container on the network `egress`, of the number 1.
    pub(super) fn new(number: u32, name: &'static str, address: &str) -> Self {
        Self {
            id: id(number),
            name,
            started_at: format!("2026-01-01T00:00:00.{number:09}Z"),
            labels: json!({}),
            places: vec![("egress", id(1), id(number * 100), address.to_owned())],
            inspected: None,
        }
    }

    fn places(&self) -> Value {
        let place = |(name, network, endpoint, address): &(&str, String, String, String)| {
            let settings = json!({"NetworkID": network, "EndpointID": endpoint, "IPAddress": address,
                "GlobalIPv6Address": "", "MacAddress": "02:42:0a:09:00:02"});
            ((*name).to_owned(), settings)
        };
        Value::Object(self.places.iter().map(place).collect())
    }

    fn listed(&self) -> Value {
        json!({"Id": self.id, "Names": [format!("/other/{}-alias", self.name), format!("/{}", self.name)], "Image": "sha256:00",
            "State": "running", "NetworkSettings": {"Networks": self.places()}})
    }

    fn told(&self) -> Value {
        json!({"Id": self.id, "Name": format!("/{}", self.name),
            "State": {"Running": true, "Pid": 4242, "StartedAt": self.started_at},
            "Config": {"Image": "example.com/app:1", "Labels": self.labels},
            "NetworkSettings": {"Networks": self.places()}})
    }
}

impl Scripted {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Script {
            version: Reply::Json(
                json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
            ),
            networks: vec![network("egress", 1)],
            containers: Vec::new(),
            list: None,
            events: None,
            asked: Vec::new(),
        };
        let mut started = Self {
            script: Arc::new(Mutex::new(script)),
            events: broadcast::channel(64).0,
            server: tokio::spawn(async {}),
            dir,
        };
        started.listen();
        started
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    pub(super) fn containers(&self, containers: impl IntoIterator<Item = Boxed>) {
        self.script.lock().containers = containers.into_iter().collect();
    }

    /// How often this was asked.
    pub(super) fn count(&self, what: &str) -> usize {
        self.script.lock().asked.iter().filter(|path| path.contains(what)).count()
    }

    pub(super) fn event(&self, kind: &str, action: &str, of: &str, container: &str) {
        let event = json!({"Type": kind, "Action": action, "Actor": {"ID": of, "Attributes": {"container": container}}});
        self.events.send(format!("{event}\n")).unwrap();
    }

    /// Says this among the events, whatever it is.
    pub(super) fn event_text(&self, text: &str) {
        self.events.send(text.to_owned()).unwrap();
    }

    /// What the list of containers is at this moment.
    pub(super) fn list_now(&self) -> Reply {
        Reply::Json(self.script.lock().containers.iter().map(Boxed::listed).collect())
    }

    /// Leaves a socket at which nobody listens.
    pub(super) async fn leave(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// Takes no new connections, and ends the streams of events.
    pub(super) fn stop(&self) {
        self.server.abort();
        std::fs::remove_file(self.socket()).unwrap();
        let _ = self.events.send(String::new());
    }

    pub(super) fn listen(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (script, events) = (Arc::clone(&self.script), self.events.clone());
        self.server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), events.clone()));
            }
        });
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: UnixStream, script: Arc<Mutex<Script>>, events: broadcast::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let told = events.subscribe();
    let reply = {
        let mut script = script.lock();
        script.asked.push(path.clone());
        reply(&script, &path)
    };
    match reply {
        Some(reply) => send(&mut stream, reply).await,
        None => tell(&mut stream, told).await,
    }
}

/// `None`: events.
fn reply(script: &Script, path: &str) -> Option<Reply> {
    let plain = path.split('?').next().unwrap();
    if plain == "/version" {
        return Some(script.version.clone());
    }
    let Some(plain) = plain.strip_prefix("/v1.41") else { return Some(Reply::Status(400, "which version?")) };
    if plain == "/events" {
        return script.events.clone();
    }
    Some(match plain {
        "/networks" => Reply::Json(Value::Array(script.networks.clone())),
        "/containers/json" => script
            .list
            .clone()
            .unwrap_or_else(|| Reply::Json(script.containers.iter().map(Boxed::listed).collect())),
        _ => {
            let id = plain.strip_prefix("/containers/").unwrap().strip_suffix("/json").unwrap();
            let known: HashMap<&str, &Boxed> =
                script.containers.iter().map(|one| (one.id.as_str(), one)).collect();
            match known.get(id) {
                Some(one) => one.inspected.clone().unwrap_or_else(|| Reply::Json(one.told())),
                None => Reply::Status(404, "No such container"),
            }
        }
    })
}

async fn send(stream: &mut UnixStream, reply: Reply) {
    let bytes = match reply {
        Reply::Json(value) => answer(200, &value.to_string()),
        Reply::Status(status, message) => answer(status, &json!({ "message": message }).to_string()),
        Reply::Raw(bytes) => bytes,
        Reply::Late(after, then) => {
            tokio::time::sleep(after).await;
            return Box::pin(send(stream, *then)).await;
        }
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[\"").await;
            while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
            return;
        }
        Reply::Silence => return std::future::pending().await,
    };
    let _ = stream.write_all(&bytes).await;
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn tell(stream: &mut UnixStream, mut events: broadcast::Receiver<String>) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    while let Ok(event) = events.recv().await {
        if event.is_empty() {
            return;
        }
        let mut chunk = String::new();
        write!(chunk, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            return;
        }
    }
}
