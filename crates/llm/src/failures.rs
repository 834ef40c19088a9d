//! Failures as each dialect says them.

use crate::json::{Fields, Node, Object};
use crate::{Dialect, Failure, Kind};

/// The most bytes of a provider's words about a failure.
const MESSAGE: usize = 2000;

/// The HTTP status of a failure.
pub(crate) fn status(dialect: Dialect, kind: Kind) -> u16 {
    match kind {
        Kind::Spent if dialect == Dialect::Anthropic => 400,
        Kind::Invalid | Kind::Untranslatable | Kind::ContextLength => 400,
        Kind::Unauthenticated => 401,
        Kind::Forbidden => 403,
        Kind::NotFound => 404,
        Kind::TooLarge => 413,
        Kind::RateLimited | Kind::Spent => 429,
        Kind::Upstream => 500,
        Kind::Overloaded if dialect == Dialect::Anthropic => 529,
        Kind::Overloaded => 503,
        Kind::Unreachable | Kind::Malformed | Kind::Cut => 502,
        Kind::Timeout => 504,
        Kind::Cancelled => 499,
    }
}

/// The body of an answer with that status; in Ollama's and Gemini's streams it stands as it is.
pub(crate) fn write(dialect: Dialect, mut object: Object<'_>, failure: &Failure) {
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            let mut error = object.object("error");
            error.text("message", &failure.message);
            error.text("type", openai_type(failure.kind));
            match &failure.field {
                Some(field) => error.text("param", field),
                None => error.null("param"),
            }
            // Programs look for these words, and not for those of the provider that happened to be asked.
            match openai_code(failure.kind).or(failure.code.as_deref()) {
                Some(code) => error.text("code", code),
                None => error.null("code"),
            }
        }
        Dialect::Anthropic => {
            object.text("type", "error");
            let mut error = object.object("error");
            error.text("type", anthropic_type(failure.kind));
            error.text("message", &failure.message);
        }
        Dialect::OllamaChat | Dialect::OllamaGenerate => object.text("error", &failure.message),
        Dialect::Gemini => {
            let mut error = object.object("error");
            error.plain("code", status(dialect, failure.kind));
            error.text("message", &failure.message);
            error.text("status", gemini_status(failure.kind));
        }
        Dialect::Bedrock => object.text("message", &failure.message),
    }
}

fn openai_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::Untranslatable | Kind::ContextLength | Kind::TooLarge | Kind::NotFound => {
            "invalid_request_error"
        }
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::Spent => "insufficient_quota",
        Kind::Upstream | Kind::Overloaded | Kind::Unreachable | Kind::Timeout => "server_error",
        Kind::Cut | Kind::Malformed | Kind::Cancelled => "server_error",
    }
}

pub(crate) fn openai_code(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Untranslatable => "unsupported_parameter",
        Kind::ContextLength => "context_length_exceeded",
        Kind::NotFound => "model_not_found",
        Kind::Unauthenticated => "invalid_api_key",
        Kind::RateLimited => "rate_limit_exceeded",
        Kind::Spent => "insufficient_quota",
        Kind::Upstream => "server_error",
        Kind::Overloaded => "server_overloaded",
        Kind::Unreachable => "upstream_unreachable",
        Kind::Timeout => "timeout",
        Kind::Cut => "stream_cut",
        Kind::Malformed => "upstream_malformed",
        Kind::Cancelled => "cancelled",
        Kind::Invalid | Kind::Forbidden | Kind::TooLarge => return None,
    })
}

fn anthropic_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::Untranslatable | Kind::ContextLength => "invalid_request_error",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::RateLimited => "rate_limit_error",
        Kind::Spent => "billing_error",
        Kind::Overloaded => "overloaded_error",
        Kind::Timeout => "timeout_error",
        Kind::Upstream | Kind::Unreachable | Kind::Cut | Kind::Malformed | Kind::Cancelled => "api_error",
    }
}

fn gemini_status(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::Untranslatable | Kind::ContextLength | Kind::TooLarge => "INVALID_ARGUMENT",
        Kind::Unauthenticated => "UNAUTHENTICATED",
        Kind::Forbidden => "PERMISSION_DENIED",
        Kind::NotFound => "NOT_FOUND",
        Kind::RateLimited | Kind::Spent => "RESOURCE_EXHAUSTED",
        Kind::Upstream | Kind::Cut | Kind::Malformed => "INTERNAL",
        Kind::Overloaded | Kind::Unreachable => "UNAVAILABLE",
        Kind::Timeout => "DEADLINE_EXCEEDED",
        Kind::Cancelled => "CANCELLED",
    }
}

