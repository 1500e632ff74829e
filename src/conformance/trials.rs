//! Everything that is tried, in order.

mod dns;
mod http;
mod identity;
mod network;
mod outage;
mod tls;
mod usual;

use super::trial::Trial;

pub(super) use network::SERVICE;

/// What must go through comes early: a filter that lets nothing through blocks every attack.
pub(super) fn all() -> Vec<Trial> {
    let mut trials = vec![network::from_before()];
    trials.extend(usual::trials());
    trials.extend(identity::trials());
    trials.extend(tls::trials());
    trials.extend(http::trials());
    trials.extend(dns::trials());
    trials.extend(network::trials());
    trials.extend(outage::trials());
    trials
}
