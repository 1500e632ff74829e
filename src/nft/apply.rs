//! A ruleset in force, and its owner.
//!
//! Fail closed by construction: the rules stay when this process dies, and then nobody listens where they
//! lead. So dropping an [`Installed`] removes nothing; only [`Installed::remove`] and [`remove_leftovers`]
//! do. Must not know what rules say, nor when the daemon thinks it right to take them down.

use std::fmt;
use std::sync::Arc;

use super::error::NftError;
use super::listing;
use super::netfilter::Netfilter;
use super::plan::{self, Plan};
use super::route::{Piece, Steering};
use super::ruleset::{Ruleset, TableFamily};

/// How the kernel's table compares with what was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As loaded.
    Intact,
    /// Somebody took the table away: captured clients are not captured.
    Missing,
    /// Somebody changed the table, or took a routing rule or route away.
    Changed,
}

/// A ruleset that was loaded and read back.
pub struct Installed {
    kernel: Arc<dyn Netfilter>,
    ruleset: Ruleset,
    /// The listing right after loading, in normal form.
    baseline: String,
    steering: Steering,
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed")
            .field("table", &self.ruleset.table)
            .field("kind", &self.ruleset.kind)
            .finish_non_exhaustive()
    }
}

impl Installed {
    /// Loads the ruleset of a plan in one transaction, in place of whatever our table held, and reads it back.
    ///
    /// # Errors
    ///
    /// Loading failed: nothing changed, and what an earlier run left, table and fences, still refuses. Or the
    /// kernel holds something else than was loaded: that stays.
    pub async fn apply(kernel: Arc<dyn Netfilter>, plan: &Plan) -> Result<Self, NftError> {
        let installed = Self::load(Arc::clone(&kernel), Ruleset::of(plan)).await?;
        // What a run with another configuration left; its fences would go on stopping traffic.
        let there = kernel.steered().await?.into_iter().map(|(_, piece)| piece).collect();
        kernel.unsteer(Some(without(there, &installed.ruleset.pieces))).await?;
        Ok(installed)
    }

    /// As [`Installed::apply`], for a ruleset that has nothing to do with policy routing.
    ///
    /// # Errors
    ///
    /// As [`Installed::apply`].
    pub async fn load(kernel: Arc<dyn Netfilter>, ruleset: Ruleset) -> Result<Self, NftError> {
        let (baseline, steering) = load_or_undo(&*kernel, &ruleset, &[]).await?;
        Ok(Self { kernel, ruleset, baseline, steering })
    }

    /// Returns what was loaded.
    pub const fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// Compares the kernel's table, rule and routes with what was loaded.
    ///
    /// # Errors
    ///
    /// The kernel or `nft` does not answer: unknown, which is not intact.
    pub async fn verify(&self) -> Result<Standing, NftError> {
        let Some(listing) = self.kernel.list(self.ruleset.family, &self.ruleset.table).await? else {
            return Ok(Standing::Missing);
        };
        if listing::normalise(&listing) != self.baseline {
            return Ok(Standing::Changed);
        }
        let steered = self.kernel.steered().await?;
        Ok(if self.steering.is_subset(&steered) { Standing::Intact } else { Standing::Changed })
    }

    /// Loads the same ruleset again, after somebody changed or removed it.
    ///
    /// # Errors
    ///
    /// As [`Installed::apply`]; a later call may succeed.
    pub async fn restore(&mut self) -> Result<(), NftError> {
        (self.baseline, self.steering) = load(&*self.kernel, &self.ruleset).await?;
        Ok(())
    }

    /// Puts the ruleset of another plan in place of this one, without a moment in between.
    ///
    /// # Errors
    ///
    /// As [`Installed::apply`]; the old ruleset stays in force.
    pub async fn replace(&mut self, plan: &Plan) -> Result<(), NftError> {
        self.exchange(Ruleset::of(plan)).await
    }

    /// As [`Installed::replace`], for a ruleset of whatever kind.
    ///
    /// # Errors
    ///
    /// As [`Installed::apply`]; the old ruleset stays in force.
    pub async fn exchange(&mut self, ruleset: Ruleset) -> Result<(), NftError> {
        (self.baseline, self.steering) = load_or_undo(&*self.kernel, &ruleset, &self.ruleset.pieces).await?;
        let old = std::mem::replace(&mut self.ruleset, ruleset);
        if old.table != self.ruleset.table {
            self.kernel.load(&removal(old.family, &old.table)).await?;
        }
        self.kernel.unsteer(Some(without(old.pieces, &self.ruleset.pieces))).await.map(drop)
    }

    /// Takes everything down: the table, then rule and routes. Clients are no longer captured; whether
    /// they then reach the world is up to `ip_forward` and other tables.
    ///
    /// # Errors
    ///
    /// The kernel or `nft` refuses; [`remove_leftovers`] can be called again and again.
    pub async fn remove(self) -> Result<(), NftError> {
        self.kernel.load(&removal(self.ruleset.family, &self.ruleset.table)).await?;
        self.kernel.unsteer(Some(self.ruleset.pieces)).await.map(drop)
    }
}

