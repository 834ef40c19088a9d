//! Answers of Ollama: a stream is lines of the same objects that stand alone otherwise.

use crate::chat::paused;
use crate::framing::Frame;
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::tools::{Held, as_object, made_up, made_up_id};
use crate::{Answer, Block, Delta, Event, Failure, Kind, Part, StopReason, Usage};

/// When nothing is known of the time; the dialect demands one.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Reads the lines of a stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    text: Option<u32>,
    thought: Option<u32>,
    calls: usize,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        if let Some(error) = fields.take("error") {
            return Err(crate::failures::within(error));
        }
        let time = fields.words("created_at")?;
        stream.start(made_up("ollama", &time, 0, ""), fields.words("model")?);
        match fields.object("message")? {
            Some(mut message) => {
                let (thought, text) = (message.words("thinking")?, message.words("content")?);
                self.words(thought, text, stream);
                for call in message.objects("tool_calls")? {
                    self.call(call, &time, stream)?;
                }
            }
            None => {
                let (thought, text) = (fields.words("thinking")?, fields.words("response")?);
                self.words(thought, text, stream);
            }
        }
        if fields.flag("done")? == Some(true) {
            stream.usage(Usage {
                input: fields.count("prompt_eval_count")?.unwrap_or(0),
                output: fields.count("eval_count")?.unwrap_or(0),
                ..Usage::default()
            });
            let reason = match fields.string("done_reason")?.as_deref() {
                Some("length") => StopReason::Length,
                None | Some("" | "stop" | "load" | "unload" | "tool_calls") if self.calls > 0 => {
                    StopReason::ToolCalls
                }
                None | Some("" | "stop" | "load" | "unload") => StopReason::End,
                Some(other) => {
                    let what =
                        format!("an answer that ended because of {other:?}, which is no reason of Ollama's");
                    return Err(Failure::new(Kind::Malformed, what));
                }
            };
            stream.finish(reason, None);
        }
        Ok(())
    }

    fn words(&mut self, thought: String, text: String, stream: &mut Stream) {
        if !thought.is_empty() {
            if let Some(index) = self.text.take() {
                stream.stop(index);
            }
            let index = *self.thought.get_or_insert_with(|| stream.open(Block::Reasoning { id: None }));
            stream.delta(index, Delta::Reasoning(thought));
        }
        if !text.is_empty() {
            if let Some(index) = self.thought.take() {
                stream.stop(index);
            }
            let index = *self.text.get_or_insert_with(|| stream.open(Block::Text));
            stream.delta(index, Delta::Text(text));
        }
    }

    fn call(&mut self, mut call: Fields<'_>, time: &str, stream: &mut Stream) -> Result<(), Failure> {
        for open in [self.text.take(), self.thought.take()].into_iter().flatten() {
            stream.stop(open);
        }
        let id = call.string("id")?.filter(|id| !id.is_empty());
        let mut function =
            call.object("function")?.ok_or_else(|| call.wrong("only functions can be called"))?;
        let name = function.needed_string("name")?;
        let id = id.unwrap_or_else(|| made_up_id(time, self.calls, &name));
        self.calls += 1;
        let arguments = function.take("arguments").map(|node| Delta::Arguments(node.text.to_owned()));
        stream.whole(Block::ToolCall { id, name }, arguments);
        Ok(())
    }
}

/// Writes the lines of a stream. A call is said once its arguments are whole: the dialect has no pieces of them.
#[derive(Debug)]
pub(crate) struct Writer {
    chat: bool,
    model: String,
    usage: Usage,
    held: Held,
}

