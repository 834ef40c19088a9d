//! SNTP (RFC 4330, RFC 5905): what time servers say, which of it is believed, and what is done to the clock for it. All but
//! [`ask`] is pure.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The port of time servers.
pub const PORT: u16 = 123;
/// The length of a message without extensions.
const LENGTH: usize = 48;
/// From 1900 to 1970.
const EPOCH_S: u64 = 2_208_988_800;
/// The longest way there and back that is believed: half of it is how wrong an answer can be.
const DELAY_MAX_NS: u64 = 1_000_000_000;
/// How far a server may be from the true time by its own word (root delay / 2 + dispersion).
const ROOT_MAX_NS: u64 = 1_500_000_000;
/// How far from each other servers may be that agree, beyond what their ways explain.
const APART_NS: u64 = 100_000_000;
/// Up to here the clock is never set but made to run faster or slower.
pub const SLEW_NS: u64 = 128_000_000;
/// Up to here that is done where setting it back would put it before what is on record.
const SLEW_BACK_NS: u64 = 10_000_000_000;
/// How many datagrams that answer nothing of ours are thrown away.
const STRAY_MAX: u32 = 8;

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// None came.
    #[error("no answer: {0}")]
    Silent(#[from] io::Error),
    /// The server asks not to be asked (a kiss of death), by this code.
    #[error("it does not want to be asked: {0}")]
    Kiss(String),
    /// It says that its own clock is not set, or that it is no server.
    #[error("its own clock is not set")]
    Unset,
    /// Its own word on how wrong it may be, or the way there, is too much.
    #[error("it may be wrong by {0} ms")]
    Vague(u64),
}

/// What one server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How far this machine's clock is behind, in nanoseconds.
    pub offset_ns: i64,
    /// The way there and back.
    pub delay_ns: u64,
    /// How many servers stand between it and a true clock.
    pub stratum: u8,
}

/// A question. `nonce` takes the place of this machine's time, which is nobody's business; the answer has it again.
#[must_use]
pub fn question(nonce: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    // No warning, version 4, mode 3: a client.
    bytes[0] = 4 << 3 | 3;
    bytes[40..].copy_from_slice(&nonce.to_be_bytes());
    bytes
}

/// Reads the answer to a question that left at `sent_ns` (since 1970, by this machine's clock) and took `took_ns`; none for
/// what is no answer to it.
#[must_use]
pub fn answer(bytes: &[u8], nonce: u64, sent_ns: u64, took_ns: u64) -> Option<Result<Sample, Wrong>> {
    let head: &[u8; LENGTH] = bytes.first_chunk()?;
    let long = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let short_ns = |at: usize| {
        let word = head[at..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        // Seconds and their 65,536th parts.
        Some((u64::from(word) * 1_000_000_000) >> 16)
    };
    let (leap, version, mode, stratum) = (head[0] >> 6, head[0] >> 3 & 7, head[0] & 7, head[1]);
    if mode != 4 || !(3..=4).contains(&version) || long(24)? != nonce {
        return None;
    }
    if stratum == 0 {
        let code =
            head[12..16].iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(*byte));
        return Some(Err(Wrong::Kiss(code.collect())));
    }
    let (received, sent) = (long(32)?, long(40)?);
    if leap == 3 || stratum > 15 || received == 0 || sent == 0 {
        return Some(Err(Wrong::Unset));
    }
    let (there, back) = (since_1970_ns(received), since_1970_ns(sent));
    let inside = back.saturating_sub(there);
    let delay_ns = took_ns.saturating_sub(inside);
    let root = short_ns(4)? / 2 + short_ns(8)?;
    if delay_ns > DELAY_MAX_NS || root > ROOT_MAX_NS || inside > took_ns.max(DELAY_MAX_NS) {
        return Some(Err(Wrong::Vague(root.max(delay_ns / 2) / 1_000_000)));
    }
    // ((T2 - T1) + (T3 - T4)) / 2
    let back_here = i128::from(sent_ns) + i128::from(took_ns);
    let offset = (i128::from(there) - i128::from(sent_ns) + i128::from(back) - back_here) / 2;
    let offset_ns = i64::try_from(offset).ok()?;
    Some(Ok(Sample { offset_ns, delay_ns, stratum }))
}

