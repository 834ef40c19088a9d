//! Ways to unseal: `init`, `slots`, `rekey`.

use super::secret::Secret;
use super::shares::Sink;
use super::{Asked, Vault, VaultError, borrowed, status};
use crate::args::vault::{Init, KeepSlots, NewSlotArgs, Place, Rekey, Shape, SharesTo};
use crate::error::CliError;
use crate::manifest;
use crate::out::{Out, Table, Ticking, printable, utc};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown, geteuid};
use octant_api::rpc::Request;
use octant_api::vault::{
    Argon2Cost, InitRequest, Initialised, KEY_FILE_MIN, NewSlot, PASSPHRASE_BYTES, RekeyRequest,
    SlotAddRequest, SlotAdded, SlotInfo, SlotKind, SlotRemoveRequest, StatusRequest, VALUE_MAX,
};
use octant_ids::uid;
use octant_sys::entropy;
use serde::Serialize;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const KEY_FILE: &str = "the key file";
const NEW_PASSPHRASE: Asked =
    Asked { what: "the passphrase", question: "new passphrase", again: Some("the same passphrase again") };
/// The length of a key file that is made here: twice what a key needs.
const KEY_FILE_LEN: usize = 2 * KEY_FILE_MIN;
/// A public key in PEM is a few hundred bytes, of RSA a few thousand.
const RELEASE_KEY_MAX: usize = 16 << 10;

/// A slot with what it takes along and where what it gives goes.
struct Prepared {
    slot: NewSlot,
    with: Option<OwnedFd>,
    shares: Option<Sink>,
    /// The key file that was made for it.
    made: Option<PathBuf>,
}

impl Prepared {
    fn plain(slot: NewSlot) -> Self {
        Self { slot, with: None, shares: None, made: None }
    }
}

/// Makes slots of what the command line says.
struct Maker<'a> {
    vault: &'a Vault<'a>,
    cost: Option<Argon2Cost>,
    to: &'a SharesTo,
}

impl Maker<'_> {
    fn passphrase(&self, file: Option<&Path>, out: &mut Out) -> Result<Prepared, CliError> {
        let passphrase = self.vault.one_line(file, &NEW_PASSPHRASE, out)?;
        let bytes = passphrase.bytes().len();
        if !PASSPHRASE_BYTES.contains(&bytes) {
            let (min, max) = PASSPHRASE_BYTES.into_inner();
            return Err(VaultError::PassphraseLength { bytes, min, max }.into());
        }
        let slot = NewSlot { cost: self.cost, ..NewSlot::of(SlotKind::Passphrase) };
        Ok(Prepared { with: Some(passphrase.pipe(NEW_PASSPHRASE.what)?), ..Prepared::plain(slot) })
    }

    fn tpm(pcrs: &[u8], release_key: Option<&Path>) -> Result<Prepared, CliError> {
        let release_key = release_key.map(|path| {
            const KIND: &str = "public key";
            manifest::text(manifest::read(path, KIND, RELEASE_KEY_MAX)?, path, KIND)
        });
        let release_key = release_key.transpose()?;
        Ok(Prepared::plain(NewSlot { pcrs: pcrs.to_vec(), release_key, ..NewSlot::of(SlotKind::Tpm) }))
    }

    fn key_file(&self, place: &Place) -> Result<Prepared, CliError> {
        let path = self.vault.key_file(place);
        let (key, made) = match Secret::read_file(&path, KEY_FILE, VALUE_MAX) {
            Ok(key) => (key, None),
            Err(VaultError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                (make_key_file(&path, *place == Place::Usual)?, Some(path.clone()))
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = key.bytes().len();
        if bytes < KEY_FILE_MIN {
            return Err(VaultError::KeyFileShort { path, bytes, min: KEY_FILE_MIN }.into());
        }
        let slot = NewSlot::of(SlotKind::StaticFile);
        Ok(Prepared { with: Some(key.pipe(KEY_FILE)?), made, ..Prepared::plain(slot) })
    }

    fn shares(&self, shape: Shape, set: Option<usize>, out: &Out) -> Result<Prepared, CliError> {
        let Shape { threshold, count } = shape;
        let slot = NewSlot { threshold, count, ..NewSlot::of(SlotKind::Shares) };
        let sink = Sink::open(self.to, set, shape, out)?;
        Ok(Prepared { shares: Some(sink), ..Prepared::plain(slot) })
    }
}

/// The one slot of `init` and `slots add`.
fn one(vault: &Vault<'_>, args: &NewSlotArgs, out: &mut Out) -> Result<Prepared, CliError> {
    let maker = Maker { vault, cost: args.demands.cost, to: &args.to };
    let mut prepared = match (&args.key_file, args.shares) {
        (Some(place), _) => maker.key_file(place)?,
        (None, Some(shape)) => maker.shares(shape, None, out)?,
        (None, None) if args.tpm => Maker::tpm(&args.demands.pcrs, args.demands.release_key.as_deref())?,
        (None, None) => maker.passphrase(args.passphrase_file.as_deref(), out)?,
    };
    prepared.slot.label.clone_from(&args.label);
    Ok(prepared)
}

/// 64 random bytes that the vault's user alone can read.
fn make_key_file(path: &Path, usual: bool) -> Result<Secret, CliError> {
    let write = |source: io::Error| CliError::Write { path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if usual && !dir.exists() {
        // Also where the umask of whoever runs this is tighter: the vault's user has to get at the file.
        let reachable = Permissions::from_mode(0o755);
        fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, reachable)).map_err(write)?;
    }
    let mut key = Secret::zeros(KEY_FILE_LEN);
    entropy::fill_seeded(key.bytes_mut())
        .map_err(|source| CliError::System { step: "read the system's random source", source })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).map_err(write)?;
    if let Some(id) = uid::of_service("vault").filter(|_| geteuid().is_root()) {
        let owner = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
        fchown(&file, owner.0, owner.1).map_err(|errno: Errno| write(errno.into()))?;
    }
    // A vault is sealed by it: it has to be there after a power cut.
    file.write_all(key.bytes()).and_then(|()| file.sync_all()).map_err(write)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(write)?;
    Ok(key)
}

