//! Secret bytes beside a message: in through a descriptor, out through a pipe, and in between in locked memory.

use crate::refusal::Refusal;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, write};
use octant_api::error::{ApiError, Code};
use octant_api::vault::VALUE_MAX;
use octant_crypto::memory::{Buffer, Pool};
use octant_sys::secret_memory::{Kind, Region};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use zeroize::Zeroize;

/// How many values of which length can be in memory at once; each is there for the moment between two calls of the kernel.
/// Where a process may lock less memory, as in some containers, there are fewer or shorter ones.
const BUFFERS: [(usize, usize); 3] = [(8, VALUE_MAX), (1, VALUE_MAX), (4, 8 << 10)];

/// Memory for values, locked as keys are.
#[derive(Debug)]
pub(crate) struct Memory {
    pool: Pool,
    kind: Kind,
    /// How long a value can be here.
    len: usize,
}

fn trouble(step: &'static str, code: Code, why: impl std::fmt::Display, next: &'static str) -> ApiError {
    ApiError::new(code, step, "descriptor", why, next)
}

impl Memory {
    pub(crate) fn new() -> io::Result<Self> {
        // The pool's memory is of the same kind as any other that is asked for.
        let kind = Region::new(1)?.kind();
        let mut last = None;
        for (count, len) in BUFFERS {
            match Pool::new(count, len) {
                Ok(pool) => {
                    if let Some(error) = last {
                        tracing::warn!("only {count} values of {len} bytes can be handled at once: {error}");
                    }
                    return Ok(Self { pool, kind, len });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| io::ErrorKind::OutOfMemory.into(), io::Error::other))
    }

    /// What kind of memory it is: `memfd_secret` or `locked`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::MemfdSecret => "memfd_secret",
            Kind::Locked => "locked",
        }
    }

    /// Room for a value.
    pub(crate) fn room(&self, len: usize) -> Result<Buffer, ApiError> {
        self.pool.take(len).ok_or_else(|| {
            let why = format!("{len} bytes have no room beside the values that are being handled");
            trouble("find memory for a value", Code::Busy, why, "try again")
        })
    }

    /// Everything that a descriptor gives now. Whoever sends one has written it whole: nobody is waited for.
    pub(crate) fn read(&self, fd: OwnedFd, what: &'static str) -> Result<Buffer, ApiError> {
        let failed = |error: io::Error| {
            let (code, next) =
                (Code::InvalidParams, "write it whole and close it before the request is sent");
            trouble("read secret bytes", code, format!("{what}: {error}"), next)
        };
        let mut file = File::from(fd);
        // A file can be on a disk that does not answer, whatever its flags say.
        let pipe = file.metadata().is_ok_and(|about| about.file_type().is_fifo());
        if !pipe {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no pipe")));
        }
        let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL).map_err(|e| failed(e.into()))?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        let mut buffer = self.room(self.len)?;
        let mut len = 0;
        loop {
            let mut beyond = [0; 1];
            let place = if len < self.len { &mut buffer[len..] } else { &mut beyond[..] };
            match file.read(place) {
                Ok(0) => break,
                Ok(_) if len == self.len => {
                    beyond.zeroize();
                    let refusal = Refusal::Length { what, bytes: len + 1, least: 1, most: len };
                    return Err(refusal.answer("read secret bytes", "descriptor"));
                }
                Ok(got) => len += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        buffer.truncate(len);
        Ok(buffer)
    }
}

/// A pipe that holds these bytes, and nobody who could write more: what is sent beside an answer.
pub(crate) fn pipe(bytes: &[u8]) -> Result<OwnedFd, ApiError> {
    let failed = |error: io::Error| {
        trouble(
            "hand over secret bytes",
            Code::Unavailable,
            error,
            "see how many pipes this machine has open",
        )
    };
    // The reader never meets an empty pipe that somebody could still write into: it need not wait either.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| failed(e.into()))?;
    match write(&writer, bytes) {
        Ok(written) if written == bytes.len() => Ok(reader),
        // The kernel gives smaller pipes to a user who has very many.
        Ok(_) => Err(failed(Errno::ENOBUFS.into())),
        Err(errno) => Err(failed(errno.into())),
    }
}
