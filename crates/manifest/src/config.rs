//! The configuration of a machine: one text, signed by an operator whose role may, for these machines and this time, and
//! with a serial number that only grows.
//!
//! ```text
//! bytes -> SignedConfig -> (signature, role) -> MachineConfig (read) -> the files of an edition
//! ```
//!
//! As with a manifest, the signature is checked over the exact bytes before they are read. There is one exception, which has
//! a function and a word on record of its own: on a machine that trusts nobody yet, the first configuration brings its
//! signer's key with it ([`SignedConfig::first`]).

mod change;
mod text;

pub use change::{Change, Effect, changes};
pub use text::{ConfigErrors, ConfigProblem, MachineConfig, Wrong, config_template, table};

use crate::dsse::{self, Sealed};
use crate::envelope::{EnvelopeError, Signer, VerifyError};
use crate::keys::{KeyId, SigningKey, TrustedKeys};
use crate::role::Roles;
use crate::{limits, schema};
use octant_ids::Sha256;

/// The payload type of a machine's configuration: nothing else that an operator signs can pass for one.
pub const CONFIG_TYPE: &str = "application/vnd.octant.machine-config.v1+toml";

/// Checks one table of a configuration by the type of whoever will read it: its owner (`init`, `network`, `egress`,
/// `vault`, `agents`, `log`, `unit`), the names of the table, the whole text.
pub type CheckTable = fn(owner: &str, table: &[&str], text: &str) -> Result<(), Wrong>;

/// The machine for which a configuration is looked at.
#[derive(Debug, Clone, Copy)]
pub struct ConfigSite<'a> {
    /// Its identifier in audiences.
    pub machine: &'a str,
    /// Its labels: what it is called together with others.
    pub labels: &'a [String],
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
    /// The highest serial number that it has accepted.
    pub serial: u64,
    /// The types of those who will read the tables.
    pub check: CheckTable,
}

/// Why a configuration is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefusal {
    /// Nobody signed it.
    #[error("this configuration is not signed: {0}; sign it with: octant config sign")]
    Unsigned(&'static str),
    /// It is not in an envelope of its type.
    #[error("not a signed configuration: {0}")]
    Envelope(EnvelopeError),
    /// No key that counts has signed it.
    #[error(transparent)]
    Signer(#[from] VerifyError),
    /// Whoever signed it may not.
    #[error(
        "{operator} signed this with the role {role:?}, which may not configure machines; let an operator with the role admin sign it"
    )]
    Role {
        /// Who signed.
        operator: String,
        /// With which role.
        role: String,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Text(ConfigErrors),
    /// For other machines.
    #[error(
        "this configuration is for {} and this machine is {machine}; sign one for this machine", .meant.join(", ")
    )]
    Audience {
        /// This machine, with its labels.
        machine: String,
        /// The machines and labels that it is for.
        meant: Vec<String>,
    },
    /// Its time has not come.
    #[error(
        "this configuration is valid from {not_before_ms} ms since 1970 and it is {now_ms}; wait, or set the clock"
    )]
    Early {
        /// From when.
        not_before_ms: u64,
        /// Now.
        now_ms: u64,
    },
    /// Its time has passed.
    #[error(
        "this configuration was valid until {not_after_ms} ms since 1970 and it is {now_ms}; sign it again with a later not_after"
    )]
    Late {
        /// Until when.
        not_after_ms: u64,
        /// Now.
        now_ms: u64,
    },
    /// It is older than one that was accepted, or pretends to be the same.
    #[error(
        "its serial number is {serial} and {highest} was accepted already; sign it with serial = {next}", next = .highest.saturating_add(1)
    )]
    Serial {
        /// Its own.
        serial: u64,
        /// The highest one so far.
        highest: u64,
    },
    /// It was to bring the first operator, and does not.
    #[error("this machine trusts nobody yet, and the configuration does not bring its first operator: {0}")]
    First(String),
}

/// A well-formed envelope with a configuration. Nothing in it is believed yet.
#[derive(Debug, Clone)]
pub struct SignedConfig(Sealed);

/// A configuration that this machine may use. Only [`SignedConfig::verify`] and [`SignedConfig::first`] make one.
#[derive(Debug, Clone)]
pub struct AcceptedConfig {
    /// What it says.
    pub config: MachineConfig,
    /// Who signed it.
    pub signer: Signer,
    /// The signed text.
    pub text: Vec<u8>,
}

/// Signs a configuration's exact bytes; returns the envelope as JSON. Check it first with [`MachineConfig::parse`].
#[must_use]
pub fn sign_config(text: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    dsse::sign(CONFIG_TYPE, text, keys)
}

