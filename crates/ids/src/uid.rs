//! The numeric user ids that Octant uses. There is no user database: these are the whole of it.

use crate::ServiceName;

/// Each built-in service's user (and group) id. A row is never given to another service.
pub const SERVICES: [(&str, u32); 12] = [
    ("ledger", 960),
    ("vault", 961),
    ("comms", 962),
    ("router", 963),
    ("search", 964),
    ("memory", 965),
    ("governance", 966),
    ("inference", 967),
    ("agents", 968),
    ("egress", 969),
    ("network", 970),
    ("log", 971),
];

/// The group of every process that may write to PID 1's notify socket: its units, and nobody else. Another user could
/// not pass for a unit, but could fill the queue until no unit is heard any more.
pub const NOTIFY_GROUP: u32 = 959;

/// The first host user id that agents get. Agent slot `n` owns the range
/// `AGENT_BASE + n * AGENT_RANGE ..` of [`AGENT_RANGE`] ids.
pub const AGENT_BASE: u32 = 0x1000_0000;
/// How many host user ids one agent owns.
pub const AGENT_RANGE: u32 = 0x1_0000;
/// How many agents can exist at once.
pub const AGENT_SLOTS: u32 = 4096;
/// The user and group id of an agent's program, inside its user namespace.
pub const AGENT_INSIDE: u32 = 1000;

/// The user id of a built-in service.
#[must_use]
pub fn of_service(name: &str) -> Option<u32> {
    SERVICES.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// The built-in service that runs under this user id.
#[must_use]
pub fn service_of(uid: u32) -> Option<ServiceName> {
    SERVICES.iter().find(|row| row.1 == uid).and_then(|row| row.0.parse().ok())
}

/// The first host user id of an agent's slot; `None` when there is no such slot.
#[must_use]
pub fn agent_base(slot: u32) -> Option<u32> {
    (slot < AGENT_SLOTS).then(|| AGENT_BASE + slot * AGENT_RANGE)
}

/// Whether this is the host user id that some agent's program has.
#[must_use]
pub fn is_agents(user: u32) -> bool {
    user.checked_sub(AGENT_BASE)
        .is_some_and(|above| above / AGENT_RANGE < AGENT_SLOTS && above % AGENT_RANGE == AGENT_INSIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_do_not_meet_and_do_not_overflow() {
        let last = agent_base(AGENT_SLOTS - 1).unwrap();
        assert!(last.checked_add(AGENT_RANGE).is_some_and(|end| end < u32::MAX - 1));
        assert!(SERVICES.iter().all(|row| row.1 != NOTIFY_GROUP));
        assert!(SERVICES.iter().all(|row| row.1 < AGENT_BASE && row.0.parse::<ServiceName>().is_ok()));
        assert_eq!(agent_base(AGENT_SLOTS), None);
        assert!(is_agents(AGENT_BASE + AGENT_INSIDE) && is_agents(last + AGENT_INSIDE));
        assert!(![0, 1000, 968, AGENT_BASE, last + AGENT_RANGE + AGENT_INSIDE].into_iter().any(is_agents));
        assert_eq!(service_of(960).unwrap().as_str(), "ledger");
    }
}
