//! The glue between the vault and its process.

use crate::audit::Audit;
use crate::bytes::Memory;
use crate::handlers::Methods;
use crate::machine::TPM_FACT;
use crate::store::Place;
use crate::vault::{Phase, Site, Vault, first_phase};
use octant_api::unit::{Criticality, Restart, Spec};
use octant_api::vault::Server;
use octant_service::{
    Context, Health, Kept, Left, Notifier, Records, ServeError, Service, Shutdown, StartError,
};
use octant_tpm::{Device, PcrSet, ReleasePublicKey, Tpm};
use octant_wire::{Identity, Limits};
use serde::Deserialize;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// What keeps the vault that is made at the first start, where nobody is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBoot {
    /// The TPM where there is one, else the static key file that is there.
    #[default]
    Either,
    /// The TPM. Without one no vault is made.
    Tpm,
    /// The static key file that is there.
    KeyFile,
    /// Nothing: an operator makes it.
    Never,
}

/// `[vault]` of octant.toml: what of a first boot is no secret. It is read while there is no vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// What keeps it.
    pub first_boot: FirstBoot,
    /// The PCRs that a TPM seals it to; the usual ones where none are named.
    pub pcrs: Vec<u8>,
    /// The public key, in PEM, of whoever approves of systems that may open it; in the place of the file `release.pub`.
    pub release_key: Option<String>,
}

