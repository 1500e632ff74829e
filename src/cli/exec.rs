//! `exec`: one command, what it is granted, and what is heard of it.
//!
//! Must not know what a sandbox is made of. Starts no thread: the daemon forks first.

use std::process::ExitCode;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::daemon::{self, Exec};
use crate::record::{Event, Learner, Listener, Notices, Summary};
use crate::settings::{self, SandboxArguments, SandboxSettings};
use crate::sys::clock;

use super::learn::RulesFile;
use super::output::{self, Failure, Screen};
use super::serve::{accept, refused};
use super::tree::ExecArgs;
use super::{notice, report};

pub(super) fn exec(arguments: &ExecArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let settings = settings(arguments, screen)?;
    if !arguments.quiet
        && let Some(variable) =
            PROXIES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
    {
        screen.talk(&format!(
            "namegate: {variable} is set: the command will ask that proxy, and only the proxy's name could be judged\n"
        ));
    }
    let rules_file = arguments.learn.as_deref().map(RulesFile::prepare).transpose().map_err(|error| {
        Failure::usage(error).hint("--learn takes a file that can be written; it is replaced at the end")
    })?;
    let heard = Arc::new(Mutex::new(Heard {
        notices: (!arguments.quiet).then(Notices::default),
        summary: arguments.report.then(Summary::default),
        learner: rules_file.is_some().then(Learner::default),
    }));
    let finished = daemon::exec(Exec {
        settings,
        command: arguments.command.clone(),
        allow_sockets: arguments.allow_socket.clone(),
        allow_devices: arguments.allow_device.clone(),
        host_ports: arguments.host_port.clone(),
        best_effort: arguments.best_effort,
        quiet: arguments.quiet,
        listener: listener(&heard),
    })
    .map_err(refused)?;
    let heard = heard.lock();
    if let Some(summary) = &heard.summary {
        screen.talk(&report::table(summary));
    }
    if let (Some(file), Some(learner)) = (rules_file, &heard.learner) {
        file.write(&learner.rules()).map_err(Failure::system)?;
    }
    // Where a signal ended the command this does not return.
    finished.suffer();
    Ok(ExitCode::from(finished.code()))
}

/// Variables that send programs to a proxy.
const PROXIES: [&str; 6] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

fn settings(arguments: &ExecArgs, screen: &mut Screen) -> Result<SandboxSettings, Failure> {
    let plain = SandboxArguments {
        allow: arguments.allow.clone(),
        deny: arguments.deny.clone(),
        policy: arguments.policy.clone(),
        observe: arguments.observe || arguments.learn.is_some(),
        private: arguments.private,
        host_ports: arguments.host_port.clone(),
        upstreams: arguments.dns_upstream.clone(),
        audit: arguments.audit.clone(),
    };
    match settings::sandbox(&plain, clock::now().wall) {
        // Then there are only warnings.
        Ok(checked) if arguments.quiet => Ok(checked.settings),
        Err(error @ settings::Error::Unreadable { .. }) => {
            Err(Failure::usage(error)
                .hint("--policy takes a file of [[rule]] tables; --learn FILE writes one"))
        }
        other => accept(other.map(|checked| (checked.settings, checked.report)), screen),
    }
}

/// What is made of the events while they come.
struct Heard {
    notices: Option<Notices>,
    summary: Option<Summary>,
    learner: Option<Learner>,
}

impl Heard {
    /// Takes an event in; returns what is to be said of it.
    fn hear(&mut self, event: &Event) -> Option<String> {
        let notice = self.notices.as_mut().and_then(|notices| notices.hear(event));
        if let Some(summary) = &mut self.summary {
            summary.hear(event);
        }
        if let Some(learner) = &mut self.learner {
            learner.hear(event);
        }
        notice.map(|notice| notice::line(&notice))
    }
}

fn listener(heard: &Arc<Mutex<Heard>>) -> Option<Listener> {
    let Heard { notices, summary, learner } = &*heard.lock();
    if notices.is_none() && summary.is_none() && learner.is_none() {
        return None;
    }
    let heard = Arc::clone(heard);
    Some(Box::new(move |event| {
        let line = heard.lock().hear(event);
        if let Some(line) = line {
            output::say_if_heard(&line);
        }
    }))
}