/// NTP's seconds end in 2036 and begin anew: what is before 1968 by the old count is after it by the new one. What is between
/// 1968 and 1970 is 1970: no clock of a server stands there.
fn since_1970_ns(stamp: u64) -> u64 {
    let (seconds, parts) = (stamp >> 32, stamp & u64::from(u32::MAX));
    let seconds = if seconds < 1 << 31 { seconds + (1 << 32) } else { seconds };
    seconds.saturating_sub(EPOCH_S) * 1_000_000_000 + ((parts * 1_000_000_000) >> 32)
}

/// What the servers say together: the median, if more than half of those that were asked are near it.
#[must_use]
pub fn agreed(samples: &[Sample], asked: usize) -> Option<Sample> {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|sample| sample.offset_ns);
    let median = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    let near = |sample: &&Sample| {
        let most = APART_NS + sample.delay_ns / 2 + median.delay_ns / 2;
        sample.offset_ns.abs_diff(median.offset_ns) <= most
    };
    (sorted.iter().filter(near).count() * 2 > asked).then_some(median)
}

/// What is done to the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It runs faster or slower for a while.
    Slew,
    /// It is set.
    Step,
    /// Nothing, without an operator's word.
    Refuse(String),
}

/// What is known when that is decided.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The clock, since 1970.
    pub now_ns: u64,
    /// How far it is behind.
    pub offset_ns: i64,
    /// The latest time that is on record.
    pub recorded_ns: u64,
    /// The most that it is set by.
    pub most_ns: u64,
    /// Whether it was right before: then it is not set any more.
    pub was_right: bool,
    /// Whether an operator has said that the servers are to be believed.
    pub word: bool,
}

/// Decides. Time that is on record does not happen again, a clock that was right does not jump, and nobody on the network
/// moves it by more than `most_ns`.
#[must_use]
pub fn decide(known: Known) -> Deed {
    let off = known.offset_ns.unsigned_abs();
    if off <= SLEW_NS {
        return Deed::Slew;
    }
    if known.word {
        return Deed::Step;
    }
    let seconds = off / 1_000_000_000;
    let way = if known.offset_ns > 0 { "behind" } else { "ahead" };
    let far = format!("the clock is {seconds} s {way} of what the time servers say");
    if off > known.most_ns {
        let most = known.most_ns / 1_000_000_000;
        return Deed::Refuse(format!("{far}, more than the {most} s that it is set by"));
    }
    let back_to = known.now_ns.saturating_sub(off);
    let again = known.offset_ns < 0 && back_to < known.recorded_ns;
    if (again || known.was_right) && off <= SLEW_BACK_NS {
        return Deed::Slew;
    }
    if again {
        return Deed::Refuse(format!("{far}, which is before the last entry of the ledger"));
    }
    if known.was_right {
        return Deed::Refuse(format!("{far}, and it was right before"));
    }
    Deed::Step
}

