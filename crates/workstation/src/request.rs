//! What is said on the spawner's socket: fixed headers, no parsing beyond them except of the sealed plan.

use crate::plan::Report;
use crate::step::{SpawnError, Step};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use octant_api::ticket::Ticket;
use octant_ids::Aid;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The most bytes of a plan.
pub(crate) const MAX_PLAN: usize = 256 * 1024;
/// The most bytes of an answer.
pub(crate) const MAX_REPLY: usize = 96 * 1024;
/// The length of the fixed part of a request.
const HEAD_LEN: usize = 48;
/// The most bytes of a request: that of a spawn has a ticket behind the fixed part.
pub(crate) const REQUEST_MAX: usize = HEAD_LEN + octant_ticket::LEN;
const REPLY_HEADER: usize = 20;
const REQUEST_MAGIC: [u8; 4] = *b"OWQ1";
const REPLY_MAGIC: [u8; 4] = *b"OWA1";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// Build a workstation; with the plan, standard output and standard error as descriptors.
    Spawn = 1,
    /// Kill everything in it.
    Kill = 2,
    /// Kill, and remove what is left of it.
    Retire = 3,
    /// Ask its program to end (SIGTERM).
    Terminate = 4,
    /// Read what is to be kept of the workspace of one that has ended: with that in sealed memory, the workspace and the
    /// writing end of a pipe as descriptors.
    Collect = 5,
    /// Build a workstation whose program waits; as `Spawn`.
    Prepare = 16,
    /// Let that program run.
    Release = 17,
    /// Listen in its network for the gate; with what is listened on as a descriptor.
    Listen = 18,
}

impl Op {
    /// Whether it adds authority, and so comes with a ticket.
    fn takes_ticket(self) -> bool {
        matches!(self, Self::Spawn | Self::Prepare | Self::Release | Self::Listen)
    }
}

/// A request: `magic op pad[3] slot plan_len aid[32]`, little endian; then, for what adds authority, the ticket in its fixed
/// form. One without is still read, so that it is refused for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) op: Op,
    pub(crate) slot: u32,
    pub(crate) plan_len: u32,
    pub(crate) aid: Aid,
    pub(crate) ticket: Option<Ticket>,
}

fn refused(text: &str) -> SpawnError {
    SpawnError::refused(Step::Request, text)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    if let Some(part) = bytes.get(at..at + 4) {
        four.copy_from_slice(part);
    }
    u32::from_le_bytes(four)
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = REQUEST_MAGIC.to_vec();
        out.extend([self.op as u8, 0, 0, 0]);
        out.extend(self.slot.to_le_bytes());
        out.extend(self.plan_len.to_le_bytes());
        out.extend(self.aid.to_string().bytes());
        out.extend(self.ticket.iter().flat_map(octant_ticket::encode));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SpawnError> {
        let version = || refused("not a request of this version");
        let (bytes, ticket) = bytes.split_at_checked(HEAD_LEN).ok_or_else(version)?;
        let aid = bytes.get(16..).unwrap_or_default();
        if bytes[..4] != REQUEST_MAGIC || bytes[5..8] != [0; 3] {
            return Err(version());
        }
        let op = match bytes[4] {
            1 => Op::Spawn,
            2 => Op::Kill,
            3 => Op::Retire,
            4 => Op::Terminate,
            5 => Op::Collect,
            16 => Op::Prepare,
            17 => Op::Release,
            18 => Op::Listen,
            _ => return Err(refused("an unknown operation")),
        };
        let aid = std::str::from_utf8(aid).ok().and_then(|text| text.parse().ok());
        let aid = aid.ok_or_else(|| refused("not an agent identifier"))?;
        let ticket = match (ticket, op) {
            ([], _) => None,
            (bytes, op) if op.takes_ticket() => Some(octant_ticket::decode(bytes).ok_or_else(version)?),
            // Nothing else waits for the ledger, so nothing else has a ticket.
            _ => return Err(version()),
        };
        Ok(Self { op, slot: u32_at(bytes, 8), plan_len: u32_at(bytes, 12), aid, ticket })
    }
}