impl VaultConfig {
    /// Whether what it says is possible.
    ///
    /// # Errors
    /// The key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.pcrs.is_empty() {
            PcrSet::new(self.pcrs.iter().copied()).map_err(|error| ("pcrs", error.to_string()))?;
        }
        if let Some(pem) = &self.release_key {
            ReleasePublicKey::from_pem(pem).map_err(|error| ("release_key", error.to_string()))?;
        }
        let of_tpm = [("pcrs", !self.pcrs.is_empty()), ("release_key", self.release_key.is_some())];
        match of_tpm.iter().find(|(_, said)| *said) {
            Some((key, _)) if matches!(self.first_boot, FirstBoot::KeyFile | FirstBoot::Never) => {
                Err((key, "is for a TPM, which first_boot does not let keep the vault".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// The vault as PID 1 runs it.
#[derive(Debug)]
pub struct VaultService {
    vault: Arc<Vault>,
    identity: Identity,
    notifier: Notifier,
    config: VaultConfig,
    kept: Kept,
    /// Whether what needs nobody has been tried. Until then the vault is not ready: who needs it finds it as it will be.
    tried: watch::Sender<bool>,
}

/// How long an outcome or a denial waits for others. Each that went alone would be a sync of the ledger that the next
/// intent, for which somebody waits, comes behind.
const GATHER: Duration = Duration::from_millis(20);
/// The file with the records that the ledger had not taken when the process ended.
const KEPT: &str = "records.json";
/// How soon unsealing without anybody is tried again.
const UNSEAL_AGAIN: Duration = Duration::from_secs(5);

impl VaultService {
    /// What PID 1 knows of it.
    pub const SPEC: Spec = Spec {
        name: "vault",
        about: "secrets and the machine's identity",
        needs: &["ledger"],
        restart: Restart::Always,
        criticality: Criticality::Degrades,
        // A TPM that is emulated, or busy, takes seconds for a key.
        ready_within_ms: 60_000,
        stop_within_ms: 5_000,
        watchdog_ms: 30_000,
        // Whoever may not call is refused by method.
        socket_mode: 0o666,
        capabilities: &[],
        root: false,
        optional: false,
        argv: &["svc", "vault"],
    };
}

/// The TPM whose device PID 1 has opened, and its storage key as a fact about the hardware. A TPM that does not work is
/// said and done without: other slots open the vault.
fn tpm(context: &mut Context, facts: &mut crate::machine::Facts) -> Option<Tpm<Device>> {
    let device = context.inherited.remove("tpm")?;
    let mut tpm = match Device::new(File::from(device)) {
        Ok(device) => Tpm::new(device),
        Err(error) => {
            tracing::error!("the TPM cannot be used: {error}");
            return None;
        }
    };
    match tpm.storage_key_name() {
        Ok(name) => {
            facts.insert(TPM_FACT.to_owned(), name.to_string());
            // Nothing is sealed to another one from here on, whatever answers.
            Some(tpm.expecting(name))
        }
        Err(error) => {
            tracing::error!("the TPM cannot be used: {error}");
            None
        }
    }
}

impl Service for VaultService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = VaultConfig;

    async fn open(config: VaultConfig, mut context: Context) -> Result<Self, StartError> {
        config.check().map_err(|(key, why)| StartError::new("read [vault]", key, why))?;
        // Before there is anything to hide: nobody reads this process's memory, and it leaves no core dump.
        nix::sys::prctl::set_dumpable(false)
            .map_err(|errno| StartError::new("forbid core dumps", "prctl", errno))?;
        let dir = context.state_dir();
        let memory = Memory::new().map_err(|e| StartError::new("find memory for keys", "memory", e))?;
        let place =
            Place::take(&dir).map_err(|e| StartError::new("take the vault's directory", dir.display(), e))?;
        let phase = first_phase(&place);
        if let Phase::Damaged { why } = &phase {
            tracing::error!("the vault cannot be used: {why}");
        }
        let mut facts = context.boot.hardware.clone();
        let tpm = tpm(&mut context, &mut facts);
        let kept = Kept::new(dir.join(KEPT));
        let records = Records::new(context.client("ledger")?).outlasting_agents().gathering(GATHER);
        records.take_up(kept.read());
        let audit = Audit::new(Arc::new(records), context.client("ledger")?);
        let etc = context.boot.layout.etc.join("vault");
        let site = Site {
            boot: context.boot.boot_id.clone(),
            key_file: etc.join("key"),
            approvals: etc.join("approvals.json"),
            release_key: etc.join("release.pub"),
            facts,
        };
        Ok(Self {
            vault: Arc::new(Vault::new(site, audit, memory, tpm, place, phase)),
            identity: context.identity(),
            notifier: context.notifier,
            config,
            kept,
            tried: watch::Sender::new(false),
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let records = Arc::clone(&self.vault.audit.records);
        let until = stop.clone();
        let keeping = Arc::clone(&self);
        // What an earlier process left is removed when the ledger has it, and not before.
        let had = move || {
            if let Err(error) = keeping.kept.write(&Left::default()) {
                tracing::warn!("what the ledger has been given it is given again at the next start: {error}");
            }
        };
        let recording = tokio::spawn(async move { records.run(&until, had).await });
        let starting = Arc::clone(&self);
        tokio::spawn(async move {
            let absent = matches!(*starting.vault.phase(), Phase::Absent { .. });
            if absent && starting.config.first_boot != FirstBoot::Never {
                starting.vault.first_boot(&starting.config).await;
                starting.tried.send_replace(true);
                return;
            }
            // What failed for want of the ledger is tried again; what a slot refuses is not.
            let since = starting.vault.sealings();
            let mut again = !absent && starting.vault.unseal_alone(since).await;
            starting.tried.send_replace(true);
            while again && matches!(*starting.vault.phase(), Phase::Sealed { .. }) {
                tokio::time::sleep(UNSEAL_AGAIN).await;
                again = starting.vault.sealings() == since && starting.vault.unseal_alone(since).await;
            }
        });
        let telling = Arc::clone(&self);
        tokio::spawn(async move {
            loop {
                telling.vault.turned.notified().await;
                telling.notifier.status(&telling.vault.line());
            }
        });
        let server = Server(Arc::new(Methods::new(Arc::clone(&self.vault))));
        let served =
            octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop).await;
        served.map_err(|error| ServeError::new("accept connections", error))?;
        recording.await.map_err(|error| ServeError::new("hand over records", error))?;
        self.vault.audit.records.hand_over().await;
        let left = self.vault.audit.records.left();
        self.kept.write(&left).map_err(|error| ServeError::new("keep records for the next start", error))
    }

    async fn health(&self) -> Health {
        let mut tried = self.tried.subscribe();
        // The sender is in `self`, so it lives.
        let _lives = tried.wait_for(|tried| *tried).await.map(drop);
        self.notifier.status(&self.vault.line());
        self.vault.probe().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_service::Profile;

    #[test]
    fn what_is_said_of_a_first_boot_has_to_be_possible() {
        let config = |text: &str| serde_json::from_str::<VaultConfig>(text);
        assert_eq!(config("{}").unwrap().check(), Ok(()));
        assert_eq!(config(r#"{"first_boot": "tpm", "pcrs": [7, 11]}"#).unwrap().check(), Ok(()));
        for (text, key) in [
            (r#"{"pcrs": [99]}"#, "pcrs"),
            (r#"{"release_key": "no key"}"#, "release_key"),
            (r#"{"first_boot": "key-file", "pcrs": [7]}"#, "pcrs"),
            (r#"{"first_boot": "never", "pcrs": [7]}"#, "pcrs"),
        ] {
            assert_eq!(config(text).unwrap().check().unwrap_err().0, key, "{text}");
        }
        // No word for a secret is understood, whoever thinks that there is one.
        for word in [r#""passphrase": "x""#, r#""key": "x""#, r#""shares": "2/3""#, r#""first_boot": "yes""#]
        {
            assert!(config(&format!("{{{word}}}")).is_err(), "{word}");
        }
    }

    #[test]
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        Profile::parse(VaultService::PROFILE).unwrap();
    }
}
