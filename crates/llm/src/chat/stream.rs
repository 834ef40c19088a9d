//! Streams of chat completions.

use super::answer::{id as own_id, read_usage, reason, settled, word, write_usage};
use super::message::{Detail, arguments, write_sealed};
use crate::framing::{Frame, write_sse};
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::tools::Shape;
use crate::{Block, Delta, Event, Failure, Kind, Request, StopReason, Usage};

/// Reads one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: String,
    /// The block of words that is being filled; calls stay open beside it until the end.
    current: Option<(Sort, u32)>,
    /// A proof was the last that came of the reasoning: what comes now is a block of its own.
    signed: bool,
    calls: Vec<Call>,
    refused: bool,
    reason: Option<StopReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Text,
    Refusal,
    Reasoning,
}

#[derive(Debug)]
struct Call {
    /// The number under which its pieces come.
    number: Option<u64>,
    id: String,
    block: u32,
    shape: Shape,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        if frame.data.trim_ascii() == b"[DONE]" {
            // A mark of the end before the reason for it ends nothing.
            let reason = self.reason.ok_or_else(crate::answer::cut)?;
            stream.finish(settled(reason, !self.calls.is_empty(), self.refused), None);
            return Ok(());
        }
        let mut fields = Fields::read(frame.data, Kind::Malformed)?;
        if let Some(error) = fields.take("error") {
            return Err(crate::failures::within(error));
        }
        if fields.words("object")? == "error" {
            return Err(crate::failures::within_fields(fields));
        }
        if !stream.has_started() {
            self.id = fields.words("id")?;
            // Azure's first chunk says only what its filter thinks of the prompt.
            let model = fields.words("model")?;
            if !model.is_empty() || !self.id.is_empty() {
                stream.start(self.id.clone(), model);
            }
        }
        if let Some(mut choice) = fields.objects("choices")?.into_iter().next() {
            if let Some(delta) = choice.object("delta")? {
                self.delta(delta, stream)?;
            }
            // Some say an empty one until there is one.
            if let Some(word) = choice.string("finish_reason")?.filter(|word| !word.is_empty()) {
                self.reason = Some(reason(&word)?);
            }
        }
        if let Some(usage) = fields.object("usage")? {
            stream.usage(read_usage(usage)?);
        }
        Ok(())
    }

    fn delta(&mut self, mut delta: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let said = delta.string("reasoning_content")?.filter(|text| !text.is_empty());
        let thought = said.or(delta.string("reasoning")?).unwrap_or_default();
        let twice = !thought.is_empty();
        self.words(Sort::Reasoning, thought, Delta::Reasoning, stream);
        for detail in delta.objects("reasoning_details")? {
            if let Some(detail) = Detail::read(detail)? {
                self.detail(detail, twice, stream);
            }
        }
        match delta.take("content") {
            Some(content) if content.is_list() => {
                for mut part in content.objects()? {
                    self.words(Sort::Text, part.words("text")?, Delta::Text, stream);
                    for mut thought in part.objects("thinking")? {
                        self.words(Sort::Reasoning, thought.words("text")?, Delta::Reasoning, stream);
                    }
                }
            }
            Some(content) => self.words(Sort::Text, content.string()?, Delta::Text, stream),
            None => {}
        }
        self.words(Sort::Refusal, delta.words("refusal")?, Delta::Refusal, stream);
        for call in delta.objects("tool_calls")? {
            self.call(call, stream)?;
        }
        Ok(())
    }

    fn words(&mut self, sort: Sort, text: String, delta: fn(String) -> Delta, stream: &mut Stream) {
        if !text.is_empty() {
            let index = self.block(sort, None, stream);
            stream.delta(index, delta(text));
        }
    }

    /// The block for words of this sort: the one that is open, or a new one after it.
    fn block(&mut self, sort: Sort, id: Option<String>, stream: &mut Stream) -> u32 {
        let signed = std::mem::take(&mut self.signed);
        match self.current {
            Some((open, index)) if open == sort && !(signed && sort == Sort::Reasoning) => return index,
            _ => self.close(stream),
        }
        self.refused |= sort == Sort::Refusal;
        let block = match sort {
            Sort::Text => Block::Text,
            Sort::Refusal => Block::Refusal,
            Sort::Reasoning => Block::Reasoning { id },
        };
        let index = stream.open(block);
        self.current = Some((sort, index));
        index
    }

    /// Something else begins: words end, and so do calls whose arguments are whole. Nobody says when a call ends, and
    /// pieces of several may come mixed.
    fn close(&mut self, stream: &mut Stream) {
        if let Some((_, index)) = self.current.take() {
            stream.stop(index);
        }
        self.calls.iter().filter(|call| call.shape.is_whole()).for_each(|call| stream.stop(call.block));
    }

    fn detail(&mut self, detail: Detail, twice: bool, stream: &mut Stream) {
        match detail {
            Detail::Words { id, text, signature } => {
                if !twice && !text.is_empty() {
                    let index = self.block(Sort::Reasoning, id, stream);
                    stream.delta(index, Delta::Reasoning(text));
                }
                if let Some(signature) = signature {
                    let index = match self.current {
                        Some((Sort::Reasoning, index)) => index,
                        _ => self.block(Sort::Reasoning, None, stream),
                    };
                    stream.delta(index, Delta::Signature(signature));
                    self.signed = true;
                }
            }
            Detail::Sealed { id, data } => {
                self.close(stream);
                stream.whole(Block::Sealed { id, data }, None);
            }
        }
    }

    fn call(&mut self, mut fields: Fields<'_>, stream: &mut Stream) -> Result<(), Failure> {
        let number = fields.count("index")?;
        let id = fields.string("id")?.filter(|id| !id.is_empty());
        let mut function = fields.object("function")?;
        let name = match &mut function {
            Some(function) => function.string("name")?.filter(|name| !name.is_empty()),
            None => None,
        };
        let known = match (number, &id) {
            (Some(number), _) => self.calls.iter().rposition(|call| call.number == Some(number)),
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id == *id),
            (None, None) if name.is_none() => self.calls.len().checked_sub(1),
            (None, None) => None,
        };
        // Some give every call the number 0: a name with another identifier is another call.
        let known = known.filter(|&place| {
            name.is_none()
                || id.as_ref().is_none_or(|id| self.calls.get(place).is_some_and(|call| call.id == *id))
        });
        let block = match known.and_then(|place| self.calls.get(place)) {
            Some(call) => call.block,
            None => {
                let name = name.ok_or_else(|| fields.wrong("a piece of a call that never began"))?;
                let id = id.unwrap_or_else(|| crate::tools::made_up_id(&self.id, self.calls.len(), &name));
                self.close(stream);
                let block = stream.open(Block::ToolCall { id: id.clone(), name });
                self.calls.push(Call { number, id, block, shape: Shape::default() });
                block
            }
        };
        if let Some(mut function) = function
            && let Some(piece) = arguments(function.take("arguments"))?
        {
            if let Some(call) = self.calls.iter_mut().find(|call| call.block == block) {
                call.shape.push(&piece);
            }
            stream.delta(block, Delta::Arguments(piece));
        }
        Ok(())
    }
}

