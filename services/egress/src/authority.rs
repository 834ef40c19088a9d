//! The authority of one workstation: it vouches for the gate where that reads what a program says to a host. Its key is
//! in this process and nowhere else, and its word is worth nothing but for the hosts that secrets are used at.

use octant_manifest::{HostName, HostPattern};
use octant_sys::clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long the authority lasts: an agent that lives longer loses the hosts that secrets are used at.
const LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a host's certificate lasts, and when another is made.
const LEAF_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
const LEAF_ANEW: Duration = Duration::from_secs(12 * 60 * 60);
/// Clocks inside and outside are one, but for a step between two looks at it.
const BEFORE: Duration = Duration::from_secs(60 * 60);
/// How many hosts have a certificate at a time: a wildcard's names are endless.
const LEAVES_MAX: usize = 64;
/// What is spoken; the next version of HTTP is not read yet.
const ALPN: &[u8] = b"http/1.1";

/// What cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAuthority {
    #[error("make a key or a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    leaves: Mutex<BTreeMap<HostName, (SystemTime, Arc<ServerConfig>)>>,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall_ms())
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Authority {
    /// Makes one for these hosts.
    pub(crate) fn new<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Result<Self, NoAuthority> {
        let key = KeyPair::generate()?;
        let now = now();
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Octant workstation");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = |host: &HostPattern| host.to_string().trim_start_matches("*.").to_owned();
        let permitted_subtrees = hosts.map(|host| GeneralSubtree::DnsName(name(host))).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + LASTS).into());
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, leaves: Mutex::default() })
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What the gate is towards a program that means this host.
    pub(crate) fn as_host(&self, host: &HostName) -> Result<Arc<ServerConfig>, NoAuthority> {
        let now = now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes another one.
        let young = |made: &SystemTime| now.duration_since(*made).is_ok_and(|age| age < LEAF_ANEW);
        if let Some((_, config)) = leaves.get(host).filter(|(made, _)| young(made)) {
            return Ok(Arc::clone(config));
        }
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        let config = Arc::new(self.leaf(host, now)?);
        leaves.insert(host.clone(), (now, Arc::clone(&config)));
        Ok(config)
    }

    fn leaf(&self, host: &HostName, now: SystemTime) -> Result<ServerConfig, NoAuthority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_string()])?;
        params.distinguished_name.push(DnType::CommonName, "Octant gate");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + LEAF_LASTS).into());
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

/// What the gate is towards hosts: it trusts the roots that are built in and those that the machine's configuration adds.
pub(crate) fn towards_hosts(mut roots: RootCertStore) -> Result<ClientConfig, NoAuthority> {
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