/// What was made beside the answer, for programs.
#[derive(Serialize)]
struct Document<'a, T> {
    #[serde(flatten)]
    answer: &'a T,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    key_files_made: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    share_files: Vec<PathBuf>,
}

/// `octant vault init`.
pub(super) fn init(vault: &Vault<'_>, args: &Init, out: &mut Out) -> Result<(), CliError> {
    let prepared = one(vault, &args.slot, out)?;
    let request = InitRequest { slot: prepared.slot.clone(), replace: args.replace.clone() };
    let progress = Ticking::new(out.json, "making the vault".to_owned());
    let called = vault.service.call_with(&request, &borrowed(prepared.with.as_slice()));
    drop(progress);
    let (answer, fds) = called.inspect_err(|_| leftover(&prepared, out))?;
    let Initialised { vault, fingerprint, slot } = &answer;
    if !out.json {
        out.line(format_args!("vault {} is made and unsealed", printable(vault)))?;
        out.line(format_args!("this machine is {fingerprint}"))?;
    }
    made(prepared, &answer, slot, fds, out)?;
    if out.json {
        return Ok(());
    }
    out.line("next: `octant vault slots add` adds a second way to unseal: who loses the only one loses every secret")
}

/// `octant vault slots add`.
pub(super) fn add(vault: &Vault<'_>, args: &NewSlotArgs, out: &mut Out) -> Result<(), CliError> {
    let prepared = one(vault, args, out)?;
    let request = SlotAddRequest { slot: prepared.slot.clone() };
    let progress = Ticking::new(out.json, "adding the slot".to_owned());
    let called = vault.service.call_with(&request, &borrowed(prepared.with.as_slice()));
    drop(progress);
    let (answer, fds) = called.inspect_err(|_| leftover(&prepared, out))?;
    let SlotAdded { slot, epoch: _ } = &answer;
    made(prepared, &answer, slot, fds, out)
}

/// A key file that was made for a request which failed. Whether the vault took it is not always known: it is kept.
fn leftover(prepared: &Prepared, out: &mut Out) {
    if let Some(path) = &prepared.made {
        out.note(&format!("the new key file {} is kept, and used by the next try", path.display()));
    }
}

