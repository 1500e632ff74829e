//! Taking things out of an answer. The one place that decodes a message as a whole and writes it anew.
//!
//! It does not know why a rule holds.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, Record};

use crate::facts::{Fault, Scope, scope};

/// What may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Addresses that are not public.
    pub(super) private: bool,
    /// The EDNS record.
    pub(super) edns: bool,
}

/// Returns the edited message, `None` when there is nothing to edit after all.
///
/// The AD bit goes: what was changed is not what was validated.
///
/// # Errors
/// [`Fault::Dns`] when the full decoder refuses what the walk took.
pub(super) fn edit(bytes: &[u8], rules: Rules) -> Result<Option<Vec<u8>>, Fault> {
    let mut message = Message::from_vec(bytes).map_err(|_| Fault::Dns)?;
    let mut changed = false;
    let sections =
        [(&mut message.answers, false), (&mut message.authorities, false), (&mut message.additionals, true)];
    for (records, additional) in sections {
        records.retain_mut(|record| {
            let (stays, touched) = judge(record, rules, additional);
            changed |= touched || !stays;
            stays
        });
    }
    if changed {
        message.metadata.authentic_data = false;
    }
    if !rules.edns {
        changed |= message.edns.take().is_some();
    }
    if !changed {
        return Ok(None);
    }
    message.to_vec().map(Some).map_err(|_| Fault::Dns)
}

/// Says whether a record stays, and whether it was touched.
fn judge(record: &mut Record, rules: Rules, additional: bool) -> (bool, bool) {
    let mut touched = false;
    if record.ttl > 0x7fff_ffff {
        record.ttl = 0;
        touched = true;
    }
    let address = |ip: IpAddr| !additional && (rules.private || scope(ip) == Scope::Public);
    // Another crate's enum with a variant for every record type there is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other record types stay as they are")]
    let stays = match &mut record.data {
        RData::A(a) => address(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => address(IpAddr::V6(aaaa.0)),
        RData::HTTPS(https) => {
            serves_its_owner(&record.name, &https.0.target_name) && defuse(&mut https.0, &mut touched)
        }
        RData::SVCB(svcb) => serves_its_owner(&record.name, &svcb.target_name) && defuse(svcb, &mut touched),
        _ => true,
    };
    (stays, touched)
}

/// Whether a service binding leaves the name as it is (RFC 9460 section 2.5). Another target would be dialled under
/// the owner's name at addresses that DNS never gave for that name.
fn serves_its_owner(owner: &hickory_proto::rr::Name, target: &hickory_proto::rr::Name) -> bool {
    target.is_root() || target == owner
}

/// Takes out of a service binding what leads past the gate: `ech` hides names, hints are addresses that
/// nobody asked for, `h3` is QUIC. Returns whether anything usable is left (RFC 9460 section 7.1.1: without
/// default protocols there must be others).
fn defuse(binding: &mut SVCB, touched: &mut bool) -> bool {
    let before = binding.svc_params.len();
    let mut mute = false;
    binding.svc_params.retain_mut(|(key, value)| match (&*key, value) {
        (SvcParamKey::EchConfigList | SvcParamKey::Ipv4Hint | SvcParamKey::Ipv6Hint, _) => false,
        (SvcParamKey::Alpn, SvcParamValue::Alpn(alpn)) => {
            let offered = alpn.0.len();
            alpn.0.retain(|protocol| !protocol.starts_with("h3"));
            *touched |= alpn.0.len() != offered;
            mute = alpn.0.is_empty();
            !mute
        }
        _ => true,
    });
    if binding.svc_params.len() == before {
        return true;
    }
    *touched = true;
    let keys: Vec<SvcParamKey> = binding.svc_params.iter().map(|(key, _)| *key).collect();
    binding.svc_params.retain_mut(|(_, value)| {
        let SvcParamValue::Mandatory(mandatory) = value else { return true };
        mandatory.0.retain(|key| keys.contains(key));
        !mandatory.0.is_empty()
    });
    !(mute && keys.contains(&SvcParamKey::NoDefaultAlpn))
}
