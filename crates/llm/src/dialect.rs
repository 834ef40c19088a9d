//! The dialects, and what each can do.

use crate::answer::cut;
use crate::framing::{Frame, Framing, Sse};
use crate::json::{Fields, Object};
use crate::proof::Marker;
use crate::stream::Stream;
use crate::{Answer, Block, Event, Failure, Kind, Request};
use crate::{anthropic, bedrock, chat, failures, gemini, ollama, proof, responses};

/// The most bytes of a request or of an answer that is no stream.
const BODY_BYTES: usize = 32 << 20;

/// How a program or a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// `OpenAI`, `/v1/chat/completions`, and whoever is compatible with it.
    Chat,
    /// `OpenAI`, `/v1/responses`.
    Responses,
    /// Anthropic, `/v1/messages`.
    Anthropic,
    /// Ollama, `/api/chat`.
    OllamaChat,
    /// Ollama, `/api/generate`.
    OllamaGenerate,
    /// Gemini, `generateContent` and `streamGenerateContent?alt=sse`. The model and whether it is a stream are in the
    /// path, not in the body.
    Gemini,
    /// Bedrock, `converse` and `converse-stream`. The model and whether it is a stream are in the path, not in the body.
    Bedrock,
}

/// What providers of one dialect differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// [`Dialect::Chat`]: the limit of the answer is called `max_tokens`, as it was before reasoning.
    pub max_tokens: bool,
    /// [`Dialect::Chat`]: it is asked for the usage of a stream (`stream_options`).
    pub stream_usage: bool,
    /// [`Dialect::Chat`]: it takes back what the model thought (`reasoning_content`); else that is left out.
    pub reasoning: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { max_tokens: false, stream_usage: true, reasoning: false }
    }
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Responses,
        Self::Anthropic,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::Gemini,
        Self::Bedrock,
    ];

    /// Reads what a program sends.
    ///
    /// # Errors
    /// [`Kind::Invalid`] and [`Kind::TooLarge`]; [`Kind::Untranslatable`] for what no other dialect can say.
    pub fn read_request(self, body: &[u8]) -> Result<Request, Failure> {
        if body.len() > BODY_BYTES {
            let what = format!("the request has {} bytes; at most {BODY_BYTES} are taken", body.len());
            return Err(Failure::new(Kind::TooLarge, what));
        }
        let fields = Fields::read(body, Kind::Invalid)?;
        let mut request = match self {
            Self::Chat => chat::read_request(fields),
            Self::Responses => responses::read_request(fields),
            Self::Anthropic => anthropic::read_request(fields),
            Self::OllamaChat => ollama::read_chat(fields),
            Self::OllamaGenerate => ollama::read_generate(fields),
            Self::Gemini => gemini::read_request(fields),
            Self::Bedrock => bedrock::read_request(fields),
        }?;
        request.messages.iter_mut().for_each(|message| proof::mark_parts(self, &mut message.parts));
        Ok(request)
    }

    /// Whether a request may hold a proof of reasoning that another provider than one of this dialect made, because the
    /// router had asked that one before. A provider refuses such a request as it is: it has to be read and written.
    #[must_use]
    pub fn holds_foreign_proof(self, body: &[u8]) -> bool {
        proof::stands_in(body)
    }

    /// Writes what a provider gets.
    ///
    /// # Errors
    /// [`Kind::Untranslatable`], with the field that this dialect has no word for.
    pub fn write_request(self, request: &Request) -> Result<Vec<u8>, Failure> {
        self.write_request_as(request, Manner::default())
    }

    /// The same for a provider with a manner of its own.
    ///
    /// # Errors
    /// As [`Dialect::write_request`].
    pub fn write_request_as(self, request: &Request, manner: Manner) -> Result<Vec<u8>, Failure> {
        let own = proof::any(request).then(|| proof::own_only(self, request));
        let request = own.as_ref().unwrap_or(request);
        let mut out = Vec::new();
        let object = Object::new(&mut out);
        match self {
            Self::Chat => chat::write_request(object, request, manner)?,
            Self::Responses => responses::write_request(object, request)?,
            Self::Anthropic => anthropic::write_request(object, request)?,
            Self::OllamaChat => ollama::write_chat(object, request)?,
            Self::OllamaGenerate => ollama::write_generate(object, request)?,
            Self::Gemini => gemini::write_request(object, request)?,
            Self::Bedrock => bedrock::write_request(object, request)?,
        }
        Ok(out)
    }

    /// Reads a provider's answer that is no stream.
    ///
    /// # Errors
    /// [`Kind::Malformed`], and what the provider says went wrong.
    pub fn read_answer(self, body: &[u8]) -> Result<Vec<Event>, Failure> {
        if body.len() > BODY_BYTES {
            return Err(Failure::new(Kind::Malformed, format!("an answer of more than {BODY_BYTES} bytes")));
        }
        let fields = Fields::read(body, Kind::Malformed)?;
        let mut foreign = None;
        let mut answer = match self {
            Self::Chat => chat::read_answer(fields)?,
            Self::Responses => responses::read_answer(fields, &mut foreign)?,
            Self::Anthropic => anthropic::read_answer(fields, &mut foreign)?,
            Self::Bedrock => bedrock::read_answer(fields, &mut foreign)?,
            // Their streams are made of such answers.
            Self::OllamaChat | Self::OllamaGenerate | Self::Gemini => {
                let mut state = self.state();
                let mut stream = Stream::default();
                state.frame(Frame { name: "", data: body }, &mut stream)?;
                state.end(&mut stream);
                let mut events = stream.take();
                if let Some(Event::Failed(failure)) = events.last() {
                    return Err(failure.clone());
                }
                if !stream.ended() {
                    return Err(Failure::new(Kind::Malformed, "the answer does not say why it ended"));
                }
                let mut marker = Marker::new(self);
                events.iter_mut().for_each(|event| marker.mark(event));
                return Ok(events);
            }
        };
        proof::mark_parts(self, &mut answer.parts);
        Ok(answer.events_and(foreign))
    }

    /// Writes an answer that is no stream. The request is the one that is answered.
    ///
    /// # Errors
    /// As [`Answer::collect`], and [`Kind::Untranslatable`].
    pub fn write_answer(self, request: &Request, events: &[Event]) -> Result<Vec<u8>, Failure> {
        let mut answer = Answer::collect(events)?;
        proof::bare_parts(self, &mut answer.parts);
        if answer.model.is_empty() {
            answer.model.clone_from(&request.model);
        }
        let mut out = Vec::new();
        let object = Object::new(&mut out);
        match self {
            Self::Chat => chat::write_answer(object, &answer)?,
            Self::Responses => responses::write_answer(object, request, &answer)?,
            Self::Anthropic => anthropic::write_answer(object, &answer)?,
            Self::OllamaChat => ollama::write_answer(object, &answer, true)?,
            Self::OllamaGenerate => ollama::write_answer(object, &answer, false)?,
            Self::Gemini => gemini::write_answer(object, &answer)?,
            Self::Bedrock => bedrock::write_answer(object, &answer)?,
        }
        Ok(out)
    }

    /// Reads a provider's stream.
    #[must_use]
    pub fn decoder(self) -> Decoder {
        Decoder {
            framing: self.framing(),
            state: self.state(),
            stream: Stream::default(),
            marker: Marker::new(self),
        }
    }

    pub(crate) fn framing(self) -> Framing {
        match self {
            Self::OllamaChat | Self::OllamaGenerate => Framing::Lines(crate::framing::Lines::default()),
            Self::Bedrock => Framing::Frames(bedrock::Frames::default()),
            Self::Chat | Self::Responses | Self::Anthropic | Self::Gemini => Framing::Sse(Sse::default()),
        }
    }

    fn state(self) -> State {
        match self {
            Self::Chat => State::Chat(chat::Reader::default()),
            Self::Responses => State::Responses(responses::Reader::default()),
            Self::Anthropic => State::Anthropic(anthropic::Reader::default()),
            Self::OllamaChat | Self::OllamaGenerate => State::Ollama(ollama::Reader::default()),
            Self::Gemini => State::Gemini(gemini::Reader::default()),
            Self::Bedrock => State::Bedrock(bedrock::Reader::default()),
        }
    }

    /// Writes a program's stream: the answer to this request.
    #[must_use]
    pub fn encoder(self, request: &Request) -> Encoder {
        let voice = match self {
            Self::Chat => Voice::Chat(chat::Writer::new(request)),
            Self::Responses => Voice::Responses(responses::Writer::new(request)),
            Self::Anthropic => Voice::Anthropic(anthropic::Writer::default()),
            Self::OllamaChat => Voice::Ollama(ollama::Writer::new(true)),
            Self::OllamaGenerate => Voice::Ollama(ollama::Writer::new(false)),
            Self::Gemini => Voice::Gemini(gemini::Writer::default()),
            Self::Bedrock => Voice::Bedrock(bedrock::Writer::default()),
        };
        Encoder {
            voice,
            dialect: self,
            marker: Marker::new(self),
            model: request.model.clone(),
            ended: false,
            unsaid: None,
        }
    }

    /// The media type of a stream in this dialect.
    #[must_use]
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::OllamaChat | Self::OllamaGenerate => "application/x-ndjson",
            Self::Bedrock => "application/vnd.amazon.eventstream",
            Self::Chat | Self::Responses | Self::Anthropic | Self::Gemini => {
                "text/event-stream; charset=utf-8"
            }
        }
    }

    /// What a provider's answer with an HTTP status of failure says. Names of headers in small letters.
    #[must_use]
    pub fn read_failure(self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Failure {
        failures::read(self, status, headers, body)
    }

    /// A failure as a program of this dialect expects it: the HTTP status and the body.
    #[must_use]
    pub fn write_failure(self, failure: &Failure) -> (u16, Vec<u8>) {
        let mut out = Vec::new();
        failures::write(self, Object::new(&mut out), failure);
        (failures::status(self, failure.kind), out)
    }
}

