//! Files beside the segments: what can be derived from the entries (snapshots, tiles), and payloads that can be erased.

use crate::crc32c::crc32c;
use crate::fold::{Edge, Fold, TILE, Whole};
use octant_api::ledger::Damage;
use octant_tlog::state::State;
use octant_tlog::tile::Tile;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Makes a file whole under another name first, so that half of it never stands in its place. With `durable` it is on
/// disk when this returns, and so is its name.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let making = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&making, path)?;
    match path.parent() {
        Some(dir) if durable => sync_dir(dir),
        _ => Ok(()),
    }
}

/// Makes a directory's names durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads at most so many bytes; one more is an error. None when there is no such file.
pub(crate) fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// The file with the damage that `verify` found: it is not forgotten by a restart.
pub(crate) fn damage_path(dir: &Path) -> PathBuf {
    dir.join("damage")
}

/// What `verify` has found and nobody has mended yet.
pub(crate) fn read_damage(dir: &Path) -> io::Result<Option<Damage>> {
    let Some(bytes) = read_at_most(&damage_path(dir), 64 << 10)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

/// Keeps what `verify` has found.
pub(crate) fn write_damage(dir: &Path, damage: &Damage) -> io::Result<()> {
    replace(&damage_path(dir), &serde_json::to_vec(damage)?, true)
}

/// What `verify` has found is no more, or an operator has accepted it.
pub(crate) fn remove_damage(dir: &Path) -> io::Result<()> {
    match fs::remove_file(damage_path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The file that says up to where segments were archived, so that one that disappears otherwise is missed.
pub(crate) fn archived_path(dir: &Path) -> PathBuf {
    dir.join("archived")
}

/// The first entry that was not archived.
pub(crate) fn archived(dir: &Path) -> io::Result<u64> {
    let Some(bytes) = read_at_most(&archived_path(dir), 32)? else { return Ok(1) };
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?}: {error}")))
}

const SNAPSHOT: [u8; 8] = *b"OCTSNP01";
/// More than a state with every partition and intent open has.
const SNAPSHOT_MAX: u64 = 64 << 20;

/// The file with what the log had come to before the segment with this first entry.
pub(crate) fn snapshot_name(first: u64) -> String {
    format!("{first:020}.state")
}

/// Writes the snapshot with which a segment starts.
pub(crate) fn write_snapshot(segments: &Path, first: u64, fold: &Fold) -> io::Result<()> {
    replace(&segments.join(snapshot_name(first)), &encode_snapshot(fold), true)
}

/// `"OCTSNP01" crc u32 zeros u32, length of the state u64, state, edge`, little endian; the checksum covers what follows
/// it.
pub(crate) fn encode_snapshot(fold: &Fold) -> Vec<u8> {
    let (state, edge) = (fold.state.encode(), fold.edge.encode());
    let mut rest = vec![0; 4];
    rest.extend_from_slice(&(state.len() as u64).to_le_bytes());
    rest.extend_from_slice(&state);
    rest.extend_from_slice(&edge);
    let mut out = SNAPSHOT.to_vec();
    out.extend_from_slice(&crc32c(&[&rest]).to_le_bytes());
    out.extend_from_slice(&rest);
    out
}

fn decode_snapshot(bytes: &[u8]) -> Option<Fold> {
    let (crc, rest) = bytes.strip_prefix(&SNAPSHOT)?.split_first_chunk::<4>()?;
    if crc32c(&[rest]) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (length, rest) = rest.strip_prefix(&[0; 4])?.split_first_chunk::<8>()?;
    let (state, edge) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let state = State::decode(state).ok()?;
    let edge = Edge::decode(edge, state.tip().seq)?;
    Some(Fold { state, edge })
}

/// The snapshot before the segment with this first entry; none when there is none that is whole and fits.
pub(crate) fn read_snapshot(segments: &Path, first: u64) -> io::Result<Option<Fold>> {
    let bytes = match read_at_most(&segments.join(snapshot_name(first)), SNAPSHOT_MAX) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        read => read?,
    };
    let fold = bytes.and_then(|bytes| decode_snapshot(&bytes));
    Ok(fold.filter(|fold| fold.state.tip().seq + 1 == first))
}

/// The file of a whole tile.
pub(crate) fn tile_path(dir: &Path, tile: Tile) -> PathBuf {
    dir.join(Tile { width: 256, ..tile }.path())
}

/// Writes a whole tile. It is not synced: what a loss of power tears is told from what was changed, and made again.
pub(crate) fn write_tile(dir: &Path, whole: &Whole) -> io::Result<()> {
    let path = tile_path(dir, whole.tile);
    match replace(&path, &whole.bytes, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The first of its directory.
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            replace(&path, &whole.bytes, false)
        }
        done => done,
    }
}

/// How a tile's file compares with what the entries give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The same.
    Same,
    /// It is missing, or sectors of it were never written: it can be made again.
    Torn,
    /// Somebody changed it: the index of the first hash that differs.
    Changed(u64),
}

