//! Secrets as grants: which, how, and for which host.

use crate::host::{HostName, HostPattern};
use crate::pattern::{Pattern, PatternError};
use crate::place::Place;
use octant_ids::SecretName;
use octant_ssh::Fingerprint;
use std::fmt;
use std::str::FromStr;

const GRANT: &str = "\"use SECRET at HOST\", the same with \"in PLACE\", \"ssh SECRET to USER@HOST:PORT key SHA256:...\", \"postgres SECRET to USER@HOST:PORT/DATABASE\", \"sign SECRET\" or \"reveal SECRET\"";
/// The longest name of a user at a host, or of a database, in bytes; Linux has 32, PostgreSQL 63.
const NAME_MAX: usize = 64;

/// One way to use one secret: `use prod/github at api.github.com`, `use prod/upload at files.example.org in basic ada`,
/// `ssh prod/deploy to git@git.example.org:22 key SHA256:...`, `postgres prod/db to app@db.example.org:5432/sales`, `sign prod/key`,
/// `reveal prod/token`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialGrant {
    /// Which secret.
    pub secret: SecretName,
    /// How.
    pub way: Way,
}

/// What is done with a secret, in the vault's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A service uses the value for the agent towards this host, in this place; the agent never sees it.
    Use(HostPattern, Place),
    /// The vault signs logins over SSH to this host, and nothing else.
    Ssh(SshLogin),
    /// The gate logs in to a PostgreSQL database with it as the password; the agent never sees it.
    Postgres(DatabaseLogin),
    /// The vault signs with it.
    Sign,
    /// The agent sees the value.
    Reveal,
}

/// Where a key pair logs in over SSH: as whom, at which host, known by which key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SshLogin {
    /// The user's name at the host.
    pub user: String,
    /// The host.
    pub host: HostName,
    /// On which port.
    pub port: u16,
    /// The host's key: what a login is held to, whatever the name leads to.
    pub key: Fingerprint,
}

/// Where a password logs in to a PostgreSQL database: as whom, at which host, to which database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseLogin {
    /// The user's name (a role that may log in).
    pub user: String,
    /// The host.
    pub host: HostName,
    /// On which port.
    pub port: u16,
    /// To which database; none is any that the server lets the user into.
    pub database: Option<String>,
}

/// Whether a text is a name as users and databases have it here. What is written in no other way needs no quoting.
fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(legal)
}

/// The parts of `USER@HOST:PORT`.
fn user_at(text: &str, to: &str) -> Result<(String, HostName, u16), PatternError> {
    let refuse = |why| PatternError::new(text, why, GRANT);
    let (user, host) = to.split_once('@').ok_or_else(|| refuse("the user's name at the host is missing"))?;
    if !is_name(user) {
        return Err(refuse("a user's name is 1 to 64 letters, digits, dots, - and _"));
    }
    let (host, port) = host.rsplit_once(':').ok_or_else(|| refuse("the port is missing"))?;
    let bad = port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| !bad);
    let port = port.ok_or_else(|| refuse("the port is not a number from 1 to 65535"))?;
    Ok((user.to_owned(), host.parse()?, port))
}

impl SshLogin {
    fn parse(text: &str, to: &str, key: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, GRANT);
        let (user, host, port) = user_at(text, to)?;
        let key = key.parse().map_err(|_| refuse("the host's key is what `ssh-keygen -l -f FILE` prints"))?;
        Ok(Self { user, host, port, key })
    }
}

impl DatabaseLogin {
    /// Whether it is for this user and this database.
    #[must_use]
    pub fn admits(&self, user: &str, database: &str) -> bool {
        self.user == user && self.database.as_deref().is_none_or(|only| only == database)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let database = match (&self.database, &other.database) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let whole = Self { database, ..self.clone() };
        ((&self.user, &self.host, self.port) == (&other.user, &other.host, other.port)).then_some(whole)
    }
}

impl FromStr for DatabaseLogin {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, GRANT);
        let (at, database) = text.split_once('/').ok_or_else(|| refuse("the database is missing"))?;
        let (user, host, port) = user_at(text, at)?;
        let database = (database != "*").then(|| database.to_owned());
        if database.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(refuse("a database's name is 1 to 64 letters, digits, dots, - and _, or * for any"));
        }
        Ok(Self { user, host, port, database })
    }
}

impl fmt::Display for DatabaseLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database } = self;
        write!(f, "{user}@{host}:{port}/{}", database.as_deref().unwrap_or("*"))
    }
}

impl fmt::Display for SshLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, key } = self;
        write!(f, "{user}@{host}:{port} key {key}")
    }
}

impl Pattern for CredentialGrant {
    fn meet(&self, other: &Self) -> Option<Self> {
        let way = match (&self.way, &other.way) {
            // A place is whole or not at all: none is part of another.
            (Way::Use(a, here), Way::Use(b, there)) if here == there => Way::Use(a.meet(b)?, here.clone()),
            (Way::Ssh(a), Way::Ssh(b)) if a == b => Way::Ssh(a.clone()),
            (Way::Postgres(a), Way::Postgres(b)) => Way::Postgres(a.meet(b)?),
            (Way::Sign, Way::Sign) => Way::Sign,
            (Way::Reveal, Way::Reveal) => Way::Reveal,
            _ => return None,
        };
        (self.secret == other.secret).then(|| Self { secret: self.secret.clone(), way })
    }
}

impl FromStr for CredentialGrant {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, GRANT);
        let (grant, place) = match text.split_once(" in ") {
            // What stands after the word is a place, and there is one.
            Some((_, "")) => return Err(refuse("the place is missing in which the secret is put")),
            Some((grant, place)) => (grant, Some(place)),
            None => (text, None),
        };
        let words: Vec<&str> = grant.split(' ').collect();
        let (secret, way) = match words[..] {
            ["use", secret, "at", host] => {
                (secret, Way::Use(host.parse()?, place.unwrap_or_default().parse()?))
            }
            _ if place.is_some() => return Err(refuse("only what is used at a host is put in a place")),
            ["use", ..] => return Err(refuse("the host is missing for which the secret may be used")),
            ["ssh", secret, "to", to, "key", key] => (secret, Way::Ssh(SshLogin::parse(text, to, key)?)),
            ["ssh", ..] => return Err(refuse("user, host, port or the host's key are missing")),
            ["postgres", secret, "to", to] => (secret, Way::Postgres(to.parse()?)),
            ["postgres", ..] => return Err(refuse("user, host, port or database are missing")),
            ["sign", secret] => (secret, Way::Sign),
            ["reveal", secret] => (secret, Way::Reveal),
            _ => return Err(refuse("it is not a way to use a secret")),
        };
        let secret = secret.parse().map_err(|_| refuse("the vault has no names of this form"))?;
        Ok(Self { secret, way })
    }
}

impl fmt::Display for CredentialGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret.as_str();
        match &self.way {
            Way::Use(host, Place::Usual) => write!(f, "use {secret} at {host}"),
            Way::Use(host, place) => write!(f, "use {secret} at {host} in {place}"),
            Way::Ssh(login) => write!(f, "ssh {secret} to {login}"),
            Way::Postgres(login) => write!(f, "postgres {secret} to {login}"),
            Way::Sign => write!(f, "sign {secret}"),
            Way::Reveal => write!(f, "reveal {secret}"),
        }
    }
}