/// Reads a stream, however it is cut into pieces.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    state: State,
    stream: Stream,
    marker: Marker,
}

#[derive(Debug)]
enum State {
    Chat(chat::Reader),
    Responses(responses::Reader),
    Anthropic(anthropic::Reader),
    Ollama(ollama::Reader),
    Gemini(gemini::Reader),
    Bedrock(bedrock::Reader),
}

impl State {
    fn frame(&mut self, frame: Frame<'_>, stream: &mut Stream) -> Result<(), Failure> {
        match self {
            Self::Chat(reader) => reader.frame(frame, stream),
            Self::Responses(reader) => reader.frame(frame, stream),
            Self::Anthropic(reader) => reader.frame(frame, stream),
            Self::Ollama(reader) => reader.frame(frame, stream),
            Self::Gemini(reader) => reader.frame(frame, stream),
            Self::Bedrock(reader) => reader.frame(frame, stream),
        }
    }

    /// Nothing more comes: some dialects have no mark of the end beyond the reason for it.
    fn end(&mut self, stream: &mut Stream) {
        match self {
            Self::Gemini(reader) => reader.end(stream),
            Self::Bedrock(reader) => reader.end(stream),
            Self::Chat(_) | Self::Responses(_) | Self::Anthropic(_) | Self::Ollama(_) => {}
        }
    }
}

