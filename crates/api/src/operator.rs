//! The frames of PID 1's operator socket (`<run>/init.sock`, SOCK_SEQPACKET).
//!
//! Fixed layouts, little endian, so that PID 1 parses no text from others. A caller sends one [`Request`] and reads
//! [`Answer`]s: for [`Op::Status`] one [`Answer::Unit`] for each unit and then [`Answer::End`], otherwise one
//! [`Answer::Result`]. Authority comes from SO_PEERCRED: services may ask for the status, operators for everything.

use crate::journal::cut;

const MAGIC: [u8; 4] = *b"OCT1";
/// The bytes that a unit's name takes in a frame (zero padded).
pub const NAME_LEN: usize = 32;
/// The most bytes of a unit's status text.
pub const STATUS_LEN: usize = 160;
/// The most bytes of a result's text, and of the reason in [`End`].
pub const TEXT_LEN: usize = 200;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// The state of every unit.
    Status = 1,
    /// Start a unit; also clears a failure.
    Start = 2,
    /// Stop a unit, its dependants first.
    Stop = 3,
    /// Stop and start one unit; its dependants go on.
    Restart = 4,
    /// Orderly shutdown, then power off.
    Poweroff = 5,
    /// Orderly shutdown, then a new boot.
    Reboot = 6,
    /// Orderly shutdown, then halt.
    Halt = 7,
    /// Orderly shutdown, then exit with code `arg` (namespace and container; on a machine: power off).
    Exit = 8,
    /// PID 1 replaces itself by the binary on disk and keeps every process.
    Reexec = 9,
    /// An account has logged in: `unit` is `NAME@TERMINAL`, `arg` its user id. This and what follows is only put on record.
    Login = 10,
    /// Somebody was refused; `NAME` is empty for one that is no account's.
    Refused = 11,
    /// A session has ended.
    Logout = 12,
    /// An account has changed: `unit` is its name, `arg` an [`AccountChange`].
    Account = 13,
    /// A challenge was answered by a key that opens an account: `unit` is `KEY@TERMINAL`, with the beginning of the key's
    /// identifier. The login itself follows.
    Answered = 14,
    /// Put on record which edition of the machine's configuration (`arg`) is to be in force; nothing is done yet.
    Intend = 15,
    /// Put that edition in force.
    Configure = 16,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Status,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Poweroff,
        Self::Reboot,
        Self::Halt,
        Self::Exit,
        Self::Reexec,
        Self::Login,
        Self::Refused,
        Self::Logout,
        Self::Account,
        Self::Answered,
        Self::Intend,
        Self::Configure,
    ];

    /// Whether it is something that the console says happened, rather than something to do.
    #[must_use]
    pub const fn is_report(self) -> bool {
        matches!(self, Self::Login | Self::Refused | Self::Logout | Self::Account | Self::Answered)
    }
}

/// What has become of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum AccountChange {
    /// There is one.
    Made = 0,
    /// It has another passphrase.
    Passphrase = 1,
    /// There is none any more.
    Removed = 2,
    /// A key opens it.
    Key = 3,
    /// A key opens it no more.
    NoKey = 4,
    /// No passphrase opens it any more.
    NoPassphrase = 5,
}

impl AccountChange {
    /// The change of a number, and what it is in words.
    #[must_use]
    pub const fn words(number: i32) -> &'static str {
        match number {
            0 => "made",
            1 => "given another passphrase",
            2 => "removed",
            3 => "given a key",
            4 => "no more opened by a key",
            5 => "no more opened by a passphrase",
            _ => "changed",
        }
    }
}

/// One request frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub op: Op,
    /// The unit, empty where the operation has none.
    pub unit: String,
    /// The exit code of [`Op::Exit`], what a report says with it, otherwise 0.
    pub arg: i32,
}

impl Request {
    /// The length of a request in bytes.
    pub const LEN: usize = 8 + NAME_LEN + 4;

    /// The frame.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.op as u8;
        put_text(&mut out[8..8 + NAME_LEN], &self.unit);
        out[8 + NAME_LEN..].copy_from_slice(&self.arg.to_le_bytes());
        out
    }

    /// The reading of a frame; `None` when it is not one.
    #[must_use]
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(frame, Self::LEN)?;
        let op = Op::ALL.into_iter().find(|op| *op as u8 == reader.kind)?;
        let unit = reader.text(NAME_LEN)?;
        Some(Self { op, unit, arg: i32::from_le_bytes(reader.take()?) })
    }
}

/// Where a unit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UnitState {
    /// Not running and not wanted.
    Down = 0,
    /// Wanted; what it needs is not ready.
    Waiting = 1,
    /// Its process runs and has not said that it is ready.
    Starting = 2,
    /// It runs and is ready.
    Ready = 3,
    /// It was told to end.
    Stopping = 4,
    /// It ended by itself; it is started again after a pause.
    BackOff = 5,
    /// It is not started again until an operator says so.
    Failed = 6,
    /// It did its work and ended.
    Done = 7,
}

