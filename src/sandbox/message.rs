//! What supervisor and keeper tell each other, as bytes: a letter, then text.
//!
//! Must not know how bytes are sent.

use super::Form;
use super::layers::{Layer, Layers};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// What the keeper tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromKeeper {
    /// The inside is built; one descriptor for each part, in this order.
    Ready { form: Form, parts: Vec<Part>, layers: Layers },
    /// The inside cannot be built.
    Failed { what: String, why: String },
    /// A layer that is needed cannot be had.
    Breach { layer: Layer, why: String },
    /// The command runs; what it gave up.
    Started(Layers),
    /// There is no such program, or it cannot be run: the error's number.
    NoCommand(i32),
    /// The command is stopped by this signal.
    Stopped(i32),
    /// It is over.
    Ended(Ended),
}

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Proxy,
    DnsTcp,
    DnsUdp,
    Host,
}

/// What the supervisor tells the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FromSupervisor {
    /// The keeper's user is known in its namespace.
    Mapped,
    /// The listeners are served: run the command, with the terminal or without, in our group or in one of its own.
    Go { terminal: bool, share: bool },
    /// Hand this signal on.
    Signal { number: i32, to: Whom },
    /// Let the command go on, with the terminal or without.
    Continue { terminal: bool },
}

/// Whom a signal is handed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The command alone.
    Command,
    /// The command's whole group.
    Group,
    /// The command, unless it was sent to everybody in the group that it shares with us: then it has it already.
    UnlessShared,
}

impl Whom {
    const fn letter(self) -> char {
        match self {
            Self::Command => 'c',
            Self::Group => 'g',
            Self::UnlessShared => 'u',
        }
    }

    const fn of_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'c' => Self::Command,
            b'g' => Self::Group,
            b'u' => Self::UnlessShared,
            _ => return None,
        })
    }
}

impl FromKeeper {
    pub(super) fn spell(&self) -> Vec<u8> {
        let text = match self {
            Self::Ready { form, parts, layers } => {
                let form = match form {
                    Form::EveryPort => 'e',
                    Form::ListedPorts => 'l',
                };
                let parts: String = parts.iter().map(|part| part.letter()).collect();
                format!("R{form}{parts}\n{}", layers.spell())
            }
            Self::Failed { what, why } => format!("F{what}\n{why}"),
            Self::Breach { layer, why } => format!("B{}\n{why}", layer.code()),
            Self::Started(layers) => format!("S{}", layers.spell()),
            Self::NoCommand(number) => format!("N{number}"),
            Self::Stopped(signal) => format!("T{signal}"),
            Self::Ended(Ended::Code(code)) => format!("E{code}"),
            Self::Ended(Ended::Signal(signal)) => format!("K{signal}"),
        };
        text.into_bytes()
    }

    /// Reads a message; `None`: it is none of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (letter, rest) = text.split_at_checked(1)?;
        let pair = || rest.split_once('\n').map(|(what, why)| (what.to_owned(), why.to_owned()));
        Some(match letter {
            "R" => {
                let (head, layers) = rest.split_once('\n')?;
                let mut letters = head.chars();
                let form = match letters.next()? {
                    'e' => Form::EveryPort,
                    'l' => Form::ListedPorts,
                    _ => return None,
                };
                let parts = letters.map(Part::of_letter).collect::<Option<_>>()?;
                Self::Ready { form, parts, layers: Layers::read(layers) }
            }
            "F" => {
                let (what, why) = pair()?;
                Self::Failed { what, why }
            }
            "B" => {
                let (layer, why) = pair()?;
                Self::Breach { layer: Layer::of_code(&layer)?, why }
            }
            "S" => Self::Started(Layers::read(rest)),
            "N" => Self::NoCommand(rest.parse().ok()?),
            "T" => Self::Stopped(rest.parse().ok()?),
            "E" => Self::Ended(Ended::Code(rest.parse().ok()?)),
            "K" => Self::Ended(Ended::Signal(rest.parse().ok()?)),
            _ => return None,
        })
    }
}

impl Part {
    const fn letter(self) -> char {
        match self {
            Self::Proxy => 'p',
            Self::DnsTcp => 't',
            Self::DnsUdp => 'u',
            Self::Host => 'h',
        }
    }

    const fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'p' => Self::Proxy,
            't' => Self::DnsTcp,
            'u' => Self::DnsUdp,
            'h' => Self::Host,
            _ => return None,
        })
    }
}

impl FromSupervisor {
    pub(super) fn spell(self) -> Vec<u8> {
        match self {
            Self::Mapped => "m".to_owned(),
            Self::Go { terminal, share } => format!("g{}{}", u8::from(terminal), u8::from(share)),
            Self::Signal { number, to } => format!("s{}{number}", to.letter()),
            Self::Continue { terminal } => format!("c{}", u8::from(terminal)),
        }
        .into_bytes()
    }

    /// Reads a message; `None`: it is none of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (letter, rest) = text.split_at_checked(1)?;
        Some(match (letter, rest) {
            ("m", "") => Self::Mapped,
            ("g", flags) => Self::Go { terminal: flags.starts_with('1'), share: flags.ends_with('1') },
            ("s", rest) => {
                let (to, number) = rest.split_at_checked(1)?;
                Self::Signal { number: number.parse().ok()?, to: Whom::of_letter(*to.as_bytes().first()?)? }
            }
            ("c", terminal) => Self::Continue { terminal: terminal == "1" },
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_meant() {
        let mut layers = Layers::default();
        layers.note(Layer::Devices, Ok::<(), &str>(()));
        layers.note(Layer::SignalScope, Err("old kernel"));
        for message in [
            FromKeeper::Ready {
                form: Form::EveryPort,
                parts: vec![Part::Proxy, Part::DnsTcp, Part::DnsUdp, Part::Host],
                layers: layers.clone(),
            },
            FromKeeper::Ready { form: Form::ListedPorts, parts: vec![], layers: Layers::default() },
            FromKeeper::Failed { what: "mount".into(), why: "two\nlines".into() },
            FromKeeper::Breach { layer: Layer::SystemCalls, why: "no".into() },
            FromKeeper::Started(layers),
            FromKeeper::NoCommand(2),
            FromKeeper::Stopped(20),
            FromKeeper::Ended(Ended::Code(255)),
            FromKeeper::Ended(Ended::Signal(9)),
        ] {
            assert_eq!(FromKeeper::read(&message.spell()), Some(message));
        }
        for message in [
            FromSupervisor::Mapped,
            FromSupervisor::Go { terminal: true, share: false },
            FromSupervisor::Go { terminal: false, share: true },
            FromSupervisor::Signal { number: 15, to: Whom::UnlessShared },
            FromSupervisor::Signal { number: 64, to: Whom::Group },
            FromSupervisor::Continue { terminal: false },
        ] {
            assert_eq!(FromSupervisor::read(&message.spell()), Some(message));
        }
        assert_eq!(FromKeeper::read(b""), None);
        assert_eq!(FromKeeper::read(b"E256"), None);
        assert_eq!(FromSupervisor::read(b"s"), None);
    }
}
