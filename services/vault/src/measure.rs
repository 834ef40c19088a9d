//! A vault without its service, for `cargo x bench`: what a value, a key pair and a start cost when neither socket nor
//! ledger is there. It goes the service's own ways and adds none; the program that is shipped is built without it.

use crate::bytes::Memory;
use crate::core::{self, Asking};
use crate::format::Header;
use crate::hex::Hex;
use crate::slots::{self, Lock};
use crate::state::{LeaseRecord, Machine, Now, Op, State};
use crate::store::{self, Place};
use crate::unseal;
use crate::values::{Picked, open_value, seal_machine, seal_value};
use crate::vault::{Open, commit, locked, now};
use octant_api::vault::{
    GrantInfo, Kind, LEASES_PER_AGENT, Mode, SecretInfo, Subject, Token, VersionInfo, VersionState,
};
use octant_crypto::aead::SALT_LEN;
use octant_crypto::memory::{Buffer, Key};
use octant_crypto::sign::SigningKey;
use octant_ids::{Aid, Principal, SecretName, Sha256};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// The boot of every lease here.
const BOOT: &str = "00112233445566778899aabbccddeeff";
/// How many changes go into one frame while a vault is filled: as many syncs fewer.
const AT_ONCE: usize = 1000;
/// How many secrets the leases are of.
const LEASED: usize = LEASES_PER_AGENT;

fn text(error: impl Display) -> String {
    error.to_string()
}

/// An unsealed vault in a directory.
#[derive(Debug)]
pub struct Bare {
    open: Open,
    memory: Memory,
    _place: Place,
}

fn info(name: SecretName) -> SecretInfo {
    let created_ms = now().wall_ms;
    SecretInfo {
        name,
        kind: Kind::Opaque,
        current: 1,
        versions: vec![VersionInfo {
            version: 1,
            state: VersionState::Active,
            created_ms,
            not_after_ms: None,
            public_key: None,
        }],
        about: String::new(),
        username: String::new(),
        url: String::new(),
        labels: BTreeMap::new(),
    }
}

/// Secret number `at` of a filled vault.
fn name(at: usize) -> Result<SecretName, String> {
    format!("team/service-{}/secret-{at:06}", at % 100).parse().map_err(text)
}

/// A digest that no other number has.
fn digest(at: usize) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(at.to_be_bytes()).into())
}

fn hashed(token: &[u8; 32]) -> Sha256 {
    crate::handlers::hashed(&Token(*token))
}

/// The holder of lease number `at`: each has as many as it can have.
fn holder(at: usize) -> Principal {
    Principal::Agent(Aid::new(1_700_000_000_000 + (at / LEASES_PER_AGENT) as u64, [7; 10]))
}

fn asking() -> Asking {
    Asking { service: egress(), holder: Principal::Service(egress()), manifest: None, cgroup: None }
}

#[expect(clippy::expect_used, reason = "the name is here and is one")]
fn egress() -> octant_ids::ServiceName {
    "egress".parse().expect("a service's name")
}

fn lease(token: Sha256, holder: Principal, name: SecretName, grant: u64, until_ns: Option<u64>) -> Op {
    let (cgroup, mode, boot) = (None, Mode::Use, BOOT.to_owned());
    Op::Lease {
        lease: LeaseRecord { token, holder, cgroup, name, mode, grant, boot, until_ns, last_ns: until_ns },
    }
}

fn grant(id: u64, name: SecretName, to: Subject) -> Op {
    let (hosts, ttl_max_ms, until_ms, by) = (Vec::new(), None, None, 0);
    let (modes, created_ms, reason) = (vec![Mode::Use], now().wall_ms, String::new());
    Op::Grant {
        grant: GrantInfo { id, name, to, modes, hosts, ttl_max_ms, until_ms, created_ms, by, reason },
    }
}

impl Bare {
    /// Makes one below `dir` whose only slot is opened by a file with these bytes.
    ///
    /// # Errors
    /// What failed.
    pub fn make(dir: &Path, key_file: &[u8]) -> Result<Self, String> {
        let place = Place::take(dir).map_err(text)?;
        let (key, machine) = (Key::random().map_err(text)?, SigningKey::generate().map_err(text)?);
        let created_ms = now().wall_ms;
        let mut header = Header {
            vault: Hex(octant_crypto::random().map_err(text)?),
            key: 1,
            epoch: 1,
            frames: 0,
            created_ms,
            machine: Sha256(machine.public()),
            next_slot: 1,
            slots: Vec::new(),
        };
        let own = slots::file_key(key_file).map_err(text)?;
        let salt = octant_crypto::random::<SALT_LEN>().map_err(text)?;
        let made =
            slots::wrap(&header, 0, "bench".to_owned(), created_ms, Lock::StaticFile {}, salt, (&own, &key));
        header.slots.push(made.map_err(text)?);
        let vault = header.vault.0;
        let seed = seal_machine(&key, &vault, &machine).map_err(text)?;
        let mut state = State::new(BOOT);
        let record = Machine { public: header.machine, created_ms, facts: BTreeMap::new() };
        state.apply(Op::Machine(record), &seed).map_err(text)?;
        let contents = store::snapshot(&state, now()).map_err(text)?;
        let store = place.create(header, &key, &contents, None).map_err(text)?;
        let open = Open::new((key, machine), 0, state, store, Vec::new());
        Ok(Self { open, memory: Memory::new().map_err(text)?, _place: place })
    }

    fn commit(&self, changes: Vec<(Op, Vec<u8>)>) -> Result<(), String> {
        commit(&self.open, changes, 0).map(drop).map_err(text)
    }

