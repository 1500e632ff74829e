//! A certificate authority that lives as long as the demo, and the one certificate it signs.
//!
//! Must not know who serves with it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Error;

/// What clients trust, and what servers show.
#[derive(Debug)]
pub(super) struct Authority {
    /// The authority's certificate, PEM.
    pub(super) pem: String,
    /// A server for every name of the demo. The attacker has it too: a bypass shall not fail for want of a
    /// certificate.
    pub(super) server: Arc<ServerConfig>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "namegate demo authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut server = CertificateParams::new(["*.example.com", "*.example.net"].map(str::to_owned))?;
        server.distinguished_name.push(DnType::CommonName, "namegate demo server");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { pem, server: Arc::new(server) })
    }
}
