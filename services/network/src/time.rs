//! The machine's clock: which servers are asked and when, and what is done for what they say.

use crate::config::{TIME_SERVERS_MAX, TimeConfig};
use crate::manager::Sources;
use octant_api::ledger::{Kind, TailRequest};
use octant_api::network::{TimeServer, TimeState, TimeStatus};
use octant_net::names::{Names, Want};
use octant_net::sntp::{self, Deed, Known, Sample, Wrong};
use octant_service::{Records, record};
use octant_sys::{clock, entropy};
use octant_wire::Client;
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Until the clock is known to be right it is asked about so often; then ever more seldom, up to the last.
const SOON: Duration = Duration::from_secs(16);
const FIRST: Duration = Duration::from_secs(64);
const LAST: Duration = Duration::from_secs(1024);
/// What a server says that wants to be asked more seldom.
const RATE: &str = "RATE";
/// How long one server may take.
const WAIT: Duration = Duration::from_secs(2);
/// How often nobody may answer before that is a trouble.
const PATIENCE: u32 = 4;
/// Among how many of the ledger's last entries the latest time is looked for: also those of the boot before.
const RECORDED: u64 = 256;

/// An operator's wish that the clock be set, and where the answer goes: by how many milliseconds it was, or why not.
pub(crate) type Word = oneshot::Sender<Result<i64, String>>;

/// What was said by whom.
type Said = Vec<(String, Result<Sample, Wrong>)>;

/// What can be done to a clock. A seam: tests put another one in its place.
pub(crate) trait Hands: Send + Sync {
    fn now_ns(&self) -> u64;
    fn set(&mut self, ns: u64) -> io::Result<()>;
    fn slew(&mut self, us: i64) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug)]
pub(crate) struct Machine;

impl Hands for Machine {
    fn now_ns(&self) -> u64 {
        clock::wall_ns()
    }

    fn set(&mut self, ns: u64) -> io::Result<()> {
        clock::set_wall(ns)
    }

    fn slew(&mut self, us: i64) -> io::Result<()> {
        clock::slew(us)
    }
}

/// The task.
pub(crate) struct Time {
    pub(crate) config: TimeConfig,
    pub(crate) sources: Arc<Sources>,
    pub(crate) records: Arc<Records>,
    pub(crate) ledger: Client,
    pub(crate) status: Arc<Mutex<TimeStatus>>,
    pub(crate) hands: Box<dyn Hands>,
    pub(crate) state: Course,
}