impl Writer {
    pub(crate) fn new(chat: bool) -> Self {
        Self { chat, model: String::new(), usage: Usage::default(), held: Held::default() }
    }

    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started { model, .. } => model.clone_into(&mut self.model),
            Event::BlockStarted { block: Block::ToolCall { .. }, .. } if !self.chat => return Err(no_calls()),
            Event::BlockStarted { index, block: Block::ToolCall { id, name } } => {
                let (id, name) = (id.clone(), name.clone());
                self.held.begin(*index, Part::ToolCall { id, name, arguments: String::new() });
            }
            Event::Delta { index, delta: Delta::Arguments(piece) } => self.held.more(*index, piece)?,
            Event::Delta { delta, .. } => self.words(delta, out),
            Event::BlockStopped { index } => {
                let calls = self.held.end(*index);
                if !calls.is_empty() {
                    self.line(out, |object| write_said(object, &calls, true, None));
                }
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, .. } => {
                let word = word(*reason)?;
                let (chat, usage) = (self.chat, self.usage);
                self.line(out, |object| write_said(object, &[], chat, Some((word, &usage))));
            }
            Event::BlockStarted { .. } | Event::Failed(_) => {}
        }
        Ok(())
    }

    fn words(&self, delta: &Delta, out: &mut Vec<u8>) {
        let part = match delta {
            Delta::Text(text) | Delta::Refusal(text) => Part::Text(text.clone()),
            Delta::Reasoning(text) => Part::Reasoning { id: None, text: text.clone(), signature: None },
            Delta::Signature(_) | Delta::Arguments(_) => return,
        };
        self.line(out, |object| write_said(object, &[part], self.chat, None));
    }

    fn line(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        {
            let mut object = Object::new(out);
            object.text("model", &self.model);
            object.text("created_at", CREATED);
            fill(&mut object);
        }
        out.push(b'\n');
    }
}

fn no_calls() -> Failure {
    Failure::new(
        Kind::Untranslatable,
        "the model calls a tool, which Ollama's generate cannot say: ask its chat",
    )
}

/// The word for why it ended.
fn word(reason: StopReason) -> Result<&'static str, Failure> {
    match reason {
        StopReason::End | StopReason::Sequence | StopReason::ToolCalls | StopReason::Refusal => Ok("stop"),
        StopReason::Length => Ok("length"),
        StopReason::Filtered => {
            Err(Failure::new(Kind::Upstream, "the provider's filter kept the answer back"))
        }
        StopReason::Paused => Err(paused()),
    }
}

/// What was said, whether that is all, and then why.
fn write_said(object: &mut Object<'_>, parts: &[Part], chat: bool, end: Option<(&str, &Usage)>) {
    let (mut text, mut thought) = (String::new(), String::new());
    for part in parts {
        match part {
            Part::Text(words) | Part::Refusal(words) => text.push_str(words),
            Part::Reasoning { text: words, .. } => thought.push_str(words),
            _ => {}
        }
    }
    if chat {
        let mut message = object.object("message");
        message.text("role", "assistant");
        message.text("content", &text);
        message.maybe_text("thinking", Some(thought.as_str()).filter(|text| !text.is_empty()));
        if parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
            let mut calls = message.list("tool_calls");
            for part in parts {
                if let Part::ToolCall { id, name, arguments } = part {
                    let mut call = calls.object();
                    call.text("id", id);
                    let mut function = call.object("function");
                    function.text("name", name);
                    function.raw("arguments", &as_object(arguments));
                }
            }
        }
    } else {
        object.text("response", &text);
        object.maybe_text("thinking", Some(thought.as_str()).filter(|text| !text.is_empty()));
    }
    object.plain("done", end.is_some());
    if let Some((word, usage)) = end {
        object.text("done_reason", word);
        object.plain("prompt_eval_count", usage.input);
        object.plain("eval_count", usage.output);
    }
}

pub(crate) fn write_answer(mut object: Object<'_>, answer: &Answer, chat: bool) -> Result<(), Failure> {
    if !chat && answer.parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
        return Err(no_calls());
    }
    object.text("model", &answer.model);
    object.text("created_at", CREATED);
    write_said(&mut object, &answer.parts, chat, Some((word(answer.reason)?, &answer.usage)));
    Ok(())
}
