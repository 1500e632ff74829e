//! Servers that ask for a second hello, and TLS that begins in the middle of a connection, with clients as they
//! are installed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use namegate::facts::Via;
use namegate::gate::Reason;
use namegate::record::Ending;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::programs::*;
use super::world::*;

/// A server of OpenSSL that takes no key share of the given clients' first hello, and tells every message.
struct Asking {
    server: Server,
    folder: tempfile::TempDir,
}

impl Asking {
    async fn start(openssl: &Path, group: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = certificate(folder.path(), "good.example");
        let port = free_port();
        let mut serve = Command::new(openssl);
        serve.args(["s_server", "-www", "-tls1_3", "-msg", "-groups", group, "-port", &port.to_string()]);
        serve.arg("-cert").arg(certificate).arg("-key").arg(key);
        serve.stdout(std::fs::File::create(folder.path().join("messages")).unwrap()).stderr(Stdio::null());
        Self { server: Server::start(&mut serve, port).await, folder }
    }

    /// How many hellos the server has seen so far, of all its clients.
    async fn hellos(&self) -> usize {
        // What it tells is buffered; the clients that count have ended by now, or were cut off.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let messages = std::fs::read_to_string(self.folder.path().join("messages")).unwrap();
        messages.lines().filter(|line| line.starts_with("<<<") && line.ends_with(", ClientHello")).count()
    }

    fn plan(&self) -> Plan {
        let leases = vec!["good.example", "other.example"];
        Plan { behind: Some(self.server.address), leases, ..Plan::on_port(443) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_whose_server_asks_for_a_second_hello_are_served() {
    let Some([openssl, curl, python]) = installed(["openssl", "curl", "python3"]) else { return };
    let asking = Asking::start(&openssl, "P-521").await;
    let script = "import socket, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        tls = context.wrap_socket(tcp, server_hostname='good.example')\n\
        tls.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
        print(tls.recv(100))\n";
    let certificate = asking.folder.path().join("server.crt");
    for number in 0..3 {
        let world = World::new(asking.plan()).await;
        let port = world.proxy.port();
        let before = asking.hellos().await;
        let mut command;
        match number {
            0 => {
                command = Command::new(&openssl);
                command.args([
                    "s_client",
                    "-quiet",
                    "-servername",
                    "good.example",
                    "-groups",
                    "X25519:P-521",
                ]);
                command.args(["-connect", &format!("127.0.0.1:{port}")]);
            }
            1 => {
                command = Command::new(&curl);
                command.args(["-sS", "--http1.1", "--curves", "X25519:P-521", "--cacert"]).arg(&certificate);
                command.args(["--noproxy", "*", "--resolve", &format!("good.example:{port}:127.0.0.1")]);
                command.arg(format!("https://good.example:{port}/"));
            }
            _ => {
                command = Command::new(&python);
                command.args(["-c", script, &port.to_string()]).arg(&certificate);
            }
        }
        let output = run(&mut command, "GET / HTTP/1.0\r\n\r\n").await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_served = said.contains("HTTP/1.0 200 ok") || said.contains("s_server");
        assert!(is_served, "client {number}: {said} {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(asking.hellos().await - before, 2, "client {number}");
        assert_eq!(world.decision().await.reason, Reason::Allowed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_changes_its_name_when_a_real_server_asks_again_is_cut_off() {
    let Some([openssl]) = installed(["openssl"]) else { return };
    let asking = Asking::start(&openssl, "P-384").await;
    for other in ["evil.example", "other.example"] {
        let world = World::new(asking.plan()).await;
        let before = asking.hellos().await;
        let mut client = world.say(&hello("good.example")).await;
        // A record of a HelloRetryRequest, and one of ChangeCipherSpec.
        let head = take(&mut client, 5).await;
        let answer = take(&mut client, usize::from(u16::from_be_bytes([head[3], head[4]]))).await;
        assert_eq!(answer[6..10], [0xCF, 0x21, 0xAD, 0x74], "the server asks again");
        assert_eq!(take(&mut client, 6).await, [20, 3, 3, 0, 1, 1]);
        client.write_all(&[&[20, 3, 3, 0, 1, 1][..], &hello(other)].concat()).await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), [0x15, 3, 3, 0, 2, 2, 0x31]);
        world.ends(Ending::NameChanged).await;
        assert_eq!(asking.hellos().await - before, 1, "the second hello of {other} did not arrive");
    }
}

/// A mail server's or directory's part up to TLS: what it says, and what it waits for before it says the next.
type Script = &'static [(&'static [u8], &'static str)];

const SMTP: Script = &[
    (b"220 mail.example ESMTP\r\n", "EHLO "),
    (b"250-mail.example\r\n250 STARTTLS\r\n", "STARTTLS\r\n"),
    (b"220 go ahead\r\n", ""),
];
const IMAP: Script = &[
    (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", "CAPABILITY\r\n"),
    (b"* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK done\r\n", "STARTTLS\r\n"),
    (b". OK begin\r\n", ""),
];
/// An ExtendedRequest of StartTLS, and its success (RFC 4511 section 4.14).
const LDAP: Script =
    &[(b"", "1.3.6.1.4.1.1466.20037"), (b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "")];

/// Plays one script, and joins the rest of the connection to a TLS server.
async fn play(client: TcpStream, script: Script, tls: std::net::SocketAddr) {
    let mut client = BufReader::new(client);
    for (says, until) in script {
        client.write_all(says).await.unwrap();
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(until) {
            let new = client.fill_buf().await.unwrap().to_vec();
            assert!(!new.is_empty(), "{script:?} ended");
            client.consume(new.len());
            heard.extend(new);
        }
    }
    let mut server = TcpStream::connect(tls).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls_passes_by_address_without_a_stall_whatever_name_comes_later() {
    let Some([openssl]) = installed(["openssl"]) else { return };
    let asking = Asking::start(&openssl, "X25519").await;
    for (protocol, script) in [("smtp", SMTP), ("imap", IMAP), ("ldap", LDAP)] {
        let mut plan = Plan { leases: vec!["mail.example"], ..Plan::on_port(6379) };
        plan.rules.push(address_rule("mail", &["mail.example"]));
        plan.config.sniff_timeout = Duration::from_secs(5);
        let world = World::new(plan).await;

        // The first byte of a server that speaks first is there at once, on a machine that is not too busy.
        let mut waits = Vec::new();
        for _ in 0..5 {
            let started = Instant::now();
            let mut client = world.connect().await;
            let mut server = world.accepted().await;
            server.write_all(b"2").await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
            waits.push(started.elapsed());
        }
        assert!(waits.iter().min().unwrap() < &Duration::from_millis(100), "{waits:?}");

        let mut command = Command::new(&openssl);
        command.args(["s_client", "-quiet", "-starttls", protocol, "-servername", "mail.example"]);
        command.args(["-connect", &format!("127.0.0.1:{}", world.proxy.port())]);
        let talking = run(&mut command, "GET / HTTP/1.0\r\n\r\n");
        let serving = async { play(world.accepted().await, script, asking.server.address).await };
        let (output, ()) = within(async { tokio::join!(talking, serving) }).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("HTTP/1.0 200 ok"), "{protocol}: {said} {output:?}");
        for decided in world.decided() {
            assert_eq!((decided.reason, decided.via), (Reason::Allowed, Some(Via::Address)), "{protocol}");
        }
    }
}
