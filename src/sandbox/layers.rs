//! The layers that keep a command in, each by its name, there or missing.
//!
//! Must not know how a layer is made.

/// One thing that keeps the command in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// A user namespace: nothing of the host can be administered.
    UserNamespace,
    /// Network, mount, process and IPC namespaces: the way out is ours alone.
    Namespaces,
    /// Every TCP port is captured, and what is not TCP or DNS is refused at once.
    Ruleset,
    /// `/proc` shows the command's own processes only.
    Processes,
    /// `/dev` holds the standard devices only.
    Devices,
    /// What `/sys` shows, and `/proc/sys` to root, cannot be changed, wherever else it is mounted; other device nodes are
    /// void.
    KernelSettings,
    /// The host's unix sockets are out of reach.
    HostSockets,
    /// No capability is left.
    Capabilities,
    /// Set-user-id programs give nothing.
    NoNewPrivileges,
    /// System calls that lead past the network namespace are refused.
    SystemCalls,
    /// Signals end at the sandbox, by Landlock besides the namespace.
    SignalScope,
    /// Unix sockets that are made outside later are out of reach too (Landlock ABI 9).
    SocketScope,
}

impl Layer {
    /// Every layer, from the outside in.
    pub const ALL: [Self; 12] = [
        Self::UserNamespace,
        Self::Namespaces,
        Self::Ruleset,
        Self::Processes,
        Self::Devices,
        Self::KernelSettings,
        Self::HostSockets,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::SystemCalls,
        Self::SignalScope,
        Self::SocketScope,
    ];

    /// Returns the stable code, as in the audit log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UserNamespace => "user_namespace",
            Self::Namespaces => "namespaces",
            Self::Ruleset => "ruleset",
            Self::Processes => "process_list",
            Self::Devices => "devices",
            Self::KernelSettings => "kernel_settings",
            Self::HostSockets => "host_sockets",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::SystemCalls => "system_calls",
            Self::SignalScope => "signal_scope",
            Self::SocketScope => "socket_scope",
        }
    }

    /// Returns the layer of that code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.code() == code)
    }

    /// Whether the promise breaks without it.
    pub const fn is_needed(self) -> bool {
        match self {
            Self::Namespaces
            | Self::Devices
            | Self::KernelSettings
            | Self::HostSockets
            | Self::Capabilities
            | Self::NoNewPrivileges
            | Self::SystemCalls => true,
            // The rest is a second lock on a door that is closed, or a convenience.
            Self::UserNamespace | Self::Ruleset | Self::Processes | Self::SignalScope | Self::SocketScope => {
                false
            }
        }
    }
}

/// Which layers there are, and which could not be had, with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    present: Vec<Layer>,
    missing: Vec<(Layer, String)>,
}

impl Layers {
    /// Notes what came of one.
    pub fn note<E: ToString>(&mut self, layer: Layer, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => self.present.push(layer),
            Err(why) => self.missing.push((layer, why.to_string())),
        }
    }

    /// Returns those that are there.
    pub fn present(&self) -> &[Layer] {
        &self.present
    }

    /// Returns those that are not, each with the reason.
    pub fn missing(&self) -> &[(Layer, String)] {
        &self.missing
    }

    /// Returns the first missing one that the promise needs.
    pub fn breach(&self) -> Option<&(Layer, String)> {
        self.missing.iter().find(|(layer, _)| layer.is_needed())
    }

    /// Takes in what another process noted.
    pub fn extend(&mut self, other: Self) {
        self.present.extend(other.present);
        self.missing.extend(other.missing);
    }

    /// Spells them, a line each.
    pub(super) fn spell(&self) -> String {
        let present = self.present.iter().map(|layer| format!("{} +\n", layer.code()));
        let missing = self.missing.iter().map(|(layer, why)| {
            let why: String =
                why.chars().filter(|letter| !letter.is_control()).take(LONGEST_REASON).collect();
            format!("{} -{why}\n", layer.code())
        });
        present.chain(missing).collect()
    }

    /// Reads what [`Layers::spell`] wrote; lines of no known layer count for nothing.
    pub(super) fn read(text: &str) -> Self {
        let mut layers = Self::default();
        for line in text.lines() {
            let Some((layer, rest)) = line.split_once(' ') else { continue };
            let Some(layer) = Layer::of_code(layer) else { continue };
            match rest.strip_prefix('-') {
                Some(why) => layers.missing.push((layer, why.to_owned())),
                None => layers.present.push(layer),
            }
        }
        layers
    }
}

/// A message holds twelve of them.
const LONGEST_REASON: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_noted_the_other_reads() {
        let mut layers = Layers::default();
        for layer in Layer::ALL {
            layers.note(layer, if layer == Layer::SystemCalls { Err("no\nfilter") } else { Ok(()) });
        }
        let read = Layers::read(&layers.spell());
        assert_eq!(read.present(), layers.present());
        assert_eq!(read.missing(), [(Layer::SystemCalls, "nofilter".to_owned())]);
        assert_eq!(read.breach().unwrap().0, Layer::SystemCalls);
    }

    #[test]
    fn a_missing_convenience_is_no_breach() {
        let mut layers = Layers::default();
        layers.note(Layer::Ruleset, Err("no nft"));
        assert_eq!(layers.breach(), None);
    }
}
