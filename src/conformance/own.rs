//! namegate itself as the filter that is tried.
//!
//! Must not know how it is started.

use std::io;
use std::path::Path;

use super::map::{ALLOWED, MAIL, RESOLVER};

/// The command, which needs the environment that every filter is given.
pub(super) const COMMAND: &str =
    "exec \"$CONFORMANCE_NAMEGATE\" serve --config \"$CONFORMANCE_FOLDER/namegate.toml\"";

/// Its rules are in the kernel.
pub(super) const READY: &str = "grep -q '\"action\":\"ruleset\"' \"$CONFORMANCE_FOLDER/audit.jsonl\"";

/// Ordinary uses that this version refuses as a whole, each a row of docs/gaps.md. One that works is a finding too.
pub(super) const REFUSED: &[&str] = &[];

/// Writes the configuration. Leases are short, so that one ends within the suite.
pub(super) fn configure(folder: &Path) -> io::Result<()> {
    let names = ALLOWED.map(|name| format!("\"{name}\"")).join(", ");
    let text = format!(
        "[capture]\ninterfaces = [\"inside\"]\n\n\
         [proxy]\nsniff_timeout = \"2s\"\n\n\
         [dns]\nupstreams = [\"udp://{}\"]\n\n\
         [ledger]\nmin_ttl = \"1s\"\ngrace = \"1s\"\n\n\
         [audit]\nto = [\"{}/audit.jsonl\"]\n\n\
         [[rule]]\nid = \"names\"\nnames = [{names}]\nports = [80, 443, 5432]\n\n\
         [[rule]]\nid = \"mail\"\nnames = [\"{MAIL}\"]\nports = [25]\nmatch = \"address\"\n",
        RESOLVER.ip(),
        folder.display(),
    );
    std::fs::write(folder.join("namegate.toml"), text)
}