/// Asks one server. `wall_ns` and `monotonic_ns` read the clocks.
///
/// # Errors
/// [`Wrong`].
pub fn ask(
    server: SocketAddr,
    nonce: u64,
    wait: Duration,
    wall_ns: fn() -> u64,
    monotonic_ns: fn() -> u64,
) -> Result<Sample, Wrong> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(wait))?;
    let (sent_ns, start) = (wall_ns(), monotonic_ns());
    socket.send(&question(nonce))?;
    let mut buffer = [0; 1024];
    for _ in 0..STRAY_MAX {
        let length = socket.recv(&mut buffer)?;
        let took = monotonic_ns().saturating_sub(start);
        if let Some(answer) = answer(&buffer[..length], nonce, sent_ns, took) {
            return answer;
        }
    }
    Err(Wrong::Silent(io::Error::other("it answers what was not asked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// 2026-07-01.
    const NOW: u64 = 1_782_864_000 * S;

    fn stamp(ns: u64) -> [u8; 8] {
        let seconds = (ns / S + EPOCH_S) & u64::from(u32::MAX);
        ((seconds << 32) | (((ns % S) << 32) / S)).to_be_bytes()
    }

    /// A server's answer to a question that it got at `there` and answered at once.
    fn reply(nonce: u64, there: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        (bytes[0], bytes[1]) = (4 << 3 | 4, 2);
        bytes[24..32].copy_from_slice(&nonce.to_be_bytes());
        bytes[32..40].copy_from_slice(&stamp(there));
        bytes[40..].copy_from_slice(&stamp(there));
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Result<Sample, Wrong>> {
        answer(bytes, 7, NOW, S / 10)
    }

    #[test]
    fn how_far_the_clock_is_off_follows_from_four_times() {
        // The clock is 5 s behind; the way takes 50 ms each way.
        let sample = read(&reply(7, NOW + 5 * S + S / 20)).unwrap().unwrap();
        assert!(sample.offset_ns.abs_diff(5_000_000_000) < 10 && sample.delay_ns == S / 10, "{sample:?}");
        // And over the end of NTP's count in 2036.
        let late = 2_090_000_000 * S;
        let sample = answer(&reply(7, late + S / 20), 7, late, S / 10).unwrap().unwrap();
        assert!(sample.offset_ns.abs() < 10, "{sample:?}");
    }

    #[test]
    fn what_is_not_to_be_believed_is_not() {
        let good = reply(7, NOW);
        assert!(read(&good).unwrap().is_ok());
        for cut in 0..LENGTH {
            assert!(read(&good[..cut]).is_none());
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            read(&bytes)
        };
        assert!(with(31, 8).is_none(), "another question's");
        assert!(with(0, 4 << 3 | 3).is_none() && with(0, 1 << 3 | 4).is_none());
        assert!(matches!(with(0, 3 << 6 | 4 << 3 | 4), Some(Err(Wrong::Unset))));
        assert!(matches!(with(1, 16), Some(Err(Wrong::Unset))));
        assert!(matches!(with(9, 2), Some(Err(Wrong::Vague(2000)))));
        let mut kiss = good;
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RATE");
        assert!(matches!(read(&kiss), Some(Err(Wrong::Kiss(code))) if code == "RATE"));
        assert!(matches!(answer(&good, 7, NOW, 3 * S), Some(Err(Wrong::Vague(_)))), "too long a way");
    }

    fn sample(offset_ms: i64) -> Sample {
        Sample { offset_ns: offset_ms * 1_000_000, delay_ns: S / 100, stratum: 2 }
    }

    #[test]
    fn the_median_counts_if_most_of_those_that_were_asked_are_near_it() {
        let said = |offsets: &[i64], asked| {
            let samples: Vec<Sample> = offsets.iter().map(|offset| sample(*offset)).collect();
            agreed(&samples, asked).map(|sample| sample.offset_ns / 1_000_000)
        };
        assert_eq!(said(&[5], 1), Some(5));
        assert_eq!(said(&[5], 2), None, "one of two is not most");
        assert_eq!(said(&[900_000, 10, 20], 3), Some(20), "one lies");
        assert_eq!(said(&[900_000, 900_001, 20], 4), None);
        assert_eq!(said(&[0, 1_000], 2), None, "two that disagree");
        assert_eq!(said(&[], 3), None);
    }

    #[test]
    fn the_clock_is_set_only_at_the_start_within_bounds_and_never_before_what_is_on_record() {
        let known = |offset_s: i64| Known {
            now_ns: NOW,
            offset_ns: offset_s * 1_000_000_000,
            recorded_ns: NOW,
            most_ns: 86_400 * S,
            was_right: false,
            word: false,
        };
        let refused = |known: Known| matches!(decide(known), Deed::Refuse(_));
        assert_eq!(decide(Known { offset_ns: -100_000_000, ..known(0) }), Deed::Slew);
        assert_eq!(decide(known(3_600)), Deed::Step);
        assert!(refused(known(90_000)), "more than a day");
        assert_eq!(decide(known(-5)), Deed::Slew, "a few seconds back are slewed");
        assert!(refused(known(-60)), "before what is on record");
        assert_eq!(decide(Known { recorded_ns: NOW - 100 * S, ..known(-60) }), Deed::Step);
        assert!(refused(Known { was_right: true, ..known(60) }), "a clock that was right does not jump");
        assert_eq!(decide(Known { was_right: true, ..known(5) }), Deed::Slew);
        assert_eq!(decide(Known { word: true, ..known(-90_000) }), Deed::Step, "an operator's word");
    }
}
