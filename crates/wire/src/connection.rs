//! One connection of a server: reading lines, running requests, answering.

use crate::call::{Call, reply_too_long};
use crate::frame::{self, Id, Incoming, REPLY_MAX, Refused};
use crate::in_flight::{InFlight, Running, locked};
use crate::outbox::{Gone, Outbox};
use crate::peer::Caller;
use crate::scan::Scanner;
use crate::server::Limits;
use crate::socket::{Readable, Socket};
use crate::stop::Shutdown;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Deadline, Dispatch, Method};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

/// A reading buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 64 << 10;
/// How often a connection looks at its clocks. Limits of time are kept to this precision.
const TICK: Duration = Duration::from_secs(1);

/// How often a connection whose peer sends no more looks whether the peer still reads.
const HALF_CLOSED_LOOK: Duration = Duration::from_millis(20);

struct Connection<D> {
    socket: Arc<Socket>,
    outbox: Arc<Outbox>,
    caller: Arc<Caller>,
    service: Arc<D>,
    limits: Limits,
    in_flight: Arc<InFlight>,
    /// Bytes of lines that are not complete, or not looked at.
    buffer: Vec<u8>,
    scanner: Scanner,
    /// How many bytes of `buffer` the scanner has seen.
    scanned: usize,
    /// The rest of a line that was too long is thrown away up to its newline.
    skipping: bool,
    fds: Vec<OwnedFd>,
    line_max: usize,
    takes_fds: bool,
}

/// Why reading ended.
enum End {
    /// The peer sends no more, or is gone.
    Peer,
    /// The service stops.
    Stop,
    /// The peer broke a limit; it was told.
    Limit,
}

pub(crate) async fn run<D: Dispatch<Call>>(
    socket: Socket,
    service: Arc<D>,
    caller: Caller,
    limits: Limits,
    stop: Shutdown,
) {
    let socket = Arc::new(socket);
    let mut connection = Connection {
        outbox: Outbox::new(Arc::clone(&socket), limits.stall),
        socket,
        caller: Arc::new(caller),
        service,
        limits,
        in_flight: Arc::default(),
        buffer: Vec::new(),
        scanner: Scanner::default(),
        scanned: 0,
        skipping: false,
        fds: Vec::new(),
        line_max: D::INTERFACE.line_max(),
        takes_fds: D::INTERFACE.methods.iter().any(|method| method.fds_in > 0),
    };
    let end = connection.read_lines(&stop).await;
    connection.finish(end).await;
}

impl<D: Dispatch<Call>> Connection<D> {
    async fn read_lines(&mut self, stop: &Shutdown) -> End {
        let mut tick = tokio::time::interval(TICK);
        let (mut line_age, mut idle) = (Duration::ZERO, Duration::ZERO);
        let (socket, stopped) = (Arc::clone(&self.socket), stop.requested());
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                biased;
                ready = socket.readable() => {
                    let Ok(mut ready) = ready else { return End::Peer };
                    match self.read(&mut ready) {
                        Ok(0) => return End::Peer,
                        Ok(_) => {
                            idle = Duration::ZERO;
                            match self.take_lines().await {
                                // What stands in the buffer now began after the last look at the clock.
                                Ok(true) => line_age = Duration::ZERO,
                                Ok(false) => {}
                                Err(Gone) => return End::Peer,
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => {
                            self.refuse_line(Code::InvalidRequest, &format!("it cannot be received: {error}")).await;
                            return End::Limit;
                        }
                    }
                }
                () = &mut stopped => return End::Stop,
                _ = tick.tick() => {
                    let partial = !self.buffer.is_empty() || self.skipping;
                    line_age = if partial { line_age + TICK } else { Duration::ZERO };
                    let busy = partial || !locked(&self.in_flight.running).is_empty();
                    idle = if busy { Duration::ZERO } else { idle + TICK };
                    if line_age > self.limits.stall + TICK {
                        let why = format!("the line was not finished within {:?}", self.limits.stall);
                        self.refuse_line(Code::Deadline, &why).await;
                        return End::Limit;
                    }
                    if idle > self.limits.idle + TICK {
                        return End::Limit;
                    }
                }
            }
        }
    }