impl Decoder {
    /// More bytes; what they say. After a terminal event nothing is said any more.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        if self.stream.ended() {
            return Vec::new();
        }
        let Self { framing, state, stream, .. } = self;
        let pushed = framing.push(bytes, &mut |frame| step(state, stream, frame));
        if let Err(failure) = pushed {
            stream.fail(failure);
        }
        self.take()
    }

    fn take(&mut self) -> Vec<Event> {
        let mut events = self.stream.take();
        events.iter_mut().for_each(|event| self.marker.mark(event));
        events
    }

    /// Nothing more comes. Without a terminal event so far this says [`Event::Failed`] with [`Kind::Cut`], once.
    #[must_use]
    pub fn end(&mut self) -> Vec<Event> {
        let Self { framing, state, stream, .. } = self;
        framing.end(&mut |frame| step(state, stream, frame));
        state.end(stream);
        stream.fail(cut());
        self.take()
    }

    /// Whether there was a terminal event.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.stream.ended()
    }
}

fn step(state: &mut State, stream: &mut Stream, frame: Frame<'_>) {
    if !stream.ended()
        && let Err(failure) = state.frame(frame, stream)
    {
        stream.fail(failure);
    }
}

/// Writes a stream, event by event, and keeps nothing back that can be said.
#[derive(Debug)]
pub struct Encoder {
    voice: Voice,
    dialect: Dialect,
    marker: Marker,
    /// What the program asked for: said where the provider does not say who answers.
    model: String,
    ended: bool,
    unsaid: Option<Failure>,
}

