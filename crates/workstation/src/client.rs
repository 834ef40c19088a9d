//! The side of `agents`: asks the spawner, gets the handles of what was built.

use crate::collect;
use crate::kernel::wait_readable;
use crate::listen::Listen;
use crate::plan::{Plan, Report, Stdio};
use crate::request::{MAX_PLAN, MAX_REPLY, Op, Reply, Request, seal};
use crate::spawner::READY;
use crate::step::{SpawnError, Step};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use octant_api::ticket::Ticket;
use octant_ids::Aid;
use octant_sys::packet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How long an answer may take, in milliseconds: longer than the spawner itself waits for a workstation.
const ANSWER_MS: i32 = 30_000;

/// A connection to the spawner. Blocking; one request at a time.
#[derive(Debug)]
pub struct SpawnerClient {
    socket: OwnedFd,
}

/// What a spawn gives.
#[derive(Debug)]
pub struct Spawned {
    /// The workstation's first process, in the caller's PID namespace. Its exit code is the agent's.
    pub pid: u32,
    /// The same process; readable when it has ended.
    pub pidfd: OwnedFd,
    /// The listening stream socket that is `/run/octant/agent.sock` inside.
    pub socket: OwnedFd,
    /// The one that is `/run/octant/llm.sock` inside, where the plan has it.
    pub models: Option<OwnedFd>,
    /// The outer side of the program's terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// The mount at its `/workspace`, where the plan has it given out: what [`SpawnerClient::collect`] reads through.
    pub workspace: Option<OwnedFd>,
    /// What was achieved, as read back from the kernel.
    pub report: Report,
}

fn failed(text: &str) -> impl Fn(io::Error) -> SpawnError + '_ {
    move |error| SpawnError::failed(Step::Request, text, &error)
}

