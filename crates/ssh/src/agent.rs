//! The messages between a client and its agent (OpenSSH's PROTOCOL.agent; draft-ietf-sshm-ssh-agent).

use crate::encoding::{Reader, SshError, Writer};
use crate::login::Binding;

/// The longest message, in bytes: as long as OpenSSH's own agent takes.
pub const FRAME_MAX: usize = 256 << 10;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION: u8 = 27;
const EXTENSION_FAILURE: u8 = 28;

/// What a client asks.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// Which keys there are.
    Identities,
    /// A signature.
    Sign {
        /// By which key.
        key: &'a [u8],
        /// Over what.
        data: &'a [u8],
    },
    /// From now on, for this session.
    Bind(Binding<'a>),
    /// An extension that is not known here.
    Extension,
    /// Something that is not done here: adding and removing keys, locking.
    Other(u8),
}

impl<'a> Question<'a> {
    /// Reads a message without its length.
    ///
    /// # Errors
    /// It is cut or too long for what it is.
    pub fn parse(message: &'a [u8]) -> Result<Self, SshError> {
        let mut reader = Reader::new(message, "the message");
        let question = match reader.byte()? {
            REQUEST_IDENTITIES => Self::Identities,
            SIGN_REQUEST => {
                let question = Self::Sign { key: reader.string()?, data: reader.string()? };
                // The flags are RSA's.
                reader.number()?;
                question
            }
            EXTENSION if reader.string()? == b"session-bind@openssh.com" => Self::Bind(Binding {
                host_key: reader.string()?,
                session: reader.string()?,
                signature: reader.string()?,
                forwarded: reader.byte()? != 0,
            }),
            EXTENSION => return Ok(Self::Extension),
            other => return Ok(Self::Other(other)),
        };
        reader.end()?;
        Ok(question)
    }
}

/// What a client is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// Keys, each with a comment.
    Identities(&'a [(Vec<u8>, String)]),
    /// A signature.
    Signature(&'a [u8]),
    /// Done.
    Success,
    /// Not done.
    Failure,
    /// An extension that is not known here.
    NoExtension,
}

impl Answer<'_> {
    /// The message with its length before it.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let writer = Writer::default();
        let message = match self {
            Self::Identities(keys) => {
                let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
                keys.iter().fold(writer.byte(IDENTITIES_ANSWER).number(count), |writer, (key, comment)| {
                    writer.string(key).string(comment.as_bytes())
                })
            }
            Self::Signature(signature) => writer.byte(SIGN_RESPONSE).string(signature),
            Self::Success => writer.byte(SUCCESS),
            Self::Failure => writer.byte(FAILURE),
            Self::NoExtension => writer.byte(EXTENSION_FAILURE),
        };
        Writer::default().string(&message.done()).done()
    }
}