    /// One read of whatever is there. `Ok(0)` is the end of what the peer sends.
    fn read(&mut self, ready: &mut Readable<'_>) -> io::Result<usize> {
        let fds = self.takes_fds.then_some(&mut self.fds);
        Socket::receive(ready, &mut self.buffer, fds)
    }

    /// Runs every complete line of the buffer and leaves the rest; whether there was one.
    async fn take_lines(&mut self) -> Result<bool, Gone> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (mut start, mut scanned) = (0, std::mem::take(&mut self.scanned));
        while let Some(offset) = self.scanner.feed(&buffer[scanned..]) {
            let line = &buffer[start..scanned + offset];
            let deepest = std::mem::take(&mut self.scanner).deepest();
            scanned += offset + 1;
            start = scanned;
            if !std::mem::take(&mut self.skipping) {
                self.take_line(line.strip_suffix(b"\r").unwrap_or(line), deepest).await?;
            }
        }
        buffer.drain(..start);
        if buffer.len() > self.line_max && !self.skipping {
            self.skipping = true;
            self.answer_refusal(&Refused::too_long(self.line_max)).await?;
        }
        if self.skipping {
            buffer.clear();
        }
        if buffer.is_empty() && buffer.capacity() > KEEP {
            buffer = Vec::new();
        }
        self.scanned = buffer.len();
        self.buffer = buffer;
        Ok(start > 0)
    }

    async fn take_line(&mut self, line: &[u8], deepest: u32) -> Result<(), Gone> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let fds = std::mem::take(&mut self.fds);
        let incoming = match frame::read_request(line, deepest) {
            Ok(incoming) => incoming,
            Err(refused) => return self.answer_refusal(&refused).await,
        };
        let Some(id) = incoming.id.clone() else {
            self.take_notification(&incoming);
            return Ok(());
        };
        match self.admit(&id, &incoming, line.len(), fds) {
            Ok((call, request, within)) => self.start(id, call, request, within).await,
            Err(error) => self.answer_refusal(&Refused { id: Some(id), error }).await,
        }
    }

    /// Notifications are not answered, whatever they say (JSON-RPC 2.0, 4.1).
    fn take_notification(&self, incoming: &Incoming<'_>) {
        if incoming.method != frame::CANCELLED {
            return;
        }
        if let Ok(cancelled) = serde_json::from_str::<frame::Cancelled>(incoming.params) {
            self.in_flight.cancel(|row| row.id == cancelled.request_id);
        }
    }

    /// Decides whether a request may run. Authority comes before the parameters are looked at, so that who
    /// may not call learns nothing about them.
    fn admit(
        &self,
        id: &Id,
        incoming: &Incoming<'_>,
        len: usize,
        fds: Vec<OwnedFd>,
    ) -> Result<(Call, D::Request, Option<Duration>), ApiError> {
        let method = D::INTERFACE.method(&incoming.method)?;
        method.authorise(&self.caller.principal)?;
        let refuse =
            |code, why: String, next| Err(ApiError::new(code, "call a method", method.name, why, next));
        if len > method.line_max {
            return Err(Refused::too_long(method.line_max).error);
        }
        if fds.len() > method.fds_in {
            let why = format!("{} descriptors came with it, {} are declared", fds.len(), method.fds_in);
            return refuse(Code::InvalidParams, why, "send no others");
        }
        {
            let running = locked(&self.in_flight.running);
            if running.len() >= self.limits.in_flight {
                let why = format!("{} requests are in flight on this connection", running.len());
                return refuse(Code::Busy, why, "wait for an answer first");
            }
            if running.iter().any(|row| row.id == *id) {
                let why = "a request with this id is in flight".to_owned();
                return refuse(Code::DuplicateId, why, "give each request an id of its own");
            }
        }
        let (request, meta) = D::parse(method, incoming.params)?;
        let within = match (meta.deadline_ms, method.deadline) {
            (Some(ms), _) | (None, Deadline::Ms(ms)) => Some(Duration::from_millis(ms)),
            (None, Deadline::Open) => None,
        };
        let call = Call {
            caller: Arc::clone(&self.caller),
            method,
            id: id.clone(),
            outbox: Arc::clone(&self.outbox),
            fds_in: fds,
            fds_out: Arc::default(),
        };
        Ok((call, request, within))
    }

    /// Runs a request here and now if it can finish without waiting, and as a task of its own if not.
    async fn start(
        &self,
        id: Id,
        call: Call,
        request: D::Request,
        within: Option<Duration>,
    ) -> Result<(), Gone> {
        let (service, outbox) = (Arc::clone(&self.service), Arc::clone(&self.outbox));
        let (method, fds) = (call.method, Arc::clone(&call.fds_out));
        let mut work: Pin<Box<dyn Future<Output = Vec<u8>> + Send>> = Box::pin({
            let id = id.clone();
            async move {
                let mut line = Vec::with_capacity(256);
                frame::start_answer(&mut line, &id);
                let done = service.handle(request, call, &mut line).await;
                let done = done.and_then(|()| match line.len() {
                    len if len > REPLY_MAX => Err(reply_too_long(method, len)),
                    _ => Ok(()),
                });
                match done {
                    Ok(()) => frame::end_answer(&mut line),
                    Err(error) => {
                        line.clear();
                        frame::write_error(&mut line, Some(&id), &error);
                    }
                }
                line
            }
        });
        let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(line) = first {
            return answer(&outbox, &line, &fds).await;
        }
        let in_flight = Arc::clone(&self.in_flight);
        let running = Running { id: id.clone(), method, open: within.is_none(), task: None };
        locked(&in_flight.running).push(running);
        let task = tokio::spawn(async move {
            let line = match within {
                None => work.await,
                Some(within) => tokio::time::timeout(within, work).await.unwrap_or_else(|_| {
                    let mut line = Vec::new();
                    frame::write_error(&mut line, Some(&id), &too_late(method, within));
                    line
                }),
            };
            // When the peer is gone, the connection's reader sees it too and ends the connection.
            let _ = answer(&outbox, &line, &fds).await;
            in_flight.remove(&id);
        });
        // On the current-thread runtime the task has not run yet, so its row is still there.
        if let Some(row) = locked(&self.in_flight.running).last_mut() {
            row.task = Some(task.abort_handle());
        }
        Ok(())
    }

    async fn answer_refusal(&self, refused: &Refused) -> Result<(), Gone> {
        let mut line = Vec::with_capacity(256);
        frame::write_error(&mut line, refused.id.as_ref(), &refused.error);
        self.outbox.send(&line).await
    }

    /// Tells the peer, as far as it listens, why its connection ends.
    async fn refuse_line(&self, code: Code, why: &str) {
        let error = ApiError::new(code, "read a request", "line", why, "connect again");
        let _ = self.answer_refusal(&Refused { id: None, error }).await;
    }

    /// Lets requests in flight finish where someone still waits for them, and writes what is kept.
    async fn finish(self, end: End) {
        match end {
            End::Stop => {
                // What would last as long as its caller is ended now; its caller asks the next service process.
                for (id, method) in self.in_flight.cancel(|row| row.open) {
                    let why = "the service is stopping";
                    let error = ApiError::new(Code::Unavailable, "go on", method.name, why, "ask again");
                    let _ = self.answer_refusal(&Refused { id: Some(id), error }).await;
                }
                let _ = tokio::time::timeout(self.limits.grace, self.in_flight.empty()).await;
            }
            // A peer that only closed its sending half (`echo ... | socat`) still reads its answers.
            End::Peer => loop {
                tokio::select! {
                    () = self.in_flight.empty() => break,
                    () = tokio::time::sleep(HALF_CLOSED_LOOK) => if hung_up(&self.socket) { break },
                }
            },
            End::Limit => {}
        }
        self.in_flight.cancel(|_| true);
        let _ = tokio::time::timeout(self.limits.grace, self.outbox.flushed()).await;
    }
}

async fn answer(outbox: &Arc<Outbox>, line: &[u8], fds: &Mutex<Vec<OwnedFd>>) -> Result<(), Gone> {
    let fds = std::mem::take(&mut *locked(fds));
    if fds.is_empty() { outbox.send(line).await } else { outbox.send_with(line, &fds).await }
}

fn too_late(method: &Method, within: Duration) -> ApiError {
    let why = format!("not done within {} ms", within.as_millis());
    ApiError::new(
        Code::Deadline,
        "call a method",
        method.name,
        why,
        "give it more time, or see what it waits for",
    )
}

/// Whether the peer has closed both directions.
fn hung_up(socket: &Socket) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    polled.is_err()
        || fds[0].revents().is_none_or(|got| got.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}