/// What there was to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers {
    /// The table that captures.
    pub table: bool,
    /// The table that pins ports of bridges.
    pub pins: bool,
    /// Routing rules and routes.
    pub steering: Steering,
}

/// Removes what a namegate that is gone left behind, without knowing its configuration but for the table's
/// name. Finding nothing is fine.
///
/// # Errors
///
/// The name is no table name; the kernel or `nft` refuses.
pub async fn remove_leftovers(kernel: &dyn Netfilter, table: &str) -> Result<Leftovers, NftError> {
    plan::check_table(table)?;
    let mut there = [TableFamily::Inet, TableFamily::Bridge].map(|family| (family, false));
    for (family, found) in &mut there {
        *found = kernel.list(*family, table).await?.is_some();
        if *found {
            kernel.load(&removal(*family, table)).await?;
        }
    }
    let [(_, table), (_, pins)] = there;
    Ok(Leftovers { table, pins, steering: kernel.unsteer(None).await? })
}

/// Loads, or leaves policy routing as it was. A fence that stood before is never taken down: it may be all that is left
/// of an earlier run. Nor is one of the rules that stay in force, should somebody have taken it away.
async fn load_or_undo(
    kernel: &dyn Netfilter,
    ruleset: &Ruleset,
    in_force: &[Piece],
) -> Result<(String, Steering), NftError> {
    let before: Vec<Piece> = kernel.steered().await?.into_iter().map(|(_, piece)| piece).collect();
    let loaded = load(kernel, ruleset).await;
    if let Err(error) = &loaded
        && !matches!(error, NftError::ReadBack { .. })
    {
        let added = without(without(ruleset.pieces.clone(), &before), in_force);
        let _ = kernel.unsteer(Some(added)).await;
    }
    loaded
}

/// Policy routing comes first: a mark without a way home only costs the packet, and the fence stands before
/// and after the table does.
async fn load(kernel: &dyn Netfilter, ruleset: &Ruleset) -> Result<(String, Steering), NftError> {
    let steering = kernel.steer(ruleset.pieces.clone()).await?;
    kernel.load(&ruleset.text).await?;
    let read_back = |what: String| NftError::ReadBack { table: ruleset.table.clone(), what };
    let listing = kernel.list(ruleset.family, &ruleset.table).await?;
    let listing = listing.ok_or_else(|| read_back("it is not there".to_owned()))?;
    if let Some(what) = listing::difference(ruleset, &listing) {
        return Err(read_back(what));
    }
    tracing::info!(table = ruleset.table, kind = ruleset.kind, "ruleset in force");
    Ok((listing::normalise(&listing), steering))
}

fn without(pieces: Vec<Piece>, kept: &[Piece]) -> Vec<Piece> {
    pieces.into_iter().filter(|piece| !kept.contains(piece)).collect()
}

/// Works whether or not the table is there.
fn removal(family: TableFamily, table: &str) -> String {
    let place = format!("{} {table}", family.as_str());
    format!("add table {place}\ndelete table {place}\n")
}

#[cfg(test)]
mod tests {
    use super::super::plan::Form;
    use super::super::plan::tests::config;
    use super::super::scripted::Scripted;
    use super::*;

    fn plan(interfaces: &[&str], form: Form) -> Plan {
        Plan::new(config(interfaces), form).expect("plan")
    }

    #[tokio::test]
    async fn what_was_loaded_is_read_back_and_can_be_verified_and_removed() {
        let kernel = Arc::new(Scripted::default());
        let installed = Installed::apply(kernel.clone(), &plan(&["br0"], Form::Tproxy)).await.expect("apply");
        assert_eq!(kernel.pieces(), [Piece::Home, Piece::Fence("br0".to_owned())]);
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
        installed.remove().await.expect("remove");
        assert_eq!(kernel.tables(), 0);
        assert_eq!(kernel.pieces(), []);
    }

