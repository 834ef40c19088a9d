mod bus;
mod handles;
mod hostile;
mod released;
mod sealing;

use crate::codes::{permanent, tag};
use crate::swtpm::Swtpm;
use crate::wire::{HEADER, Reader, Writer};
use crate::{Binding, PcrSet, PolicyRef, Stream, Tpm, Transport};
use octant_ids::Sha256;
use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

const SECRET: [u8; 32] = *b"thirty-two bytes nobody may see!";
const PLATFORM: u32 = 0x4000_000c;
const LOCKOUT: u32 = 0x4000_000a;

type Socket = Stream<UnixStream>;

/// An emulated TPM and a connection to it.
fn machine() -> (Swtpm, Tpm<Socket>) {
    let swtpm = Swtpm::start().unwrap();
    let tpm = Tpm::new(swtpm.connect().unwrap());
    (swtpm, tpm)
}

/// To PCR 7 and 11.
fn to_pcrs() -> Binding {
    Binding::Pcrs(PcrSet::default())
}

fn vault() -> PolicyRef {
    PolicyRef::new(b"vault").unwrap()
}

/// A command that this crate has no function for; gives the response code and what is behind the header.
fn raw(
    transport: &mut impl Transport,
    code: u32,
    handles: &[u32],
    auth: bool,
    parameters: &[u8],
) -> (u32, Vec<u8>) {
    let mut body = handles.iter().fold(Writer::new(), |body, handle| body.u32(*handle));
    if auth {
        body = body.u32(9).u32(permanent::PASSWORD).sized(&[]).u8(1).sized(&[]);
    }
    let body = body.raw(parameters).finish().unwrap();
    let kind = if auth { tag::SESSIONS } else { tag::NO_SESSIONS };
    let len = u32::try_from(HEADER + body.len()).unwrap();
    let command = Writer::new().u16(kind).u32(len).u32(code).raw(&body).finish().unwrap();
    let mut reply = Vec::new();
    transport.exchange(&command, &mut reply).unwrap();
    let mut reader = Reader::new(&reply);
    reader.take(6).unwrap();
    (reader.u32().unwrap(), reader.rest().to_vec())
}

/// What there is in the TPM: transient objects, and sessions.
fn left(transport: &mut impl Transport) -> usize {
    let of = |transport: &mut _, first: u32| {
        let (code, reply) =
            raw(transport, 0x17a, &[], false, &[1_u32, first, 100].map(u32::to_be_bytes).concat());
        let mut reader = Reader::new(&reply);
        reader.take(5).unwrap();
        assert_eq!(code, 0);
        usize::try_from(reader.u32().unwrap()).unwrap()
    };
    of(transport, 0x8000_0000) + of(transport, 0x0200_0000) + of(transport, 0x0300_0000)
}

/// What went over the wires: commands and replies.
type Tape = Arc<Mutex<Vec<(Vec<u8>, Vec<u8>)>>>;

/// A transport that somebody listens to.
struct Recorder<T> {
    inner: T,
    tape: Tape,
}

impl<T> Recorder<T> {
    fn new(inner: T) -> (Self, Tape) {
        let tape = Tape::default();
        (Self { inner, tape: tape.clone() }, tape)
    }
}

impl<T: Transport> Transport for Recorder<T> {
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        self.inner.exchange(command, reply)?;
        self.tape.lock().unwrap().push((command.to_vec(), reply.clone()));
        Ok(())
    }
}

/// A transport that somebody sits on, who may answer a command instead of the TPM, or alter the reply.
struct Interposer<T, F> {
    inner: T,
    /// Gets the command; gives what the TPM gets, or what it would have answered.
    before: F,
    after: fn(&[u8], &mut [u8]),
}

enum Passed {
    On,
    Answered(Vec<u8>),
}

impl<T: Transport, F: FnMut(&mut Vec<u8>) -> Passed> Transport for Interposer<T, F> {
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        let mut command = command.to_vec();
        match (self.before)(&mut command) {
            Passed::On => self.inner.exchange(&command, reply)?,
            Passed::Answered(answer) => *reply = answer,
        }
        (self.after)(&command, reply);
        Ok(())
    }
}

fn passes_on(_: &mut Vec<u8>) -> Passed {
    Passed::On
}

/// The code of a command.
fn code(command: &[u8]) -> u32 {
    Reader::new(&command[6..]).u32().unwrap()
}

/// A reply that is a refusal.
fn refusal(code: u32) -> Vec<u8> {
    Writer::new().u16(tag::NO_SESSIONS).u32(10).u32(code).finish().unwrap().to_vec()
}

thread_local! {
    static COUNTER: Cell<u8> = const { Cell::new(1) };
}

/// Bytes that are the same after each `COUNTER.set(1)`.
fn counted(buffer: &mut [u8]) -> io::Result<()> {
    buffer.fill(COUNTER.replace(COUNTER.get().wrapping_add(1).max(1)));
    Ok(())
}

fn digest(byte: u8) -> Sha256 {
    Sha256([byte; 32])
}
