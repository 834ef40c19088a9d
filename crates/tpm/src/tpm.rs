//! One TPM: sends a command, reads its reply, and flushes what commands have made.

use crate::codes::{Command, ResponseCode, permanent, rc, session as bits, tag};
use crate::error::TpmError;
use crate::object::Name;
use crate::random::Fill;
use crate::session::{NotAuthentic, Session};
use crate::transport::{Transport, announced};
use crate::wire::{Broken, HEADER, Read, Reader, Writer, frame};
use octant_sys::entropy;
use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest authorization area of a reply: nonce, attributes and HMAC of one session.
const AUTHORIZATION_MAX: usize = 256;
/// How often a command is sent to a TPM that says it is busy. With [`FIRST_WAIT`] that is five seconds.
const TRIES: u32 = 9;
const FIRST_WAIT: Duration = Duration::from_millis(20);

pub(crate) type Result<T> = std::result::Result<T, TpmError>;

/// A TPM 2.0 behind a [`Transport`].
///
/// It holds nothing between two calls: every key and session that a call makes in the TPM is flushed before the call
/// returns, also when it fails.
pub struct Tpm<T> {
    transport: T,
    /// What has been made in the TPM and is to be flushed, the newest last.
    made: Vec<u32>,
    /// An exchange has failed: what comes next may be the reply to that command.
    given_up: bool,
    pub(crate) expected: Option<Name>,
    /// The kernel's seeded generator, but in tests.
    pub(crate) fill: Fill,
    /// How long the first wait for a busy TPM is; each is twice the one before.
    pub(crate) first_wait: Duration,
}

/// Who authorizes a command.
pub(crate) enum Auth<'a> {
    /// It needs no authorization.
    None,
    /// The empty password.
    Empty,
    /// A session, with attributes besides CONTINUE.
    Session(&'a mut Session, u8),
}

/// One command.
pub(crate) struct Call<'a> {
    pub(crate) command: Command,
    pub(crate) handles: &'a [u32],
    /// The names of `handles`, which a session's HMAC covers.
    pub(crate) names: &'a [&'a Name],
    pub(crate) auth: Auth<'a>,
    pub(crate) parameters: Writer,
}

