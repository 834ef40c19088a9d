//! Mailboxes: what waits for each agent. Pure; the service records a message before it gives it here.
//!
//! Everything that changes a mailbox is a [`Line`]; whoever plays a mailbox's lines again has the same mailbox. The
//! service keeps each line before it answers whoever caused it.
//!
//! An agent has one mailbox for all its rooms. A message goes to everybody in its room but its sender, stays until its
//! receiver says that it was read, and is pushed out by newer ones before a mailbox grows beyond its bounds: who does not
//! read cannot keep the others from writing. Nothing is kept of an agent that has ended.

pub(crate) mod kept;

use octant_api::agent::{Body, Message, Received};
use octant_ids::Aid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The longest body, in bytes.
pub(crate) const BODY_MAX: usize = 16 << 10;
/// The longest kind.
const KIND_MAX: usize = 64;
/// How many messages of one room wait in a mailbox.
pub(crate) const ROOM_MAX: usize = 64;
/// How many bytes of messages wait in a mailbox, as they are on the wire; less than fits in an answer.
pub(crate) const BYTES_MAX: usize = 256 << 10;

/// A message that is on record and not yet delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Letter {
    pub(crate) seq: u64,
    pub(crate) room: String,
    pub(crate) from: Aid,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) sent_ms: u64,
    pub(crate) body: Body,
}

impl Letter {
    fn numbered(&self, cursor: u64) -> Message {
        let Self { seq, room, from, name, kind, sent_ms, body } = self.clone();
        Message { cursor, seq, room, from, name, kind, sent_ms, body }
    }

    /// Its length on the wire, with the longest cursor.
    pub(crate) fn weight(&self) -> usize {
        // Text, numbers and JSON that was read: there is nothing in it that JSON cannot say.
        serde_json::to_string(&self.numbered(u64::MAX)).map_or(BYTES_MAX, |text| text.len())
    }
}

/// What happened to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Line {
    /// It is as this says, whatever it was before.
    Is {
        /// The number of the next message.
        next: u64,
        lost: u64,
        restarted: bool,
        /// What waits, with its numbers; oldest first.
        waiting: Vec<(u64, Letter)>,
    },
    /// A message came.
    Put(Letter),
    /// Its agent has read everything up to this number, and what was lost was told.
    Read(u64),
}