    #[tokio::test]
    async fn a_flushed_a_changed_and_an_unsteered_ruleset_are_seen_and_restored() {
        let kernel = Arc::new(Scripted::default());
        let mut installed =
            Installed::apply(kernel.clone(), &plan(&["br0"], Form::Tproxy)).await.expect("apply");
        kernel.forget("namegate");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Missing);
        installed.restore().await.expect("restore");
        kernel.edit("namegate", |text| text.replacen("counter drop", "accept", 1));
        assert_eq!(installed.verify().await.expect("verify"), Standing::Changed);
        installed.restore().await.expect("restore");
        kernel.unsteer(Some(vec![Piece::Fence("br0".to_owned())])).await.expect("unsteer");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Changed);
        installed.restore().await.expect("restore");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
    }

    #[tokio::test]
    async fn a_failed_load_leaves_no_route_behind_and_a_failed_replacement_leaves_the_old_rules() {
        let kernel = Arc::new(Scripted::default());
        kernel.refuse_next_load();
        let failed = Installed::apply(kernel.clone(), &plan(&["br0"], Form::Tproxy)).await;
        assert!(matches!(failed, Err(NftError::Refused { .. })));
        assert_eq!(kernel.pieces(), []);

        let mut installed =
            Installed::apply(kernel.clone(), &plan(&["br0"], Form::Redirect)).await.expect("apply");
        kernel.refuse_next_load();
        installed.replace(&plan(&["br1"], Form::Redirect)).await.expect_err("refused");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
        assert_eq!(kernel.pieces(), [Piece::Fence("br0".to_owned())]);
        installed.replace(&plan(&["br1"], Form::Tproxy)).await.expect("replace");
        assert_eq!(kernel.pieces(), [Piece::Home, Piece::Fence("br1".to_owned())]);
        installed.replace(&plan(&["br1"], Form::Redirect)).await.expect("replace");
        assert_eq!(kernel.pieces(), [Piece::Fence("br1".to_owned())]);
    }

    #[tokio::test]
    async fn a_fence_that_an_earlier_run_left_stands_when_the_next_start_fails() {
        let kernel = Arc::new(Scripted::default());
        let fence = || Piece::Fence("br0".to_owned());
        drop(Installed::apply(kernel.clone(), &plan(&["br0"], Form::Redirect)).await.expect("apply"));
        kernel.forget("namegate");
        kernel.refuse_next_load();
        let failed = Installed::apply(kernel.clone(), &plan(&["br0", "br1"], Form::Tproxy)).await;
        assert!(matches!(failed, Err(NftError::Refused { .. })));
        assert_eq!(kernel.pieces(), [fence()], "what this start added is gone, and nothing else");

        let mut installed =
            Installed::apply(kernel.clone(), &plan(&["br1"], Form::Redirect)).await.expect("apply");
        kernel.steer(vec![fence()]).await.expect("steer");
        kernel.forget("namegate");
        kernel.refuse_next_load();
        installed.replace(&plan(&["br0"], Form::Tproxy)).await.expect_err("refused");
        assert_eq!(kernel.pieces(), [fence(), Piece::Fence("br1".to_owned())]);
        kernel.unsteer(Some(vec![Piece::Fence("br1".to_owned())])).await.expect("unsteer");
        kernel.refuse_next_load();
        installed.restore().await.expect_err("refused");
        assert_eq!(kernel.pieces(), [fence(), Piece::Fence("br1".to_owned())], "the fence at least is back");
    }

    #[tokio::test]
    async fn a_replacement_under_another_name_takes_the_old_table_along() {
        let kernel = Arc::new(Scripted::default());
        let mut installed =
            Installed::apply(kernel.clone(), &plan(&["br0"], Form::Redirect)).await.expect("apply");
        let mut renamed = config(&["br0"]);
        renamed.table = "other".to_owned();
        installed.replace(&Plan::new(renamed, Form::Redirect).expect("plan")).await.expect("replace");
        assert_eq!(kernel.tables(), 1);
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
    }

    #[tokio::test]
    async fn a_table_that_is_not_what_was_loaded_is_an_error() {
        let kernel = Arc::new(Scripted::default());
        kernel.distort_loads();
        let error =
            Installed::apply(kernel.clone(), &plan(&["br0"], Form::Redirect)).await.expect_err("distorted");
        assert!(matches!(error, NftError::ReadBack { .. }), "{error}");
        assert_eq!(kernel.tables(), 1, "it refuses more than nothing does");
    }

    #[tokio::test]
    async fn an_earlier_run_with_another_configuration_leaves_no_fence_behind() {
        let kernel = Arc::new(Scripted::default());
        drop(Installed::apply(kernel.clone(), &plan(&["br0"], Form::Tproxy)).await.expect("apply"));
        drop(Installed::apply(kernel.clone(), &plan(&["br1"], Form::Redirect)).await.expect("apply"));
        assert_eq!(kernel.pieces(), [Piece::Fence("br1".to_owned())]);
    }

    #[tokio::test]
    async fn leftovers_are_removed_once_and_a_second_time() {
        let kernel = Arc::new(Scripted::default());
        drop(Installed::apply(kernel.clone(), &plan(&["br0"], Form::Tproxy)).await.expect("apply"));
        assert_eq!(kernel.tables(), 1, "dropping removes nothing");
        let first = remove_leftovers(&*kernel, "namegate").await.expect("remove");
        assert_eq!((first.table, first.steering.len()), (true, 2));
        let second = remove_leftovers(&*kernel, "namegate").await.expect("remove");
        assert_eq!(second, Leftovers { table: false, pins: false, steering: Steering::default() });
        remove_leftovers(&*kernel, "x; flush ruleset").await.expect_err("not a table name");
    }
}
