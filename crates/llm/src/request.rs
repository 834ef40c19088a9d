//! What is asked, whatever the dialect.

use crate::json::Json;

/// A request for an answer of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The model, as the one who asks names it.
    pub model: String,
    /// What the model is told before everything else.
    pub system: Vec<Part>,
    /// The conversation so far. Results of tools stand in messages of the user.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it has to.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at a time; none: as the provider does by default.
    pub parallel_tools: Option<bool>,
    /// The most tokens of the answer, with reasoning.
    pub max_output: Option<u64>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The form of the answer.
    pub format: Format,
    /// How much it thinks before.
    pub reasoning: Option<Reasoning>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether those pieces end with what was used, in the dialects where that has to be asked for.
    pub stream_usage: bool,
    /// Who asks, in the words of the one who asks (`user`, `metadata.user_id`).
    pub user: Option<String>,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// Who set the model up, and says more between two turns. What comes before every turn is [`Request::system`].
    System,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// The provider is asked to keep everything up to here in its cache; before the first words of
    /// [`Request::system`] it stands for the tools.
    CacheMark {
        /// For an hour and not for some minutes.
        hour: bool,
    },
    /// A picture.
    Image(Image),
    /// What the model thought in an earlier turn.
    Reasoning {
        /// The provider's identifier of it.
        id: Option<String>,
        /// The words.
        text: String,
        /// What proves that they are the provider's own.
        signature: Option<String>,
    },
    /// Reasoning of an earlier turn that the provider keeps to itself.
    Sealed {
        /// The provider's identifier of it.
        id: Option<String>,
        /// What it is, as the provider wrote it.
        data: String,
    },
    /// Why the model did not answer in an earlier turn.
    Refusal(String),
    /// A call of a tool in an earlier turn.
    ToolCall {
        /// By which the result is told apart.
        id: String,
        /// Which tool.
        name: String,
        /// JSON text; the model may have written it wrong.
        arguments: String,
    },
    /// What a tool gave back.
    ToolResult {
        /// Of which call.
        id: String,
        /// What: text and pictures.
        parts: Vec<Part>,
        /// Whether the tool failed.
        failed: bool,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// Where it is; the provider fetches it.
    Url(String),
    /// What it is.
    Bytes {
        /// `image/png` and others.
        media_type: String,
        /// In base64 (RFC 4648, section 4).
        base64: String,
    },
}

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub schema: Json,
    /// Whether the model is held to the schema.
    pub strict: Option<bool>,
}

/// Whether the model has to call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It may not.
    None,
    /// One of them.
    Any,
    /// This one.
    Named(String),
}

/// How the next token is chosen. What is absent is as the provider has it by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// Temperature.
    pub temperature: Option<f64>,
    /// The share of probability that is drawn from.
    pub top_p: Option<f64>,
    /// The number of tokens that are drawn from.
    pub top_k: Option<u64>,
    /// Seed.
    pub seed: Option<i64>,
    /// Sequences at which the answer stops.
    pub stop: Vec<String>,
    /// Against what was said often.
    pub frequency_penalty: Option<f64>,
    /// Against what was said at all.
    pub presence_penalty: Option<f64>,
}

/// The form of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Format {
    /// Words.
    #[default]
    Text,
    /// JSON of any shape.
    Json,
    /// JSON of this shape.
    Schema {
        /// Its name.
        name: String,
        /// JSON Schema.
        schema: Json,
        /// Whether the model is held to it.
        strict: Option<bool>,
    },
}

/// How much a model thinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget: Option<u64>,
    /// Whether what it thinks, or a summary, comes back.
    pub shown: bool,
}

/// How much a model thinks, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More than much.
    Highest,
}

impl Image {
    /// A picture at a URL; a `data:` URL in base64 is the picture itself.
    #[must_use]
    pub fn from_url(url: String) -> Self {
        let parts = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        match parts {
            Some((media_type, base64)) => {
                Self::Bytes { media_type: media_type.to_owned(), base64: base64.to_owned() }
            }
            None => Self::Url(url),
        }
    }

    /// The URL of it.
    #[must_use]
    pub fn as_url(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Bytes { media_type, base64 } => format!("data:{media_type};base64,{base64}"),
        }
    }
}

impl Reasoning {
    /// In words, also where it was said in tokens: up to 4,095 are little, up to 16,383 some.
    #[must_use]
    pub fn as_effort(&self) -> Option<Effort> {
        self.effort.or(self.budget.map(|budget| match budget {
            0 => Effort::None,
            1..4096 => Effort::Low,
            4096..16_384 => Effort::Medium,
            _ => Effort::High,
        }))
    }
}
