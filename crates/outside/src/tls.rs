//! TLS towards hosts: who is trusted, and what it is made of.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;

/// What TLS is made of here, on both sides: AES with 128 bits where the other side has it too, which is as good as
/// with 256 and takes three quarters of the time.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let quick = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    provider.cipher_suites.sort_by_key(|suite| !quick.contains(&suite.suite()));
    Arc::new(provider)
}

/// The authorities that the configuration names; one that cannot be read is a reason not to start.
///
/// # Errors
/// That it is no PEM of certificates.
pub fn extra_roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() && !pem.trim_ascii().is_empty() {
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(roots)
}

/// What a client is towards hosts: it trusts the roots that are built in and those that the machine's configuration adds.
///
/// # Errors
/// That TLS cannot be set up at all.
pub fn towards_hosts(mut roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_read_is_not_passed_over() {
        assert!(extra_roots(b"\n").unwrap().is_empty());
        assert!(extra_roots(b"what is this").is_err());
        let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(extra_roots(bad).is_err());
    }
}