/// How it has gone so far.
#[derive(Debug, Default)]
pub(crate) struct Course {
    was_right: bool,
    refused: bool,
    silent: u32,
    /// Until the next look, and between looks while all is well.
    wait: Duration,
    every: Duration,
    /// Servers that do not want to be asked.
    gone: BTreeSet<String>,
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Time").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Time {
    /// Works until there is nobody left who could command it.
    pub(crate) async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        loop {
            // An error stands in the status; it is tried again.
            let _told = self.look(false).await;
            let sources = Arc::clone(&self.sources);
            let changed = async {
                sources.changed.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(self.state.wait) => {}
                () = changed => {}
                word = words.recv() => match word {
                    // Who asked and is gone needs no answer.
                    Some(answer) => drop(answer.send(self.look(true).await)),
                    None => return,
                },
            }
        }
    }

    /// Asks everybody once and does what follows; by how much the clock was changed.
    async fn look(&mut self, word: bool) -> Result<i64, String> {
        let (lent, name_servers) = self.sources.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut names = self.config.servers.clone();
        if names.is_empty() {
            names = lent.iter().map(IpAddr::to_string).take(TIME_SERVERS_MAX).collect();
        }
        names.retain(|name| !self.state.gone.contains(name));
        if names.is_empty() {
            self.state.wait = LAST;
            let why = if self.state.gone.is_empty() {
                None
            } else {
                Some("no server wants to be asked".to_owned())
            };
            self.tell(if why.is_some() { TimeState::Asking } else { TimeState::Off }, None, why, &Vec::new());
            return Err("there is no time server".into());
        }
        let asked = tokio::task::spawn_blocking(move || ask_all(&names, &name_servers)).await;
        let said = asked.map_err(|error| format!("ask the time servers: {error}"))?;
        self.take(&said, word).await
    }

    /// What follows from what was said.
    pub(crate) async fn take(&mut self, said: &Said, word: bool) -> Result<i64, String> {
        let rate = |(_, answer): &(String, Result<Sample, Wrong>)| matches!(answer, Err(Wrong::Kiss(code)) if code == RATE);
        let least = if said.iter().any(rate) { LAST } else { SOON };
        self.state.wait = least;
        for (name, answer) in said {
            if let Err(Wrong::Kiss(code)) = answer {
                tracing::warn!("{name} does not want to be asked: {code}");
                if code != RATE {
                    self.state.gone.insert(name.clone());
                }
            }
        }
        let good: Vec<Sample> = said.iter().filter_map(|(_, answer)| answer.as_ref().ok().copied()).collect();
        let Some(sample) = sntp::agreed(&good, said.len()) else {
            let why =
                if good.is_empty() { "no time server answers" } else { "the time servers do not agree" };
            self.state.silent += 1;
            let state = if self.state.was_right { TimeState::Right } else { TimeState::Asking };
            let trouble = (self.state.silent >= PATIENCE).then(|| why.to_owned());
            self.tell(state, None, trouble, said);
            return Err(why.to_owned());
        };
        self.state.silent = 0;
        let deed = self.decide(sample, word).await;
        let done = match &deed {
            Deed::Refuse(why) => self.refuse(why),
            Deed::Slew => {
                self.hands.slew(sample.offset_ns / 1_000).map_err(|error| format!("slew the clock: {error}"))
            }
            Deed::Step => self.step(sample, word).await,
        };
        let us = sample.offset_ns / 1_000;
        match done {
            Ok(()) => {
                self.state.wait = self.state.every.max(FIRST).max(least);
                self.state.every = (self.state.wait * 2).min(LAST);
                (self.state.was_right, self.state.refused) = (true, false);
                self.tell(TimeState::Right, Some(us), None, said);
                Ok(if deed == Deed::Step { us / 1_000 } else { 0 })
            }
            Err(why) => {
                self.tell(TimeState::Refused, Some(us), Some(why.clone()), said);
                Err(why)
            }
        }
    }

    async fn decide(&self, sample: Sample, word: bool) -> Deed {
        let mut known = Known {
            now_ns: self.hands.now_ns(),
            offset_ns: sample.offset_ns,
            recorded_ns: 0,
            most_ns: self.config.max_step_s.saturating_mul(1_000_000_000),
            was_right: self.state.was_right,
            word,
        };
        if word || sample.offset_ns.unsigned_abs() <= sntp::SLEW_NS {
            return sntp::decide(known);
        }
        match self.recorded_ns().await {
            Ok(ns) => known.recorded_ns = ns,
            Err(why) => {
                return Deed::Refuse(format!("the ledger does not say when its last entry was: {why}"));
            }
        }
        sntp::decide(known)
    }

    /// The latest time on record.
    async fn recorded_ns(&self) -> Result<u64, String> {
        let tail = TailRequest { last: RECORDED, ..TailRequest::default() };
        let mut entries = self.ledger.stream(&tail).await.map_err(|error| error.to_string())?;
        let mut latest = 0;
        while let Some(entry) = entries.next().await.map_err(|error| error.to_string())? {
            latest = latest.max(entry.wall_ms);
        }
        Ok(latest.saturating_mul(1_000_000))
    }

    /// Sets the clock: the intent is on record first.
    async fn step(&mut self, sample: Sample, word: bool) -> Result<(), String> {
        let before = self.hands.now_ns();
        let payload = json!({
            "clock": "set", "by_ms": sample.offset_ns / 1_000_000, "from_ms": before / 1_000_000,
            "why": if word { "an operator's word" } else { "the time servers agree" },
        });
        let (appended, all) = self.records.append(&[record(Kind::Intent, &payload)]).await;
        all.map_err(|error| format!("the clock is not set, because its intent is not on record: {error}"))?;
        // The offset holds for whenever it is applied: both clocks ran on meanwhile.
        let now = self.hands.now_ns();
        let to = now.saturating_add_signed(sample.offset_ns);
        let done = self.hands.set(to).map_err(|error| format!("set the clock: {error}"));
        let mut outcome = record(
            Kind::Outcome,
            &json!({"clock": "set", "to_ms": to / 1_000_000, "error": done.as_ref().err()}),
        );
        outcome.intent = appended.iter().flatten().next().map(|appended| appended.seq);
        self.records.later(outcome);
        tracing::info!("the clock was {} ms behind and is set", sample.offset_ns / 1_000_000);
        done
    }

    /// A refusal is on record once, until it was right again.
    fn refuse(&mut self, why: &str) -> Result<(), String> {
        (self.state.wait, self.state.every) = (FIRST, FIRST);
        if !std::mem::replace(&mut self.state.refused, true) {
            self.records.later(record(Kind::Config, &json!({"clock": "refused", "why": why})));
        }
        Err(why.to_owned())
    }

    fn tell(&self, state: TimeState, offset_us: Option<i64>, trouble: Option<String>, said: &Said) {
        let servers = said.iter().map(|(name, answer)| TimeServer {
            name: name.clone(),
            offset_us: answer.as_ref().ok().map(|sample| sample.offset_ns / 1_000),
            delay_us: answer.as_ref().ok().map(|sample| sample.delay_ns / 1_000),
            trouble: answer.as_ref().err().map(ToString::to_string),
        });
        let status = TimeStatus { state, offset_us, trouble, servers: servers.collect() };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Asks each of them, one after the other.
fn ask_all(servers: &[String], name_servers: &[IpAddr]) -> Said {
    let mut names = Names::of_servers(name_servers);
    (names.wait, names.tries) = (WAIT, 1);
    let one = |server: &String| -> Result<Sample, Wrong> {
        let found = names.addresses(server, Want::Any).map_err(io::Error::other)?;
        let ip = *found.first().ok_or_else(|| io::Error::other("it has no address"))?;
        let mut nonce = [0; 8];
        entropy::fill_seeded(&mut nonce)?;
        let nonce = u64::from_ne_bytes(nonce);
        sntp::ask(SocketAddr::from((ip, sntp::PORT)), nonce, WAIT, clock::wall_ns, clock::monotonic_ns)
    };
    servers.iter().map(|server| (server.clone(), one(server))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TimeConfig;

    const S: i64 = 1_000_000_000;
    const NOW: u64 = 1_782_864_000_000_000_000;

    #[derive(Debug, Default, PartialEq)]
    struct Done {
        set: Vec<u64>,
        slewed: Vec<i64>,
    }

    struct Fake(Arc<Mutex<Done>>);

    impl Hands for Fake {
        fn now_ns(&self) -> u64 {
            NOW
        }
        fn set(&mut self, ns: u64) -> io::Result<()> {
            self.0.lock().unwrap().set.push(ns);
            Ok(())
        }
        fn slew(&mut self, us: i64) -> io::Result<()> {
            self.0.lock().unwrap().slewed.push(us);
            Ok(())
        }
    }

    /// Without a ledger: what needs one is refused.
    fn time() -> (Time, Arc<Mutex<Done>>) {
        let done = Arc::default();
        let client = || Client::new("/nowhere/ledger.sock");
        let time = Time {
            config: TimeConfig::default(),
            sources: Arc::default(),
            records: Arc::new(Records::new(client())),
            ledger: client(),
            status: Arc::default(),
            hands: Box::new(Fake(Arc::clone(&done))),
            state: Course::default(),
        };
        (time, done)
    }

    fn said(offsets: &[i64]) -> Said {
        let one = |offset: &i64| Ok(Sample { offset_ns: *offset, delay_ns: 1_000_000, stratum: 2 });
        offsets.iter().enumerate().map(|(at, offset)| (format!("s{at}"), one(offset))).collect()
    }

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn a_little_is_slewed_and_what_the_ledger_does_not_know_of_is_not_done() {
        run(async {
            let (mut time, done) = time();
            assert_eq!(time.take(&said(&[S / 100]), false).await, Ok(0));
            assert_eq!(*done.lock().unwrap(), Done { set: vec![], slewed: vec![10_000] });
            assert_eq!(time.status.lock().unwrap().state, TimeState::Right);
            // Neither without its last entry's time, nor without its taking the intent.
            for word in [false, true] {
                let why = time.take(&said(&[60 * S]), word).await.unwrap_err();
                assert!(why.contains("ledger") || why.contains("record"), "{why}");
            }
            assert!(done.lock().unwrap().set.is_empty());
            let status = time.status.lock().unwrap().clone();
            assert!(status.state == TimeState::Refused && status.trouble.is_some(), "{status:?}");
            time.take(&said(&[60 * S]), false).await.unwrap_err();
            let left = time.records.left().waiting;
            assert_eq!(left.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [Kind::Config], "once");
        });
    }

    #[test]
    fn servers_that_disagree_are_not_believed_and_one_that_says_no_is_not_asked_again() {
        run(async {
            let (mut time, done) = time();
            let mut all = said(&[0, 50 * S]);
            all.push(("s2".into(), Err(Wrong::Kiss("DENY".into()))));
            for look in 1..=PATIENCE {
                assert!(time.take(&all, false).await.unwrap_err().contains("agree"));
                let status = time.status.lock().unwrap().clone();
                assert_eq!((status.state, status.trouble.is_some()), (TimeState::Asking, look == PATIENCE));
            }
            assert!(time.state.gone.contains("s2") && *done.lock().unwrap() == Done::default());
            let rate = vec![("s0".to_owned(), Err(Wrong::Kiss("RATE".into())))];
            time.take(&rate, false).await.unwrap_err();
            assert!(time.state.wait == LAST && !time.state.gone.contains("s0"));
        });
    }
}
