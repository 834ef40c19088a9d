//! What Landlock denied to agents, as the kernel reports it from Linux 6.15 on: a record of each access (type 1423), which
//! names the domain, and at a domain's first denial one of the domain (1424), which names the user that made it. A user of
//! an agent's slot is nobody else, and a domain's number is never used again during a boot.

use crate::record::Record;
use octant_api::agents::DeniedAccess;
use octant_ids::uid;

/// How many different accesses are kept of one agent.
const ACCESSES_MAX: usize = 128;
/// The longest part of a path that is kept, in bytes.
const PATH_MAX: usize = 512;
/// How many accesses wait for the record of their domain, which is the next one.
const WAITING_MAX: usize = 64;

/// One access that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) domain: u64,
    /// The rights that it would have taken.
    rights: String,
    /// What it was about: a path, or a port.
    object: String,
    ms: u64,
}

/// Whose a domain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) number: u64,
    /// The slot of the agent whose user made it.
    pub(crate) slot: u32,
}

fn domain(record: &Record<'_>) -> Option<u64> {
    u64::from_str_radix(record.field("domain")?, 16).ok()
}

impl Access {
    /// Reads the text of a record; none when it is not as this build knows it.
    ///
    /// `audit(…): domain=1fbc1b12a blockers=fs.read_file path="/etc/hostname" dev="vda" ino=611`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let record = Record::parse(text)?;
        let mut object = record
            .text("path")
            .or_else(|| record.field("dest").map(|port| format!("port {port}")))
            .or_else(|| record.field("src").map(|port| format!("port {port}")))
            .or_else(|| record.text("ocomm").map(|name| format!("the process {name}")))
            .unwrap_or_default();
        if object.len() > PATH_MAX {
            object.truncate(object.floor_char_boundary(PATH_MAX));
            object.push('…');
        }
        let rights = record.field("blockers")?;
        let known = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_' | b',');
        (rights.len() <= PATH_MAX && rights.bytes().all(known)).then(|| {
            Some(Self { domain: domain(&record)?, rights: rights.to_owned(), object, ms: record.ms })
        })?
    }
}

impl Domain {
    /// Reads the text of a record of a domain that an agent's user made.
    ///
    /// `audit(…): domain=1fbc1b12a status=allocated mode=enforcing pid=21025 uid=4242 exe="/octant" comm="octant"`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let record = Record::parse(text)?;
        let user: u32 =
            record.field("uid").filter(|_| record.field("status") == Some("allocated"))?.parse().ok()?;
        let slot = uid::is_agents(user).then(|| (user - uid::AGENT_BASE) / uid::AGENT_RANGE)?;
        Some(Self { number: domain(&record)?, slot })
    }
}

/// Accesses whose domain is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<Access>);

impl Waiting {
    /// Keeps one, in place of the oldest where there are too many.
    pub(crate) fn add(&mut self, access: Access) {
        if self.0.len() >= WAITING_MAX {
            self.0.remove(0);
        }
        self.0.push(access);
    }

    /// Gives those of a domain.
    pub(crate) fn of(&mut self, number: u64) -> Vec<Access> {
        self.0.extract_if(.., |access| access.domain == number).collect()
    }
}

/// Counts an access among those of its agent; what it is where it is the first of it.
pub(crate) fn count(accesses: &mut Vec<DeniedAccess>, seen: &Access) -> Option<String> {
    let same = |row: &&mut DeniedAccess| row.rights == seen.rights && row.object == seen.object;
    if let Some(row) = accesses.iter_mut().find(same) {
        row.count = row.count.saturating_add(1);
        row.last_ms = seen.ms;
        return None;
    }
    if accesses.len() >= ACCESSES_MAX {
        return None;
    }
    accesses.push(DeniedAccess {
        rights: seen.rights.clone(),
        object: seen.object.clone(),
        count: 1,
        first_ms: seen.ms,
        last_ms: seen.ms,
    });
    accesses.last().map(DeniedAccess::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: &str = "audit(1795872376.519:111505): domain=1fbc1b12a blockers=fs.read_file path=\"/etc/hostname\" \
        dev=\"vda\" ino=611";
    const DOMAIN: &str = "audit(1795872376.519:111502): domain=1fbc1b12a status=allocated mode=enforcing pid=21025 \
        uid=268501992 exe=\"/octant\" comm=\"octant\"";

    fn access(text: &str) -> Option<Access> {
        Access::parse(text.as_bytes())
    }

    #[test]
    fn a_domain_says_whose_an_access_is() {
        let found = access(ACCESS).unwrap();
        assert_eq!((found.rights.as_str(), found.object.as_str()), ("fs.read_file", "/etc/hostname"));
        assert_eq!(Domain::parse(DOMAIN.as_bytes()), Some(Domain { number: found.domain, slot: 1 }));
        // The reaper's domain, a service's, and the word of its end are nobody's agent.
        for other in ["uid=268501993", "uid=968", "uid=0"] {
            assert_eq!(Domain::parse(DOMAIN.replace("uid=268501992", other).as_bytes()), None, "{other}");
        }
        let end = "audit(1795872376.591:111507): domain=1fbc1b12a status=deallocated denials=5";
        assert_eq!(Domain::parse(end.as_bytes()), None);
    }

    #[test]
    fn what_it_was_about_is_a_path_a_port_or_a_process() {
        let of = |rest: &str| {
            access(&ACCESS.replace("path=\"/etc/hostname\" dev=\"vda\" ino=611", rest)).unwrap().object
        };
        let hex: String = "/a b\" path=\"/c".bytes().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(of(&format!("path={hex} dev=\"vda\"")), "/a b\" path=\"/c");
        assert_eq!(of("daddr=127.0.0.1 dest=80"), "port 80");
        assert_eq!(of("opid=1 ocomm=\"systemd\""), "the process systemd");
        assert_eq!(of(""), "");
        assert!(of(&format!("path=\"/{}\"", "é".repeat(3000))).len() < PATH_MAX + 4);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in ["", "audit(1.2:3): blockers=fs.execute", "audit(1.2:3): domain=zz blockers=fs.execute"] {
            assert_eq!(access(bad), None, "{bad}");
        }
        assert_eq!(access(&ACCESS.replace("fs.read_file", "fs.\u{1b}[2J")), None);
        assert_eq!(Access::parse(&[0xff; 300]), None);
    }

    #[test]
    fn accesses_are_counted_and_bounded() {
        let (mut rows, mut waiting) = (Vec::new(), Waiting::default());
        let mut one = access(ACCESS).unwrap();
        assert_eq!(count(&mut rows, &one).as_deref(), Some("fs.read_file /etc/hostname"));
        one.ms += 5;
        assert_eq!(count(&mut rows, &one), None);
        assert_eq!((rows[0].count, rows[0].last_ms - rows[0].first_ms), (2, 5));
        for number in 0..1000 {
            one.object = number.to_string();
            one.domain = number % 2;
            count(&mut rows, &one);
            waiting.add(one.clone());
        }
        assert_eq!(rows.len(), ACCESSES_MAX);
        assert_eq!(
            (waiting.of(0).len(), waiting.of(0).len(), waiting.of(1).len()),
            (WAITING_MAX / 2, 0, WAITING_MAX / 2)
        );
    }
}
