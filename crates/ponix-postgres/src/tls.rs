//! TLS as rustls speaks it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::ConfigError;

/// Makes what speaks TLS, with the system's authorities or those of a PEM file.
///
/// # Errors
/// The file cannot be read or holds no certificate, or the system has none.
pub(crate) fn connector(
    root_certificates: Option<&Path>,
) -> Result<MakeRustlsConnect, ConfigError> {
    let roots = match root_certificates {
        Some(path) => roots_of_file(path)?,
        None => roots_of_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, ConfigError> {
    let failed = |error: &dyn std::fmt::Display| problem(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"no certificate in it"));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(problem(
            "the system has none, name some with sslrootcert".into(),
        ));
    }
    Ok(roots)
}

fn problem(problem: String) -> ConfigError {
    ConfigError::RootCertificates { problem }
}
