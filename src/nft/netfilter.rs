//! The seam to the kernel: load a script, list a table, steer marked packets home.
//!
//! The real one runs `nft` for the tables and speaks netlink for rule and route. Must not know what the
//! scripts say.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::error::NftError;
use super::others::{self, BaseChain, Known};
use super::route::{self, Piece, Steering};
use super::ruleset::TableFamily;

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, NftError>> + Send + 'a>>;

/// The packet filter and policy routing of this network namespace, as far as we use them.
pub trait Netfilter: Send + Sync {
    /// Loads a script in one transaction: all of it, or nothing.
    fn load<'a>(&'a self, script: &'a str) -> Pending<'a, ()>;

    /// Lists a table without its counters; none if there is no such table.
    fn list<'a>(&'a self, family: TableFamily, table: &'a str) -> Pending<'a, Option<String>>;

    /// Asks for the version of the loader.
    fn version(&self) -> Pending<'_, NftVersion>;

    /// Adds these pieces of policy routing in both address families unless they are there; says which of
    /// them there are now.
    fn steer(&self, pieces: Vec<Piece>) -> Pending<'_, Steering>;

    /// Removes these pieces, or all of ours; says which there were.
    fn unsteer(&self, pieces: Option<Vec<Piece>>) -> Pending<'_, Steering>;

    /// Says which pieces there are.
    fn steered(&self) -> Pending<'_, Steering>;
}

/// Major, minor and patch level of `nft`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NftVersion(pub u16, pub u16, pub u16);

impl NftVersion {
    /// Reads `nftables v1.0.6 (Lester Gooch #5)`.
    fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut numbers = word.split('.').map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }
}

impl fmt::Display for NftVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// The real one.
#[derive(Debug, Clone)]
pub struct Nft {
    timeout: Duration,
}

impl Default for Nft {
    fn default() -> Self {
        Self { timeout: PATIENCE }
    }
}

impl Nft {
    /// Lists the base chains of every table, and which of them know about us.
    ///
    /// # Errors
    ///
    /// `nft` is missing, refuses, or says something else than JSON.
    pub async fn base_chains(&self, known: &Known<'_>) -> Result<Vec<BaseChain>, NftError> {
        // Without the elements of sets, which may be many.
        let said = self.ask("list the ruleset", &["-j", "-t", "list", "ruleset"], "").await?;
        others::parse(&said, known).ok_or_else(|| NftError::Refused {
            action: "list the ruleset",
            said: "it said something else than a ruleset".to_owned(),
        })
    }

    async fn ask(&self, action: &'static str, arguments: &[&str], script: &str) -> Result<String, NftError> {
        let program = loader().ok_or(NftError::NotInstalled)?;
        let output = run(&program, arguments, script, self.timeout).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        tracing::debug!(action, said, "nft refused");
        if said.contains("Operation not permitted") {
            return Err(NftError::NoPrivilege);
        }
        let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
        Err(NftError::Refused { action, said })
    }
}

impl Netfilter for Nft {
    fn load<'a>(&'a self, script: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.ask("load the ruleset", &["-f", "-"], script).await.map(drop) })
    }

    fn list<'a>(&'a self, family: TableFamily, table: &'a str) -> Pending<'a, Option<String>> {
        Box::pin(async move {
            let family = family.as_str();
            let asked = ["-s", "list", "table", family, table];
            let refused = match self.ask("list the table", &asked, "").await {
                Ok(listing) => return Ok(Some(listing)),
                Err(error) => error,
            };
            // Whether it is the table that is missing does not hang on the words of an error.
            let tables = self.ask("list tables", &["list", "tables", family], "").await?;
            let line = format!("table {family} {table}");
            if tables.lines().any(|there| there.trim() == line) { Err(refused) } else { Ok(None) }
        })
    }

    fn version(&self) -> Pending<'_, NftVersion> {
        Box::pin(async move {
            let said = self.ask("say its version", &["--version"], "").await?;
            let unknown = || NftError::Refused { action: "say its version", said: said.trim().to_owned() };
            NftVersion::parse(&said).ok_or_else(unknown)
        })
    }

    fn steer(&self, pieces: Vec<Piece>) -> Pending<'_, Steering> {
        Box::pin(route::add(pieces))
    }

    fn unsteer(&self, pieces: Option<Vec<Piece>>) -> Pending<'_, Steering> {
        Box::pin(route::remove(pieces))
    }

    fn steered(&self) -> Pending<'_, Steering> {
        Box::pin(route::present())
    }
}

/// Runs a program with nothing of our environment; its words are then English and can be quoted.
async fn run(
    program: &Path,
    arguments: &[&str],
    script: &str,
    timeout: Duration,
) -> Result<Output, NftError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Run)?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // It may have ended before it read all; its exit status and words say why.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(timeout, talk).await {
        Ok(output) => output.map_err(NftError::Run),
        Err(_) => Err(NftError::Timeout(timeout)),
    }
}

/// Finds the program that loads rulesets; none if it is not installed.
pub fn loader() -> Option<PathBuf> {
    find(std::env::var_os("PATH").as_deref())
}

/// Finds `nft` on the path, or where distributions put it: a user's path often has no `sbin`.
fn find(path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let searched = path.into_iter().flat_map(std::env::split_paths);
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let absolute = searched.filter(|folder| folder.is_absolute());
    absolute.chain(usual).map(|folder| folder.join("nft")).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

/// A load takes 16 ms, more on a machine with big sets of others and a busy rules lock.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let read = |text| NftVersion::parse(text);
        assert_eq!(read("nftables v1.0.6 (Lester Gooch #5)\n"), Some(NftVersion(1, 0, 6)));
        assert_eq!(read("nftables v1.1 (x)"), Some(NftVersion(1, 1, 0)));
        assert_eq!(read("nftables 1.0.6"), None);
        assert_eq!(read("vx.y.z"), None);
        assert_eq!(read(""), None);
        assert!(NftVersion(0, 9, 9) < NftVersion(1, 0, 0) && NftVersion(1, 0, 10) > NftVersion(1, 0, 9));
    }

    #[test]
    fn a_folder_of_that_name_and_a_relative_path_are_no_program() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("nft")).expect("folder");
        let found = find(Some(folder.path().as_os_str()));
        assert_ne!(found, Some(folder.path().join("nft")));
        assert!(find(Some(std::ffi::OsStr::new("."))).is_none_or(|program| program.is_absolute()));
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_words_of_nft() {
        let nft = Nft::default();
        match nft.load("add nonsense inet\n").await {
            Err(NftError::Refused { said, .. }) => assert!(said.contains("nonsense"), "{said}"),
            // A plain user is refused first, and a machine without nft has nothing to quote.
            Err(NftError::NoPrivilege | NftError::NotInstalled) => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn patience_ends() {
        let answer = run(Path::new("/bin/sleep"), &["5"], "", Duration::from_millis(20)).await;
        assert!(matches!(answer, Err(NftError::Timeout(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_is_no_error_of_writing() {
        let script = "x".repeat(1 << 20);
        let output = run(Path::new("/bin/true"), &[], &script, PATIENCE).await.expect("runs");
        assert!(output.status.success());
    }
}