impl UnitState {
    const ALL: [Self; 8] = [
        Self::Down,
        Self::Waiting,
        Self::Starting,
        Self::Ready,
        Self::Stopping,
        Self::BackOff,
        Self::Failed,
        Self::Done,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::BackOff => "back-off",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// What a unit says about its own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// It has not said anything yet.
    Unknown = 0,
    /// Its last probe of its own work succeeded.
    Ok = 1,
    /// Its last probe failed; the status text has the reason.
    Unhealthy = 2,
    /// It makes no probes.
    None = 3,
}

impl Health {
    const ALL: [Self; 4] = [Self::Unknown, Self::Ok, Self::Unhealthy, Self::None];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Unhealthy => "unhealthy",
            Self::None => "-",
        }
    }
}

/// What PID 1 as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Units are being started for the first time.
    Booting = 0,
    /// Every unit that is wanted is ready.
    Running = 1,
    /// Something wanted is not ready; the reason names it.
    Degraded = 2,
    /// Everything is being stopped.
    Stopping = 3,
    /// A unit that Octant cannot do without failed for good; everything is being stopped.
    Emergency = 4,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Booting, Self::Running, Self::Degraded, Self::Stopping, Self::Emergency];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Emergency => "emergency",
        }
    }
}

/// What a unit uses with all its processes, and what it may; none where the kernel does not count here, and no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory beyond which it is killed.
    pub memory_max: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// The most of them.
    pub pids_max: Option<u32>,
}

/// One unit's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: UnitState,
    /// What it says about its work.
    pub health: Health,
    /// Its main process, 0 when there is none.
    pub pid: u32,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// When it came into this state, CLOCK_MONOTONIC nanoseconds.
    pub since_ns: u64,
    /// The user id that it runs under.
    pub uid: u32,
    /// How long ago it last said how it is, in milliseconds: so old is what is known of its health. None where it has not.
    pub heard_ms: Option<u32>,
    /// What it uses.
    pub used: Used,
    /// How often the kernel has killed it for want of memory.
    pub out_of_memory: u32,
    /// Why it is in this state, or what it last said; at most [`STATUS_LEN`] bytes.
    pub text: String,
}

/// The end of a status answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How many unit frames came before.
    pub count: u32,
    /// What PID 1 as a whole is doing.
    pub phase: Phase,
    /// Why, when it is not running as wanted; at most [`TEXT_LEN`] bytes.
    pub reason: String,
}

/// One answer frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A unit of a status answer.
    Unit(UnitStatus),
    /// The end of a status answer.
    End(End),
    /// The outcome of every other operation.
    Result {
        /// Whether it was accepted.
        ok: bool,
        /// What was done, or why not and what to do next; at most [`TEXT_LEN`] bytes.
        text: String,
    },
}

const UNIT: u8 = 1;
const END: u8 = 2;
const RESULT: u8 = 3;
const UNIT_LEN: usize = 8 + NAME_LEN + 24 + 28 + STATUS_LEN;
const END_LEN: usize = 8 + 8 + TEXT_LEN;
const RESULT_LEN: usize = 8 + 4 + TEXT_LEN;

impl Answer {
    /// The most bytes of an answer frame.
    pub const MAX: usize = UNIT_LEN;

    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        match self {
            Self::Unit(unit) => {
                out.extend_from_slice(&[UNIT, unit.state as u8, unit.health as u8, 0]);
                push_text(&mut out, &unit.name, NAME_LEN);
                out.extend_from_slice(&unit.pid.to_le_bytes());
                out.extend_from_slice(&unit.restarts.to_le_bytes());
                out.extend_from_slice(&unit.since_ns.to_le_bytes());
                out.extend_from_slice(&unit.uid.to_le_bytes());
                // 0 is for none, and what a PID 1 of before this field sends.
                let heard = unit.heard_ms.map_or(0, |ms| ms.saturating_add(1));
                out.extend_from_slice(&heard.to_le_bytes());
                let Used { memory, memory_max, pids, pids_max } = unit.used;
                let bytes = |size: Option<u64>| size.unwrap_or(u64::MAX).to_le_bytes();
                let count = |count: Option<u32>| count.unwrap_or(u32::MAX).to_le_bytes();
                [memory, memory_max].iter().for_each(|size| out.extend_from_slice(&bytes(*size)));
                [pids, pids_max].iter().for_each(|pids| out.extend_from_slice(&count(*pids)));
                out.extend_from_slice(&unit.out_of_memory.to_le_bytes());
                push_text(&mut out, &unit.text, STATUS_LEN);
            }
            Self::End(end) => {
                out.extend_from_slice(&[END, 0, 0, 0]);
                out.extend_from_slice(&end.count.to_le_bytes());
                out.extend_from_slice(&[end.phase as u8, 0, 0, 0]);
                push_text(&mut out, &end.reason, TEXT_LEN);
            }
            Self::Result { ok, text } => {
                out.extend_from_slice(&[RESULT, 0, 0, 0]);
                out.extend_from_slice(&[u8::from(*ok), 0, 0, 0]);
                push_text(&mut out, text, TEXT_LEN);
            }
        }
        out
    }

    /// The reading of a frame; `None` when it is not one.
    #[must_use]
    pub fn decode(frame: &[u8]) -> Option<Self> {
        match *frame.get(4)? {
            UNIT => {
                let mut reader = Reader::new(frame, UNIT_LEN)?;
                Some(Self::Unit(UnitStatus {
                    state: UnitState::ALL.into_iter().find(|state| *state as u8 == frame[5])?,
                    health: Health::ALL.into_iter().find(|health| *health as u8 == frame[6])?,
                    name: reader.text(NAME_LEN)?,
                    pid: u32::from_le_bytes(reader.take()?),
                    restarts: u32::from_le_bytes(reader.take()?),
                    since_ns: u64::from_le_bytes(reader.take()?),
                    uid: u32::from_le_bytes(reader.take()?),
                    heard_ms: u32::from_le_bytes(reader.take()?).checked_sub(1),
                    used: Used {
                        memory: reader.bytes()?,
                        memory_max: reader.bytes()?,
                        pids: reader.count()?,
                        pids_max: reader.count()?,
                    },
                    out_of_memory: u32::from_le_bytes(reader.take()?),
                    text: reader.text(STATUS_LEN)?,
                }))
            }
            END => {
                let mut reader = Reader::new(frame, END_LEN)?;
                let count = u32::from_le_bytes(reader.take()?);
                let [phase, ..] = reader.take::<4>()?;
                let phase = Phase::ALL.into_iter().find(|known| *known as u8 == phase)?;
                Some(Self::End(End { count, phase, reason: reader.text(TEXT_LEN)? }))
            }
            RESULT => {
                let mut reader = Reader::new(frame, RESULT_LEN)?;
                let [ok, ..] = reader.take::<4>()?;
                Some(Self::Result { ok: ok == 1, text: reader.text(TEXT_LEN)? })
            }
            _ => None,
        }
    }
}