/// What a command was answered with.
pub(crate) struct Reply {
    command: Command,
    /// What the command made, 0 if nothing.
    pub(crate) handle: u32,
    parameters: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// Reads the parameters to their end.
    pub(crate) fn parse<R>(&self, read: impl FnOnce(&mut Reader<'_>) -> Read<R>) -> Result<R> {
        let mut reader = Reader::new(&self.parameters);
        let value = read(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(malformed(self.command))
    }
}

impl<T: Transport> Tpm<T> {
    /// The TPM behind this transport.
    #[must_use]
    pub fn new(transport: T) -> Self {
        let (fill, first_wait) = (entropy::fill_seeded as Fill, FIRST_WAIT);
        Self { transport, made: Vec::new(), given_up: false, expected: None, fill, first_wait }
    }

    /// Expects the TPM to have the storage key of this name, as [`Tpm::storage_key_name`] has given it before: sealing
    /// to another one is refused with [`TpmError::OtherTpm`]. Without this the first secret that is sealed is trusted to
    /// whatever answers.
    #[must_use]
    pub fn expecting(mut self, storage_key: Name) -> Self {
        self.expected = Some(storage_key);
        self
    }

    /// The transport, for who wants to use it otherwise.
    #[must_use]
    pub fn into_transport(self) -> T {
        self.transport
    }

    /// Does `work`, and then flushes whatever it has made in the TPM, however it ended. The one place that flushes.
    pub(crate) fn scope<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let result = work(self);
        let mut flushed = Ok(());
        while let Some(handle) = self.made.pop() {
            // A TPM that no longer answers is not asked again. The kernel flushes when its device is closed.
            if self.given_up {
                continue;
            }
            let parameters = Writer::new().u32(handle);
            let call = Call {
                command: Command::FlushContext,
                handles: &[],
                names: &[],
                auth: Auth::None,
                parameters,
            };
            flushed = flushed.and(self.call(call).and_then(|reply| reply.parse(|_| Ok(()))));
        }
        // What went wrong first is what there is to be said.
        result.and_then(|value| flushed.map(|()| value))
    }

    /// Sends a command and takes its reply apart.
    pub(crate) fn call(&mut self, mut call: Call<'_>) -> Result<Reply> {
        let command = call.command;
        let sent = build(&mut call, self.fill)?;
        let mut reply = frame();
        let sent = self.exchange(command, &sent, &mut reply);
        let in_session = matches!(call.auth, Auth::Session(..));
        sent.map_err(|error| match error {
            // Nothing here has a password, so the TPM can only mean the session's HMAC.
            TpmError::Refused { code, .. }
                if in_session && matches!(code.base(), rc::AUTH_FAIL | rc::BAD_AUTH) =>
            {
                TpmError::NotAuthentic(command)
            }
            other => other,
        })?;
        let mut reader = Reader::new(&reply[HEADER..]);
        let handle = self.made_by(command, &mut reader).map_err(malformed(command))?;
        let parameters = open(command, reader, call.auth)?;
        Ok(Reply { command, handle, parameters })
    }

    /// The handle that a reply begins with, if its command makes something; it is remembered before anything else can
    /// fail.
    fn made_by(&mut self, command: Command, reply: &mut Reader<'_>) -> Read<u32> {
        if command.makes().is_empty() {
            return Ok(0);
        }
        let handle = reply.u32()?;
        if !command.makes().contains(&handle.to_be_bytes()[0]) {
            return Err(Broken("has a handle of the wrong kind"));
        }
        self.made.push(handle);
        Ok(handle)
    }

    /// Sends a command until the TPM is not busy; gives a whole reply to a command that succeeded.
    fn exchange(&mut self, command: Command, sent: &[u8], reply: &mut Zeroizing<Vec<u8>>) -> Result<()> {
        let mut wait = self.first_wait;
        for tries in 1.. {
            let code = self.exchange_once(command, sent, reply)?;
            match code.base() {
                rc::SUCCESS if code.0 == rc::SUCCESS => break,
                rc::RETRY | rc::YIELDED | rc::TESTING | rc::NV_RATE if tries < TRIES => {
                    thread::sleep(wait);
                    wait *= 2;
                }
                rc::RETRY | rc::YIELDED | rc::TESTING | rc::NV_RATE => {
                    return Err(TpmError::Busy { command, tries, code });
                }
                rc::LOCKOUT => return Err(TpmError::Lockout(command)),
                rc::FAILURE => return Err(TpmError::FailureMode(command)),
                rc::INITIALIZE => return Err(TpmError::NotStarted(command)),
                _ => return Err(TpmError::Refused { command, code }),
            }
        }
        Ok(())
    }

    fn exchange_once(
        &mut self,
        command: Command,
        sent: &[u8],
        reply: &mut Zeroizing<Vec<u8>>,
    ) -> Result<ResponseCode> {
        if self.given_up {
            return Err(TpmError::GivenUp(command));
        }
        // Set until the reply is known to be one, so that no way out of here forgets it.
        self.given_up = true;
        reply.clear();
        self.transport.exchange(sent, reply).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => TpmError::NotAnswering { command, error },
            _ => TpmError::Exchange { command, error },
        })?;
        let code = header(sent, reply).map_err(malformed(command))?;
        self.given_up = false;
        Ok(code)
    }
}

impl<T> fmt::Debug for Tpm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, given_up, expected, .. } = self;
        let mut shown = f.debug_struct("Tpm");
        shown
            .field("made", made)
            .field("given_up", given_up)
            .field("expected", expected)
            .finish_non_exhaustive()
    }
}

fn malformed(command: Command) -> impl Fn(Broken) -> TpmError {
    move |broken| TpmError::Malformed { command, what: broken.0 }
}

/// The code of a reply that is one to what was sent (Part 1, section 18.2).
fn header(sent: &[u8], reply: &[u8]) -> Read<ResponseCode> {
    if announced(reply) != Some(reply.len()) {
        return Err(Broken("does not have the length that it says"));
    }
    let mut header = Reader::new(reply);
    let (kind, _, code) = (header.u16()?, header.u32()?, ResponseCode(header.u32()?));
    // A refusal has no sessions, whatever the command had.
    let sessions = sent.starts_with(&tag::SESSIONS.to_be_bytes()) && code.0 == rc::SUCCESS;
    if kind != if sessions { tag::SESSIONS } else { tag::NO_SESSIONS } {
        return Err(Broken("has the wrong tag"));
    }
    Ok(code)
}