/// Writes one.
#[derive(Debug)]
pub(crate) struct Writer {
    id: String,
    model: String,
    with_usage: bool,
    usage: Usage,
    refused: bool,
    /// For each block that is a call, its index; the place is its number among calls.
    calls: Vec<u32>,
    details: u32,
}

impl Writer {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            id: String::new(),
            model: String::new(),
            with_usage: request.stream_usage,
            usage: Usage::default(),
            refused: false,
            calls: Vec::new(),
            details: 0,
        }
    }

    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started { id, model } => {
                (self.id, self.model) = (own_id(id).to_owned(), model.clone());
                self.chunk(out, None, |delta| {
                    delta.text("role", "assistant");
                    delta.text("content", "");
                });
            }
            Event::BlockStarted { index, block } => self.begin(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStopped { .. } | Event::Failed(_) => {}
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, .. } => {
                let word = word(*reason, self.refused)?;
                self.chunk(out, Some(word), |_| {});
                if self.with_usage {
                    let mut data = Vec::new();
                    {
                        let mut object = self.head(&mut data);
                        drop(object.list("choices"));
                        write_usage(object.object("usage"), &self.usage);
                    }
                    write_sse(out, None, &data);
                }
                write_sse(out, None, b"[DONE]");
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: u32, block: &Block, out: &mut Vec<u8>) {
        match block {
            Block::Text | Block::Reasoning { .. } | Block::Foreign { .. } => {}
            Block::Refusal => self.refused = true,
            Block::Sealed { id, data } => {
                let number = self.details;
                self.details += 1;
                self.chunk(out, None, |delta| {
                    let mut list = delta.list("reasoning_details");
                    write_sealed(list.object(), id.as_deref(), data, number);
                });
            }
            Block::ToolCall { id, name } => {
                let number = self.calls.len();
                self.calls.push(index);
                self.chunk(out, None, |delta| {
                    let mut list = delta.list("tool_calls");
                    let mut call = list.object();
                    call.plain("index", number);
                    call.text("id", id);
                    call.text("type", "function");
                    let mut function = call.object("function");
                    function.text("name", name);
                    function.text("arguments", "");
                });
            }
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Vec<u8>) {
        let number = self.calls.iter().position(|&call| call == index).unwrap_or_default();
        let detail = self.details;
        self.details += u32::from(matches!(delta, Delta::Signature(_)));
        self.chunk(out, None, |object| match delta {
            Delta::Text(text) => object.text("content", text),
            Delta::Refusal(text) => object.text("refusal", text),
            Delta::Reasoning(text) => object.text("reasoning_content", text),
            Delta::Signature(text) => {
                let mut list = object.list("reasoning_details");
                let mut entry = list.object();
                entry.text("type", "reasoning.text");
                entry.text("signature", text);
                entry.plain("index", detail);
            }
            Delta::Arguments(text) => {
                let mut list = object.list("tool_calls");
                let mut call = list.object();
                call.plain("index", number);
                call.object("function").text("arguments", text);
            }
        });
    }

    fn head<'a>(&self, data: &'a mut Vec<u8>) -> Object<'a> {
        let mut object = Object::new(data);
        object.text("id", &self.id);
        object.text("object", "chat.completion.chunk");
        object.plain("created", 0);
        object.text("model", &self.model);
        object
    }

    fn chunk(&self, out: &mut Vec<u8>, reason: Option<&str>, fill: impl FnOnce(&mut Object<'_>)) {
        let mut data = Vec::with_capacity(256);
        {
            let mut object = self.head(&mut data);
            let mut choices = object.list("choices");
            let mut choice = choices.object();
            choice.plain("index", 0);
            fill(&mut choice.object("delta"));
            match reason {
                Some(reason) => choice.text("finish_reason", reason),
                None => choice.null("finish_reason"),
            }
        }
        write_sse(out, None, &data);
    }
}
