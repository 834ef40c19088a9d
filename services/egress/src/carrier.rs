//! In what bytes go from one socket to another: in a pipe, where the kernel passes them on without copying them, or in a buffer.

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// How large a buffer is.
pub(crate) const CHUNK: usize = 64 << 10;
/// How many buffers are kept for the next.
const SPARE_MAX: usize = 32;
/// How much goes into a pipe at once.
const PIPE: usize = 256 << 10;
/// How many pipes there are. A side that does not take what it is sent keeps one, and its two descriptors, for as long; with
/// all of them kept by such ones others' bytes are copied, which takes twice as long.
const PIPES_MAX: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes { made: 0, spare: Vec::new() }) };
}

/// A buffer for what is on its way; it is empty where nothing is.
#[derive(Debug, Default)]
pub(crate) struct Chunk(pub(crate) Vec<u8>);

impl Chunk {
    pub(crate) fn get() -> Self {
        Self(SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CHUNK]))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        SPARE.with_borrow_mut(|spare| {
            if buffer.len() == CHUNK && spare.len() < SPARE_MAX {
                spare.push(buffer);
            }
        });
    }
}

/// The ends of a pipe: where it is read, and where it is written.
type Ends = (OwnedFd, OwnedFd);

/// The pipes that there are.
struct Pipes {
    made: usize,
    /// Those with nothing in them.
    spare: Vec<Ends>,
}

impl Pipes {
    fn get(&mut self) -> Option<Ends> {
        if let Some(ends) = self.spare.pop() {
            return Some(ends);
        }
        // Who has no descriptor left for one copies.
        let new = || nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok();
        let ends = (self.made < PIPES_MAX).then(new).flatten()?;
        // One that stays smaller takes less at once.
        let _ = fcntl(&ends.1, FcntlArg::F_SETPIPE_SZ(i32::try_from(PIPE).unwrap_or(i32::MAX)));
        self.made += 1;
        Some(ends)
    }
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take();
        PIPES.with_borrow_mut(|pipes| match ends {
            Some(ends) if self.held == 0 => pipes.spare.push(ends),
            // What is in it is nobody's any more, and goes with it.
            _ => pipes.made -= 1,
        });
    }
}

/// What bytes are in on their way. One belongs to a connection only while there are some, so that those that are idle cost
/// nothing.
#[derive(Debug)]
pub(crate) enum Carrier {
    Pipe(Pipe),
    Buffer { chunk: Chunk, at: usize },
}

impl Carrier {
    pub(crate) fn get() -> Self {
        match PIPES.with_borrow_mut(Pipes::get) {
            Some(ends) => Self::Pipe(Pipe { ends: Some(ends), held: 0 }),
            None => Self::Buffer { chunk: Chunk::get(), at: 0 },
        }
    }