/// Reads an answer with a status of failure. The body is believed where it says more than the status.
pub(crate) fn read(dialect: Dialect, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Failure {
    let mut said = Node::read(body, Kind::Malformed)
        .and_then(Node::object)
        .and_then(|fields| spoken(dialect, fields))
        .unwrap_or_else(|_| Said::plain(body));
    if said.word.is_empty()
        && let Some((_, name)) = headers.iter().find(|(name, _)| *name == "x-amzn-errortype")
    {
        name.split(':').next().unwrap_or_default().clone_into(&mut said.word);
    }
    let status = said.status.unwrap_or(status);
    let kind = said.kind().unwrap_or_else(|| by_status(status));
    let kind = match (kind, by_status(status)) {
        (Kind::Invalid, by_status) => by_status.sharper(kind),
        // Many have one word for everything that is their fault; the status says that it passes.
        (Kind::Upstream, Kind::Overloaded) => Kind::Overloaded,
        _ => kind,
    };
    let mut failure = Failure::new(kind, said.message(status));
    failure.code = said.code.or(Some(said.word).filter(|word| !word.is_empty()));
    failure.field = said.field;
    failure.retry_after_ms = retry_after_ms(headers).or(said.retry_ms);
    failure
}

/// Reads what stands in the place of an answer, or of a piece of one: the value of `error`.
pub(crate) fn within(error: Node<'_>) -> Failure {
    let said = said(error).unwrap_or_default();
    inner(said)
}

/// The same, where it stands in an object of other things.
pub(crate) fn within_fields(fields: Fields<'_>) -> Failure {
    inner(said_in(fields).unwrap_or_default())
}

/// An exception of this name inside a stream.
pub(crate) fn named(name: &str, mut fields: Fields<'_>) -> Failure {
    let message = fields.string("message").ok().flatten().unwrap_or_default();
    inner(Said { message, word: name.chars().take(100).collect(), ..Said::default() })
}

fn inner(said: Said) -> Failure {
    let by_code = said.status.map(by_status);
    let kind = said.kind().or(by_code).unwrap_or(Kind::Upstream);
    let mut failure = Failure::new(kind, said.message(said.status.unwrap_or(200)));
    failure.code = said.code.or(Some(said.word).filter(|word| !word.is_empty()));
    failure.field = said.field;
    failure.retry_after_ms = said.retry_ms;
    failure
}

/// What a provider says of a failure.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) message: String,
    /// The sort, in the provider's word: `type`, `status`, or the name of an exception.
    pub(crate) word: String,
    pub(crate) code: Option<String>,
    field: Option<String>,
    status: Option<u16>,
    retry_ms: Option<u64>,
}

fn spoken(dialect: Dialect, mut fields: Fields<'_>) -> Result<Said, Failure> {
    if let Some(error) = fields.take("error") {
        return said(error);
    }
    let word = fields.string("__type")?.or(fields.string("type")?).unwrap_or_default();
    let message = match fields.string("message")? {
        Some(message) => message,
        None if dialect == Dialect::Bedrock => fields.words("Message")?,
        None => fields.string("detail").ok().flatten().unwrap_or_default(),
    };
    Ok(Said { message, word: word.rsplit('#').next().unwrap_or_default().to_owned(), ..Said::default() })
}

fn said(error: Node<'_>) -> Result<Said, Failure> {
    if error.is_text() {
        return Ok(Said { message: error.string()?, ..Said::default() });
    }
    said_in(error.object()?)
}

fn said_in(mut fields: Fields<'_>) -> Result<Said, Failure> {
    let mut said = Said { message: fields.words("message")?, ..Said::default() };
    let (sort, status) = (fields.string("type")?, fields.string("status")?);
    said.word = status.or(sort).unwrap_or_default();
    match fields.take("code") {
        Some(code) if code.is_text() => {
            let code = code.string()?;
            said.status = code.parse().ok().filter(|code| (400..600).contains(code));
            said.code = Some(code);
        }
        Some(code) => {
            let code = code.count().ok().and_then(|code| u16::try_from(code).ok());
            said.status = code.filter(|code| (400..600).contains(code));
        }
        None => {}
    }
    said.field = fields.take("param").and_then(|param| param.string().ok());
    for mut detail in fields.objects("details").unwrap_or_default() {
        if let Some(delay) = detail.string("retryDelay").ok().flatten() {
            said.retry_ms = seconds_ms(delay.trim_end_matches('s'));
        }
        said.code = said.code.or(detail.string("reason").ok().flatten());
    }
    Ok(said)
}

