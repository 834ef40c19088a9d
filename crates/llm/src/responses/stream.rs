//! Reads streams of responses.

use super::answer::{read_usage, reason};
use crate::framing::Frame;
use crate::json::Fields;
use crate::stream::Stream;
use crate::{Block, Delta, Failure, Kind};

/// Reads one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    open: Vec<Open>,
    calls: bool,
    refused: bool,
}

/// A block that has begun, and where its pieces come from.
#[derive(Debug)]
struct Open {
    item: u64,
    place: Place,
    block: u32,
    filled: bool,
}

/// What of an item a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text(u64),
    Refusal(u64),
    Call,
    Summary,
    Thought,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        let sort = fields.needed_string("type")?;
        match sort.as_str() {
            "response.created" => {
                let mut response = fields.need("response")?.object()?;
                stream.start(response.words("id")?, response.words("model")?);
            }
            "response.output_item.added" => self.item(fields, stream)?,
            "response.output_item.done" => self.item_done(fields, stream)?,
            "response.content_part.added" => {
                let item = fields.need("output_index")?.count()?;
                let number = fields.count("content_index")?.unwrap_or(0);
                let mut part = fields.need("part")?.object()?;
                match part.needed_string("type")?.as_str() {
                    "output_text" => self.piece(item, Place::Text(number), part.words("text")?, stream),
                    "refusal" => self.piece(item, Place::Refusal(number), part.words("refusal")?, stream),
                    "reasoning_text" => {}
                    other => {
                        stream.whole(Block::Foreign { sort: other.to_owned() }, None);
                    }
                };
            }
            "response.content_part.done" => {
                let item = fields.need("output_index")?.count()?;
                let number = fields.count("content_index")?.unwrap_or(0);
                self.stop(
                    |open| {
                        open.item == item
                            && matches!(open.place, Place::Text(at) | Place::Refusal(at) if at == number)
                    },
                    stream,
                );
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let mut response = fields.need("response")?.object()?;
                if let Some(usage) = response.object("usage")? {
                    stream.usage(read_usage(usage)?);
                }
                let reason = reason(&mut response, self.calls, self.refused)?;
                stream.finish(reason, None);
            }
            "error" => {
                let error = fields.take("error");
                return Err(match error {
                    Some(error) => crate::failures::within(error),
                    None => crate::failures::within_fields(fields),
                });
            }
            _ => self.delta(&sort, fields, stream)?,
        }
        Ok(())
    }

    fn delta(&mut self, sort: &str, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let place = match sort {
            "response.output_text.delta" => Place::Text(fields.count("content_index")?.unwrap_or(0)),
            "response.refusal.delta" => Place::Refusal(fields.count("content_index")?.unwrap_or(0)),
            "response.function_call_arguments.delta" => Place::Call,
            "response.reasoning_summary_text.delta" => Place::Summary,
            "response.reasoning_text.delta" => Place::Thought,
            // A further piece of a summary is a paragraph of its own.
            "response.reasoning_summary_part.added" => {
                let item = fields.need("output_index")?.count()?;
                let begun = self.open.iter().find(|open| open.item == item && open.place == Place::Summary);
                if let Some(open) = begun.filter(|open| open.filled) {
                    stream.delta(open.block, Delta::Reasoning("\n\n".to_owned()));
                }
                return Ok(());
            }
            // What is said again when it is done, progress, and what a later version says.
            _ => return Ok(()),
        };
        let item = fields.need("output_index")?.count()?;
        let text = fields.needed_string("delta")?;
        if place == Place::Call && !self.open.iter().any(|open| open.item == item && open.place == place) {
            return Err(fields.wrong("a piece of a call that never began"));
        }
        self.piece(item, place, text, stream);
        Ok(())
    }

    /// A piece for a place; its block begins with it, if it has not begun.
    fn piece(&mut self, item: u64, place: Place, text: String, stream: &mut Stream) {
        // A summary and the thoughts themselves are two forms of the same: the first that comes counts.
        let other = match place {
            Place::Summary => Some(Place::Thought),
            Place::Thought => Some(Place::Summary),
            Place::Text(_) | Place::Refusal(_) | Place::Call => None,
        };
        if other.is_some_and(|other| self.open.iter().any(|open| open.item == item && open.place == other)) {
            return;
        }
        let found = self.open.iter().position(|open| open.item == item && open.place == place);
        let at = found.unwrap_or_else(|| {
            let block = match place {
                Place::Refusal(_) => Block::Refusal,
                Place::Summary | Place::Thought => Block::Reasoning { id: None },
                Place::Text(_) | Place::Call => Block::Text,
            };
            self.refused |= block == Block::Refusal;
            self.open.push(Open { item, place, block: stream.open(block), filled: false });
            self.open.len() - 1
        });
        if let Some(open) = self.open.get_mut(at) {
            open.filled |= !text.is_empty();
            stream.delta(
                open.block,
                match place {
                    Place::Text(_) => Delta::Text(text),
                    Place::Refusal(_) => Delta::Refusal(text),
                    Place::Call => Delta::Arguments(text),
                    Place::Summary | Place::Thought => Delta::Reasoning(text),
                },
            );
        }
    }

    fn item(&mut self, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let number = fields.need("output_index")?.count()?;
        let mut item = fields.need("item")?.object()?;
        match item.needed_string("type")?.as_str() {
            "message" | "reasoning" => {}
            "function_call" => {
                let call =
                    Block::ToolCall { id: item.needed_string("call_id")?, name: item.needed_string("name")? };
                let block = stream.open(call);
                self.calls = true;
                self.open.push(Open { item: number, place: Place::Call, block, filled: false });
                self.piece(number, Place::Call, item.words("arguments")?, stream);
            }
            other => {
                stream.whole(Block::Foreign { sort: other.to_owned() }, None);
            }
        }
        Ok(())
    }

    fn item_done(&mut self, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let number = fields.need("output_index")?.count()?;
        let mut item = fields.need("item")?.object()?;
        match item.needed_string("type")?.as_str() {
            "function_call" => {
                let unfilled = self.open.iter().any(|open| open.item == number && !open.filled);
                if unfilled {
                    self.piece(number, Place::Call, item.words("arguments")?, stream);
                }
            }
            "reasoning" => {
                let id = item.string("id")?;
                let proof = item.string("encrypted_content")?.filter(|text| !text.is_empty());
                let open = self.open.iter().find(|open| open.item == number);
                match (open, proof) {
                    (Some(open), Some(proof)) => stream.delta(open.block, Delta::Signature(proof)),
                    (None, Some(data)) => {
                        stream.whole(Block::Sealed { id, data }, None);
                    }
                    (_, None) => {}
                }
            }
            _ => {}
        }
        self.stop(|open| open.item == number, stream);
        Ok(())
    }

    fn stop(&mut self, which: impl Fn(&Open) -> bool, stream: &mut Stream) {
        self.open.retain(|open| {
            let ends = which(open);
            if ends {
                stream.stop(open.block);
            }
            !ends
        });
    }
}
