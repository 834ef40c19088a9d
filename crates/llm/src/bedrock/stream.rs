//! Streams of Bedrock's `converse-stream`.

use super::answer::{read_usage, reason, word, write_usage};
use super::frames::write;
use crate::framing::Frame;
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::tools::plain_id;
use crate::{Block, Delta, Event, Failure, Kind, StopReason, Usage};

/// Reads one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The provider's index of each open block, and ours.
    open: Vec<(u64, u32)>,
    reason: Option<StopReason>,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        match frame.name {
            "messageStart" => stream.start(String::new(), String::new()),
            "contentBlockStart" => {
                let index = fields.need("contentBlockIndex")?.count()?;
                let mut start = fields.need("start")?.object()?;
                let Some(mut call) = start.object("toolUse")? else {
                    stream.whole(Block::Foreign { sort: "a block".to_owned() }, None);
                    return Ok(());
                };
                let (id, name) = (call.needed_string("toolUseId")?, call.needed_string("name")?);
                self.open.push((index, stream.open(Block::ToolCall { id, name })));
            }
            "contentBlockDelta" => {
                let index = fields.need("contentBlockIndex")?.count()?;
                let delta = fields.need("delta")?.object()?;
                self.delta(index, delta, stream)?;
            }
            "contentBlockStop" => {
                let index = fields.need("contentBlockIndex")?.count()?;
                if let Some(place) = self.open.iter().position(|(own, _)| *own == index) {
                    stream.stop(self.open.remove(place).1);
                }
            }
            "messageStop" => self.reason = Some(reason(&fields.needed_string("stopReason")?)?),
            "metadata" => {
                if let Some(usage) = fields.object("usage")? {
                    stream.usage(read_usage(usage)?);
                }
                self.end(stream);
            }
            name if is_exception(name) => return Err(crate::failures::named(name, fields)),
            // What a later version says.
            _ => {}
        }
        Ok(())
    }

    /// What was used comes after the reason; an answer is complete without it.
    pub(crate) fn end(&mut self, stream: &mut Stream) {
        if let Some(reason) = self.reason.take() {
            stream.finish(reason, None);
        }
    }

    fn delta(&mut self, index: u64, mut delta: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        if let Some(text) = delta.string("text")? {
            let block = self.block(index, || Block::Text, stream);
            stream.delta(block, Delta::Text(text));
        } else if let Some(mut call) = delta.object("toolUse")? {
            let Some(&(_, block)) = self.open.iter().find(|(own, _)| *own == index) else {
                return Err(delta.wrong("a piece of a call that never began"));
            };
            stream.delta(block, Delta::Arguments(call.words("input")?));
        } else if let Some(mut reasoning) = delta.object("reasoningContent")? {
            if let Some(data) = reasoning.string("redactedContent")? {
                stream.whole(Block::Sealed { id: None, data }, None);
                return Ok(());
            }
            let block = self.block(index, || Block::Reasoning { id: None }, stream);
            stream.delta(block, Delta::Reasoning(reasoning.words("text")?));
            stream.delta(block, Delta::Signature(reasoning.words("signature")?));
        }
        Ok(())
    }

    /// Only calls say that they begin; other blocks begin with their first piece.
    fn block(&mut self, index: u64, new: impl FnOnce() -> Block, stream: &mut Stream) -> u32 {
        if let Some((_, block)) = self.open.iter().find(|(own, _)| *own == index) {
            return *block;
        }
        let block = stream.open(new());
        self.open.push((index, block));
        block
    }
}

/// Writes one.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    usage: Usage,
}

impl Writer {
    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started { .. } => say(out, "messageStart", |object| object.text("role", "assistant")),
            Event::BlockStarted { index, block: Block::ToolCall { id, name } } => {
                say(out, "contentBlockStart", |object| {
                    object.plain("contentBlockIndex", index);
                    let mut start = object.object("start");
                    let mut call = start.object("toolUse");
                    call.text("toolUseId", &plain_id(id));
                    call.text("name", name);
                });
            }
            Event::BlockStarted { index, block: Block::Sealed { data, .. } } => {
                say(out, "contentBlockDelta", |object| {
                    object.plain("contentBlockIndex", index);
                    object.object("delta").object("reasoningContent").text("redactedContent", data);
                });
            }
            Event::Delta { index, delta } => say(out, "contentBlockDelta", |object| {
                object.plain("contentBlockIndex", index);
                let mut piece = object.object("delta");
                match delta {
                    Delta::Text(text) | Delta::Refusal(text) => piece.text("text", text),
                    Delta::Reasoning(text) => piece.object("reasoningContent").text("text", text),
                    Delta::Signature(text) => piece.object("reasoningContent").text("signature", text),
                    Delta::Arguments(text) => piece.object("toolUse").text("input", text),
                }
            }),
            Event::BlockStopped { index } => {
                say(out, "contentBlockStop", |object| object.plain("contentBlockIndex", index));
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, .. } => {
                let word = word(*reason)?;
                say(out, "messageStop", |object| object.text("stopReason", word));
                say(out, "metadata", |object| {
                    write_usage(object.object("usage"), &self.usage);
                    object.object("metrics").plain("latencyMs", 0);
                });
            }
            Event::BlockStarted { .. } | Event::Failed(_) => {}
        }
        Ok(())
    }
}

fn say(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
    let mut data = Vec::with_capacity(128);
    fill(&mut Object::new(&mut data));
    write(out, false, name, &data);
}

/// Whether an event of this name is a failure: exceptions, and codes of errors, which begin with a capital.
pub(crate) fn is_exception(name: &str) -> bool {
    name.ends_with("xception") || !name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// A failure inside a stream.
pub(crate) fn write_exception(failure: &Failure, out: &mut Vec<u8>) {
    let name = match failure.kind {
        Kind::RateLimited | Kind::Spent => "throttlingException",
        Kind::Overloaded | Kind::Unreachable | Kind::Timeout => "serviceUnavailableException",
        Kind::Invalid | Kind::Untranslatable | Kind::ContextLength | Kind::TooLarge => "validationException",
        Kind::Unauthenticated | Kind::Forbidden | Kind::NotFound => "validationException",
        Kind::Upstream | Kind::Cancelled => "internalServerException",
        Kind::Cut | Kind::Malformed => "modelStreamErrorException",
    };
    let mut data = Vec::new();
    Object::new(&mut data).text("message", &failure.message);
    write(out, true, name, &data);
}
