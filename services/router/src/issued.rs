//! Keys for programs outside of workstations. Who shows one is a caller of its own: with models, limits and records by its
//! name.
//!
//! A key has 260 bits of chance. So its SHA-256 is all that is kept, without the slowness that passwords want, and nobody
//! guesses one: what is bounded of wrong ones is the noise that they make.

use crate::agents::{Agent, lock};
use crate::core::{BadWord, Rights};
use crate::router::Router;
use hyper::header::{self, HeaderMap};
use octant_api::router::{IssueRequest, KeyRow};
use octant_ids::{Aid, Sha256};
use octant_service::{Denials, KeepError, read_kept, replace};
use octant_sys::{clock, entropy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use subtle::ConstantTimeEq as _;

/// How many keys there are at the most, and how long their names are.
const KEYS_MAX: usize = 256;
const NAME_MAX: usize = 64;
/// The longest file of them, in bytes.
const FILE_MAX: u64 = 8 << 20;
/// How a key begins, and how many digits of base 32 follow.
const BEGINS: &str = "octk_";
const DIGITS: usize = 52;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// How many wrong keys of one address are answered as such in a minute, and how many addresses are told apart.
const WRONG_MAX: u32 = 10;
const ADDRESSES_MAX: usize = 1024;
const MINUTE_MS: u64 = 60_000;

/// A key as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: Sha256,
    issued_ms: u64,
    until_ms: Option<u64>,
    issued: IssueRequest,
}

impl Entry {
    fn good(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }

    /// A number that no agent and no operator has, and no other key: an agent's begins with its time, an operator's has only
    /// its last four bytes.
    fn account(&self) -> Aid {
        let mut aid = [0; 16];
        aid[6] = 1;
        aid[8..].copy_from_slice(&self.sha256.0[..8]);
        Aid::from_bytes(aid)
    }
}

#[derive(Debug)]
struct Row {
    entry: Entry,
    agent: Arc<Agent>,
}

/// Why no key is made, or none is taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKey {
    #[error("{0:?} is no name for a key: write up to {NAME_MAX} of a-z, 0-9, '-', '_' and '.'")]
    Name(String),
    #[error("there is a key {0} already: revoke it, or take another name")]
    Taken(String),
    #[error("no key is named {0}; octant router key list")]
    Unknown(String),
    #[error("there are {KEYS_MAX} keys, as many as can be: revoke one")]
    Full,
    #[error("a key without a model is good for nothing: name some")]
    NoModel,
    #[error("{0}")]
    Word(BadWord),
    #[error("its time would be over at once")]
    Ttl,
    #[error("the kernel gives no chance yet: {0}; try again")]
    Chance(io::Error),
    #[error("nothing is issued that cannot be put on record: {0}")]
    Record(String),
    #[error("{0}")]
    Keep(KeepError),
    #[error("the keys that there are could not be read, and are not written over: {0}")]
    Unread(String),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Why a request from outside is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It shows no key, or two that differ.
    None,
    /// None that is good.
    Bad,
    /// The same, more often than it is listened to.
    Often,
}

/// Wrong keys of this minute, by address.
#[derive(Debug, Default)]
struct Tries {
    minute: u64,
    by: BTreeMap<IpAddr, u32>,
}

impl Tries {
    /// One more; whether there were too many.
    fn add(&mut self, from: IpAddr, now_ms: u64) -> bool {
        if self.minute != now_ms / MINUTE_MS {
            *self = Self { minute: now_ms / MINUTE_MS, by: BTreeMap::new() };
        }
        let mut from = of_network(from);
        if self.by.len() >= ADDRESSES_MAX && !self.by.contains_key(&from) {
            from = Ipv4Addr::UNSPECIFIED.into();
        }
        let count = self.by.entry(from).or_default();
        *count = count.saturating_add(1);
        *count > WRONG_MAX
    }
}

/// Who has one address of IPv6 has all of its /64.
fn of_network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// All keys.
#[derive(Debug)]
pub(crate) struct Keyring {
    path: PathBuf,
    rows: Mutex<Vec<Row>>,
    /// Why the file is not read; then nobody is let in, and it is not written over.
    fault: Option<String>,
    /// Held by who changes them.
    turn: tokio::sync::Mutex<()>,
    tries: Mutex<Tries>,
    denials: Mutex<Denials>,
}

fn made() -> io::Result<String> {
    let mut random = [0; DIGITS];
    entropy::fill_seeded(&mut random)?;
    let digits = random.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    Ok(BEGINS.chars().chain(digits).collect())
}

fn digest(key: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(key).into())
}

/// The key that a request shows, in any of the headers that SDKs have for theirs.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let others = ["x-api-key", "api-key"].into_iter().flat_map(|name| headers.get_all(name));
    let mut all = bearer.chain(others.map(|value| Some(value.as_bytes().trim_ascii())));
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

