//! What reaches a shell from outside: signals to this process, and what `kill` sends to a job of shell code.
//!
//! Added to the published crate; see PATCHES.md. Signals are noted here by their handler (or by [`Inbox::post`]) and
//! attended to between two commands (`Shell::attend_signals`), or while a child is waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::sys;

/// The highest number that the kernel gives a process (`PID_MAX_LIMIT`). Jobs that are no process have numbers above,
/// so that no signal that is sent to one from elsewhere can reach a process that is not meant.
pub const LAST_PROCESS_ID: i32 = 1 << 22;

/// The signals that have arrived for one shell and are not attended to yet.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Bit n: signal n has arrived.
    pending: AtomicU64,
    /// Bit n: there is a trap for signal n. All others end what the inbox belongs to.
    caught: AtomicU64,
    /// Bit n: signal n is thrown away.
    ignored: AtomicU64,
    /// Wakes whoever waits for a child.
    wake: tokio::sync::Notify,
    /// Processes that are being waited for, which get what ends a job of shell code.
    children: Mutex<Vec<i32>>,
}

/// The inbox of the process itself.
static ROOT: LazyLock<Arc<Inbox>> = LazyLock::new(Arc::default);

/// What the handler may touch: set before the first handler is installed.
static HANDLER: OnceLock<(&'static Inbox, std::io::PipeWriter)> = OnceLock::new();

/// The jobs of shell code by their numbers.
static JOBS: LazyLock<Mutex<HashMap<i32, Weak<Inbox>>>> = LazyLock::new(Mutex::default);

const fn bit(signal: i32) -> u64 {
    // Signals are below 64.
    1 << (signal & 63)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list of numbers is whole whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// The inbox of this process.
    pub fn root() -> Arc<Self> {
        ROOT.clone()
    }

    pub(crate) fn is_root(&self) -> bool {
        std::ptr::eq(self, &raw const **ROOT)
    }

    /// A new inbox for a job of shell code, and its number.
    pub(crate) fn for_job() -> (Arc<Self>, i32) {
        static LAST: AtomicI32 = AtomicI32::new(LAST_PROCESS_ID);
        let inbox = Arc::new(Self::default());
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(LAST_PROCESS_ID + 1);
        let mut jobs = lock(&JOBS);
        jobs.retain(|_, inbox| inbox.strong_count() > 0);
        jobs.insert(number, Arc::downgrade(&inbox));
        (inbox, number)
    }

    /// The inbox of the job of shell code with this number, if it still runs.
    pub fn of_job(number: i32) -> Option<Arc<Self>> {
        lock(&JOBS).get(&number)?.upgrade()
    }

    /// Notes a signal, as the kernel does for a process.
    pub fn post(&self, signal: Signal) {
        if self.ignored.load(Ordering::SeqCst) & bit(signal as i32) != 0 {
            return;
        }
        match signal {
            // The shell code of a job cannot be held: what it has started can.
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGCONT => return self.tell_children(signal),
            Signal::SIGCHLD | Signal::SIGWINCH | Signal::SIGURG => {}
            _ => {
                self.pending.fetch_or(bit(signal as i32), Ordering::SeqCst);
            }
        }
        if self.fatal().is_some() {
            self.tell_children(signal);
        }
        self.wake.notify_waiters();
    }

    fn tell_children(&self, signal: Signal) {
        for child in lock(&self.children).iter() {
            // It may have ended by itself meanwhile; it is not waited for yet, so the number is still its own.
            let _ = nix::sys::signal::kill(Pid::from_raw(*child), signal);
        }
    }

    /// Whether anything is to be attended to.
    pub fn any(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// The signal that ends what the inbox belongs to, if one has arrived.
    pub fn fatal(&self) -> Option<i32> {
        let fatal = self.pending.load(Ordering::SeqCst) & !self.caught.load(Ordering::SeqCst);
        (fatal != 0).then(|| fatal.trailing_zeros().cast_signed())
    }

    /// Takes the signals that have traps, but for those that `busy` names, whose trap runs.
    pub(crate) fn take_caught(&self, busy: impl Fn(i32) -> bool) -> Vec<i32> {
        let caught = self.caught.load(Ordering::SeqCst);
        let ready = |n: &i32| self.pending.load(Ordering::SeqCst) & caught & bit(*n) != 0 && !busy(*n);
        let taken: Vec<i32> = (1..64).filter(ready).collect();
        for n in &taken {
            self.pending.fetch_and(!bit(*n), Ordering::SeqCst);
        }
        taken
    }

    /// Forgets an interrupt that ended the command line of an interactive shell; says whether there was one.
    pub fn take_interrupt(&self) -> bool {
        let interrupt = bit(Signal::SIGINT as i32);
        self.pending.fetch_and(!interrupt, Ordering::SeqCst) & interrupt != 0
    }

    /// Waits until a signal has arrived that `wanted` (a set of bits of what is pending and caught) picks.
    async fn arrived<T>(&self, wanted: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let wake = self.wake.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            if let Some(found) = wanted(self) {
                return found;
            }
            wake.await;
        }
    }

    /// Waits for a signal that ends `wait`: any but that of a child's end.
    pub async fn any_arrived(&self) -> i32 {
        let child = bit(Signal::SIGCHLD as i32);
        self.arrived(|inbox| {
            let pending = inbox.pending.load(Ordering::SeqCst) & !child;
            (pending != 0).then(|| pending.trailing_zeros().cast_signed())
        })
        .await
    }

    /// Waits for a signal that ends the waiting for a child. An interrupt does not: the child has it too, and decides.
    pub(crate) async fn fatal_arrived(&self) -> i32 {
        self.arrived(|inbox| inbox.fatal().filter(|n| *n != Signal::SIGINT as i32)).await
    }

    /// Whether an interrupt has arrived that is no trap's.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.fatal() == Some(Signal::SIGINT as i32)
    }

    /// Waits for an interrupt that is no trap's.
    pub(crate) async fn interrupted(&self) {
        self.arrived(|inbox| inbox.is_interrupted().then_some(())).await;
    }

    /// Has a process told of what ends this inbox's owner until the guard is dropped.
    pub(crate) fn with_child(&self, pid: i32) -> ChildGuard<'_> {
        lock(&self.children).push(pid);
        ChildGuard { inbox: self, pid }
    }

    pub(crate) fn set_caught(&self, signal: Signal, caught: bool) {
        set(&self.caught, signal, caught);
    }

    pub(crate) fn set_ignored(&self, signal: Signal, ignored: bool) {
        set(&self.ignored, signal, ignored);
    }
}