fn made<T: Serialize>(
    prepared: Prepared,
    answer: &T,
    slot: &SlotInfo,
    fds: Vec<OwnedFd>,
    out: &mut Out,
) -> Result<(), CliError> {
    if !out.json {
        line(slot, out)?;
    }
    hand_over(vec![prepared], answer, std::slice::from_ref(slot), &fds, out)
}

fn line(info: &SlotInfo, out: &mut Out) -> Result<(), CliError> {
    out.line(format_args!("slot {}: {}", info.slot, printable(&status::slot(info))))
}

/// Says what was made for slots that the vault has now (`infos`), and takes shares to where they belong.
fn hand_over<T: Serialize>(
    slots: Vec<Prepared>,
    answer: &T,
    infos: &[SlotInfo],
    fds: &[OwnedFd],
    out: &mut Out,
) -> Result<(), CliError> {
    if slots.iter().any(|slot| slot.slot.kind == SlotKind::StaticFile) {
        out.note("WARNING: STATIC slot: whoever has a copy of the key file has the vault, on any machine");
    }
    let key_files_made: Vec<PathBuf> = slots.iter().filter_map(|slot| slot.made.clone()).collect();
    if !out.json {
        key_files_made.iter().try_for_each(|path| out.line(format_args!("{} is made", path.display())))?;
    }
    let mut share_files = Vec::new();
    // Shares come in the order of the slots that they are of.
    let of: Vec<u32> =
        infos.iter().filter(|info| info.kind == SlotKind::Shares).map(|info| info.slot).collect();
    for (i, sink) in slots.into_iter().filter_map(|slot| slot.shares).enumerate() {
        if let Some(number) = of.get(i).filter(|_| of.len() > 1 && !out.json) {
            out.line(format_args!("shares of slot {number}:"))?;
        }
        share_files.extend(hand_out(sink, fds.get(i), out)?);
    }
    if out.json {
        return out.json(&Document { answer, key_files_made, share_files });
    }
    Ok(())
}

fn hand_out(sink: Sink, pipe: Option<&OwnedFd>, out: &mut Out) -> Result<Vec<PathBuf>, CliError> {
    sink.warn(out);
    let files = sink.keep(pipe, out)?;
    if !out.json {
        files.iter().try_for_each(|file| out.line(file.display()))?;
    }
    if !files.is_empty() {
        out.note("take these files apart now, to different people: together they are the vault's key");
    }
    Ok(files)
}

/// `octant vault slots`.
pub(super) fn list(vault: &Vault<'_>, out: &mut Out) -> Result<(), CliError> {
    let slots = vault.service.call(&StatusRequest {})?.slots;
    if out.json {
        return out.json(&Listed { slots: &slots });
    }
    let mut table = Table::new(&["SLOT", "MADE", "WHAT"]);
    for info in &slots {
        let made = utc(info.created_ms);
        table.row([info.slot.to_string(), made.get(..10).unwrap_or(&made).to_owned(), status::slot(info)]);
    }
    out.table(&table)
}

#[derive(Serialize)]
struct Listed<'a> {
    slots: &'a [SlotInfo],
}

/// `octant vault slots rm`.
pub(super) fn remove(vault: &Vault<'_>, slot: u32, yes: bool, out: &mut Out) -> Result<(), CliError> {
    let what = format!("taking slot {slot} away");
    vault.confirm(yes, &what, &format!("Take slot {slot} away? It cannot be brought back."), out)?;
    let progress = Ticking::new(out.json, "removing the slot".to_owned());
    let changed = vault.service.call(&SlotRemoveRequest { slot })?;
    drop(progress);
    if out.json { out.json(&changed) } else { out.line(format_args!("slot {slot} is gone")) }
}

