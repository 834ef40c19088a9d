//! What went wrong, in a form that every dialect can say.

/// Why there is no answer, or no complete one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What sort of failure.
    pub kind: Kind,
    /// What, where, why and what next, for a person. Never holds a key.
    pub message: String,
    /// The provider's own code, where it gave one.
    pub code: Option<String>,
    /// The field of the request that it is about.
    pub field: Option<String>,
    /// After how many milliseconds it may be tried again, where the provider said it.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure of this sort.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, field: None, retry_after_ms: None }
    }

    /// The same, about a field of the request.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

/// Sorts of failures. Each has one HTTP status in every dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong (400).
    Invalid,
    /// The request is right, and cannot be said in the dialect of the upstream (400).
    Untranslatable,
    /// No key, or a wrong one (401).
    Unauthenticated,
    /// It may not be asked for (403).
    Forbidden,
    /// No such model or path (404).
    NotFound,
    /// The request has too many bytes (413).
    TooLarge,
    /// The prompt is longer than the model's window (400).
    ContextLength,
    /// Too many requests or tokens in a time; it passes (429).
    RateLimited,
    /// The account has no more money or tokens; it does not pass by itself (429; Anthropic: 400).
    Spent,
    /// The provider failed (500).
    Upstream,
    /// The provider has no room now (529; in other dialects 503).
    Overloaded,
    /// Nobody could be reached (502).
    Unreachable,
    /// It took too long (504).
    Timeout,
    /// The stream ended before its terminal event.
    Cut,
    /// What came is not what the dialect allows (502).
    Malformed,
    /// Who asked has gone away.
    Cancelled,
}

impl Failure {
    /// The request is right, and the dialect of the upstream has no word for what this field says.
    #[must_use]
    pub fn untranslatable(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self::new(Kind::Untranslatable, format!("{field}: {why}")).at(field)
    }
}
