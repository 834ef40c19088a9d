//! `octant ssh-agent`: an SSH agent for one command, inside a workstation.
//!
//! This process becomes the command, so that signals, terminal and exit code are the command's own; a child of it serves
//! the socket until the command has ended. Neither has a key: a signature is the vault's, and what may be signed is for
//! Octant's side of the agent's socket to say.

use crate::error::CliError;
use crate::out::Out;
use crate::service::Service;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getppid;
use octant_api::agent::{SshKeysRequest, SshLoginRequest};
use octant_api::text::Base64;
use octant_ids::Layout;
use octant_ssh::{Answer, Binding, FRAME_MAX, Question, ed25519_key, ed25519_signature};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// The socket's name in its directory.
const SOCKET: &str = "agent";
/// How often is looked whether the command is still there, in milliseconds.
const LOOK_MS: u16 = 250;
/// How long a client that has begun a message may take for the rest of it, or for reading an answer.
const STALL: Duration = Duration::from_secs(30);
/// Clients at once; each is a thread.
const CLIENTS: usize = 16;

fn system(step: &'static str) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::System { step, source }
}

/// `octant ssh-agent -- COMMAND`
pub(crate) fn run(command: &[OsString], layout: &Layout) -> Result<(), CliError> {
    // Says at once what would otherwise be a login that fails without a reason.
    Service::of_workstation(layout).call(&SshKeysRequest {})?;
    let dir = std::env::temp_dir().join(format!("octant-ssh-{}", std::process::id()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(system("make a directory for the agent's socket"))?;
    let socket = dir.join(SOCKET);
    let listener = UnixListener::bind(&socket).map_err(system("make the agent's socket"))?;
    Command::new("/proc/self/exe")
        .arg0("octant")
        .args(["ssh-agent", "--serve"])
        .arg(&dir)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        // A key that ends the command on a terminal is not for it.
        .process_group(0)
        .spawn()
        .map_err(system("start the agent"))?;
    let [program, args @ ..] = command else { return Ok(()) };
    let failed = Command::new(program).args(args).env("SSH_AUTH_SOCK", &socket).exec();
    Err(CliError::Refused {
        what: format!("cannot run {}", program.display()),
        why: failed.to_string(),
        exit: octant_ids::Exit::NotFound,
        next: Some("name a program that is in the workstation".to_owned()),
    })
}

/// `octant ssh-agent --serve DIR`: the listener is standard input, the command is the parent.
pub(crate) fn serve(dir: &Path, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let (command, own) = (getppid(), Service::of_workstation(layout).path().to_owned());
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(system("take the agent's socket"))?;
    let listener = UnixListener::from(listener);
    let mut clients: Vec<thread::JoinHandle<()>> = Vec::new();
    while getppid() == command {
        let mut asked = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, PollTimeout::from(LOOK_MS)) {
            Ok(1) => {}
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(system("wait for a client of the agent")(error.into())),
        }
        let (client, _) = listener.accept().map_err(system("take a client of the agent"))?;
        clients.retain(|client| !client.is_finished());
        if clients.len() >= CLIENTS {
            out.note("octant ssh-agent: too many clients at once; one was turned away");
            continue;
        }
        let socket = own.clone();
        clients.push(thread::spawn(move || {
            let mut session = Session { own: Service::at(socket), bound: None };
            // A client that breaks off is one that has ended.
            let _gone = session.attend(client);
        }));
    }
    // What the command's end leaves is of no use to anybody.
    fs::remove_dir_all(dir).map_err(system("remove the agent's socket"))
}

/// What one client has said so far.
struct Session {
    own: Service,
    /// The host that it logs in at.
    bound: Option<Bound>,
}

struct Bound {
    host_key: Vec<u8>,
    session: Vec<u8>,
    signature: Vec<u8>,
    forwarded: bool,
}

impl Session {
    fn attend(&mut self, mut client: UnixStream) -> io::Result<()> {
        client.set_write_timeout(Some(STALL))?;
        let mut length = [0; 4];
        loop {
            // A client may be silent for as long as it lives, between messages.
            client.set_read_timeout(None)?;
            client.read_exact(&mut length)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > FRAME_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            client.set_read_timeout(Some(STALL))?;
            let mut message = vec![0; length];
            client.read_exact(&mut message)?;
            let answer = self.answer(&message);
            client.write_all(&answer)?;
        }
    }

    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        match Question::parse(message) {
            Ok(Question::Identities) => self.identities(),
            Ok(Question::Sign { key: _, data }) => self.sign(data),
            Ok(Question::Bind(binding)) => {
                // A second host behind the first one: a forwarded agent.
                let forwarded = binding.forwarded || self.bound.is_some();
                let Binding { host_key, session, signature, .. } = binding;
                let [host_key, session, signature] = [host_key, session, signature].map(<[u8]>::to_vec);
                self.bound = Some(Bound { host_key, session, signature, forwarded });
                Answer::Success.frame()
            }
            Ok(Question::Extension) => Answer::NoExtension.frame(),
            Ok(Question::Other(_)) | Err(_) => Answer::Failure.frame(),
        }
    }

    fn identities(&self) -> Vec<u8> {
        match self.own.call(&SshKeysRequest {}) {
            Ok(keys) => {
                let of = |key: octant_api::agent::SshKey| {
                    let public = key.public_key.0.as_slice().try_into().ok()?;
                    Some((ed25519_key(public), key.secret.to_string()))
                };
                let keys: Vec<_> = keys.keys.into_iter().filter_map(of).collect();
                Answer::Identities(&keys).frame()
            }
            Err(error) => refused(&error),
        }
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        let Some(bound) = &self.bound else {
            say("the client does not say for which host it logs in (OpenSSH from 8.9 on does)");
            return Answer::Failure.frame();
        };
        let base64 = |bytes: &[u8]| Base64(bytes.to_vec());
        let request = SshLoginRequest {
            data: base64(data),
            host_key: base64(&bound.host_key),
            session: base64(&bound.session),
            signature: base64(&bound.signature),
            forwarded: bound.forwarded,
        };
        match self.own.call(&request) {
            Ok(signed) => match signed.signature.0.as_slice().try_into() {
                Ok(signature) => Answer::Signature(&ed25519_signature(signature)).frame(),
                Err(_) => refused(&self.own.odd("a signature that has not 64 bytes")),
            },
            Err(error) => refused(&error),
        }
    }
}

/// An SSH client is told no reason, so the person is.
fn refused(error: &CliError) -> Vec<u8> {
    let next = error.next().map(|next| format!("; {next}")).unwrap_or_default();
    say(&format!("{error}{next}"));
    Answer::Failure.frame()
}

fn say(why: &str) {
    // Standard error that is closed has nobody who reads it.
    let _nobody = writeln!(io::stderr(), "octant ssh-agent: {why}");
}
