//! Answers of Gemini: a stream is events of the same objects that stand alone otherwise.

use super::write_said;
use crate::chat::paused;
use crate::framing::{Frame, write_sse};
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::tools::{Held, made_up_id};
use crate::{Answer, Block, Delta, Event, Failure, Kind, Part, StopReason, Usage};

/// Reads a stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: String,
    text: Option<u32>,
    thought: Option<u32>,
    calls: usize,
    reason: Option<StopReason>,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        if let Some(error) = fields.take("error") {
            return Err(crate::failures::within(error));
        }
        if !stream.has_started() {
            self.id = fields.words("responseId")?;
            stream.start(self.id.clone(), fields.words("modelVersion")?);
        }
        if let Some(usage) = fields.object("usageMetadata")? {
            stream.usage(read_usage(usage)?);
        }
        if let Some(mut feedback) = fields.object("promptFeedback")?
            && feedback.take("blockReason").is_some()
        {
            self.reason = Some(StopReason::Filtered);
        }
        if let Some(mut candidate) = fields.objects("candidates")?.into_iter().next() {
            if let Some(mut content) = candidate.object("content")? {
                for part in content.objects("parts")? {
                    self.part(part, stream)?;
                }
            }
            if let Some(word) = candidate.string("finishReason")? {
                self.reason = Some(reason(&word)?);
            }
        }
        Ok(())
    }

    /// The dialect has no mark of the end but the reason for it; what was used may come after that.
    pub(crate) fn end(&mut self, stream: &mut Stream) {
        match self.reason.take() {
            Some(StopReason::End) if self.calls > 0 => stream.finish(StopReason::ToolCalls, None),
            Some(reason) => stream.finish(reason, None),
            None => {}
        }
    }

    fn part(&mut self, mut part: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let proof = part.string("thoughtSignature")?.filter(|proof| !proof.is_empty());
        if let Some(text) = part.string("text")? {
            if part.flag("thought")? == Some(true) {
                self.close(false, stream);
                let index = *self.thought.get_or_insert_with(|| stream.open(Block::Reasoning { id: None }));
                stream.delta(index, Delta::Reasoning(text));
                if let Some(proof) = proof {
                    stream.delta(index, Delta::Signature(proof));
                    self.close(true, stream);
                }
                return Ok(());
            }
            if !text.is_empty() {
                self.close(true, stream);
                let index = *self.text.get_or_insert_with(|| stream.open(Block::Text));
                stream.delta(index, Delta::Text(text));
            }
            self.sealed(proof, stream);
            return Ok(());
        }
        if let Some(mut call) = part.object("functionCall")? {
            self.sealed(proof, stream);
            self.close(true, stream);
            self.close(false, stream);
            let name = call.needed_string("name")?;
            let id = call.string("id")?.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| made_up_id(&self.id, self.calls, &name));
            self.calls += 1;
            let arguments = call.take("args").map(|node| Delta::Arguments(node.text.to_owned()));
            stream.whole(Block::ToolCall { id, name }, arguments);
            return Ok(());
        }
        for foreign in ["inlineData", "executableCode", "codeExecutionResult", "fileData"] {
            if part.take(foreign).is_some() {
                self.close(true, stream);
                self.close(false, stream);
                stream.whole(Block::Foreign { sort: foreign.to_owned() }, None);
            }
        }
        Ok(())
    }

    fn sealed(&mut self, proof: Option<String>, stream: &mut Stream) {
        if let Some(data) = proof {
            self.close(true, stream);
            self.close(false, stream);
            stream.whole(Block::Sealed { id: None, data }, None);
        }
    }

    fn close(&mut self, thought: bool, stream: &mut Stream) {
        let open = if thought { self.thought.take() } else { self.text.take() };
        if let Some(index) = open {
            stream.stop(index);
        }
    }
}

/// Why it ended, in the word of the dialect.
pub(crate) fn reason(word: &str) -> Result<StopReason, Failure> {
    Ok(match word {
        "STOP" => StopReason::End,
        "MAX_TOKENS" => StopReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::Filtered,
        other => {
            let what = format!("the provider ended its answer because of {other}: ask again");
            let mut failure = Failure::new(Kind::Upstream, what);
            failure.code = Some(other.chars().take(100).collect());
            return Err(failure);
        }
    })
}

