//! From the texts of a file's changes to what they come to, quickly: a start waits for it. Pure.

use crate::format;
use crate::state::{LeaseRecord, Misfit, Now, Op, State};
use octant_api::vault::{GrantInfo, Mode, SecretInfo};
use octant_ids::{Principal, SecretName, Sha256};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;
use std::fmt;

/// Why a change cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadingError {
    /// Its text is no change's.
    #[error("{}", format::told(.0))]
    Text(#[from] serde_json::Error),
    /// It does not fit what is there.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// It makes a lease last longer that was left out because it had ended: everything has to be read with those.
    #[error("a lease that had ended lasts longer")]
    Again,
}

/// What the changes of a file come to so far.
#[derive(Debug)]
pub(crate) struct Reading {
    state: State,
    /// Leases that have ended by then are left out.
    by: Option<Now>,
    left_out: HashSet<Sha256>,
}

impl Reading {
    pub(crate) fn new(boot: &str, by: Option<Now>) -> Self {
        Self { state: State::unsettled(boot), by, left_out: HashSet::new() }
    }

    /// Takes the next change, with the sealed value beside it.
    pub(crate) fn take(&mut self, text: &[u8], value: &[u8]) -> Result<(), ReadingError> {
        let known = std::str::from_utf8(text).ok().and_then(|text| serde_json::from_str(text).ok());
        let op = match known {
            Some(Known::Op(op)) => op,
            Some(Known::Lease(lease)) => return self.take_lease(lease),
            // The exact answer, and the changes of which a file has few.
            None => serde_json::from_slice(text)?,
        };
        if let Op::Extend { token, until_ns } = &op
            && self.left_out.contains(token)
            && !self.has_ended(*until_ns)
        {
            return Err(ReadingError::Again);
        }
        Ok(self.state.apply(op, value)?)
    }

    /// Everything has been taken.
    pub(crate) fn end(mut self) -> State {
        self.state.settle();
        if let Some(by) = self.by {
            self.state.expire(by, usize::MAX);
        }
        self.state
    }

    fn has_ended(&self, until_ns: Option<u64>) -> bool {
        let by = self.by.map(|by| by.boot_ns);
        by.zip(until_ns).is_some_and(|(by, until)| until <= by)
    }

    /// Most leases of a file have ended, or are of another boot: those cost a look and nothing more.
    fn take_lease(&mut self, lease: LeaseText<'_>) -> Result<(), ReadingError> {
        let LeaseText { token, holder, cgroup, name, mode, grant, boot, until_ns, last_ns } = lease;
        if boot != self.state.boot() {
            return Ok(());
        }
        if self.has_ended(until_ns) {
            self.left_out.insert(token);
            self.state.drop_lease(token);
            return Ok(());
        }
        let (cgroup, boot) = (cgroup.map(str::to_owned), boot.to_owned());
        let lease = LeaseRecord { token, holder, cgroup, name, mode, grant, boot, until_ns, last_ns };
        Ok(self.state.apply(Op::Lease { lease }, &[])?)
    }
}

/// The changes of which a file has many, as this program writes them: `op` comes first, so that the members behind it are
/// read as what they are. Wherever else it stands, all of them have to be kept until it is found, which takes several times
/// as long; that is done for everything that this does not know.
enum Known<'a> {
    Op(Op),
    Lease(LeaseText<'a>),
}

/// A [`LeaseRecord`], without a copy of its texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseText<'a> {
    token: Sha256,
    holder: Principal,
    #[serde(default)]
    cgroup: Option<&'a str>,
    name: SecretName,
    mode: Mode,
    grant: u64,
    boot: &'a str,
    #[serde(default)]
    until_ns: Option<u64>,
    #[serde(default)]
    last_ns: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretMembers {
    secret: SecretInfo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueMembers {
    name: SecretName,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantMembers {
    grant: GrantInfo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseMembers<'a> {
    #[serde(borrow)]
    lease: LeaseText<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Known<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KnownVisitor)
    }
}

struct KnownVisitor;

impl<'de> Visitor<'de> for KnownVisitor {
    type Value = Known<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a change whose first member is op")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Known<'de>, A::Error> {
        if map.next_key::<&str>()? != Some("op") {
            return Err(de::Error::custom("another member is first"));
        }
        let op = map.next_value::<&str>()?;
        let members = MapAccessDeserializer::new(map);
        Ok(match op {
            "secret" => {
                let SecretMembers { secret } = SecretMembers::deserialize(members)?;
                Known::Op(Op::Secret { secret })
            }
            "value" => {
                let ValueMembers { name, version } = ValueMembers::deserialize(members)?;
                Known::Op(Op::Value { name, version })
            }
            "grant" => {
                let GrantMembers { grant } = GrantMembers::deserialize(members)?;
                Known::Op(Op::Grant { grant })
            }
            "lease" => Known::Lease(LeaseMembers::deserialize(members)?.lease),
            _ => return Err(de::Error::custom("a file has few of those")),
        })
    }
}

#[cfg(test)]
mod tests;