fn put_text(field: &mut [u8], text: &str) {
    let text = cut(text, field.len());
    field[..text.len()].copy_from_slice(text.as_bytes());
}

fn push_text(out: &mut Vec<u8>, text: &str, length: usize) {
    let start = out.len();
    out.resize(start + length, 0);
    put_text(&mut out[start..], text);
}

/// Reads a frame's fields in order.
struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(frame: &'a [u8], length: usize) -> Option<Self> {
        (frame.len() == length && frame[..4] == MAGIC).then(|| Self { kind: frame[4], rest: &frame[8..] })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*field)
    }

    /// A number; all bits set for none. None for a frame that is over.
    fn bytes(&mut self) -> Option<Option<u64>> {
        Some(Some(u64::from_le_bytes(self.take()?)).filter(|size| *size != u64::MAX))
    }

    /// The same, smaller.
    fn count(&mut self) -> Option<Option<u32>> {
        Some(Some(u32::from_le_bytes(self.take()?)).filter(|count| *count != u32::MAX))
    }

    /// A zero-padded text; what follows the first zero must be zero.
    fn text(&mut self, length: usize) -> Option<String> {
        let (field, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let end = field.iter().position(|b| *b == 0).unwrap_or(length);
        if field[end..].iter().any(|b| *b != 0) {
            return None;
        }
        std::str::from_utf8(&field[..end]).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> [Answer; 3] {
        [
            Answer::Unit(UnitStatus {
                name: "ledger".into(),
                state: UnitState::BackOff,
                health: Health::Unhealthy,
                pid: 42,
                restarts: 3,
                since_ns: 9_999_999_999,
                uid: 960,
                heard_ms: Some(0),
                used: Used { memory: Some(7 << 20), memory_max: None, pids: Some(0), pids_max: Some(64) },
                out_of_memory: 2,
                text: "ended by signal 9; again in 200 ms".into(),
            }),
            Answer::End(End { count: 3, phase: Phase::Degraded, reason: "ledger is not ready".into() }),
            Answer::Result { ok: false, text: "no unit of this name".into() },
        ]
    }

    #[test]
    fn frames_survive_the_journey() {
        for op in Op::ALL {
            let request = Request { op, unit: "a".repeat(31), arg: -7 };
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for answer in answers() {
            let frame = answer.encode();
            assert!(frame.len() <= Answer::MAX);
            assert_eq!(Answer::decode(&frame), Some(answer));
        }
    }

    #[test]
    fn other_lengths_magics_and_numbers_are_refused() {
        let good = Request { op: Op::Status, unit: String::new(), arg: 0 }.encode();
        assert_eq!(Request::decode(&good[..good.len() - 1]), None);
        assert_eq!(Request::decode(&[]), None);
        for at in [0, 4] {
            let mut bad = good;
            bad[at] ^= 0x55;
            assert_eq!(Request::decode(&bad), None, "byte {at}");
        }
        for answer in answers() {
            let mut frame = answer.encode();
            assert_eq!(Answer::decode(&frame[..frame.len() - 1]), None);
            frame[4] = 9;
            assert_eq!(Answer::decode(&frame), None);
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let answer = Answer::Result { ok: true, text: "ä".repeat(300) };
        let Some(Answer::Result { text, .. }) = Answer::decode(&answer.encode()) else {
            panic!("not a result")
        };
        assert_eq!(text, "ä".repeat(TEXT_LEN / 2));
    }
}
