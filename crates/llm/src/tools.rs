//! Calls of tools across dialects: names for calls where a dialect has none, and arguments as objects.

use crate::json::Node;
use crate::{Failure, Kind, Message, Part, Request};
use std::borrow::Cow;
use std::fmt::Write as _;

/// A name for a call that its dialect gives none.
pub(crate) fn made_up_id(salt: &str, number: usize, name: &str) -> String {
    made_up("call", salt, number, name)
}

/// A name for something that its dialect gives none, the same each time that the same is said (FNV-1a, 64 bits).
pub(crate) fn made_up(kind: &str, salt: &str, number: usize, name: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in salt.bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{kind}_{hash:016x}_{number}")
}

/// An identifier of a call within `[a-zA-Z0-9_-]{1,64}`, which some providers demand. Others than those are written so
/// that two different ones stay different.
pub(crate) fn plain_id(id: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(made_up_id(id, id.len(), ""))
}

/// The arguments of a call as an object. What a model wrote that is none goes under one name, so that it is not lost.
pub(crate) fn as_object(arguments: &str) -> Cow<'_, str> {
    if arguments.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    match Node::parse(arguments, Kind::Malformed) {
        Ok(node) if node.is_object() => Cow::Borrowed(node.text),
        _ => Cow::Owned(serde_json::json!({ "malformed_arguments": arguments }).to_string()),
    }
}

/// What the result of a failed tool begins with, in dialects that have no flag for it.
pub(crate) const FAILED: &str = "[the tool failed] ";

/// The name of the tool whose call has this identifier, before message `until`.
pub(crate) fn name_of<'a>(request: &'a Request, until: usize, id: &str) -> Result<&'a str, Failure> {
    let before = request.messages.iter().take(until).rev().flat_map(|message| message.parts.iter().rev());
    for part in before {
        if let Part::ToolCall { id: own, name, .. } = part
            && own == id
        {
            return Ok(name);
        }
    }
    let what = format!("messages.{until}: a result of call {id:?}, which no message before has made");
    Err(Failure::new(Kind::Invalid, what).at(format!("messages.{until}")))
}

/// Gives calls and results names in a dialect where they have none: a result belongs to the first call of that tool
/// (of any tool where it names none) that has no result yet.
#[derive(Debug, Default)]
pub(crate) struct Namer {
    open: Vec<(String, String)>,
    made: usize,
}

impl Namer {
    /// A call.
    pub(crate) fn call(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.unwrap_or_else(|| made_up_id("", self.made, name));
        self.made += 1;
        self.open.push((id.clone(), name.to_owned()));
        id
    }

    /// A result.
    pub(crate) fn result(&mut self, id: Option<String>, name: Option<&str>) -> Option<String> {
        let fits = |(own, tool): &(String, String)| match (&id, name) {
            (Some(id), _) => own == id,
            (None, Some(name)) => tool == name,
            (None, None) => true,
        };
        let place = self.open.iter().position(fits)?;
        Some(self.open.remove(place).0)
    }
}

/// What a tool gave back as words alone, and the number of pictures that were with them.
pub(crate) fn words(parts: &[Part], failed: bool) -> (String, usize) {
    let mut text = String::new();
    let mut pictures = 0;
    for part in parts {
        match part {
            Part::Text(words) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(words);
            }
            Part::Image(_) => pictures += 1,
            _ => {}
        }
    }
    if failed {
        text.insert_str(0, FAILED);
    }
    if text.is_empty() && pictures > 0 {
        let _into_memory = write!(text, "[{pictures} picture(s) in the next message]");
    }
    (text, pictures)
}

/// Messages with those that follow each other by the same speaker as one, for dialects whose speakers take turns.
pub(crate) fn turns(request: &Request) -> Vec<(usize, Cow<'_, Message>)> {
    let mut turns: Vec<(usize, Cow<'_, Message>)> = Vec::new();
    for (number, message) in request.messages.iter().enumerate() {
        if message.parts.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((_, last)) if last.role == message.role => {
                last.to_mut().parts.extend(message.parts.iter().cloned());
            }
            _ => turns.push((number, Cow::Borrowed(message))),
        }
    }
    turns
}

/// Whether arguments that come in pieces are a whole object yet, without keeping them.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    depth: u32,
    begun: bool,
    quoted: bool,
    escaped: bool,
}

impl Shape {
    pub(crate) fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                b'{' | b'[' if !self.quoted => {
                    self.begun = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' if !self.quoted => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.begun && self.depth == 0
    }
}

/// Blocks that can only be said once they are whole, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Held {
    parts: std::collections::VecDeque<(u32, Part, bool)>,
    bytes: usize,
}

impl Held {
    pub(crate) fn begin(&mut self, index: u32, part: Part) {
        self.parts.push_back((index, part, false));
    }

    /// More of a call's arguments or of what proves a piece of reasoning.
    pub(crate) fn more(&mut self, index: u32, piece: &str) -> Result<(), Failure> {
        self.bytes += piece.len();
        if self.bytes > crate::answer::ANSWER_BYTES {
            return Err(Failure::new(Kind::Malformed, "the arguments of the calls are too large"));
        }
        match self.parts.iter_mut().find(|(own, ..)| *own == index) {
            Some((_, Part::ToolCall { arguments, .. }, _)) => arguments.push_str(piece),
            Some((_, Part::Reasoning { signature, .. }, _)) => {
                signature.get_or_insert_default().push_str(piece)
            }
            _ => {}
        }
        Ok(())
    }

    /// A block is whole; what can be said now.
    pub(crate) fn end(&mut self, index: u32) -> Vec<Part> {
        for (own, _, whole) in &mut self.parts {
            *whole |= *own == index;
        }
        let mut ready = Vec::new();
        while let Some((.., true)) = self.parts.front() {
            ready.extend(self.parts.pop_front().map(|(_, part, _)| part));
        }
        ready
    }
}