    fn sealed(&self, info: &SecretInfo, value: &[u8]) -> Result<Vec<u8>, String> {
        let version = info.versions.last().ok_or("no version")?;
        seal_value(&self.open.key, &self.open.vault, info, version, &mut value.to_vec()).map_err(text)
    }

    fn secret(&self, name: SecretName, value: &[u8]) -> Result<[(Op, Vec<u8>); 2], String> {
        let info = info(name);
        let sealed = self.sealed(&info, value)?;
        let of = Op::Value { name: info.name.clone(), version: info.current };
        Ok([(Op::Secret { secret: info }, Vec::new()), (of, sealed)])
    }

    /// Stores a secret of which `egress` has a lease; the lease's token.
    ///
    /// # Errors
    /// What failed.
    pub fn put(&self, name: &SecretName, value: &[u8]) -> Result<[u8; 32], String> {
        let token = *Key::random().map_err(text)?.bytes();
        let id = locked(&self.open.state).next_grant;
        let mut changes = self.secret(name.clone(), value)?.to_vec();
        changes.push((grant(id, name.clone(), Subject::Service(egress())), Vec::new()));
        let holder = Principal::Service(egress());
        changes.push((lease(hashed(&token), holder, name.clone(), id, None), Vec::new()));
        self.commit(changes)?;
        Ok(token)
    }

    /// Seals a value as the next version of a secret would be.
    ///
    /// # Errors
    /// What failed.
    pub fn seal(&self, name: &SecretName, value: &[u8]) -> Result<Vec<u8>, String> {
        let info = locked(&self.open.state).secrets.get(name).map(|secret| secret.info.clone());
        self.sealed(&info.ok_or_else(|| format!("no secret {name}"))?, value)
    }

    /// What `vault.open` does between the decision and the answer, beside the ledger: the lease of a token, its grant,
    /// its secret, the derived key, and the value in locked memory.
    ///
    /// # Errors
    /// What failed.
    pub fn open(&self, token: &[u8; 32]) -> Result<Buffer, String> {
        let hash = hashed(token);
        let picked = {
            let state = locked(&self.open.state);
            let usable = core::open(&state, &asking(), &hash, None, now());
            usable.map(|(usable, _)| Picked::from(usable)).map_err(text)?
        };
        let mut value = self.memory.room(picked.bytes()).map_err(text)?;
        open_value(&self.open.key, &self.open.vault, &picked, &mut value).map_err(text)?;
        Ok(value)
    }

    /// Fills it with secrets of 64 bytes and with leases that have ended, all of which the file names: those that were
    /// alive when it was written anew, and `last` that came after that, a frame each.
    ///
    /// # Errors
    /// What failed.
    pub fn fill(&self, secrets: usize, leases: usize, last: usize) -> Result<(), String> {
        let mut changes = Vec::new();
        for at in 0..secrets {
            changes.extend(self.secret(name(at)?, &[7; 64])?);
            if at < LEASED {
                let to = Subject::Manifest(digest(at));
                changes.push((grant(at as u64 + 1, name(at)?, to), Vec::new()));
            }
            if changes.len() >= AT_ONCE {
                self.commit(std::mem::take(&mut changes))?;
            }
        }
        // They end at the second nanosecond of this boot, and the file is written anew as if it were the first.
        let ended = |at: usize| {
            let op = lease(digest(at), holder(at), name(at % LEASED)?, (at % LEASED) as u64 + 1, Some(2));
            Ok::<_, String>((op, Vec::new()))
        };
        for at in 0..leases - last {
            changes.push(ended(at)?);
            if changes.len() >= AT_ONCE {
                self.commit(std::mem::take(&mut changes))?;
            }
        }
        self.commit(changes)?;
        self.rewrite()?;
        (leases - last..leases).try_for_each(|at| self.commit(vec![ended(at)?]))
    }

    fn rewrite(&self) -> Result<(), String> {
        let then = Now { boot_ns: 1, ..now() };
        let contents = store::snapshot(&locked(&self.open.state), then).map_err(text)?;
        let mut store = locked(&self.open.store);
        let (header, epoch) = (store.header.clone(), store.epoch);
        store.rewrite(header, &self.open.key, epoch, &contents).map_err(text)
    }
}

/// The data key of a directory's vault, and what is needed for the rest.
#[derive(Debug)]
pub struct Keyed {
    place: Place,
    key: Key,
}

/// Opens the slot of a directory's vault that a file with these bytes opens.
///
/// # Errors
/// What failed.
pub fn keyed(dir: &Path, key_file: &[u8]) -> Result<Keyed, String> {
    let place = Place::take(dir).map_err(text)?;
    let raw = place.read().map_err(text)?.ok_or("there is no vault")?;
    let found = unseal::open_any(&raw, key_file, octant_api::vault::SlotKind::StaticFile).map_err(text)?;
    Ok(Keyed { place, key: found.key })
}

impl Keyed {
    /// Reads the vault: header, frames, changes, the machine's seed.
    ///
    /// # Errors
    /// What failed.
    pub fn start(self) -> Result<Started, String> {
        unseal::read(&self.place, self.key, BOOT).map(Started).map_err(text)
    }
}

/// What a vault holds after a start.
#[derive(Debug)]
pub struct Started(unseal::Read);

impl Started {
    /// How many secrets there are.
    #[must_use]
    pub fn secrets(&self) -> usize {
        self.0.state.secrets.len()
    }

    /// How many leases are held.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.0.state.alive()
    }
}