/// A command's frame (Part 1, section 18.2), its first parameter encrypted if the session does that.
fn build(call: &mut Call<'_>, fill: Fill) -> Result<Zeroizing<Vec<u8>>> {
    let command = call.command;
    let too_long = || TpmError::TooLong(command);
    let parameters = std::mem::replace(&mut call.parameters, Writer::new());
    let mut parameters = parameters.finish().ok_or_else(too_long)?;
    let authorization = match &mut call.auth {
        Auth::None => None,
        Auth::Empty => Some(Writer::new().u32(permanent::PASSWORD).sized(&[]).u8(bits::CONTINUE).sized(&[])),
        Auth::Session(session, attributes) => {
            session.next(fill).map_err(TpmError::Randomness)?;
            if *attributes & bits::DECRYPT != 0 {
                session.encrypt(first_parameter(&mut parameters).ok_or_else(too_long)?);
            }
            Some(session.authorize(command, call.names, &parameters, *attributes | bits::CONTINUE))
        }
    };
    let mut body = call.handles.iter().fold(Writer::new(), |body, handle| body.u32(*handle));
    let kind = if authorization.is_some() { tag::SESSIONS } else { tag::NO_SESSIONS };
    if let Some(authorization) = authorization {
        let bytes = authorization.finish().ok_or_else(too_long)?;
        body = body.u32(u32::try_from(bytes.len()).map_err(|_| too_long())?).raw(&bytes);
    }
    let body = body.raw(&parameters).finish().ok_or_else(too_long)?;
    let len = u32::try_from(HEADER + body.len()).map_err(|_| too_long())?;
    Writer::new().u16(kind).u32(len).u32(command.code()).raw(&body).finish().ok_or_else(too_long)
}

/// The parameters behind a reply's handle, verified and decrypted as its session demands.
fn open(command: Command, mut reply: Reader<'_>, auth: Auth<'_>) -> Result<Zeroizing<Vec<u8>>> {
    let mut parameters = frame();
    let (session, attributes) = match auth {
        Auth::None => {
            parameters.extend_from_slice(reply.rest());
            return Ok(parameters);
        }
        Auth::Empty => {
            let read =
                split(&mut reply).and_then(|(taken, authorization)| password(authorization).map(|()| taken));
            parameters.extend_from_slice(read.map_err(malformed(command))?);
            return Ok(parameters);
        }
        Auth::Session(session, attributes) => (session, attributes),
    };
    let (taken, authorization) = split(&mut reply).map_err(malformed(command))?;
    let verified = session.verify(command, taken, authorization, attributes | bits::CONTINUE);
    verified.map_err(malformed(command))?.map_err(|NotAuthentic| TpmError::NotAuthentic(command))?;
    parameters.extend_from_slice(taken);
    if attributes & bits::ENCRYPT != 0 {
        let first = first_parameter(&mut parameters).ok_or(Broken("ends too early"));
        session.decrypt(first.map_err(malformed(command))?);
    }
    Ok(parameters)
}

/// A reply's parameters, and the authorizations behind them.
fn split<'a>(reader: &mut Reader<'a>) -> Read<(&'a [u8], Reader<'a>)> {
    let len = usize::try_from(reader.u32()?).map_err(|_| Broken("ends too early"))?;
    let parameters = reader.take(len)?;
    let authorization = reader.rest();
    if authorization.len() > AUTHORIZATION_MAX {
        return Err(Broken("has an authorization that is too long"));
    }
    Ok((parameters, Reader::new(authorization)))
}

/// What a password's authorization is answered with: nothing but its attributes (Part 1, section 19.4).
fn password(mut authorization: Reader<'_>) -> Read<()> {
    authorization.sized(0)?;
    authorization.u8()?;
    authorization.sized(0)?;
    authorization.end()
}

/// The bytes of the buffer that the parameters begin with: what a session encrypts (Part 1, section 21.1).
fn first_parameter(parameters: &mut [u8]) -> Option<&mut [u8]> {
    let (len, rest) = parameters.split_first_chunk_mut::<2>()?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*len)))
}