/// The word for why it ended.
fn word(reason: StopReason) -> Result<&'static str, Failure> {
    match reason {
        StopReason::End | StopReason::Sequence | StopReason::ToolCalls => Ok("STOP"),
        StopReason::Length => Ok("MAX_TOKENS"),
        StopReason::Refusal | StopReason::Filtered => Ok("SAFETY"),
        StopReason::Paused => Err(paused()),
    }
}

/// Thoughts are counted beside the words of the answer, and prompts of tools beside the prompt.
pub(crate) fn read_usage(mut fields: Fields<'_>) -> Result<Usage, Failure> {
    let mut count = |name: &str| fields.count(name).map(Option::unwrap_or_default);
    let reasoning = count("thoughtsTokenCount")?;
    Ok(Usage {
        input: count("promptTokenCount")?.saturating_add(count("toolUsePromptTokenCount")?),
        cache_read: count("cachedContentTokenCount")?,
        cache_write: 0,
        output: count("candidatesTokenCount")?.saturating_add(reasoning),
        reasoning,
    })
}

fn write_usage(mut object: Object<'_>, usage: &Usage) {
    object.plain("promptTokenCount", usage.input);
    object.plain("candidatesTokenCount", usage.output.saturating_sub(usage.reasoning));
    object.plain("thoughtsTokenCount", usage.reasoning);
    object.plain("cachedContentTokenCount", usage.cache_read);
    object.plain("totalTokenCount", usage.input.saturating_add(usage.output));
}

/// Writes a stream. A call is said once its arguments are whole: the dialect has no pieces of them.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    id: String,
    model: String,
    usage: Usage,
    held: Held,
}

impl Writer {
    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started { id, model } => (self.id, self.model) = (id.clone(), model.clone()),
            Event::BlockStarted { index, block } => match block {
                Block::ToolCall { id, name } => {
                    let call =
                        Part::ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() };
                    self.held.begin(*index, call);
                }
                Block::Reasoning { .. } => {
                    let proof = Part::Reasoning { id: None, text: String::new(), signature: None };
                    self.held.begin(*index, proof);
                }
                Block::Sealed { data, .. } => {
                    self.held.begin(*index, Part::Sealed { id: None, data: data.clone() });
                }
                Block::Text | Block::Refusal | Block::Foreign { .. } => {}
            },
            Event::Delta { index, delta } => self.delta(*index, delta, out)?,
            Event::BlockStopped { index } => {
                let mut parts = self.held.end(*index);
                parts.retain(|part| !matches!(part, Part::Reasoning { signature: None, .. }));
                if !parts.is_empty() {
                    self.chunk(out, &parts, None);
                }
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, .. } => self.chunk(out, &[], Some(word(*reason)?)),
            Event::Failed(_) => {}
        }
        Ok(())
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Vec<u8>) -> Result<(), Failure> {
        let said = match delta {
            Delta::Text(text) | Delta::Refusal(text) => Part::Text(text.clone()),
            Delta::Reasoning(text) => Part::Reasoning { id: None, text: text.clone(), signature: None },
            Delta::Arguments(piece) | Delta::Signature(piece) => {
                return self.held.more(index, piece);
            }
        };
        self.chunk(out, &[said], None);
        Ok(())
    }

    fn chunk(&self, out: &mut Vec<u8>, parts: &[Part], end: Option<&str>) {
        let mut data = Vec::with_capacity(256);
        write_object(
            Object::new(&mut data),
            (&self.id, &self.model),
            parts,
            end.map(|word| (word, &self.usage)),
        );
        write_sse(out, None, &data);
    }
}

fn write_object(mut object: Object<'_>, head: (&str, &str), parts: &[Part], end: Option<(&str, &Usage)>) {
    {
        let mut candidates = object.list("candidates");
        let mut candidate = candidates.object();
        {
            let mut content = candidate.object("content");
            content.text("role", "model");
            write_said(&mut content.list("parts"), parts, false);
        }
        if let Some((word, _)) = end {
            candidate.text("finishReason", word);
        }
        candidate.plain("index", 0);
    }
    if let Some((_, usage)) = end {
        write_usage(object.object("usageMetadata"), usage);
    }
    object.text("modelVersion", head.1);
    object.text("responseId", head.0);
}

pub(crate) fn write_answer(object: Object<'_>, answer: &Answer) -> Result<(), Failure> {
    let end = Some((word(answer.reason)?, &answer.usage));
    write_object(object, (&answer.id, &answer.model), &answer.parts, end);
    Ok(())
}
