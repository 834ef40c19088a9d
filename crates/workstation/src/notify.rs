//! The spawner's side of sd_notify(3).

use std::os::unix::net::UnixDatagram;

/// Where states are reported to; nowhere when no socket was given.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, String)>,
    watchdog_us: Option<u64>,
}

impl Notify {
    /// As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say.
    pub(crate) fn from_environment() -> Self {
        let path = std::env::var("NOTIFY_SOCKET").ok().filter(|path| path.starts_with('/'));
        let socket = path.and_then(|path| Some((UnixDatagram::unbound().ok()?, path)));
        let watchdog_us = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Self { socket, watchdog_us }
    }

    /// Reports. A supervisor that does not listen is no reason to stop working; the watchdog tells.
    pub(crate) fn send(&self, state: &str) {
        if let Some((socket, path)) = &self.socket {
            let _ = socket.send_to(state.as_bytes(), path);
        }
    }

    /// How often to report, in milliseconds: three times in the watchdog's period.
    pub(crate) fn beat_ms(&self) -> u16 {
        let ms = self.watchdog_us.map_or(10_000, |us| us / 3000);
        u16::try_from(ms.clamp(10, 10_000)).unwrap_or(10_000)
    }
}