#[derive(Debug)]
enum Voice {
    Chat(chat::Writer),
    Responses(responses::Writer),
    Anthropic(anthropic::Writer),
    Ollama(ollama::Writer),
    Gemini(gemini::Writer),
    Bedrock(bedrock::Writer),
}

impl Encoder {
    /// Writes an event. After a terminal event nothing is written any more. An event that the dialect has no word for
    /// is written as a failure, which is terminal: [`Encoder::unsaid`].
    pub fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let bare = match event {
            Event::Started { id, model } if model.is_empty() => {
                Some(Event::Started { id: id.clone(), model: self.model.clone() })
            }
            event => self.marker.bare(event),
        };
        let event = bare.as_ref().unwrap_or(event);
        let written = match event {
            Event::Failed(failure) => Err(failure.clone()),
            Event::BlockStarted { block: Block::Foreign { sort }, .. } => Err(Block::refused(sort)),
            event => self.voice.event(event, out),
        };
        self.ended = matches!(event, Event::Finished { .. });
        if let Err(failure) = written {
            self.ended = true;
            self.voice.failure(self.dialect, &failure, out);
            self.unsaid = Some(failure).filter(|_| !matches!(event, Event::Failed(_)));
        }
    }

    /// What was said in place of an event that the dialect has no word for.
    #[must_use]
    pub fn unsaid(&self) -> Option<&Failure> {
        self.unsaid.as_ref()
    }

    /// Whether a terminal event has been written.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl Voice {
    fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Chat(writer) => writer.event(event, out),
            Self::Responses(writer) => writer.event(event, out),
            Self::Anthropic(writer) => writer.event(event, out),
            Self::Ollama(writer) => writer.event(event, out),
            Self::Gemini(writer) => writer.event(event, out),
            Self::Bedrock(writer) => writer.event(event, out),
        }
    }

    fn failure(&mut self, dialect: Dialect, failure: &Failure, out: &mut Vec<u8>) {
        match self {
            Self::Responses(writer) => writer.failure(failure, out),
            Self::Bedrock(_) => bedrock::write_exception(failure, out),
            Self::Chat(_) | Self::Anthropic(_) | Self::Ollama(_) | Self::Gemini(_) => {
                let (_, body) = dialect.write_failure(failure);
                match self {
                    Self::Ollama(_) => {
                        out.extend_from_slice(&body);
                        out.push(b'\n');
                    }
                    Self::Anthropic(_) => crate::framing::write_sse(out, Some("error"), &body),
                    _ => crate::framing::write_sse(out, None, &body),
                }
            }
        }
    }
}
