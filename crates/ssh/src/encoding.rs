//! Bytes as SSH writes them (RFC 4251 section 5).

/// Why bytes from outside are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// They end too soon.
    #[error("{0} is cut off")]
    Short(&'static str),
    /// Something follows that has no place.
    #[error("bytes follow after the end of {0}")]
    Long(&'static str),
    /// Text that is not UTF-8.
    #[error("{0} is no text")]
    Text(&'static str),
    /// A key of another kind, or none.
    #[error("the key is not of a kind that is known here (ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa)")]
    Kind,
    /// A signature by another algorithm than the key's.
    #[error("the signature is by an algorithm that the host's key does not have, or by SHA-1")]
    Algorithm,
    /// Not signed by this key.
    #[error("the signature is not by the host's key over this session")]
    Signature,
    /// A session's name of a length that no hash has.
    #[error("a session is named by 20 to 64 bytes, not by {0}")]
    Session(usize),
    /// The session was handed on to another host.
    #[error("the session is one that was forwarded")]
    Forwarded,
    /// What is to be signed is no login.
    #[error("what is to be signed is no request to log in by a public key")]
    NoLogin,
    /// The login is for another session than the one that the host signed.
    #[error("the login is for another session than the one that is bound")]
    OtherSession,
    /// The login names another host key than the one that signed.
    #[error("the login names another host's key than the one that signed the session")]
    OtherHost,
}

/// Reads one value after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads these bytes, which are `what`.
    #[must_use]
    pub fn new(left: &'a [u8], what: &'static str) -> Self {
        Self { left, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], SshError> {
        let (head, tail) = self.left.split_at_checked(count).ok_or(SshError::Short(self.what))?;
        self.left = tail;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, SshError> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Four bytes, the highest first.
    ///
    /// # Errors
    /// There are fewer.
    pub fn number(&mut self) -> Result<u32, SshError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Bytes with their length before them.
    ///
    /// # Errors
    /// There are fewer than the length says.
    pub fn string(&mut self) -> Result<&'a [u8], SshError> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| SshError::Short(self.what))?)
    }

    /// The same as text.
    ///
    /// # Errors
    /// There are fewer than the length says, or they are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, SshError> {
        str::from_utf8(self.string()?).map_err(|_| SshError::Text(self.what))
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&self) -> Result<(), SshError> {
        if self.is_empty() { Ok(()) } else { Err(SshError::Long(self.what)) }
    }
}

/// Writes one value after the other.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One byte.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Four bytes, the highest first.
    #[must_use]
    pub fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Bytes with their length before them.
    #[must_use]
    pub fn string(self, bytes: &[u8]) -> Self {
        // Nothing here comes near four gigabytes; what would is cut, and then does not verify.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut next = self.number(length);
        next.0.extend(bytes);
        next
    }

    /// What was written.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}
