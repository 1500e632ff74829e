//! A certificate authority that lives as long as the play, and the one certificate it signs.
//!
//! Must not know who serves with it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Error;

/// What clients trust, and what servers show.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The authority's certificate, PEM.
    pub(crate) pem: String,
    /// A server for every name of the play. The attacker has it too: a bypass shall not fail for want of a
    /// certificate.
    pub(crate) server: Arc<ServerConfig>,
    /// The same, for key exchange over P-384 alone: most clients must retry there (RFC 8446 section 4.1.4).
    pub(crate) retrying: Arc<ServerConfig>,
}

impl Authority {
    /// Signs for these names, wildcards among them.
    pub(crate) fn new(names: &[&str]) -> Result<Self, Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "namegate throw-away authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut server =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        server.distinguished_name.push(DnType::CommonName, "namegate throw-away server");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let serve = |provider: CryptoProvider| {
            let config = ServerConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key.clone_key())?;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        let server = serve(ring::default_provider())?;
        let retrying =
            serve(CryptoProvider { kx_groups: vec![ring::kx_group::SECP384R1], ..ring::default_provider() })?;
        Ok(Self { pem, server, retrying })
    }
}
