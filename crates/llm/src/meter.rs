//! Watches an answer that passes through as it is.
//!
//! It looks for what was used and for the end, and lets everything else pass: also what a later version of a dialect
//! says, and tools of a provider's own, which could not be translated.

use crate::answer::cut;
use crate::anthropic::Count;
use crate::framing::{Frame, Framing};
use crate::json::Fields;
use crate::{Dialect, Failure, Kind, StopReason, Usage};
use crate::{anthropic, bedrock, chat, gemini, responses};

/// What an answer that passes says of itself: what was used, and whether and how it ended.
#[derive(Debug)]
pub struct Meter {
    framing: Framing,
    seen: Seen,
}

#[derive(Debug)]
struct Seen {
    dialect: Dialect,
    usage: Usage,
    /// Anthropic's, which comes in two pieces.
    count: Count,
    /// The reason has passed; what it is only where it is one that this crate knows.
    reason: Option<Option<StopReason>>,
    calls: bool,
    ended: bool,
    failure: Option<Failure>,
    bytes: u64,
}

impl Meter {
    /// Of a stream in this dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { framing: dialect.framing(), seen: Seen::new(dialect) }
    }

    /// What was used by an answer that is no stream, and why it ended where that is known.
    ///
    /// # Errors
    /// [`Kind::Malformed`] when it is no answer of this dialect, and what it says went wrong.
    pub fn whole(dialect: Dialect, body: &[u8]) -> Result<(Usage, Option<StopReason>), Failure> {
        let mut seen = Seen::new(dialect);
        seen.body(Fields::read(body, Kind::Malformed)?)?;
        // Of Gemini a stream is made of such answers, and no more of them comes.
        seen.ended |= seen.reason.is_some();
        if !seen.over() {
            return Err(Failure::new(Kind::Malformed, "the answer does not say why it ended"));
        }
        Ok((seen.usage, seen.end()?))
    }

    /// More bytes have passed.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { framing, seen } = self;
        if !seen.over() {
            let pushed = framing.push(bytes, &mut |frame| seen.step(frame));
            seen.keep(pushed);
        }
    }

    /// Nothing more comes. Why the answer ended, where that is a reason that other dialects know.
    ///
    /// # Errors
    /// What the stream said went wrong; [`Kind::Cut`] without a terminal event.
    pub fn end(&mut self) -> Result<Option<StopReason>, Failure> {
        let Self { framing, seen } = self;
        framing.end(&mut |frame| seen.step(frame));
        if matches!(seen.dialect, Dialect::Gemini | Dialect::Bedrock) && seen.reason.is_some() {
            seen.ended = true;
        }
        seen.end()
    }

    /// What was used, as far as it was said.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.seen.usage
    }

    /// Bytes of the events so far: more than the answer has tokens, until the provider says how many they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.seen.bytes
    }

    /// Whether the terminal event has passed, or a failure.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.seen.over()
    }
}

impl Seen {
    fn new(dialect: Dialect) -> Self {
        let (usage, count) = (Usage::default(), Count::default());
        Self { dialect, usage, count, reason: None, calls: false, ended: false, failure: None, bytes: 0 }
    }

    fn over(&self) -> bool {
        self.ended || self.failure.is_some()
    }

    fn keep(&mut self, step: Result<(), Failure>) {
        if let Err(failure) = step {
            self.failure.get_or_insert(failure);
        }
    }

    fn end(&self) -> Result<Option<StopReason>, Failure> {
        match (&self.failure, self.ended) {
            (Some(failure), _) => Err(failure.clone()),
            (None, false) => Err(cut()),
            (None, true) => Ok(self.reason.flatten()),
        }
    }

