//! `rules`: the kernel ruleset as text, for eyes and for review.
//!
//! Must not know how it is written, and changes nothing.

use std::process::ExitCode;

use crate::daemon;
use crate::nft::{CaptureConfig, Facts, Form, FormChoice, Nft, NftError, Plan, Ruleset, choose};

use super::output::{Failure, Screen};
use super::serve::{load, refused};
use super::tree::{FormArg, RulesArgs};

pub(super) fn rules(arguments: &RulesArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let settings = load(&arguments.config, screen)?;
    let mut config = block_on(daemon::captured(&settings))?.map_err(refused)?;
    match arguments.form {
        Some(FormArg::Auto) => config.form = FormChoice::Auto,
        Some(FormArg::Redirect) => config.form = FormChoice::Redirect,
        Some(FormArg::Tproxy) => config.form = FormChoice::Tproxy,
        None => {}
    }
    let form = match config.form {
        FormChoice::Redirect => Form::Redirect,
        FormChoice::Tproxy => Form::Tproxy,
        FormChoice::Auto => block_on(ask_machine(&config))??,
    };
    let plan = Plan::new(config, form).map_err(Failure::usage)?;
    screen.data(Ruleset::of(&plan).text())?;
    Ok(ExitCode::SUCCESS)
}

/// Which form `serve` would choose here.
async fn ask_machine(config: &CaptureConfig) -> Result<Form, Failure> {
    let undecided = |error: NftError| {
        Failure::system(
            anyhow::Error::new(error).context("this machine does not tell which form it would be"),
        )
        .hint("say --form redirect (bridges where bridge-nf-call-iptables is on) or --form tproxy")
    };
    let facts = Facts::read(config, &Nft::default()).await.map_err(undecided)?;
    choose(config, &facts).map_err(undecided)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system(anyhow::Error::new(error).context("cannot start the runtime")))?;
    Ok(runtime.block_on(work))
}