fn set(bits: &AtomicU64, signal: Signal, on: bool) {
    if on {
        bits.fetch_or(bit(signal as i32), Ordering::SeqCst);
    } else {
        bits.fetch_and(!bit(signal as i32), Ordering::SeqCst);
    }
}

/// See [`Inbox::with_child`].
pub(crate) struct ChildGuard<'a> {
    inbox: &'a Inbox,
    pid: i32,
}

impl Drop for ChildGuard<'_> {
    fn drop(&mut self) {
        lock(&self.inbox.children).retain(|pid| *pid != self.pid);
    }
}

/// Has a signal to this process noted in [`Inbox::root`].
pub(crate) fn watch(signal: Signal) -> std::io::Result<()> {
    if signal == Signal::SIGCHLD {
        return watch_children();
    }
    prepare()?;
    sys::signal::set_disposition(signal, sys::signal::Disposition::Noted(note))
}

/// The end of a child: the runtime has a handler for it already, which must stay.
fn watch_children() -> std::io::Result<()> {
    static ONCE: OnceLock<()> = OnceLock::new();
    if ONCE.set(()).is_err() {
        return Ok(());
    }
    let mut ends = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
    tokio::spawn(async move {
        while ends.recv().await.is_some() {
            let root = Inbox::root();
            if root.caught.load(Ordering::SeqCst) & bit(Signal::SIGCHLD as i32) != 0 {
                root.pending.fetch_or(bit(Signal::SIGCHLD as i32), Ordering::SeqCst);
                root.wake.notify_waiters();
            }
        }
    });
    Ok(())
}

/// Makes what the handler needs, and the thread that wakes waiting tasks: a handler may only write to a pipe.
fn prepare() -> std::io::Result<()> {
    if HANDLER.get().is_some() {
        return Ok(());
    }
    let (mut reader, writer) = std::io::pipe()?;
    // A full pipe must not hold the handler; one byte in it is enough.
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let root: &'static Arc<Inbox> = &ROOT;
    if HANDLER.set((root, writer)).is_ok() {
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut bytes = [0; 64];
            while std::io::Read::read(&mut reader, &mut bytes).is_ok_and(|length| length > 0) {
                root.wake.notify_waiters();
            }
        })?;
    }
    Ok(())
}

/// The handler. It only uses what may be used in one: atomics and write(2).
extern "C" fn note(signal: i32) {
    let errno = nix::errno::Errno::last_raw();
    if let Some((inbox, pipe)) = HANDLER.get()
        && inbox.ignored.load(Ordering::SeqCst) & bit(signal) == 0
    {
        inbox.pending.fetch_or(bit(signal), Ordering::SeqCst);
        // When the pipe is full, the thread will wake up anyway.
        let _ = nix::unistd::write(pipe, &[0]);
    }
    nix::errno::Errno::set_raw(errno);
}

/// Ends this process by a signal, as if it had never been caught; returns only if that is not possible.
pub fn die_of(signal: i32) {
    if let Ok(signal) = Signal::try_from(signal)
        && sys::signal::set_disposition(signal, sys::signal::Disposition::Default).is_ok()
    {
        let _ = nix::sys::signal::raise(signal);
    }
}
