//! The packet filter and policy routing.
//!
//! Must not judge.

use std::io;

use crate::doctor::facts::{Seen, Table};
use crate::nft::{
    BaseChain, Difference, Form, FormChoice, Known, Netfilter, Nft, NftError, NftVersion, Plan, Steering,
    compare,
};
use crate::settings::Settings;

use super::{told, within};

pub(super) async fn version(nft: &Nft) -> Seen<Option<NftVersion>> {
    match nft.version().await {
        Ok(version) => Ok(Some(version)),
        Err(NftError::NotInstalled) => Ok(None),
        Err(error) => Err(told(&error)),
    }
}

/// Our table as compared with the configuration's, and the base chains of all.
pub(super) async fn look(settings: &Settings) -> (Seen<Table>, Seen<Vec<BaseChain>>) {
    let nft = Nft::default();
    let config = &settings.capture;
    let ports = [config.proxy_port, config.dns_port];
    let known = Known { interfaces: &config.interfaces, ports: &ports };
    let chains = within(async { nft.base_chains(&known).await.map_err(|error| told(&error)) });
    (within(table(settings, &nft)).await, chains.await)
}

/// With `auto`, the form hangs on switches that may have changed since: either form's table is the configuration's.
async fn table(settings: &Settings, nft: &Nft) -> Seen<Table> {
    let forms: &[Form] = match settings.capture.form {
        FormChoice::Auto => &[Form::Tproxy, Form::Redirect],
        FormChoice::Redirect => &[Form::Redirect],
        FormChoice::Tproxy => &[Form::Tproxy],
    };
    let mut seen = Table::Not(Difference::Missing);
    for &form in forms {
        let plan = Plan::new(settings.capture.clone(), form).map_err(|error| told(&error))?;
        match compare(nft, &plan).await.map_err(|error| told(&error))? {
            None => return Ok(Table::InForce(form)),
            Some(difference) => seen = Table::Not(difference),
        }
    }
    Ok(seen)
}

pub(super) async fn steering() -> Seen<Steering> {
    Nft::default().steered().await.map_err(|error| told(&error))
}

/// The kernel lists the tables of iptables-legacy by name; those of iptables-nft are among the chains.
pub(super) fn legacy_tables() -> Seen<bool> {
    let mut loaded = false;
    for file in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
        match std::fs::read_to_string(file) {
            Ok(names) => loaded |= !names.trim().is_empty(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(loaded)
}
