//! How the kernel's rules compare with those of a plan, seen by somebody who did not load them.
//!
//! Looks and changes nothing. Must not know whether anything should be installed at all.

use super::error::NftError;
use super::listing;
use super::netfilter::Netfilter;
use super::plan::Plan;
use super::ruleset::Ruleset;

/// What is not as the plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// There is no such table.
    Missing,
    /// The table is another one: the first difference, in words.
    Other(String),
}

/// Compares the table of a plan with the kernel's; `None`: it is the one that the plan leads to.
///
/// The marker and the number of rules in each chain are compared, not the rules' words: `nft` spells them
/// in a way of its own. Rules for local processes name the gate that loaded them, its user and descriptors: then
/// the marker is another one, and only rules are counted. Who loaded the table knows better (`Installed::verify`).
///
/// # Errors
///
/// The kernel or `nft` does not answer.
pub async fn compare(kernel: &dyn Netfilter, plan: &Plan) -> Result<Option<Difference>, NftError> {
    let ruleset = Ruleset::of(plan);
    let Some(listing) = kernel.list(ruleset.family, &ruleset.table).await? else {
        return Ok(Some(Difference::Missing));
    };
    let difference = match plan.config().local {
        Some(_) => listing::other_rules(&ruleset, &listing),
        None => listing::difference(&ruleset, &listing),
    };
    Ok(difference.map(Difference::Other))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::apply::Installed;
    use super::super::plan::Form;
    use super::super::plan::tests::config;
    use super::super::scripted::Scripted;
    use super::*;

    #[tokio::test]
    async fn a_stranger_tells_the_plan_in_force_from_another_a_changed_and_a_missing_one() {
        let plan = |name| Plan::new(config(&[name]), Form::Redirect).expect("plan");
        let kernel = Arc::new(Scripted::default());
        let seen = compare(&*kernel, &plan("br0")).await.expect("an answer");
        assert_eq!(seen, Some(Difference::Missing));
        drop(Installed::apply(kernel.clone(), &plan("br0")).await.expect("apply"));
        assert_eq!(compare(&*kernel, &plan("br0")).await.expect("an answer"), None);
        let other = compare(&*kernel, &plan("br1")).await.expect("an answer");
        assert!(matches!(&other, Some(Difference::Other(what)) if what.contains("marker")), "{other:?}");
        kernel.edit("namegate", |text| text.replacen("\t\tcounter drop\n", "", 1));
        let changed = compare(&*kernel, &plan("br0")).await.expect("an answer");
        assert!(matches!(&changed, Some(Difference::Other(what)) if what.contains("rules")), "{changed:?}");
    }
}