/// Compares a tile's file with what the entries give.
pub(crate) fn compare_tile(dir: &Path, whole: &Whole) -> io::Result<Compared> {
    // The unit that a disk writes whole, and that a file has as zeros where a write never came.
    const SECTOR: usize = 512;
    let found = match read_at_most(&tile_path(dir, whole.tile), TILE as u64) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Compared::Changed(0)),
        read => read?.unwrap_or_default(),
    };
    if found == whole.bytes {
        return Ok(Compared::Same);
    }
    let sectors = found.chunks(SECTOR).zip(whole.bytes.chunks(SECTOR));
    let changed = sectors
        .enumerate()
        .find(|(_, (found, right))| !right.starts_with(found) && found.iter().any(|byte| *byte != 0));
    Ok(match changed {
        None => Compared::Torn,
        Some((sector, (found, right))) => {
            let byte = found.iter().zip(right).position(|(found, right)| found != right).unwrap_or(0);
            Compared::Changed((sector * SECTOR + byte) as u64 / 32)
        }
    })
}

/// A payload that can be erased, with the salt of its commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erasable {
    pub(crate) salt: [u8; 32],
    pub(crate) text: String,
}

pub(crate) fn payload_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}"))
}

/// The payloads that lie there for entries after this one: of a batch that a crash cut short.
pub(crate) fn payloads_after(dir: &Path, seq: u64) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        found.extend(number.filter(|number| *number > seq));
    }
    Ok(found)
}

/// Keeps an erasable payload; the directory has to be synced before its entry is acknowledged.
pub(crate) fn write_payload(dir: &Path, seq: u64, payload: &Erasable) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(payload_path(dir, seq))?;
    file.write_all(&payload.salt)?;
    file.write_all(payload.text.as_bytes())?;
    file.sync_all()
}

/// The payload of an entry; none when it was erased.
pub(crate) fn read_payload(dir: &Path, seq: u64) -> io::Result<Option<Erasable>> {
    let most = octant_api::ledger::PAYLOAD_MAX as u64 + 32;
    let Some(bytes) = read_at_most(&payload_path(dir, seq), most)? else { return Ok(None) };
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no payload with its salt");
    let (salt, text) = bytes.split_first_chunk::<32>().ok_or_else(invalid)?;
    let text = String::from_utf8(text.to_vec()).map_err(|_| invalid())?;
    Ok(Some(Erasable { salt: *salt, text }))
}

/// What the name of a payload ends with while it is erased.
const ERASING: &str = "erasing";

/// Removes a payload: its bytes are overwritten before its name goes. Whether a disk keeps older copies is not known
/// here.
pub(crate) fn erase_payload(dir: &Path, seq: u64) -> io::Result<()> {
    let path = payload_path(dir, seq);
    // Under another name first: one that is half overwritten would be taken for a payload that somebody changed.
    let erasing = path.with_extension(ERASING);
    match fs::rename(path, &erasing) {
        Ok(()) => sync_dir(dir).and_then(|()| erase_file(&erasing))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    sync_dir(dir)
}

fn erase_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; length], 0)?;
    file.sync_all()?;
    fs::remove_file(path)
}

/// Ends erasures that a crash cut short.
pub(crate) fn finish_erasures(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ERASING) {
            erase_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Dir;

    fn whole() -> Whole {
        let bytes = (0..TILE).map(|n| u8::try_from(n % 251).unwrap_or(0) + 1).collect();
        Whole { tile: Tile { level: 0, index: 3, width: 256 }, bytes }
    }

    #[test]
    fn a_torn_tile_is_told_from_a_changed_one() {
        let scratch = Dir::quick();
        let whole = whole();
        assert_eq!(compare_tile(&scratch.0, &whole).unwrap(), Compared::Torn, "it is missing");
        write_tile(&scratch.0, &whole).unwrap();
        assert_eq!(compare_tile(&scratch.0, &whole).unwrap(), Compared::Same);
        let path = tile_path(&scratch.0, whole.tile);
        for at in [0, 511, 512, 5000, TILE - 1] {
            let mut changed = whole.bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            let index = at as u64 / 32;
            assert_eq!(compare_tile(&scratch.0, &whole).unwrap(), Compared::Changed(index));
        }
        let mut torn = whole.bytes.clone();
        torn[4096..].fill(0);
        for bytes in [&torn[..], &torn[..4096], &torn[..100], &[]] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(compare_tile(&scratch.0, &whole).unwrap(), Compared::Torn, "{}", bytes.len());
        }
        fs::write(&path, [&whole.bytes[..], &[1]].concat()).unwrap();
        assert_eq!(compare_tile(&scratch.0, &whole).unwrap(), Compared::Changed(0));
    }

    #[test]
    fn a_snapshot_is_read_back_and_no_changed_byte_of_it_is() {
        let fold = Fold::default();
        let bytes = encode_snapshot(&fold);
        assert_eq!(decode_snapshot(&bytes), Some(fold));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode_snapshot(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn an_erased_payload_is_gone() {
        let scratch = Dir::quick();
        let payload = Erasable { salt: [7; 32], text: "{\"name\":\"x\"}".to_owned() };
        write_payload(&scratch.0, 5, &payload).unwrap();
        assert_eq!(read_payload(&scratch.0, 5).unwrap(), Some(payload));
        erase_payload(&scratch.0, 5).unwrap();
        erase_payload(&scratch.0, 5).unwrap();
        assert_eq!(read_payload(&scratch.0, 5).unwrap(), None);
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }
}