/// What is wrong with a message before anybody is asked.
pub(crate) fn flaw(kind: &str, body: &Body) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if kind.is_empty() || kind.len() > KIND_MAX || !kind.chars().all(fits) {
        return Some("the kind is not 1 to 64 characters of a-z, 0-9 and . _ -".to_owned());
    }
    let bytes = body.text().len();
    (bytes > BODY_MAX).then(|| format!("the body has {bytes} bytes, more than {BODY_MAX}"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mailbox {
    rooms: BTreeSet<String>,
    /// What waits, with its number and its length on the wire; oldest first.
    waiting: VecDeque<(u64, usize, Arc<Letter>)>,
    bytes: usize,
    /// The number of the next one.
    next: u64,
    lost: u64,
    restarted: bool,
}

impl Mailbox {
    fn new(rooms: BTreeSet<String>, first: u64, restarted: bool) -> Self {
        let (waiting, bytes, lost) = (VecDeque::new(), 0, 0);
        Self { rooms, waiting, bytes, next: first.max(1), lost, restarted }
    }

    fn is(&self) -> Line {
        let Self { rooms: _, waiting, bytes: _, next, lost, restarted } = self;
        let waiting = waiting.iter().map(|(number, _, letter)| (*number, Letter::clone(letter))).collect();
        Line::Is { next: *next, lost: *lost, restarted: *restarted, waiting }
    }

    fn play(&mut self, line: Line) {
        match line {
            Line::Is { next, lost, restarted, waiting } => {
                (self.next, self.lost, self.restarted, self.bytes) = (next, lost, restarted, 0);
                let weighed = |(number, letter): (u64, Letter)| (number, letter.weight(), Arc::new(letter));
                self.waiting = waiting.into_iter().map(weighed).collect();
                self.bytes = self.waiting.iter().map(|(_, weight, _)| weight).sum();
            }
            Line::Put(letter) => {
                let weight = letter.weight();
                self.put(&Arc::new(letter), weight);
            }
            Line::Read(after) => self.read(after),
        }
    }

    /// Whether anything changes when its agent has read everything up to there.
    fn changes(&self, after: u64) -> bool {
        let read = self.waiting.front().is_some_and(|(number, ..)| *number <= after && after < self.next);
        read || self.lost > 0
    }

    fn read(&mut self, after: u64) {
        self.lost = 0;
        // A cursor that was never given out takes nothing out: what it means is not known.
        if after >= self.next {
            return;
        }
        while let Some((number, weight, _)) = self.waiting.front()
            && *number <= after
        {
            self.bytes -= weight;
            self.waiting.pop_front();
            self.restarted = false;
        }
    }

    fn put(&mut self, letter: &Arc<Letter>, weight: usize) {
        self.waiting.push_back((self.next, weight, Arc::clone(letter)));
        self.next += 1;
        self.bytes += weight;
        let of_room = |other: &(u64, usize, Arc<Letter>)| other.2.room == letter.room;
        if self.waiting.iter().filter(|other| of_room(other)).count() > ROOM_MAX
            && let Some(oldest) = self.waiting.iter().position(of_room)
        {
            self.push_out(oldest);
        }
        while self.bytes > BYTES_MAX {
            self.push_out(0);
        }
    }

    fn push_out(&mut self, at: usize) {
        let Some((_, weight, _)) = self.waiting.remove(at) else { return };
        self.bytes -= weight;
        self.lost += 1;
    }
}

/// The mailbox of every agent that has one.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes(BTreeMap<Aid, Mailbox>);

impl Mailboxes {
    /// Gives an agent a mailbox. Its messages are numbered from `first`, which has to be more than any number that the
    /// agent was ever given.
    pub(crate) fn open(&mut self, agent: Aid, rooms: BTreeSet<String>, first: u64, restarted: bool) {
        self.0.insert(agent, Mailbox::new(rooms, first, restarted));
    }

    /// Gives an agent the mailbox that these lines make.
    pub(crate) fn open_again(&mut self, agent: Aid, rooms: BTreeSet<String>, lines: Vec<Line>) {
        let mut mailbox = Mailbox::new(rooms, 1, false);
        lines.into_iter().for_each(|line| mailbox.play(line));
        self.0.insert(agent, mailbox);
    }

    /// What a mailbox is, as a line.
    pub(crate) fn is(&self, agent: Aid) -> Option<Line> {
        self.0.get(&agent).map(Mailbox::is)
    }

    /// Whether anything of a mailbox changes when its agent says that it has read everything up to there.
    pub(crate) fn changes(&self, agent: Aid, after: u64) -> bool {
        self.0.get(&agent).is_some_and(|mailbox| mailbox.changes(after))
    }

    /// Takes it away with everything in it.
    pub(crate) fn close(&mut self, agent: Aid) {
        self.0.remove(&agent);
    }

    /// Whether an agent has a mailbox.
    pub(crate) fn has(&self, agent: Aid) -> bool {
        self.0.contains_key(&agent)
    }

    /// Whether an agent is in a room.
    pub(crate) fn is_in(&self, agent: Aid, room: &str) -> bool {
        self.0.get(&agent).is_some_and(|mailbox| mailbox.rooms.contains(room))
    }

    /// Who would get a message in a room from an agent.
    pub(crate) fn receivers(&self, from: Aid, room: &str) -> Vec<Aid> {
        let others = self.0.iter().filter(|(aid, mailbox)| **aid != from && mailbox.rooms.contains(room));
        others.map(|(aid, _)| *aid).collect()
    }

    /// Puts a message into a mailbox, if it is still there.
    pub(crate) fn put(&mut self, agent: Aid, letter: &Arc<Letter>, weight: usize) {
        if let Some(mailbox) = self.0.get_mut(&agent) {
            mailbox.put(letter, weight);
        }
    }

    /// Counts a message that could not be put in.
    pub(crate) fn lose(&mut self, agent: Aid) {
        if let Some(mailbox) = self.0.get_mut(&agent) {
            mailbox.lost += 1;
        }
    }

    /// Takes out what came up to `after`, and gives everything that waits; nothing for an agent without a mailbox.
    pub(crate) fn receive(&mut self, agent: Aid, after: u64) -> Received {
        let Some(mailbox) = self.0.get_mut(&agent) else { return Received::default() };
        let lost = mailbox.lost;
        mailbox.read(after);
        let messages: Vec<Message> =
            mailbox.waiting.iter().map(|(number, _, letter)| letter.numbered(*number)).collect();
        let cursor = messages.last().map_or(after, |last| last.cursor);
        Received { messages, cursor, lost, restarted: mailbox.restarted }
    }
}

/// Reads bytes as a play of three agents, one step a line: `N open ROOM...`, `N restart ROOM...`, `N close`,
/// `N send SEND-REQUEST`, `N receive CURSOR`; other lines are passed over. Says how many were steps.
///
/// # Panics
/// When a mailbox is another after its lines were played again, is beyond its bounds, or a message is out of order, comes again after it was read, or reaches its
/// sender or somebody outside its room.
pub fn fuzz_mailbox(bytes: &[u8]) -> usize {
    let (mut boxes, mut read, mut seq, mut steps) = (Mailboxes::default(), BTreeMap::new(), 0_u64, 0);
    let mut lines: BTreeMap<Aid, Vec<Line>> = BTreeMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(who), Some(what)) = (words.next().and_then(|n| n.parse::<u8>().ok()), words.next()) else {
            continue;
        };
        let (agent, rest) = (Aid::new(u64::from(who % 3) + 1, [0; 10]), words.next().unwrap_or_default());
        steps += 1;
        match what {
            "restart" if boxes.has(agent) => {
                let before = boxes.0.get(&agent).cloned();
                let rooms = before.as_ref().map(|mailbox| mailbox.rooms.clone()).unwrap_or_default();
                boxes.open_again(agent, rooms, lines.get(&agent).cloned().unwrap_or_default());
                assert_eq!(boxes.0.get(&agent), before.as_ref(), "its lines make another mailbox");
            }
            "open" | "restart" => {
                let rooms = rest.split_whitespace().map(str::to_owned).collect();
                boxes.open(agent, rooms, read.get(&agent).map_or(1, |last| last + 1), what == "restart");
                lines.insert(agent, boxes.is(agent).into_iter().collect());
            }
            "close" => boxes.close(agent),
            "send" => {
                let Ok(asked) = serde_json::from_str::<octant_api::agent::SendRequest>(rest) else {
                    continue;
                };
                if flaw(&asked.kind, &asked.body).is_some() || !boxes.is_in(agent, &asked.room) {
                    continue;
                }
                let to = boxes.receivers(agent, &asked.room);
                assert!(!to.contains(&agent) && to.iter().all(|aid| boxes.is_in(*aid, &asked.room)));
                seq += 1;
                let octant_api::agent::SendRequest { room, kind, body } = asked;
                let letter = Letter { seq, room, from: agent, name: String::new(), kind, sent_ms: 0, body };
                for aid in to {
                    lines.entry(aid).or_default().push(Line::Put(letter.clone()));
                    boxes.put(aid, &Arc::new(letter.clone()), letter.weight());
                }
            }
            "receive" => {
                let after = rest.parse().unwrap_or(0);
                if boxes.changes(agent, after) {
                    lines.entry(agent).or_default().push(Line::Read(after));
                }
                let got = boxes.receive(agent, after);
                let last: &mut u64 = read.entry(agent).or_default();
                let known =
                    got.messages.first().is_some_and(|first| first.cursor > after) || got.messages.is_empty();
                assert!(known || after > got.cursor, "what was read came again");
                assert!(
                    got.messages
                        .windows(2)
                        .all(|pair| pair[0].cursor < pair[1].cursor && pair[0].seq < pair[1].seq)
                );
                assert!(got.messages.iter().all(|message| message.from != agent));
                *last = got.messages.last().map_or(*last, |message| message.cursor.max(*last));
            }
            _ => steps -= 1,
        }
        for mailbox in boxes.0.values() {
            let bytes: usize = mailbox.waiting.iter().map(|(_, weight, _)| weight).sum();
            assert!(bytes == mailbox.bytes && bytes <= BYTES_MAX, "{bytes} of {}", mailbox.bytes);
            let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
            mailbox.waiting.iter().for_each(|(_, _, letter)| *rooms.entry(&letter.room).or_default() += 1);
            assert!(rooms.values().all(|count| *count <= ROOM_MAX), "{rooms:?}");
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_api::text::Json;
    use proptest::prelude::{any, proptest};
    use std::fs;
    use std::path::PathBuf;

    fn aid(n: u64) -> Aid {
        Aid::new(n, [0; 10])
    }

    fn letter(seq: u64, from: u64, room: &str, text: &str) -> Letter {
        let (room, body) = (room.to_owned(), Body::Text(text.to_owned()));
        Letter { seq, room, from: aid(from), name: "a".into(), kind: "k".into(), sent_ms: 1, body }
    }

    fn rooms(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Three agents: 1 and 2 in `a`, 2 and 3 in `b`.
    fn three() -> Mailboxes {
        let mut boxes = Mailboxes::default();
        for (n, names) in [(1, &["a"][..]), (2, &["a", "b"]), (3, &["b"])] {
            boxes.open(aid(n), rooms(names), 100, false);
        }
        boxes
    }

    fn send(boxes: &mut Mailboxes, seq: u64, from: u64, room: &str, text: &str) -> u64 {
        let to = boxes.receivers(aid(from), room);
        let letter = Arc::new(letter(seq, from, room, text));
        to.iter().for_each(|aid| boxes.put(*aid, &letter, letter.weight()));
        to.len() as u64
    }

    fn texts(got: &Received) -> Vec<&str> {
        got.messages.iter().map(|message| message.body.text()).collect()
    }

    #[test]
    fn a_message_reaches_its_room_in_order_and_stays_until_it_was_read() {
        let mut boxes = three();
        assert_eq!(send(&mut boxes, 1, 1, "a", "one"), 1);
        assert_eq!(send(&mut boxes, 2, 3, "b", "two"), 1);
        assert_eq!(send(&mut boxes, 3, 1, "a", "three"), 1);
        assert_eq!(boxes.receive(aid(1), 0).messages, [], "not its own");
        assert_eq!(boxes.receive(aid(3), 0).messages, [], "not another room's");
        let got = boxes.receive(aid(2), 0);
        assert_eq!((texts(&got), got.cursor), (vec!["one", "two", "three"], 102));
        assert_eq!(texts(&boxes.receive(aid(2), 0)), ["one", "two", "three"], "nobody said that it was read");
        assert_eq!(texts(&boxes.receive(aid(2), 101)), ["three"]);
        assert_eq!(texts(&boxes.receive(aid(2), u64::MAX)), ["three"], "that cursor was never given out");
        let got = boxes.receive(aid(2), 102);
        assert_eq!((texts(&got), got.cursor), (vec![], 102));
    }

    #[test]
    fn who_does_not_read_loses_the_oldest_and_is_told() {
        let mut boxes = three();
        send(&mut boxes, 1, 3, "b", "kept");
        for seq in 2..=(ROOM_MAX as u64 + 4) {
            send(&mut boxes, seq, 1, "a", "x");
        }
        let got = boxes.receive(aid(2), 0);
        assert_eq!((got.messages.len(), got.lost), (ROOM_MAX + 1, 3));
        assert_eq!(got.messages[0].body.text(), "kept", "a room pushes out its own");
        assert_eq!(boxes.receive(aid(2), 0).lost, 0, "told once");
        let long = "\u{1}".repeat(BODY_MAX);
        for seq in 100..110 {
            send(&mut boxes, seq, 1, "a", &long);
        }
        let got = boxes.receive(aid(2), 0);
        let bytes = serde_json::to_string(&got).unwrap().len();
        assert!(got.lost > 0 && bytes < octant_api::rpc::LINE_MAX / 2, "{bytes}");
    }

    #[test]
    fn a_mailbox_goes_with_its_agent_and_one_after_a_restart_says_so() {
        let mut boxes = three();
        send(&mut boxes, 1, 1, "a", "one");
        boxes.close(aid(2));
        boxes.put(aid(2), &Arc::new(letter(2, 1, "a", "late")), 9);
        assert_eq!(boxes.receive(aid(2), 0), Received::default());
        assert!(boxes.receivers(aid(1), "a").is_empty() && !boxes.is_in(aid(2), "a"));
        boxes.open(aid(2), rooms(&["a"]), 500, true);
        assert!(boxes.receive(aid(2), 7).restarted);
        send(&mut boxes, 3, 1, "a", "new");
        let got = boxes.receive(aid(2), 7);
        assert_eq!((texts(&got), got.cursor, got.restarted), (vec!["new"], 500, true));
        assert!(!boxes.receive(aid(2), 500).restarted);
    }

    #[test]
    fn kinds_and_lengths_have_bounds() {
        let text = |n| Body::Text("x".repeat(n));
        assert_eq!(flaw("review.done-2_a", &text(BODY_MAX)), None);
        assert!(flaw("k", &text(BODY_MAX + 1)).unwrap().contains("16385"));
        assert!(
            flaw("k", &Body::Json(Json::from_text(format!("\"{}\"", "x".repeat(BODY_MAX))).unwrap()))
                .is_some()
        );
        for kind in ["", "A", "a b", "ä", &"k".repeat(65)] {
            assert!(flaw(kind, &text(1)).is_some(), "{kind}");
        }
    }

    fn seeds() -> Vec<(String, Vec<u8>)> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/mailbox");
        let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        files.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }

    /// In seeds named `ok-*` every line is a step.
    #[test]
    fn the_corpus_of_mailboxes() {
        let seeds = seeds();
        assert!(seeds.len() >= 10);
        for (name, bytes) in seeds {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(fuzz_mailbox(&bytes) == lines, name.starts_with("ok-"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn plays_of_any_kind_hold_the_bounds(bytes in any::<Vec<u8>>(), pick in any::<proptest::sample::Index>(), cut in any::<proptest::sample::Index>()) {
            fuzz_mailbox(&bytes);
            let seeds = seeds();
            let mut seed = pick.get(&seeds).1.clone();
            seed.truncate(cut.index(seed.len() + 1));
            seed.extend(bytes);
            fuzz_mailbox(&seed);
        }

        #[test]
        fn steps_in_any_order_hold_them_too(steps in proptest::collection::vec((0_u8..3, 0_u8..8, 0_u64..200, 0_usize..9000), 0..300)) {
            let line = |(who, what, cursor, length): &(u8, u8, u64, usize)| match what {
                0 => format!("{who} open a b"),
                1 => format!("{who} restart a"),
                2 => format!("{who} close"),
                3 | 4 => format!("{who} receive {cursor}"),
                _ => format!(r#"{who} send {{"room":"a","kind":"k","body":{{"text":"{}"}}}}"#, "x".repeat(*length)),
            };
            let play: Vec<String> = steps.iter().map(line).collect();
            assert_eq!(fuzz_mailbox(play.join("\n").as_bytes()), steps.len());
        }
    }
}