impl SignedConfig {
    /// Reads an envelope.
    ///
    /// # Errors
    /// Not an envelope, unsigned, of another payload type, or beyond a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigRefusal> {
        match Sealed::parse(bytes, CONFIG_TYPE, limits::MANIFEST_BYTES) {
            Ok(sealed) => Ok(Self(sealed)),
            Err(EnvelopeError::Unsigned(why)) => Err(ConfigRefusal::Unsigned(why)),
            Err(error) => Err(ConfigRefusal::Envelope(error)),
        }
    }

    /// The SHA-256 of the text's bytes, by which it is named on record.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        schema::digest(self.payload())
    }

    /// The text's bytes. Nothing in them is believed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.0.payload()
    }

    /// Checks signature and role over the exact bytes, then reads them, then asks whether they are for here and now.
    ///
    /// # Errors
    /// See [`ConfigRefusal`].
    pub fn verify(self, keys: &TrustedKeys, site: &ConfigSite<'_>) -> Result<AcceptedConfig, ConfigRefusal> {
        let signer = signer(&self.0, keys, site.now_ms)?;
        let config = MachineConfig::parse(self.payload(), site.check).map_err(ConfigRefusal::Text)?;
        admit(&config, site)?;
        Ok(AcceptedConfig { config, signer, text: self.0.into_payload() })
    }

    /// The same on a machine that trusts nobody yet: one of the operators whom the text itself names has signed it, and
    /// with the key `wanted`, where one is. The caller has to know that the machine trusts nobody.
    ///
    /// # Errors
    /// See [`ConfigRefusal`].
    pub fn first(
        self,
        wanted: Option<KeyId>,
        site: &ConfigSite<'_>,
    ) -> Result<AcceptedConfig, ConfigRefusal> {
        let config = MachineConfig::parse(self.payload(), site.check).map_err(ConfigRefusal::Text)?;
        let keys = TrustedKeys::from_files(&config.trusted())
            .map_err(|error| ConfigRefusal::First(error.to_string()))?;
        if keys.is_empty() {
            let why = "it has no [operators.NAME] with the key that signed it; add it";
            return Err(ConfigRefusal::First(why.into()));
        }
        let signer = signer(&self.0, &keys, site.now_ms)?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != signer.key) {
            let why = format!(
                "octant.operator= on the kernel command line names the key {wanted}, and {} signed it",
                signer.key
            );
            return Err(ConfigRefusal::First(why));
        }
        admit(&config, site)?;
        Ok(AcceptedConfig { config, signer, text: self.0.into_payload() })
    }
}

/// The one of those who signed whose role may configure machines.
fn signer(sealed: &Sealed, keys: &TrustedKeys, now_ms: u64) -> Result<Signer, ConfigRefusal> {
    let signers = sealed.signers(keys, now_ms)?;
    let roles = Roles::builtin();
    let may = |signer: &&Signer| roles.get(&signer.role).is_some_and(|role| role.configures);
    if let Some(signer) = signers.iter().find(may) {
        return Ok(signer.clone());
    }
    let signer = signers.into_iter().next();
    let (operator, role) = signer.map(|s| (s.operator, s.role)).unwrap_or_default();
    Err(ConfigRefusal::Role { operator, role })
}

fn admit(config: &MachineConfig, site: &ConfigSite<'_>) -> Result<(), ConfigRefusal> {
    let by_name = config.machines.iter().any(|machine| machine == "*" || machine == site.machine);
    if !by_name && !config.labels.iter().any(|label| site.labels.contains(label)) {
        let labelled = |label: &String| format!("label {label}");
        let machine = std::iter::once(format!("{:?}", site.machine)).chain(site.labels.iter().map(labelled));
        let meant = config.machines.iter().cloned().chain(config.labels.iter().map(labelled)).collect();
        return Err(ConfigRefusal::Audience { machine: machine.collect::<Vec<_>>().join(", "), meant });
    }
    let now_ms = site.now_ms;
    if let Some(not_before_ms) = config.not_before_ms.filter(|start| now_ms < *start) {
        return Err(ConfigRefusal::Early { not_before_ms, now_ms });
    }
    if now_ms >= config.not_after_ms {
        return Err(ConfigRefusal::Late { not_after_ms: config.not_after_ms, now_ms });
    }
    if config.serial <= site.serial {
        return Err(ConfigRefusal::Serial { serial: config.serial, highest: site.serial });
    }
    Ok(())
}
