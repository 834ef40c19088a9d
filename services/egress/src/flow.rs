//! One connection's bytes: counted before they go on, held to every cap, cut when the rule behind them is gone.

use crate::core::{Bucket, Denied, Rights, Rule, Used};
use crate::purse::Purse;
use octant_sys::clock;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// What an agent used, and how fast it may go on.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) used: Used,
    pub(crate) open: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    bucket: Mutex<Option<(u64, Bucket)>>,
    /// What is drawn from its budgets, where it has any.
    pub(crate) purse: Option<Purse>,
}

impl Meter {
    pub(crate) fn new(purse: Option<Purse>) -> Self {
        Self { purse, ..Self::default() }
    }

    /// Takes up to `wanted` bytes of the agent's rate, or says how many nanoseconds to wait.
    fn pace(&self, wanted: u64, per_second: Option<u64>) -> Result<u64, u64> {
        let Some(rate) = per_second else { return Ok(wanted) };
        let now = clock::monotonic_ns();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.as_ref().is_none_or(|(of, _)| *of != rate) {
            *bucket = Some((rate, Bucket::new(rate, now)));
        }
        match &mut *bucket {
            Some((_, bucket)) => bucket.take(wanted, now),
            None => Ok(wanted),
        }
    }

    fn unpace(&self, count: u64) {
        if let Some((_, bucket)) = &mut *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) {
            bucket.give_back(count);
        }
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// One connection, as it is held to its caps.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) rule: Rule,
    pub(crate) meter: Arc<Meter>,
    pub(crate) rights: watch::Receiver<Arc<Rights>>,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
}

impl Flow {
    /// Takes up to `wanted` bytes of every cap. What it gives is counted as gone; [`Flow::give_back`] takes it back.
    ///
    /// # Errors
    /// Which cap is used up, or for how long to wait.
    pub(crate) fn take(&self, wanted: u64, way: Way) -> Result<u64, Held> {
        let rights = Arc::clone(&self.rights.borrow());
        let caps = rights.caps;
        let drawn = self.meter.purse.as_ref().map_or(Ok(wanted), |purse| purse.take_bytes(wanted))?;
        let mine = self.meter.used.take_bytes(drawn, caps.bytes);
        if mine == 0 {
            self.undraw(drawn);
            return Err(Held::Cut(Denied::Bytes(caps.bytes.unwrap_or(0))));
        }
        let lease = rights.lease(&self.rule);
        let lent = lease.map_or(mine, |lease| lease.used.take_bytes(mine, lease.said.bytes));
        let paced = if lent == 0 { Ok(0) } else { self.meter.pace(lent, caps.bytes_per_second) };
        let go = *paced.as_ref().unwrap_or(&0);
        self.undraw(drawn - go);
        self.meter.used.return_bytes(mine - go);
        if let Some(lease) = lease {
            lease.used.return_bytes(lent - go);
        }
        for counter in self.counters(way) {
            counter.fetch_add(go, Ordering::Relaxed);
        }
        match (paced, lease) {
            (Err(wait_ns), _) => Err(Held::Wait(Duration::from_nanos(wait_ns))),
            (Ok(0), Some(lease)) => Err(Held::Cut(Denied::LeaseBytes(lease.said.id.clone()))),
            (Ok(go), _) => Ok(go),
        }
    }

    /// Gives back bytes that were taken and did not go on.
    fn give_back(&self, count: u64, way: Way) {
        self.undraw(count);
        self.meter.used.return_bytes(count);
        if let Some(lease) = self.rights.borrow().lease(&self.rule) {
            lease.used.return_bytes(count);
        }
        self.meter.unpace(count);
        for counter in self.counters(way) {
            counter.fetch_sub(count, Ordering::Relaxed);
        }
    }

    fn undraw(&self, count: u64) {
        if let Some(purse) = &self.meter.purse {
            purse.return_bytes(count);
        }
    }

    fn counters(&self, way: Way) -> [&AtomicU64; 2] {
        match way {
            Way::Out => [&self.bytes_out, &self.meter.bytes_out],
            Way::In => [&self.bytes_in, &self.meter.bytes_in],
        }
    }

    /// Waits until the rule is gone, and says why.
    pub(crate) async fn cut(&self) -> Denied {
        let mut rights = self.rights.clone();
        loop {
            let now_ms = clock::boottime_ns() / 1_000_000;
            let (still, until_ms) = {
                let rights = rights.borrow_and_update();
                (rights.still(&self.rule, now_ms), rights.lease(&self.rule).map(|lease| lease.said.until_ms))
            };
            if let Err(why) = still {
                return why;
            }
            let gone = match until_ms {
                None => rights.changed().await.is_err(),
                Some(until_ms) => {
                    // A machine that sleeps stops the runtime's clock and not the lease's: it is looked at now and then.
                    let left = Duration::from_millis(until_ms.saturating_sub(now_ms).clamp(1, 1_000));
                    tokio::time::timeout(left, rights.changed()).await.is_ok_and(|changed| changed.is_err())
                }
            };
            if gone {
                return Denied::Dismissed;
            }
        }
    }
}

