//! PID 1 tells `agents` about processes that it reaped and that belong to no unit: the `exits` descriptor.

/// One reaped process; 16 bytes, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its process id in PID 1's namespace.
    pub pid: u32,
    /// The raw wait status, as wait(2) gives it.
    pub status: i32,
    /// When PID 1 reaped it, CLOCK_MONOTONIC nanoseconds.
    pub mono_ns: u64,
}

impl Exit {
    /// The length of a frame in bytes.
    pub const LEN: usize = 16;

    /// The frame.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.pid.to_le_bytes());
        out[4..8].copy_from_slice(&self.status.to_le_bytes());
        out[8..].copy_from_slice(&self.mono_ns.to_le_bytes());
        out
    }

    /// The reading of a frame; `None` when it has another length.
    #[must_use]
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; Self::LEN] = frame.try_into().ok()?;
        let [p0, p1, p2, p3, s0, s1, s2, s3, mono @ ..] = *frame;
        Some(Self {
            pid: u32::from_le_bytes([p0, p1, p2, p3]),
            status: i32::from_le_bytes([s0, s1, s2, s3]),
            mono_ns: u64::from_le_bytes(mono),
        })
    }

    /// The exit code, when the process ended by itself.
    #[must_use]
    pub const fn code(&self) -> Option<i32> {
        if self.status & 0x7f == 0 { Some((self.status >> 8) & 0xff) } else { None }
    }

    /// The signal that ended it, when one did.
    #[must_use]
    pub const fn signal(&self) -> Option<i32> {
        let signal = self.status & 0x7f;
        if signal != 0 && signal != 0x7f { Some(signal) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_journey() {
        let exit = Exit { pid: 77, status: 3 << 8, mono_ns: u64::MAX - 1 };
        assert_eq!(Exit::decode(&exit.encode()), Some(exit));
        assert_eq!((exit.code(), exit.signal()), (Some(3), None));
        let killed = Exit { status: 9, ..exit };
        assert_eq!((killed.code(), killed.signal()), (None, Some(9)));
        assert_eq!(Exit::decode(&exit.encode()[..15]), None);
        assert_eq!(Exit::decode(&[0; 17]), None);
    }
}