    /// Takes what is there, while nothing is in it; none is the end.
    pub(crate) fn fill(&mut self, from: &impl Socket) -> io::Result<usize> {
        match self {
            Self::Pipe(Pipe { ends: Some((_, write)), held }) => {
                *held = from.now(Interest::READABLE, || spliced(from, write, PIPE))?;
                Ok(*held)
            }
            Self::Pipe(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Self::Buffer { chunk, at } => {
                *at = 0;
                from.read_now(&mut chunk.0)
            }
        }
    }

    /// Gives up to so much of it, and says how much that was.
    pub(crate) fn pour(&mut self, to: &impl Socket, most: usize) -> io::Result<usize> {
        match self {
            Self::Pipe(Pipe { ends: Some((read, _)), held }) => {
                let count = to.now(Interest::WRITABLE, || spliced(read, to, most))?;
                *held -= count;
                Ok(count)
            }
            Self::Pipe(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Self::Buffer { chunk, at } => {
                let count = to.write_now(&chunk.0[*at..*at + most])?;
                *at += count;
                Ok(count)
            }
        }
    }
}

fn spliced(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}

/// A connected socket that is waited for and then tried.
pub(crate) trait Socket: AsFd + AsRawFd + Sync {
    fn wait(&self, interest: Interest) -> impl Future<Output = io::Result<()>> + Send;
    /// Tries something with it; that it would have to wait is remembered.
    fn now<T>(&self, interest: Interest, what: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
    fn read_now(&self, into: &mut [u8]) -> io::Result<usize>;
    fn write_now(&self, from: &[u8]) -> io::Result<usize>;
}

impl Socket for TcpStream {
    async fn wait(&self, interest: Interest) -> io::Result<()> {
        self.ready(interest).await.map(drop)
    }

    fn now<T>(&self, interest: Interest, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(interest, what)
    }

    fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        self.try_read(into)
    }

    fn write_now(&self, from: &[u8]) -> io::Result<usize> {
        self.try_write(from)
    }
}

impl Socket for UnixStream {
    async fn wait(&self, interest: Interest) -> io::Result<()> {
        self.ready(interest).await.map(drop)
    }

    fn now<T>(&self, interest: Interest, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(interest, what)
    }

    fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        self.try_read(into)
    }

    fn write_now(&self, from: &[u8]) -> io::Result<usize> {
        self.try_write(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::EgressService;
    use octant_service::{Service as _, confine_helper};
    use std::process::{Command, Stdio};

    const AS_GATE: &str = "OCTANT_TEST_CONFINED_GATE";
    /// What every service may ask of the kernel.
    const BASE: &str = include_str!("../../../crates/service/base.json");

    /// It runs twice: as the test, and in a process of its own that is confined as the gate is.
    #[test]
    fn a_confined_gate_has_pipes_and_its_limit() {
        if std::env::var_os(AS_GATE).is_some() {
            confine_helper("egress", &[BASE, EgressService::PROFILE]).unwrap();
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            return runtime.block_on(async {
                let mut carrier = Carrier::get();
                assert!(matches!(carrier, Carrier::Pipe(_)));
                passed_on(&mut carrier, b"by a pipe").await;
            });
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "carrier::tests::a_confined_gate_has_pipes_and_its_limit",
            "--exact",
            "--test-threads=1",
        ]);
        let ended = command.env(AS_GATE, "1").stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    }

    async fn passed_on(carrier: &mut Carrier, text: &[u8]) {
        let ((from, said), (to, got)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        said.writable().await.unwrap();
        assert_eq!(said.try_write(text).unwrap(), text.len());
        from.wait(Interest::READABLE).await.unwrap();
        let (mut left, mut all) = (carrier.fill(&from).unwrap(), Vec::new());
        assert_eq!(left, text.len());
        while left > 0 {
            to.wait(Interest::WRITABLE).await.unwrap();
            left -= carrier.pour(&to, left.min(3)).unwrap();
        }
        while all.len() < text.len() {
            got.readable().await.unwrap();
            let _would_wait = got.try_read_buf(&mut all);
        }
        assert_eq!(all, text);
        assert_eq!(carrier.fill(&from).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(said);
        from.wait(Interest::READABLE).await.unwrap();
        assert_eq!(carrier.fill(&from).unwrap(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn both_pass_on_what_there_is_and_pipes_are_few() {
        let mut all: Vec<Carrier> = (0..PIPES_MAX + 3).map(|_| Carrier::get()).collect();
        let buffers = all.iter().filter(|carrier| matches!(carrier, Carrier::Buffer { .. })).count();
        assert_eq!(buffers, 3);
        passed_on(&mut all[0], b"by a pipe").await;
        passed_on(&mut all[PIPES_MAX], b"by a buffer").await;
        // One with something in it is not anybody else's.
        let (from, said) = UnixStream::pair().unwrap();
        said.writable().await.unwrap();
        said.try_write(b"of one connection").unwrap();
        from.wait(Interest::READABLE).await.unwrap();
        assert_eq!(all[1].fill(&from).unwrap(), 17);
        drop(all);
        let left = PIPES.with_borrow(|pipes| (pipes.made, pipes.spare.len()));
        assert_eq!(left, (PIPES_MAX - 1, PIPES_MAX - 1));
        for _ in 0..PIPES_MAX {
            passed_on(&mut Carrier::get(), b"of another").await;
        }
    }
}