/// Why no byte goes on right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    Wait(Duration),
    Cut(Denied),
}

/// How a connection came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides were done.
    Closed,
    /// One side's socket failed.
    Failed(io::Error),
    /// It was cut.
    Cut(Denied),
}

/// How much is read at once. A buffer belongs to a connection only while bytes are on their way, so that those that are
/// idle cost nothing.
const CHUNK: usize = 64 << 10;
/// How many buffers are kept for the next.
const SPARE_MAX: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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

/// A connected socket that is waited for and then tried.
pub(crate) trait Socket: AsRawFd + Sync {
    fn wait(&self, interest: Interest) -> impl Future<Output = io::Result<()>> + Send;
    fn read_now(&self, into: &mut [u8]) -> io::Result<usize>;
    fn write_now(&self, from: &[u8]) -> io::Result<usize>;
}

impl Socket for TcpStream {
    async fn wait(&self, interest: Interest) -> io::Result<()> {
        self.ready(interest).await.map(drop)
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

    fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        self.try_read(into)
    }

    fn write_now(&self, from: &[u8]) -> io::Result<usize> {
        self.try_write(from)
    }
}

/// Sends bytes on, as far as the caps let them.
pub(crate) async fn send(to: &impl Socket, mut bytes: &[u8], flow: &Flow, way: Way) -> Result<(), End> {
    while !bytes.is_empty() {
        let count = match flow.take(bytes.len() as u64, way) {
            Ok(count) => usize::try_from(count).unwrap_or(bytes.len()),
            Err(Held::Wait(pause)) => {
                tokio::time::sleep(pause).await;
                continue;
            }
            Err(Held::Cut(why)) => return Err(End::Cut(why)),
        };
        let (mut now, later) = bytes.split_at(count);
        while !now.is_empty() {
            to.wait(Interest::WRITABLE).await.map_err(End::Failed)?;
            match to.write_now(now) {
                Ok(count) => now = &now[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(End::Failed(error)),
            }
        }
        bytes = later;
    }
    Ok(())
}

async fn one_way(from: &impl Socket, to: &impl Socket, flow: &Flow, way: Way) -> Result<(), End> {
    loop {
        from.wait(Interest::READABLE).await.map_err(End::Failed)?;
        let mut chunk = Chunk::get();
        match from.read_now(&mut chunk.0) {
            Ok(0) => {
                // The other direction may go on. A side that is gone already fails here and there alike.
                let _ = nix::sys::socket::shutdown(to.as_raw_fd(), nix::sys::socket::Shutdown::Write);
                return Ok(());
            }
            Ok(count) => send(to, &chunk.0[..count], flow, way).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(End::Failed(error)),
        }
    }
}

/// Lets two sides speak until both are done, one fails, or the connection is cut.
pub(crate) async fn relay(agent: &impl Socket, host: &impl Socket, flow: &Flow) -> End {
    let both =
        async { tokio::try_join!(one_way(agent, host, flow, Way::Out), one_way(host, agent, flow, Way::In)) };
    tokio::select! {
        biased;
        why = flow.cut() => End::Cut(why),
        end = both => match end {
            Ok(_) => End::Closed,
            Err(end) => end,
        },
    }
}

/// A connection to a host for who reads and writes by itself, counted and capped as any other.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    flow: Arc<Flow>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, flow: Arc<Flow>) -> Self {
        Self { inner, flow, sleep: None }
    }

    /// Takes bytes of the caps, or arranges to be woken when there are some.
    fn poll_take(&mut self, context: &mut Context<'_>, wanted: usize, way: Way) -> Poll<io::Result<usize>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match self.flow.take(wanted as u64, way) {
                Ok(count) => return Poll::Ready(Ok(usize::try_from(count).unwrap_or(wanted))),
                Err(Held::Cut(why)) => return Poll::Ready(Err(io::Error::other(why))),
                Err(Held::Wait(pause)) => self.sleep = Some(Box::pin(tokio::time::sleep(pause))),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = into.remaining().min(CHUNK);
        if wanted == 0 {
            return Poll::Ready(Ok(()));
        }
        let taken = std::task::ready!(self.poll_take(context, wanted, Way::In))?;
        let mut part = ReadBuf::new(into.initialize_unfilled_to(taken));
        let read = Pin::new(&mut self.inner).poll_read(context, &mut part);
        let count = part.filled().len();
        into.advance(count);
        self.flow.give_back((taken - count) as u64, Way::In);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = std::task::ready!(self.poll_take(context, from.len(), Way::Out))?;
        let written = Pin::new(&mut self.inner).poll_write(context, &from[..taken]);
        let count = match &written {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.flow.give_back((taken - count) as u64, Way::Out);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
