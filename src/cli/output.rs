//! How words leave the process: to a pipe that may close, with colours only where somebody looks.
//!
//! Must not know what is said.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::sys::descriptors;

/// Why a command ended without its answer.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// Usage or configuration: exit code 2.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into(), hint: None }
    }

    /// The system refused: exit code 3.
    pub(super) fn system(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 3, error: error.into(), hint: None }
    }

    pub(super) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// stdout for data, stderr for talk.
pub(super) struct Screen {
    colour: [bool; 2],
}

impl Screen {
    /// Looks at the process's own streams. Colours need a terminal, and no `NO_COLOR` (<https://no-color.org>).
    pub(super) fn of_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colour: [wanted && io::stdout().is_terminal(), wanted && io::stderr().is_terminal()] }
    }

    pub(super) fn stdout_colour(&self) -> bool {
        self.colour[0]
    }

    pub(super) fn stderr_colour(&self) -> bool {
        self.colour[1]
    }

    /// Writes data to stdout. A reader that has gone away has seen enough: that is no failure.
    pub(super) fn data(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::system(anyhow::Error::new(error).context("cannot write to standard output")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes talk to stderr; when nobody hears it, there is nobody to tell.
    pub(super) fn talk(&mut self, text: &str) {
        say(text);
    }

    /// Says why a command failed: what, causes, a blank line, the next step.
    pub(super) fn fail(&mut self, failure: &Failure) -> ExitCode {
        let (red, cyan, plain) =
            if self.stderr_colour() { ("\u{1b}[1;91m", "\u{1b}[1;96m", "\u{1b}[0m") } else { ("", "", "") };
        let mut text = format!("{red}error{plain}: {}\n", failure.error);
        for cause in failure.error.chain().skip(1) {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{cyan}hint{plain}: {hint}\n"));
        }
        self.talk(&text);
        ExitCode::from(failure.code)
    }
}

/// Writes a line of talk to stderr, unless nobody takes it just now: for a thread that others wait for.
pub(super) fn say_if_heard(text: &str) {
    if descriptors::error_is_heard() {
        say(text);
    }
}

/// Writes talk to stderr from wherever it arises, in one piece.
pub(super) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
