//! How commands reach a TPM and replies come back.

use crate::wire::{FRAME_MAX, HEADER, Reader, frame};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a command may take on a [`Device`] unless said otherwise. Slow TPMs make a P-256 key in about a second; the
/// kernel itself would wait five minutes.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What carries one command to a TPM and its reply back.
pub trait Transport {
    /// Sends `command` and replaces `reply` with what comes back, whole, at most 4096 bytes. `reply` has room for as many,
    /// so that it need not grow: what a buffer leaves behind when it grows is not wiped.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the TPM does not answer in time, anything else when it cannot be talked to. No
    /// further command is sent after either.
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()>;
}

type Frame = Zeroizing<Vec<u8>>;

/// The kernel's device, `/dev/tpmrm0`, which someone else has opened, for reading and writing and without O_NONBLOCK.
///
/// A thread of its own talks to the device, since nothing else keeps a deadline: write(2) returns when the TPM has
/// answered, and on a file that does not block poll(2), whatever its timeout, read(2) and close(2) all wait for the lock
/// that the kernel holds until then (drivers/char/tpm/tpm-dev-common.c). When the deadline passes that thread is left to itself; it ends, and closes the file,
/// when the kernel gives up.
pub struct Device {
    commands: SyncSender<Frame>,
    replies: Receiver<io::Result<Frame>>,
    deadline: Duration,
}

impl Device {
    /// This device, with [`DEADLINE`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(device: File) -> io::Result<Self> {
        Self::with_deadline(device, DEADLINE)
    }

    /// This device, with another deadline for each command.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn with_deadline(device: File, deadline: Duration) -> io::Result<Self> {
        let (commands, taken) = mpsc::sync_channel(1);
        let (given, replies) = mpsc::sync_channel(1);
        thread::Builder::new().name("tpm".into()).spawn(move || serve(device, &taken, &given))?;
        Ok(Self { commands, replies, deadline })
    }
}

/// Ends when nobody waits for replies any more.
fn serve(mut device: File, commands: &Receiver<Frame>, replies: &SyncSender<io::Result<Frame>>) {
    while let Ok(command) = commands.recv() {
        if replies.send(ask(&mut device, &command)).is_err() {
            return;
        }
    }
}

/// What the kernel says when the TPM has not answered for as long as it gives the command, before the deadline here.
const ETIME: i32 = 62;

/// One write(2) takes a whole command and one read(2) gives a whole reply: the device has no other framing.
fn ask(device: &mut File, command: &[u8]) -> io::Result<Frame> {
    let written = device.write(command).map_err(late)?;
    if written != command.len() {
        return Err(io::Error::new(io::ErrorKind::WriteZero, "the device took a part of a command"));
    }
    let mut reply = frame();
    reply.resize(FRAME_MAX, 0);
    let len = device.read(&mut reply).map_err(late)?;
    if len == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the device gave no reply; was it opened with O_NONBLOCK?",
        ));
    }
    reply.truncate(len);
    Ok(reply)
}

fn late(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(ETIME) => {
            io::Error::new(io::ErrorKind::TimedOut, "the kernel has waited for as long as it does")
        }
        _ => error,
    }
}

impl Transport for Device {
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        let gone =
            || io::Error::new(io::ErrorKind::BrokenPipe, "the thread that talks to the device has ended");
        let mut sent = frame();
        sent.extend_from_slice(command);
        self.commands.send(sent).map_err(|_| gone())?;
        let got = match self.replies.recv_timeout(self.deadline) {
            Ok(got) => got?,
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("no reply within {} ms", self.deadline.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
        };
        reply.clear();
        reply.extend_from_slice(&got);
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// A stream of bytes, whose replies end where their headers say: an emulated TPM's socket. It has no deadline but what the
/// stream has.
#[derive(Debug)]
pub struct Stream<S>(pub S);

impl<S: Read + Write> Transport for Stream<S> {
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_all(command)?;
        self.0.flush()?;
        reply.clear();
        reply.resize(HEADER, 0);
        self.read(reply)?;
        let len = announced(reply).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the reply's header does not say 10 to 4096 bytes")
        })?;
        reply.resize(len, 0);
        self.read(&mut reply[HEADER..])
    }
}

impl<S: Read> Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buffer).map_err(|error| match error.kind() {
            // What a socket with SO_RCVTIMEO says when that has passed.
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "no reply within the socket's timeout")
            }
            _ => error,
        })
    }
}

/// The length that a header says, if it is that of a frame (Part 1, section 18.2).
pub(crate) fn announced(header: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(header);
    reader.u16().ok()?;
    let len = usize::try_from(reader.u32().ok()?).ok()?;
    (HEADER..=FRAME_MAX).contains(&len).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn pair(deadline: Duration) -> (Device, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Device::with_deadline(File::from(OwnedFd::from(ours)), deadline).unwrap(), theirs)
    }

    #[test]
    fn a_device_gives_what_one_read_gives() {
        let (mut device, mut tpm) = pair(DEADLINE);
        tpm.write_all(b"reply").unwrap();
        let mut reply = vec![9; 3];
        device.exchange(b"command", &mut reply).unwrap();
        assert_eq!(reply, b"reply");
        let mut got = [0; 7];
        tpm.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"command");
    }

    #[test]
    fn a_silent_device_is_an_error_within_the_deadline() {
        let (mut device, _silent) = pair(Duration::from_millis(50));
        let error = device.exchange(b"command", &mut Vec::new()).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::TimedOut, "no reply within 50 ms")
        );
    }

    #[test]
    fn the_kernels_own_deadline_is_one_too() {
        assert_eq!(late(io::Error::from_raw_os_error(ETIME)).kind(), io::ErrorKind::TimedOut);
        assert_eq!(late(io::Error::from_raw_os_error(13)).kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_device_may_be_used_from_any_thread() {
        fn sent<T: Send>() {}
        sent::<crate::Tpm<Device>>();
    }

    #[test]
    fn a_closed_device_is_an_error() {
        let (mut device, tpm) = pair(DEADLINE);
        drop(tpm);
        assert!(device.exchange(b"command", &mut Vec::new()).is_err());
    }

    #[test]
    fn a_stream_takes_what_the_header_says_and_no_more() {
        let (ours, mut tpm) = UnixStream::pair().unwrap();
        tpm.write_all(b"\x80\x01\x00\x00\x00\x0c\x00\x00\x00\x00hinext").unwrap();
        let mut reply = Vec::new();
        Stream(ours).exchange(b"command", &mut reply).unwrap();
        assert_eq!(reply, b"\x80\x01\x00\x00\x00\x0c\x00\x00\x00\x00hi");
    }

    #[test]
    fn a_stream_refuses_lengths_that_no_reply_has() {
        for len in [0_u32, 9, 4097, u32::MAX] {
            let (ours, mut tpm) = UnixStream::pair().unwrap();
            tpm.write_all(&[&[0x80, 0x01], &len.to_be_bytes()[..], &[0; 4]].concat()).unwrap();
            let error = Stream(ours).exchange(b"command", &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{len}");
        }
    }

    #[test]
    fn a_streams_timeout_is_a_deadline() {
        let (ours, _silent) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = Stream(ours).exchange(b"command", &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