/// `octant vault rekey`.
pub(super) fn rekey(vault: &Vault<'_>, args: &Rekey, out: &mut Out) -> Result<(), CliError> {
    let kinds = kinds(&args.slots);
    let (count, max) = (kinds.len(), RekeyRequest::METHOD.fds_in);
    if count > max {
        return Err(VaultError::TooManySlots { count, max }.into());
    }
    let kinds = kinds.join(", ");
    let before = vault.service.call(&StatusRequest {})?.slots;
    let question =
        format!("Replace the {} slots that there are by: {kinds}? What is not named is gone.", before.len());
    vault.confirm(args.yes, "a new key with these slots alone", &question, out)?;
    let mut prepared = all(vault, &args.slots, out)?;
    keep(&before, &mut prepared);
    let boards = before.iter().filter(|info| info.kind == SlotKind::Tpm).count();
    if boards > 1 && args.slots.tpm {
        out.note(&format!(
            "there are {boards} TPM slots, and the new one is bound to what --pcrs and --release-key say alone"
        ));
    }
    let request = RekeyRequest { slots: prepared.iter().map(|slot| slot.slot.clone()).collect() };
    let with: Vec<OwnedFd> = prepared.iter_mut().filter_map(|slot| slot.with.take()).collect();
    let progress = Ticking::new(out.json, "sealing everything anew".to_owned());
    let called = vault.service.call_with(&request, &borrowed(&with));
    drop(progress);
    let (answer, fds) =
        called.inspect_err(|_| prepared.iter().for_each(|prepared| leftover(prepared, out)))?;
    if !out.json {
        out.line(format_args!("everything is sealed anew, with {} slots:", answer.slots.len()))?;
        answer.slots.iter().try_for_each(|info| line(info, out))?;
    }
    hand_over(prepared, &answer, &answer.slots, &fds, out)
}

/// The kinds of the slots of `rekey`, in their order.
fn kinds(args: &KeepSlots) -> Vec<&'static str> {
    let rows = [
        (SlotKind::Passphrase, usize::from(args.passphrase) + args.passphrase_file.len()),
        (SlotKind::StaticFile, args.key_file.len()),
        (SlotKind::Tpm, usize::from(args.tpm)),
        (SlotKind::Shares, args.shares.len()),
    ];
    rows.iter().flat_map(|(kind, count)| std::iter::repeat_n(kind.as_str(), *count)).collect()
}

/// The slots of `rekey`, in the order that its help states: what takes a descriptor comes in the order of descriptors.
fn all(vault: &Vault<'_>, args: &KeepSlots, out: &mut Out) -> Result<Vec<Prepared>, CliError> {
    let maker = Maker { vault, cost: args.cost, to: &args.to };
    let mut slots = Vec::new();
    // Where the shares go is looked at before anybody types.
    let mut shares = Vec::new();
    for (i, shape) in args.shares.iter().enumerate() {
        let set = (args.shares.len() > 1).then_some(i + 1);
        shares.push(maker.shares(*shape, set, out)?);
    }
    for _ in 0..args.passphrase {
        slots.push(maker.passphrase(None, out)?);
    }
    for file in &args.passphrase_file {
        slots.push(maker.passphrase(Some(file), out)?);
    }
    for place in &args.key_file {
        slots.push(maker.key_file(place)?);
    }
    if args.tpm {
        slots.push(Maker::tpm(&args.pcrs, args.release_key.as_deref())?);
    }
    slots.append(&mut shares);
    Ok(slots)
}

/// A slot that is the only one of its kind before and after is the same to people: it keeps its label, and a TPM slot what
/// it is bound to where nothing else is said. Without its release key it would not open after the next update.
fn keep(before: &[SlotInfo], after: &mut [Prepared]) {
    for kind in [SlotKind::Passphrase, SlotKind::Tpm, SlotKind::Shares, SlotKind::StaticFile] {
        let old: Vec<&SlotInfo> = before.iter().filter(|info| info.kind == kind).collect();
        let mut new: Vec<&mut Prepared> = after.iter_mut().filter(|slot| slot.slot.kind == kind).collect();
        if let ([old], [new]) = (&old[..], &mut new[..]) {
            new.slot.label.clone_from(&old.label);
            if new.slot.pcrs.is_empty() {
                new.slot.pcrs.clone_from(&old.pcrs);
            }
            if new.slot.release_key.is_none() {
                new.slot.release_key.clone_from(&old.release_key);
            }
        }
    }
}