fn check(asked: &IssueRequest) -> Result<(), NoKey> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if asked.name.is_empty() || asked.name.len() > NAME_MAX || !asked.name.bytes().all(fits) {
        return Err(NoKey::Name(asked.name.chars().take(NAME_MAX).collect()));
    }
    if asked.models.is_empty() {
        return Err(NoKey::NoModel);
    }
    if asked.ttl_ms == Some(0) { Err(NoKey::Ttl) } else { Ok(()) }
}

impl Keyring {
    /// With the keys that were issued before.
    pub(crate) fn open(path: PathBuf, agents: &crate::agents::Agents) -> Self {
        let (rows, fault) = match Self::rows(&path, agents) {
            Ok(rows) => (rows, None),
            Err(why) => {
                let why = format!("{}: {why}", path.display());
                tracing::error!("nobody is let in with a key: {why}");
                (Vec::new(), Some(why))
            }
        };
        let (turn, tries, denials) = Default::default();
        Self { path, rows: Mutex::new(rows), fault, turn, tries, denials }
    }

    fn rows(path: &Path, agents: &crate::agents::Agents) -> Result<Vec<Row>, String> {
        let row = |entry: Entry| {
            let rights = Rights::of_key(&entry.issued).map_err(|error| error.to_string())?;
            Ok(Row { agent: agents.keyed(entry.account(), &entry.issued.name, rights), entry })
        };
        let kept: Vec<Entry> = read_kept(path, FILE_MAX).map_err(|error| error.to_string())?;
        kept.into_iter().map(row).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.rows).len()
    }

    /// All of them, without themselves.
    pub(crate) fn list(&self) -> Vec<KeyRow> {
        let row = |row: &Row| KeyRow {
            issued: row.entry.issued.clone(),
            issued_ms: row.entry.issued_ms,
            until_ms: row.entry.until_ms,
            open: row.agent.show().open,
        };
        lock(&self.rows).iter().map(row).collect()
    }

    /// Who shows a key. Every key that there is is compared, each in the same time.
    pub(crate) fn find(&self, headers: &HeaderMap, from: IpAddr) -> Result<Arc<Agent>, Wrong> {
        let (now, key) = (clock::wall_ms(), shown(headers));
        let is = digest(key.unwrap_or_default());
        let mut found = None;
        for row in lock(&self.rows).iter() {
            if bool::from(row.entry.sha256.0.ct_eq(&is.0)) && row.entry.good(now) {
                found = Some(Arc::clone(&row.agent));
            }
        }
        // Who has a good one is let in, whatever others at its address try.
        if let Some(agent) = found.filter(|_| key.is_some()) {
            return Ok(agent);
        }
        if lock(&self.tries).add(from, now) {
            return Err(Wrong::Often);
        }
        Err(if key.is_some() { Wrong::Bad } else { Wrong::None })
    }

    /// Records who was not let in: once, and then as a count.
    pub(crate) fn refused(&self, router: &Router, from: IpAddr) {
        let from = of_network(from).to_string();
        if lock(&self.denials).add(from.clone()) {
            let payload =
                json!({"do": "ask a model", "denied": "it shows no key that is good", "from": from});
            router.book.decided(None, &payload);
        }
    }

    /// Records whom that was said to again.
    pub(crate) fn tell_again(&self, router: &Router) {
        let again = lock(&self.denials).again();
        if !again.is_empty() {
            let payload = json!({"do": "ask a model", "denied": "no good key, again", "times": again});
            router.book.decided(None, &payload);
        }
    }

    /// Makes a key, on record before it is good.
    pub(crate) async fn issue(
        &self,
        router: &Router,
        by: &str,
        asked: IssueRequest,
    ) -> Result<String, NoKey> {
        let _turn = self.turn.lock().await;
        check(&asked)?;
        if let Some(why) = &self.fault {
            return Err(NoKey::Unread(why.clone()));
        }
        let rights = Rights::of_key(&asked).map_err(NoKey::Word)?;
        let mut entries: Vec<Entry> = lock(&self.rows).iter().map(|row| row.entry.clone()).collect();
        if entries.iter().any(|entry| entry.issued.name == asked.name) {
            return Err(NoKey::Taken(asked.name));
        }
        if entries.len() >= KEYS_MAX {
            return Err(NoKey::Full);
        }
        let key = made().map_err(NoKey::Chance)?;
        let now = clock::wall_ms();
        let until_ms = asked.ttl_ms.map(|ttl| now.saturating_add(ttl));
        let entry = Entry { sha256: digest(key.as_bytes()), issued_ms: now, until_ms, issued: asked };
        let what = json!({"do": "issue a key", "by": by, "key": entry.issued, "until_ms": until_ms});
        let intent = router.book.intent(None, what).await.map_err(NoKey::Record)?;
        entries.push(entry.clone());
        let kept = self.keep(entries).await;
        let why = kept.as_ref().err().map(ToString::to_string);
        router.book.outcome(None, intent, &json!({"done": kept.is_ok(), "why": why}));
        kept?;
        let agent = router.agents.keyed(entry.account(), &entry.issued.name, rights);
        lock(&self.rows).push(Row { entry, agent });
        Ok(key)
    }

    /// Takes a key back: what is under way with it is cut first; how many calls that were.
    pub(crate) async fn revoke(&self, router: &Router, by: &str, name: &str) -> Result<u64, NoKey> {
        let _turn = self.turn.lock().await;
        let gone = self.take(|entry| entry.issued.name == name);
        let Some(row) = gone.first() else {
            return Err(NoKey::Unknown(name.chars().take(NAME_MAX).collect()));
        };
        let cut = self.end(router, row, json!({"by": by}));
        self.keep_all().await?;
        Ok(cut)
    }

    /// Takes back those whose time is over; whether there were any.
    pub(crate) async fn sweep(&self, router: &Router) -> bool {
        let now = clock::wall_ms();
        if lock(&self.rows).iter().all(|row| row.entry.good(now)) {
            return false;
        }
        let _turn = self.turn.lock().await;
        for row in self.take(|entry| !entry.good(now)) {
            self.end(router, &row, json!({"why": "its time is over"}));
        }
        if let Err(error) = self.keep_all().await {
            // It is good for nothing by its time, wherever it stands.
            tracing::warn!("a key whose time is over stays in the file: {error}");
        }
        true
    }

    fn take(&self, which: impl Fn(&Entry) -> bool) -> Vec<Row> {
        lock(&self.rows).extract_if(.., |row| which(&row.entry)).collect()
    }

    /// Cuts what is under way with a key, and says so on record.
    fn end(&self, router: &Router, row: &Row, mut what: serde_json::Value) -> u64 {
        let cut = row.agent.show().open;
        row.agent.end();
        router.forget(&row.agent);
        what["do"] = json!("revoke a key");
        (what["key"], what["cut"]) = (json!(row.entry.issued.name), json!(cut));
        router.book.decided(None, &what);
        router.book.hurry();
        cut
    }

    async fn keep_all(&self) -> Result<(), NoKey> {
        let entries = lock(&self.rows).iter().map(|row| row.entry.clone()).collect();
        self.keep(entries).await
    }

    async fn keep(&self, entries: Vec<Entry>) -> Result<(), NoKey> {
        let (path, text) = (self.path.clone(), json!(entries).to_string());
        let kept = tokio::task::spawn_blocking(move || replace(&path, text.as_bytes(), true)).await?;
        kept.map_err(NoKey::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_shown_in_one_way() {
        let key = Some(&b"octk_a"[..]);
        for one in
            [("authorization", "Bearer octk_a"), ("authorization", "bEARER  octk_a"), ("x-api-key", "octk_a")]
        {
            assert_eq!(shown(&headers(&[one])), key, "{one:?}");
        }
        assert_eq!(shown(&headers(&[("api-key", "octk_a"), ("authorization", "Bearer octk_a")])), key);
        for other in [
            &[][..],
            &[("authorization", "Basic octk_a")],
            &[("authorization", "octk_a")],
            &[("x-api-key", "octk_a"), ("x-api-key", "octk_b")],
            &[("x-api-key", "octk_a"), ("authorization", "Bearer octk_b")],
            &[("authorization", "Basic x"), ("x-api-key", "octk_a")],
        ] {
            assert_eq!(shown(&headers(other)), None, "{other:?}");
        }
    }

    #[test]
    fn wrong_keys_are_counted_by_network_and_minute() {
        let mut tries = Tries::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 1..=2 * WRONG_MAX {
            let address = of(&format!("2001:db8::{n:x}"));
            assert_eq!(tries.add(address, 5), n > WRONG_MAX, "{n}");
        }
        assert!(!tries.add(of("192.0.2.1"), 5), "another is another");
        assert!(!tries.add(of("2001:db8::1"), MINUTE_MS), "and the next minute is new");
        for n in 0..10_000_u32 {
            tries.add(Ipv4Addr::from_bits(n).into(), MINUTE_MS);
        }
        assert!(tries.by.len() <= ADDRESSES_MAX + 1);
        assert!(tries.add(of("203.0.113.9"), MINUTE_MS), "who is told apart from nobody is one of many");
    }

    #[test]
    fn keys_are_long_and_none_is_another() {
        let (one, other) = (made().unwrap(), made().unwrap());
        assert!(one != other && one.len() == BEGINS.len() + DIGITS && one.starts_with(BEGINS), "{one}");
    }
}
