//! Streams of Anthropic's messages.

use super::answer::{Count, id as own_id, reason, word, write_usage};
use crate::framing::{Frame, write_sse};
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::tools::plain_id;
use crate::{Block, Delta, Event, Failure, Kind, StopReason, Usage};

/// Reads one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The provider's index of each open block, and ours.
    open: Vec<(u64, u32)>,
    /// Those of blocks that no other dialect has.
    foreign: Vec<u64>,
    count: Count,
    end: Option<(StopReason, Option<String>)>,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        match fields.needed_string("type")?.as_str() {
            "message_start" => {
                let mut message = fields.need("message")?.object()?;
                stream.start(message.words("id")?, message.words("model")?);
                self.usage(message.object("usage")?, stream)?;
            }
            "content_block_start" => self.begin(fields, stream)?,
            "content_block_delta" => self.delta(fields, stream)?,
            "content_block_stop" => {
                let index = fields.need("index")?.count()?;
                if let Some(place) = self.open.iter().position(|(own, _)| *own == index) {
                    stream.stop(self.open.remove(place).1);
                }
            }
            "message_delta" => {
                let usage = fields.object("usage")?;
                if let Some(mut delta) = fields.object("delta")?
                    && let Some(word) = delta.string("stop_reason")?
                {
                    self.end = Some((reason(&word)?, delta.string("stop_sequence")?));
                }
                self.usage(usage, stream)?;
            }
            "message_stop" => {
                let (reason, sequence) =
                    self.end.take().ok_or_else(|| fields.wrong("it does not say why it ended"))?;
                stream.finish(reason, sequence);
            }
            "error" => return Err(crate::failures::within(fields.need("error")?)),
            // `ping`, and what a later version says.
            _ => {}
        }
        Ok(())
    }

    fn usage(&mut self, fields: Option<Fields<'_>>, stream: &mut Stream) -> Result<(), Failure> {
        if let Some(fields) = fields {
            self.count.read(fields)?;
            stream.usage(self.count.usage());
        }
        Ok(())
    }

    fn begin(&mut self, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let index = fields.need("index")?.count()?;
        let mut block = fields.need("content_block")?.object()?;
        let (block, delta) = match block.needed_string("type")?.as_str() {
            "text" => (Block::Text, Delta::Text(block.words("text")?)),
            "thinking" => (Block::Reasoning { id: None }, Delta::Reasoning(block.words("thinking")?)),
            "redacted_thinking" => {
                let sealed = Block::Sealed { id: None, data: block.words("data")? };
                (sealed, Delta::Text(String::new()))
            }
            "tool_use" => {
                let call =
                    Block::ToolCall { id: block.needed_string("id")?, name: block.needed_string("name")? };
                // The whole input here, and no pieces after it, is what some that are compatible send.
                let input = block.take("input").filter(|input| !is_empty_object(input.text));
                (call, Delta::Arguments(input.map(|input| input.text.to_owned()).unwrap_or_default()))
            }
            other => {
                stream.whole(Block::Foreign { sort: other.to_owned() }, None);
                self.foreign.push(index);
                return Ok(());
            }
        };
        let own = stream.open(block);
        stream.delta(own, delta);
        self.open.push((index, own));
        Ok(())
    }

    fn delta(&mut self, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let index = fields.need("index")?.count()?;
        if self.foreign.contains(&index) {
            return Ok(());
        }
        let Some(&(_, own)) = self.open.iter().find(|(other, _)| *other == index) else {
            return Err(fields.wrong(format_args!("a piece of block {index}, which is not open")));
        };
        let mut delta = fields.need("delta")?.object()?;
        let delta = match delta.needed_string("type")?.as_str() {
            "text_delta" => Delta::Text(delta.words("text")?),
            "thinking_delta" => Delta::Reasoning(delta.words("thinking")?),
            "signature_delta" => Delta::Signature(delta.words("signature")?),
            "input_json_delta" => Delta::Arguments(delta.words("partial_json")?),
            // Where in a document something stands: of documents nobody can have asked.
            _ => return Ok(()),
        };
        stream.delta(own, delta);
        Ok(())
    }
}

fn is_empty_object(text: &str) -> bool {
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).is_some_and(|text| text.trim().is_empty())
}

/// Writes one.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    usage: Usage,
}

impl Writer {
    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started { id, model } => say(out, "message_start", |object| {
                let mut message = object.object("message");
                message.text("id", own_id(id));
                message.text("type", "message");
                message.text("role", "assistant");
                message.text("model", model);
                drop(message.list("content"));
                message.null("stop_reason");
                message.null("stop_sequence");
                write_usage(message.object("usage"), &self.usage);
            }),
            Event::BlockStarted { index, block } => say(out, "content_block_start", |object| {
                object.plain("index", index);
                write_block(object.object("content_block"), block);
            }),
            Event::Delta { index, delta } => say(out, "content_block_delta", |object| {
                object.plain("index", index);
                write_delta(object.object("delta"), delta);
            }),
            Event::BlockStopped { index } => {
                say(out, "content_block_stop", |object| object.plain("index", index))
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, sequence } => {
                say(out, "message_delta", |object| {
                    {
                        let mut delta = object.object("delta");
                        delta.text("stop_reason", word(*reason));
                        match sequence {
                            Some(sequence) => delta.text("stop_sequence", sequence),
                            None => delta.null("stop_sequence"),
                        }
                    }
                    write_usage(object.object("usage"), &self.usage);
                });
                say(out, "message_stop", |_| {});
            }
            Event::Failed(_) => {}
        }
        Ok(())
    }
}

fn say(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
    let mut data = Vec::with_capacity(256);
    {
        let mut object = Object::new(&mut data);
        object.text("type", name);
        fill(&mut object);
    }
    write_sse(out, Some(name), &data);
}

fn write_block(mut object: Object<'_>, block: &Block) {
    match block {
        Block::Text | Block::Refusal => {
            object.text("type", "text");
            object.text("text", "");
        }
        Block::Reasoning { .. } => {
            object.text("type", "thinking");
            object.text("thinking", "");
            object.text("signature", "");
        }
        Block::Sealed { data, .. } => {
            object.text("type", "redacted_thinking");
            object.text("data", data);
        }
        // Refused before.
        Block::Foreign { .. } => {}
        Block::ToolCall { id, name } => {
            object.text("type", "tool_use");
            object.text("id", &plain_id(id));
            object.text("name", name);
            object.raw("input", "{}");
        }
    }
}

fn write_delta(mut object: Object<'_>, delta: &Delta) {
    let (sort, name, text) = match delta {
        Delta::Text(text) | Delta::Refusal(text) => ("text_delta", "text", text),
        Delta::Reasoning(text) => ("thinking_delta", "thinking", text),
        Delta::Signature(text) => ("signature_delta", "signature", text),
        Delta::Arguments(text) => ("input_json_delta", "partial_json", text),
    };
    object.text("type", sort);
    object.text(name, text);
}
