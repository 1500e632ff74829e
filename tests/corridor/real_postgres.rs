//! A real PostgreSQL server, and psql, on the two sides of the gate.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use namegate::facts::{Protocol, Via};
use namegate::gate::Reason;
use namegate::record::Ending;

use super::programs::*;
use super::world::*;

/// A database in a folder of its own, with a certificate for `good.example`.
struct Database {
    server: Server,
    certificate: PathBuf,
    psql: PathBuf,
    _folder: tempfile::TempDir,
}

/// The server refuses to run as root; nobody will do.
fn as_nobody(command: &mut Command, folder: &Path) {
    if rustix::process::geteuid().is_root() {
        for path in [folder.to_owned(), folder.join("server.crt"), folder.join("server.key")] {
            std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
        }
        command.uid(65_534).gid(65_534);
    }
    command.current_dir(folder);
}

impl Database {
    /// `None`: it is not installed.
    async fn start(tls: &str) -> Option<Self> {
        let [initdb, postgres, psql] = installed(["initdb", "postgres", "psql"])?;
        let folder = tempfile::tempdir().unwrap();
        let (certificate, _) = certificate(folder.path(), "good.example");
        let mut make = Command::new(initdb);
        make.args(["-D", "data", "-U", "app", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"]);
        as_nobody(&mut make, folder.path());
        let made = run(&mut make, "").await;
        assert!(made.status.success(), "{made:?}");
        let port = free_port();
        let mut serve = Command::new(postgres);
        serve.args(["-D", "data", "-p", &port.to_string(), "-c", "unix_socket_directories="]);
        serve.args(["-c", "fsync=off", "-c", &format!("ssl={tls}")]);
        serve.args(["-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"]);
        serve.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        as_nobody(&mut serve, folder.path());
        let server = Server::start(&mut serve, port).await;
        let database = Self { server, certificate, psql, _folder: folder };
        within(async {
            while !database.ask(database.server.address.port(), "good.example", "").await.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        Some(database)
    }

    /// Asks, over this port, whether the connection is encrypted.
    async fn ask(&self, port: u16, host: &str, options: &str) -> (bool, String) {
        let options = format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=app dbname=postgres sslrootcert={} {options}",
            self.certificate.display()
        );
        let mut command = Command::new(&self.psql);
        command.args([&options, "-XAtc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"]);
        command.env_remove("PGSSLMODE");
        let output = run(&mut command, "").await;
        let said = [&output.stdout[..], &output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn world(&self) -> Plan {
        let mut plan = Plan { behind: Some(self.server.address), ..Plan::on_port(443) };
        plan.rules[0].protocols = vec![Protocol::Postgres];
        plan
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_reaches_the_database_whose_name_is_allowed_in_tls_and_no_other() {
    let Some(database) = Database::start("on").await else { return };
    for options in [
        "sslmode=require",
        "sslmode=verify-full gssencmode=disable",
        "sslmode=verify-full gssencmode=prefer",
        "sslmode=prefer",
    ] {
        let world = World::new(database.world()).await;
        let (fine, said) = database.ask(world.proxy.port(), "good.example", options).await;
        assert_eq!((fine, said.as_str()), (true, "t\n"), "{options}");
        let decided = world.decision().await;
        assert_eq!((decided.reason, decided.via), (Reason::Allowed, Some(Via::Sni)));
        assert_eq!(decided.protocol, Some(Protocol::Postgres));
    }
    for (host, options, reason, words) in [
        ("evil.example", "sslmode=require", Reason::NameNotAllowed, "alert access denied"),
        ("other.example", "sslmode=require", Reason::AddressNotObserved, "alert access denied"),
        ("good.example", "sslmode=require sslsni=0", Reason::Nameless, "alert access denied"),
        ("good.example", "sslmode=disable", Reason::Nameless, ""),
    ] {
        let world = World::new(database.world()).await;
        let (fine, said) = database.ask(world.proxy.port(), host, options).await;
        assert!(!fine && said.contains(words), "{host} {options}: {said}");
        assert_eq!(world.decision().await.reason, reason, "{host} {options}");
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_tls_fails_as_a_server_that_cannot_be_reached() {
    let Some(database) = Database::start("off").await else { return };
    let world = World::new(database.world()).await;
    let (fine, said) = database.ask(world.proxy.port(), "good.example", "sslmode=require").await;
    assert!(!fine, "{said}");
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.sent), (Ending::UpstreamFailed, 0));
    // By its address it is served, in clear text.
    let mut plan = Plan { port: 6379, leases: vec!["db.example"], ..database.world() };
    plan.rules.push(address_rule("db", &["db.example"]));
    let world = World::new(plan).await;
    let (fine, said) = database.ask(world.proxy.port(), "good.example", "sslmode=prefer").await;
    assert_eq!((fine, said.as_str()), (true, "f\n"));
}
