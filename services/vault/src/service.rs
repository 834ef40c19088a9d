//! The glue between the vault and its process.

use crate::audit::Audit;
use crate::bytes::Memory;
use crate::handlers::Methods;
use crate::look::tpm_fact;
use crate::store::Place;
use crate::vault::{Phase, Site, Vault, first_phase};
use octant_api::unit::{Criticality, Restart, Spec};
use octant_api::vault::Server;
use octant_service::{Context, Health, Left, Notifier, Records, ServeError, Service, Shutdown, StartError};
use octant_tpm::{Device, Tpm};
use octant_wire::{Identity, Limits};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// `[vault]` of octant.toml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// Whether a vault is made at the first start where the machine can keep it by itself: in its TPM, else with the
    /// static key file that is there.
    pub first_boot: bool,
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self { first_boot: true }
    }
}

/// The vault as PID 1 runs it.
#[derive(Debug)]
pub struct VaultService {
    vault: Arc<Vault>,
    identity: Identity,
    notifier: Notifier,
    config: VaultConfig,
    left: PathBuf,
    /// Whether what needs nobody has been tried. Until then the vault is not ready: who needs it finds it as it will be.
    tried: watch::Sender<bool>,
}

/// The file with the records that the ledger had not taken when the process ended.
const LEFT: &str = "records.json";
/// How soon unsealing without anybody is tried again.
const UNSEAL_AGAIN: Duration = Duration::from_secs(5);
/// The longest such file, in bytes.
const LEFT_MAX: u64 = 16 << 20;

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
        argv: &["svc", "vault"],
    };

    fn hand_back(&self) -> Result<(), ServeError> {
        let left = self.vault.audit.records.left();
        let failed =
            |error: &dyn std::fmt::Display| ServeError::new("keep records for the next start", error);
        match left == Left::default() {
            true => match std::fs::remove_file(&self.left) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
                _ => Ok(()),
            },
            false => {
                let bytes = serde_json::to_vec(&left).map_err(|error| failed(&error))?;
                std::fs::write(&self.left, bytes).map_err(|error| failed(&error))
            }
        }
    }
}

/// Records that an earlier process left for the ledger.
fn left(path: &Path) -> Left {
    let lost = |why: String| {
        tracing::error!("records that the last run left for the ledger are lost: {}: {why}", path.display());
        Left { waiting: Vec::new(), lost: 1 }
    };
    match crate::unseal::read_small(path, LEFT_MAX) {
        Ok(None) => Left::default(),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| lost(error.to_string())),
        Err(error) => lost(error.to_string()),
    }
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
    match tpm_fact(&mut tpm) {
        Ok((name, value)) => facts.insert(name, value),
        Err(error) => {
            tracing::error!("the TPM cannot be used: {error}");
            return None;
        }
    };
    Some(tpm)
}

impl Service for VaultService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = VaultConfig;

    async fn open(config: VaultConfig, mut context: Context) -> Result<Self, StartError> {
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
        let path = dir.join(LEFT);
        let records = Records::new(context.client("ledger")?).outlasting_agents();
        records.take_up(left(&path));
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
            left: path,
            tried: watch::Sender::new(false),
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let records = Arc::clone(&self.vault.audit.records);
        let until = stop.clone();
        let recording = tokio::spawn(async move { records.run(&until, || {}).await });
        let starting = Arc::clone(&self);
        tokio::spawn(async move {
            let absent = matches!(*starting.vault.phase(), Phase::Absent { .. });
            if absent && starting.config.first_boot {
                starting.vault.first_boot().await;
                starting.tried.send_replace(true);
                return;
            }
            // What failed for want of the ledger is tried again; what a slot refuses is not.
            let mut again = !absent && starting.vault.unseal_alone().await;
            starting.tried.send_replace(true);
            while again && matches!(*starting.vault.phase(), Phase::Sealed { .. }) {
                tokio::time::sleep(UNSEAL_AGAIN).await;
                again = starting.vault.sealings() == 0 && starting.vault.unseal_alone().await;
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
        self.hand_back()
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
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        Profile::parse(VaultService::PROFILE).unwrap();
    }
}