    fn step(&mut self, frame: Frame<'_>) {
        if !self.over() {
            self.bytes += frame.data.len() as u64;
            let step = self.frame(frame);
            self.keep(step);
        }
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Failure> {
        if self.dialect == Dialect::Chat && frame.data == b"[DONE]" {
            self.ended = self.reason.is_some();
            return Ok(());
        }
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        match self.dialect {
            Dialect::Chat => self.chat(fields),
            Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::Gemini => self.body(fields),
            Dialect::Responses => match fields.words("type")?.as_str() {
                "response.completed" | "response.incomplete" | "response.failed" => {
                    self.body(fields.need("response")?.object()?)
                }
                "error" => Err(match fields.take("error") {
                    Some(error) => crate::failures::within(error),
                    None => crate::failures::within_fields(fields),
                }),
                _ => Ok(()),
            },
            Dialect::Anthropic => match fields.words("type")?.as_str() {
                "message_start" => {
                    let usage = fields.need("message")?.object()?.object("usage")?;
                    self.count(usage)
                }
                "message_delta" => {
                    let mut delta = fields.need("delta")?.object()?;
                    self.reason = delta.string("stop_reason")?.map(|word| anthropic::reason(&word).ok());
                    self.count(fields.object("usage")?)
                }
                "message_stop" => {
                    self.ended = self.reason.is_some();
                    Ok(())
                }
                "error" => Err(crate::failures::within(fields.need("error")?)),
                _ => Ok(()),
            },
            Dialect::Bedrock => self.bedrock(frame.name, fields),
        }
    }

    fn count(&mut self, usage: Option<Fields<'_>>) -> Result<(), Failure> {
        if let Some(usage) = usage {
            self.count.read(usage)?;
            self.usage = self.count.usage();
        }
        Ok(())
    }

    fn chat(&mut self, mut fields: Fields<'_>) -> Result<(), Failure> {
        if let Some(error) = fields.take("error") {
            return Err(crate::failures::within(error));
        }
        if let Some(mut choice) = fields.objects("choices")?.into_iter().next()
            && let Some(word) = choice.string("finish_reason")?.filter(|word| !word.is_empty())
        {
            self.reason = Some(chat::reason(&word).ok());
        }
        if let Some(usage) = fields.object("usage")? {
            self.usage = chat::read_usage(usage)?;
        }
        Ok(())
    }

    fn bedrock(&mut self, name: &str, mut fields: Fields<'_>) -> Result<(), Failure> {
        match name {
            "messageStop" => {
                self.reason = fields.string("stopReason")?.map(|word| bedrock::reason(&word).ok());
            }
            "metadata" => {
                if let Some(usage) = fields.object("usage")? {
                    self.usage = bedrock::read_usage(usage)?;
                }
                self.ended = self.reason.is_some();
            }
            name if bedrock::is_exception(name) => return Err(crate::failures::named(name, fields)),
            _ => {}
        }
        Ok(())
    }

    /// An answer that is whole, or one of a stream that is made of such.
    fn body(&mut self, mut fields: Fields<'_>) -> Result<(), Failure> {
        if let Some(error) = fields.take("error") {
            return Err(crate::failures::within(error));
        }
        match self.dialect {
            Dialect::Chat => {
                self.chat(fields)?;
                self.ended = self.reason.is_some();
            }
            Dialect::Anthropic => {
                self.count(fields.object("usage")?)?;
                self.reason = fields.string("stop_reason")?.map(|word| anthropic::reason(&word).ok());
                self.ended = self.reason.is_some();
            }
            Dialect::Responses => {
                if let Some(usage) = fields.object("usage")? {
                    self.usage = responses::read_usage(usage)?;
                }
                let mut calls = false;
                for mut item in fields.objects("output")? {
                    calls |= item.words("type")? == "function_call";
                }
                self.reason = Some(Some(responses::reason(&mut fields, calls, false)?));
                self.ended = true;
            }
            Dialect::OllamaChat | Dialect::OllamaGenerate => {
                if let Some(mut message) = fields.object("message")? {
                    self.calls |= message.take("tool_calls").is_some();
                }
                if fields.flag("done")? == Some(true) {
                    self.usage.input = fields.count("prompt_eval_count")?.unwrap_or(0);
                    self.usage.output = fields.count("eval_count")?.unwrap_or(0);
                    self.reason = Some(match fields.string("done_reason")?.as_deref() {
                        Some("length") => Some(StopReason::Length),
                        _ if self.calls => Some(StopReason::ToolCalls),
                        _ => Some(StopReason::End),
                    });
                    self.ended = true;
                }
            }
            Dialect::Gemini => {
                if let Some(usage) = fields.object("usageMetadata")? {
                    self.usage = gemini::read_usage(usage)?;
                }
                if fields
                    .object("promptFeedback")?
                    .is_some_and(|mut feedback| feedback.take("blockReason").is_some())
                {
                    self.reason = Some(Some(StopReason::Filtered));
                }
                if let Some(mut candidate) = fields.objects("candidates")?.into_iter().next()
                    && let Some(word) = candidate.string("finishReason")?
                {
                    self.reason = Some(gemini::reason(&word).ok());
                }
            }
            Dialect::Bedrock => {
                if let Some(usage) = fields.object("usage")? {
                    self.usage = bedrock::read_usage(usage)?;
                }
                self.reason = fields.string("stopReason")?.map(|word| bedrock::reason(&word).ok());
                self.ended = self.reason.is_some();
            }
        }
        Ok(())
    }
}