impl SpawnerClient {
    /// Connects to the spawner's socket.
    ///
    /// # Errors
    /// What socket(2) and connect(2) report.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { socket })
    }

    /// On the one side of a pair of which a spawner has the other, once that says that it is there.
    ///
    /// # Errors
    /// [`SpawnError`]: it ended without a word.
    pub fn connected(socket: OwnedFd) -> Result<Self, SpawnError> {
        wait_readable(socket.as_fd(), ANSWER_MS).map_err(failed("wait for the spawner"))?;
        let mut buffer = [0; 16];
        let packet = packet::receive(socket.as_fd(), &mut buffer).map_err(failed("hear from the spawner"))?;
        match buffer.get(..packet.len) {
            Some(word) if word == READY => Ok(Self { socket }),
            _ => Err(SpawnError::refused(Step::Request, "the spawner ended before it was ready")),
        }
    }

    /// Builds a workstation and starts its program. The ticket is the ledger's for an intent with [`Plan::digest`] as its
    /// subject; the descriptors are those that the plan's [`crate::Stdio`] asks for, in this order: standard input, output
    /// and error, and a pipe for the word that the program was stopped.
    ///
    /// # Errors
    /// [`SpawnError`] with the step that failed; then nothing runs and nothing is left.
    pub fn spawn(
        &mut self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        self.build(Op::Spawn, plan, ticket, standard)
    }

    /// As [`Self::spawn`], but for the program's start: it waits for [`SpawnerClient::release`]. It ends with the spawner,
    /// and when it is killed or retired.
    ///
    /// # Errors
    /// As [`SpawnerClient::spawn`].
    pub fn prepare(
        &mut self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        self.build(Op::Prepare, plan, ticket, standard)
    }

    /// Starts the program of a workstation that was prepared. The ticket is for the same plan, and another.
    ///
    /// # Errors
    /// [`SpawnError`]: nothing waits there, the ticket is refused (then it waits on), or the program cannot be executed
    /// (then it was killed, and is to be retired).
    pub fn release(&mut self, slot: u32, aid: Aid, ticket: &Ticket) -> Result<(), SpawnError> {
        let ticket = Some(ticket.clone());
        self.ask(&Request { op: Op::Release, slot, plan_len: 0, aid, ticket }, &[]).map(drop)
    }

    /// Has sockets listen in a workstation's network, in the order of the doors, for the gate to serve. The ticket is for
    /// [`Listen::digest`].
    ///
    /// # Errors
    /// [`SpawnError`]: no such workstation, the ticket is refused, or something else listens there.
    pub fn listen(
        &mut self,
        slot: u32,
        listen: &Listen,
        ticket: &Ticket,
    ) -> Result<Vec<OwnedFd>, SpawnError> {
        let bytes = listen.to_bytes()?;
        let plan_len = u32::try_from(bytes.len())
            .map_err(|_| SpawnError::refused(Step::Request, "what is to be listened on is too long"))?;
        let sealed = seal(&bytes).map_err(failed("seal what is to be listened on"))?;
        let request =
            Request { op: Op::Listen, slot, plan_len, aid: listen.aid, ticket: Some(ticket.clone()) };
        let (_, _, fds) = self.ask(&request, &[sealed.as_fd()])?;
        if fds.len() == listen.doors.len() {
            return Ok(fds);
        }
        Err(SpawnError::refused(Step::Request, "the spawner's answer lacks sockets"))
    }

    fn build(
        &mut self,
        op: Op,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        let bytes = plan.to_bytes()?;
        let plan_len = match u32::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= MAX_PLAN => len,
            _ => return Err(SpawnError::refused(Step::Request, "the plan is too long")),
        };
        let sealed = seal(&bytes).map_err(failed("seal the plan"))?;
        let ticket = Some(ticket.clone());
        let request = Request { op, slot: plan.slot, plan_len, aid: plan.aid, ticket };
        let fds: Vec<_> = std::iter::once(sealed.as_fd()).chain(standard.iter().copied()).collect();
        let (pid, report, fds) = self.ask(&request, &fds)?;
        let mut fds = fds.into_iter();
        match (report, fds.next(), fds.next()) {
            (Some(report), Some(pidfd), Some(socket)) => {
                let mut more = |there: bool| if there { fds.next() } else { None };
                let (models, terminal) = (more(plan.models), more(plan.stdio == Stdio::Terminal));
                Ok(Spawned { pid, pidfd, socket, models, terminal, workspace: more(plan.retain), report })
            }
            _ => Err(SpawnError::refused(
                Step::Request,
                "the spawner's answer lacks the report or the handles",
            )),
        }
    }

    /// Asks the workstation's program to end, with SIGTERM. It may ignore that.
    ///
    /// # Errors
    /// [`SpawnError`]: no such workstation, or it has ended.
    pub fn terminate(&mut self, slot: u32, aid: Aid) -> Result<(), SpawnError> {
        self.ask(&Request { op: Op::Terminate, slot, plan_len: 0, aid, ticket: None }, &[]).map(drop)
    }

    /// Kills every process of the workstation.
    ///
    /// # Errors
    /// [`SpawnError`]: no such workstation, or it cannot be killed.
    pub fn kill(&mut self, slot: u32, aid: Aid) -> Result<(), SpawnError> {
        self.ask(&Request { op: Op::Kill, slot, plan_len: 0, aid, ticket: None }, &[]).map(drop)
    }

    /// Has what is wished for of an ended agent's workspace written into `stream` ([`octant_tree::pack`]), the writing end
    /// of a pipe; the handle of the process that does it.
    ///
    /// # Errors
    /// [`SpawnError`]: something of the agent runs, or that is no workspace of one in this slot.
    pub fn collect(
        &mut self,
        slot: u32,
        aid: Aid,
        wish: &octant_tree::Wish,
        workspace: BorrowedFd<'_>,
        stream: BorrowedFd<'_>,
    ) -> Result<OwnedFd, SpawnError> {
        let bytes = collect::to_bytes(wish)?;
        let plan_len = match u32::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= collect::MAX_WISH => len,
            _ => return Err(SpawnError::refused(Step::Collect, "too many places are to be kept")),
        };
        let sealed = seal(&bytes).map_err(failed("seal what is to be kept"))?;
        let request = Request { op: Op::Collect, slot, plan_len, aid, ticket: None };
        let (_, _, fds) = self.ask(&request, &[sealed.as_fd(), workspace, stream])?;
        fds.into_iter().next().ok_or_else(|| SpawnError::refused(Step::Collect, "the answer has no handle"))
    }

    /// Kills what still runs, removes the cgroup leaf, looks whether anything of it is left, and frees the slot. The
    /// number of its namespaces that were looked for: 0 for one that ended before this spawner started.
    ///
    /// # Errors
    /// [`SpawnError`]: no such workstation, or something of it is left; the slot then stays taken.
    pub fn retire(&mut self, slot: u32, aid: Aid) -> Result<u32, SpawnError> {
        let request = Request { op: Op::Retire, slot, plan_len: 0, aid, ticket: None };
        self.ask(&request, &[]).map(|(looked_for, ..)| looked_for)
    }

    fn ask(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(u32, Option<Report>, Vec<OwnedFd>), SpawnError> {
        packet::send(self.socket.as_fd(), &request.encode(), fds).map_err(failed("send to the spawner"))?;
        wait_readable(self.socket.as_fd(), ANSWER_MS).map_err(failed("wait for the spawner"))?;
        let mut buffer = vec![0; MAX_REPLY];
        let packet =
            packet::receive(self.socket.as_fd(), &mut buffer).map_err(failed("receive from the spawner"))?;
        if packet.len == 0 {
            return Err(SpawnError::refused(
                Step::Request,
                "the spawner closed the connection: is this user allowed?",
            ));
        }
        let (pid, report) = Reply::decode(buffer.get(..packet.len).unwrap_or_default())?.0?;
        Ok((pid, report, packet.fds))
    }
}
