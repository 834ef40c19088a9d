//! What a built-in service declares about itself.

/// What happens when a unit's process ends without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it again, with back-off and a burst limit.
    Always,
    /// Start it again unless it ended with code 0.
    OnFailure,
    /// Leave it.
    Never,
}

/// What the loss of a unit for good means for the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criticality {
    /// Octant cannot keep its promises without it: the Emergency sequence.
    Required,
    /// Its dependants stop; the rest goes on, degraded and shown as such.
    Degrades,
}

/// What every built-in service has in its environment: the C library copies in a loop. By itself it copies what is longer than
/// 2 KiB with `rep movsb`, which on processors of AMD takes up to eighteen times as long where what is copied lies a few bytes
/// from where it came from, by their places in a page. What comes out of a record of TLS, behind its head of 5 bytes, always
/// does. (sourceware.org, bug 30994)
pub const COPIES: &str = "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// The router, which has a second socket: there operators ask models over HTTP (`Layout::router_http`).
pub const ROUTER: &str = "router";
/// The name of that socket among the descriptors that PID 1 passes.
pub const ROUTER_HTTP: &str = "http";

/// A built-in service, as PID 1 needs to know it. Written as a `const` in the service's crate.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name, also of its socket, cgroup, state directory and user.
    pub name: &'static str,
    /// One line for `octant status`.
    pub about: &'static str,
    /// Boot order, reverse shutdown order, and whom this service may call.
    pub needs: &'static [&'static str],
    /// What happens when it ends.
    pub restart: Restart,
    /// What its loss means.
    pub criticality: Criticality,
    /// How long from start to `READY=1`, in milliseconds.
    pub ready_within_ms: u64,
    /// How long from SIGTERM to the kill of its cgroup, in milliseconds.
    pub stop_within_ms: u64,
    /// The longest silence on the notify socket before it counts as hung, in milliseconds.
    pub watchdog_ms: u64,
    /// The mode of its socket, whose owner is the service's user; 0 where it has none.
    pub socket_mode: u32,
    /// Linux capabilities that the process starts with (capabilities(7) names without `CAP_`).
    pub capabilities: &'static [&'static str],
    /// Whether it runs as root. Only the spawner does.
    pub root: bool,
    /// Whether it runs only on a machine, and there only when octant.toml has its table.
    pub optional: bool,
    /// The argument vector after `/proc/self/exe`.
    pub argv: &'static [&'static str],
}

/// Whether every service's `needs` stand earlier in the list, so that there is no cycle and no unknown name.
/// For a `const` assertion over the built-in list.
#[must_use]
pub const fn ordered(boot: &[Spec]) -> bool {
    let mut i = 0;
    while i < boot.len() {
        let mut n = 0;
        while n < boot[i].needs.len() {
            let mut earlier = 0;
            while earlier < i && !equal(boot[earlier].name, boot[i].needs[n]) {
                earlier += 1;
            }
            if earlier == i {
                return false;
            }
            n += 1;
        }
        i += 1;
    }
    true
}

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    a.len() == b.len() && i == a.len()
}
