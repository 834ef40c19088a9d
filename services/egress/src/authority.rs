//! The authority of one workstation: it vouches for the worker that reads what a program says to a host. Its key is in
//! memory alone: sealed, in a descriptor that PID 1 keeps over a restart of the gate, and in that worker. Its word is worth
//! nothing but for the hosts that secrets are used at.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use octant_manifest::{HostName, HostPattern};
use octant_outside::tls::provider;
use octant_sys::clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// How long the authority lasts: an agent that lives longer loses the hosts that secrets are used at.
const LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a host's certificate lasts, and when another is made.
const LEAF_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
const LEAF_ANEW: Duration = Duration::from_secs(12 * 60 * 60);
/// Clocks inside and outside are one, but for a step between two looks at it.
const BEFORE: Duration = Duration::from_secs(60 * 60);
/// How many hosts have a certificate at a time: a wildcard's names are endless.
const LEAVES_MAX: usize = 64;
/// What an authority comes to at the most, in bytes: 32 hosts, a certificate that names them, a key.
const SEALED_MAX: usize = 64 << 10;
/// What certificates that the configuration adds come to at the most, in bytes.
pub(crate) const ROOTS_MAX: usize = 4 << 20;

/// What cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAuthority {
    #[error("make a key or a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("keep it in memory: {0}")]
    Memory(#[from] io::Error),
    #[error("read what was kept: {0}")]
    Kept(#[from] serde_json::Error),
}

/// Puts bytes where nobody changes them any more, and gives the descriptor to read them by.
pub(crate) fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"octant", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Reads them, up to so many, wherever another reader is.
pub(crate) fn unsealed(fd: OwnedFd, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::from(fd);
    let mut bytes = Zeroizing::new(vec![0; most]);
    let mut at = 0;
    loop {
        match file.read_at(&mut bytes[at..], at as u64)? {
            0 if at == most => return Err(io::ErrorKind::FileTooLarge.into()),
            0 => break,
            count => at += count,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// An authority as it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    hosts: Vec<String>,
    until_ms: u64,
    certificate: String,
    /// PKCS 8, as PEM.
    key: Zeroizing<String>,
}

/// An authority, as the gate has it.
#[derive(Debug)]
pub(crate) struct Authority {
    pem: String,
    hosts: Vec<String>,
    until_ms: u64,
    sealed: OwnedFd,
}

/// An authority at work, in the worker of its agent.
pub(crate) struct Voucher {
    issuer: Issuer<'static, KeyPair>,
    leaves: Mutex<BTreeMap<HostName, (SystemTime, Arc<ServerConfig>)>>,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall_ms())
}

/// What is the same in every authority.
fn params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Octant workstation");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// The hosts that an authority for these is good for.
fn names<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Vec<String> {
    let mut names: Vec<String> =
        hosts.map(|host| host.to_string().trim_start_matches("*.").to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

impl Authority {
    /// Makes one for these hosts.
    pub(crate) fn new<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Result<Self, NoAuthority> {
        let (key, now, mut params) = (KeyPair::generate()?, now(), params()?);
        let hosts = names(hosts);
        let permitted_subtrees = hosts.iter().cloned().map(GeneralSubtree::DnsName).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + LASTS).into());
        let pem = params.self_signed(&key)?.pem();
        let lasts = u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX);
        let until_ms = clock::wall_ms().saturating_add(lasts);
        let key = Zeroizing::new(key.serialize_pem());
        let kept = Kept { hosts, until_ms, certificate: pem, key };
        let sealed = sealed(&Zeroizing::new(serde_json::to_vec(&kept)?))?;
        let Kept { hosts, until_ms, certificate, key: _ } = kept;
        Ok(Self { pem: certificate, hosts, until_ms, sealed })
    }

    /// What an earlier run of the gate made.
    pub(crate) fn kept(sealed: OwnedFd) -> Result<Self, NoAuthority> {
        let kept: Kept = serde_json::from_slice(&unsealed(sealed.try_clone()?, SEALED_MAX)?)?;
        let Kept { hosts, until_ms, certificate, key: _ } = kept;
        Ok(Self { pem: certificate, hosts, until_ms, sealed })
    }

    /// Whether it is good for these hosts, and for no others.
    pub(crate) fn is_for<'a>(&self, hosts: impl Iterator<Item = &'a HostPattern>) -> bool {
        clock::wall_ms() < self.until_ms && self.hosts == names(hosts)
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What a worker, or a later run, has it from.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.sealed.as_fd()
    }
}

impl Voucher {
    /// Takes an authority out of its descriptor.
    pub(crate) fn read(sealed: OwnedFd) -> Result<Self, NoAuthority> {
        let kept: Kept = serde_json::from_slice(&unsealed(sealed, SEALED_MAX)?)?;
        let issuer = Issuer::new(params()?, KeyPair::from_pem(&kept.key)?);
        Ok(Self { issuer, leaves: Mutex::default() })
    }

    /// What the worker is towards a program that means this host.
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
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.ignore_client_order = true;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_it_was_kept_and_for_its_hosts_alone() {
        let hosts: Vec<HostPattern> = ["api.example.org", "*.example.net"].map(|h| h.parse().unwrap()).into();
        let made = Authority::new(hosts.iter()).unwrap();
        let kept = Authority::kept(made.fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(kept.pem(), made.pem());
        assert!(kept.is_for(hosts.iter().rev()) && !kept.is_for(hosts[..1].iter()));
        Voucher::read(kept.fd().try_clone_to_owned().unwrap()).unwrap();
        // Nobody who has the descriptor changes what is behind it.
        let mut file = File::from(kept.fd().try_clone_to_owned().unwrap());
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
        assert!(Authority::kept(sealed(b"{}").unwrap()).is_err());
        assert!(unsealed(sealed(&[7; 9]).unwrap(), 8).is_err());
    }
}