/// An answer: `magic ok pad step errno pid text_len text`, little endian; in that of a retirement, the number of
/// namespaces that were looked for stands for the process. The text is the report of a spawn or the
/// text of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Result<(u32, Option<Report>), SpawnError>);

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (ok, step, errno, pid, mut text) = match &self.0 {
            Ok((pid, report)) => {
                let text = report.as_ref().and_then(|r| serde_json::to_vec(r).ok()).unwrap_or_default();
                (1, 0, 0, *pid, text)
            }
            Err(error) => (0, error.step.number(), error.errno, 0, error.text.clone().into_bytes()),
        };
        text.truncate(MAX_REPLY - REPLY_HEADER);
        let mut out = REPLY_MAGIC.to_vec();
        out.extend([ok, 0]);
        out.extend(step.to_le_bytes());
        out.extend(errno.to_le_bytes());
        out.extend(pid.to_le_bytes());
        out.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
        out.extend(text);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SpawnError> {
        let garbled = || refused("the spawner's answer is not of this version");
        let text = bytes.get(REPLY_HEADER..).ok_or_else(garbled)?;
        if bytes[..4] != REPLY_MAGIC || u32_at(bytes, 16) as usize != text.len() {
            return Err(garbled());
        }
        if bytes[4] == 0 {
            let step = Step::from_number(u16::from_le_bytes([bytes[6], bytes[7]])).ok_or_else(garbled)?;
            let errno = u32_at(bytes, 8).cast_signed();
            let text = String::from_utf8_lossy(text).into_owned();
            return Ok(Self(Err(SpawnError { step, errno, text })));
        }
        let report = match text {
            [] => None,
            json => Some(serde_json::from_slice(json).map_err(|_| garbled())?),
        };
        Ok(Self(Ok((u32_at(bytes, 12), report))))
    }
}

/// Every seal: neither the size nor the content nor the seals can change any more.
fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// The bytes in sealed memory.
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"plan", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(file.into())
}

/// Reads sealed memory of exactly this length. What is not sealed could change after it was checked.
pub(crate) fn unseal(fd: OwnedFd, len: usize, limit: usize) -> Result<Vec<u8>, SpawnError> {
    let failed = |error: io::Error| SpawnError::failed(Step::Request, "read the sealed plan", &error);
    let seals = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS).map_err(|error| failed(error.into()))?;
    if !SealFlag::from_bits_retain(seals).contains(all_seals()) {
        return Err(refused("the plan's memory is not sealed"));
    }
    let file = std::fs::File::from(fd);
    let size = file.metadata().map_err(failed)?.len();
    if len == 0 || len > limit || u64::try_from(len) != Ok(size) {
        return Err(refused("the plan has another length than the request says, or too many bytes"));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::Sha256;
    use proptest::prelude::*;

    fn ticket(bytes: [u8; 32], time: u64) -> Ticket {
        let actuator = "spawner".parse().unwrap();
        let (intent, mac) = (Sha256(bytes), Sha256(bytes));
        Ticket { seq: time, intent, actuator, issued_ns: time, expires_ns: !time, mac }
    }

    #[test]
    fn unsealed_memory_is_refused() {
        let fd = memfd_create(c"plan", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(b"abc").unwrap();
        assert!(unseal(file.into(), 3, 10).unwrap_err().text.contains("not sealed"));
        assert!(unseal(std::fs::File::open("/dev/null").unwrap().into(), 3, 10).is_err());
        assert_eq!(unseal(seal(b"abc").unwrap(), 3, 10).unwrap(), b"abc");
        for (len, limit) in [(0, 10), (2, 10), (4, 10), (3, 2)] {
            assert!(unseal(seal(b"abc").unwrap(), len, limit).is_err(), "{len} {limit}");
        }
    }

    proptest! {
        #[test]
        fn any_request_round_trips(slot: u32, plan_len: u32, time: u64, random: [u8; 10], bytes: [u8; 32]) {
            let aid = Aid::new(time, random);
            for op in [Op::Spawn, Op::Kill, Op::Retire, Op::Terminate, Op::Collect, Op::Prepare, Op::Release] {
                let request = Request { op, slot, plan_len, aid, ticket: None };
                prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
                let request = Request { op, slot, plan_len, aid, ticket: Some(ticket(bytes, time)) };
                let read = Request::decode(&request.encode());
                prop_assert_eq!(read.ok(), op.takes_ticket().then_some(request), "only what adds authority has a ticket");
            }
        }

        #[test]
        fn no_bytes_panic_and_no_flipped_byte_of_the_fixed_part_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..8) {
            let _ = Request::decode(&bytes);
            let _ = Reply::decode(&bytes);
            let aid = Aid::new(1, [1; 10]);
            let mut good = Request { op: Op::Kill, slot: 1, plan_len: 0, aid, ticket: None }.encode();
            good[at] ^= 0x40;
            prop_assert!(Request::decode(&good).is_err());
            let spawn = Request { op: Op::Spawn, slot: 1, plan_len: 0, aid, ticket: Some(ticket([1; 32], 1)) };
            let spawn = spawn.encode();
            prop_assert_eq!(spawn.len(), REQUEST_MAX);
            prop_assert!(Request::decode(&spawn[..REQUEST_MAX - 1 - at]).is_err(), "half a ticket");
        }

        #[test]
        fn any_error_round_trips(step in 0..u16::try_from(Step::ALL.len()).unwrap(), errno: i32, text: String) {
            let error = SpawnError { step: Step::from_number(step).unwrap(), errno, text };
            prop_assert_eq!(Reply::decode(&Reply(Err(error.clone())).encode()), Ok(Reply(Err(error))));
        }
    }
}
