//! Whom we believe over TLS: the system's certificate authorities, and those of `ca_file`.
//!
//! It does not know what is asked over the connections.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::facts::Name;

use super::StartError;

/// Where systems keep their CA certificates: Debian and Alpine, Fedora, SUSE.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Makes the client's side of TLS for this protocol (ALPN).
///
/// # Errors
/// [`StartError`] when certificates are missing or broken.
pub(super) fn client(ca_file: Option<&Path>, protocol: &[u8]) -> Result<ClientConfig, StartError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
        add(&mut roots, path)?;
    }
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(StartError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(StartError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), StartError> {
    let text = std::fs::read(path).map_err(|source| StartError::Read { path: path.to_path_buf(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|_| StartError::Certificates(path.to_path_buf()))?;
    // A bundle may hold certificates that this verifier cannot use; one usable is enough.
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(StartError::Certificates(path.to_path_buf())),
        (_, _) => Ok(()),
    }
}

/// Turns a name into one that certificates are checked against.
///
/// # Errors
/// [`StartError::ServerName`].
pub(super) fn server_name(name: &Name) -> Result<ServerName<'static>, StartError> {
    ServerName::try_from(name.as_str().to_owned())
        .map_err(|_| StartError::ServerName(name.as_str().to_owned()))
}