impl Said {
    /// A body that is no JSON: a page of a proxy, often.
    fn plain(body: &[u8]) -> Self {
        Self {
            message: String::from_utf8_lossy(body.get(..MESSAGE).unwrap_or(body)).into_owned(),
            ..Self::default()
        }
    }

    fn message(&self, status: u16) -> String {
        let printable = |letter: &char| !letter.is_control() || *letter == '\n';
        let text: String = self.message.chars().filter(printable).take(MESSAGE).collect();
        match text.trim() {
            "" => format!("the upstream answered with status {status} and no words"),
            text => text.to_owned(),
        }
    }

    /// What the provider's own words mean.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let words = [self.code.as_deref().unwrap_or_default(), self.word.as_str()];
        let by_word = words.iter().find_map(|word| by_word(word));
        let text = self.message.to_ascii_lowercase();
        let long =
            ["context length", "context window", "prompt is too long", "too many tokens", "maximum context"];
        match by_word {
            None | Some(Kind::Invalid) if long.iter().any(|words| text.contains(words)) => {
                Some(Kind::ContextLength)
            }
            Some(Kind::Invalid) if text.contains("credit balance is too low") => Some(Kind::Spent),
            kind => kind,
        }
    }
}

/// Each dialect's words; no two mean different things by the same one.
fn by_word(word: &str) -> Option<Kind> {
    Some(match word {
        "context_length_exceeded" | "string_above_max_length" => Kind::ContextLength,
        "insufficient_quota"
        | "billing_error"
        | "billing_hard_limit_reached"
        | "ServiceQuotaExceededException" => Kind::Spent,
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "RESOURCE_EXHAUSTED"
        | "ThrottlingException"
        | "throttlingException"
        | "tokens"
        | "requests" => Kind::RateLimited,
        "invalid_api_key"
        | "API_KEY_INVALID"
        | "authentication_error"
        | "UNAUTHENTICATED"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException" => Kind::Unauthenticated,
        "permission_error" | "PERMISSION_DENIED" | "AccessDeniedException" => Kind::Forbidden,
        "model_not_found" | "not_found_error" | "NOT_FOUND" | "ResourceNotFoundException" => Kind::NotFound,
        "request_too_large" => Kind::TooLarge,
        "overloaded_error"
        | "server_overloaded"
        | "UNAVAILABLE"
        | "ServiceUnavailableException"
        | "serviceUnavailableException"
        | "ModelNotReadyException" => Kind::Overloaded,
        "timeout_error" | "timeout" | "DEADLINE_EXCEEDED" | "ModelTimeoutException" => Kind::Timeout,
        "api_error"
        | "server_error"
        | "INTERNAL"
        | "InternalServerException"
        | "internalServerException"
        | "ModelErrorException"
        | "ModelStreamErrorException"
        | "modelStreamErrorException" => Kind::Upstream,
        "stream_cut" => Kind::Cut,
        "upstream_unreachable" => Kind::Unreachable,
        "upstream_malformed" => Kind::Malformed,
        "cancelled" | "CANCELLED" => Kind::Cancelled,
        "unsupported_parameter" => Kind::Untranslatable,
        "invalid_request_error"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "ValidationException"
        | "validationException"
        | "invalid_prompt" => Kind::Invalid,
        _ => return None,
    })
}

fn by_status(status: u16) -> Kind {
    match status {
        401 => Kind::Unauthenticated,
        402 => Kind::Spent,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        413 => Kind::TooLarge,
        429 => Kind::RateLimited,
        499 => Kind::Cancelled,
        502 => Kind::Unreachable,
        503 | 529 => Kind::Overloaded,
        400..=499 => Kind::Invalid,
        _ => Kind::Upstream,
    }
}

impl Kind {
    /// The status, where it says more than "the request is wrong".
    fn sharper(self, than: Self) -> Self {
        if matches!(self, Self::Upstream) { than } else { self }
    }
}

/// `retry-after-ms`, `retry-after` in seconds. A date in it needs a clock; nothing is said of it here.
fn retry_after_ms(headers: &[(&str, &str)]) -> Option<u64> {
    let find = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim());
    let in_ms = find("retry-after-ms").and_then(|value| value.parse::<u64>().ok());
    in_ms.or_else(|| find("retry-after").and_then(seconds_ms))
}

/// Milliseconds of seconds, which may have up to three decimals or more.
fn seconds_ms(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: u64 = whole.parse().ok()?;
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    Some(whole.saturating_mul(1000).saturating_add(digits.parse().ok()?))
}
