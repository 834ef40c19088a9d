//! Who offers models, and how each wants to be spoken to.

use octant_llm::{Dialect, Manner};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// How a key is shown to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of its own that has the key alone.
    Header(String),
    /// AWS Signature Version 4: the key signs and does not travel.
    SigV4,
    /// None is needed.
    None,
}

impl TryFrom<String> for Auth {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = |name: &str| {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (!name.is_empty() && name.len() <= 64 && name.bytes().all(legal)).then(|| name.to_owned())
        };
        match (text.as_str(), text.strip_prefix("header:").and_then(name)) {
            ("bearer", _) => Ok(Self::Bearer),
            ("sigv4", _) => Ok(Self::SigV4),
            ("none", _) => Ok(Self::None),
            (_, Some(header)) => Ok(Self::Header(header)),
            _ => Err(format!("{text:?} is none of bearer, header:NAME (in lower case), sigv4, none")),
        }
    }
}

/// In which field the most tokens of an answer stand (dialect `chat` only).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputField {
    /// The older one, which most compatible providers understand.
    #[default]
    MaxTokens,
    /// OpenAI's newer one, which its reasoning models insist on.
    MaxCompletionTokens,
}

/// Who offers models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name here.
    pub name: String,
    /// The first part of its models' names; absent: its name. So one who is spoken to in two ways has its models once.
    #[serde(default)]
    pub called: Option<String>,
    /// Where it is: a URL without the path of a method, or `unix:/PATH`. `{region}` and others are the deployment's to fill.
    pub base: String,
    /// What it speaks.
    #[serde(deserialize_with = "dialect")]
    pub dialect: Dialect,
    /// How it wants the key.
    pub auth: Auth,
    /// What is added to each URL behind a `?`; with the same `{...}` as in `base`.
    #[serde(default)]
    pub query: Option<String>,
    /// Headers that it wants in each request besides.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// In which field the most tokens of an answer stand.
    #[serde(default)]
    pub max_output: OutputField,
    /// Whether `stream_options.include_usage` is understood, without which a stream of dialect `chat` has no usage.
    #[serde(default)]
    pub stream_usage: bool,
    /// Whether it takes back what the model thought (`reasoning_content`, dialect `chat` only).
    #[serde(default)]
    pub takes_reasoning: bool,
    /// Whether keys and prompts may go to it unencrypted.
    #[serde(default)]
    pub plain: bool,
    /// Whether it is this machine: prompts do not leave it.
    #[serde(default)]
    pub local: bool,
    /// Whether anybody has tried Octant against the real thing.
    #[serde(default)]
    pub tried: bool,
}

impl Provider {
    /// What it differs in from others of its dialect.
    #[must_use]
    pub fn manner(&self) -> Manner {
        Manner {
            max_tokens: self.max_output == OutputField::MaxTokens,
            stream_usage: self.stream_usage,
            reasoning: self.takes_reasoning,
        }
    }
}

fn dialect<'de, D: Deserializer<'de>>(from: D) -> Result<Dialect, D::Error> {
    match String::deserialize(from)?.as_str() {
        "chat" => Ok(Dialect::Chat),
        "responses" => Ok(Dialect::Responses),
        "anthropic" => Ok(Dialect::Anthropic),
        "ollama" => Ok(Dialect::OllamaChat),
        "gemini" => Ok(Dialect::Gemini),
        "bedrock" => Ok(Dialect::Bedrock),
        other => Err(serde::de::Error::unknown_variant(
            other,
            &["chat", "responses", "anthropic", "ollama", "gemini", "bedrock"],
        )),
    }
}

/// The names in `{...}` of a text.
pub(crate) fn holes(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// A text with its `{...}` filled.
pub(crate) fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Escapes everything in a path's segment that is not unreserved (RFC 3986, section 2.3).
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The path behind the base at which a model answers.
pub(crate) fn path(dialect: Dialect, model: &str, stream: bool) -> String {
    match (dialect, stream) {
        (Dialect::Chat, _) => "/chat/completions".to_owned(),
        (Dialect::Responses, _) => "/responses".to_owned(),
        (Dialect::Anthropic, _) => "/v1/messages".to_owned(),
        (Dialect::OllamaChat, _) => "/api/chat".to_owned(),
        (Dialect::OllamaGenerate, _) => "/api/generate".to_owned(),
        (Dialect::Gemini, false) => format!("/v1beta/models/{}:generateContent", segment(model)),
        (Dialect::Gemini, true) => format!("/v1beta/models/{}:streamGenerateContent?alt=sse", segment(model)),
        (Dialect::Bedrock, false) => format!("/model/{}/converse", segment(model)),
        (Dialect::Bedrock, true) => format!("/model/{}/converse-stream", segment(model)),
    }
}

/// The path behind the base at which a model makes vectors; none where it has no such method.
pub(crate) fn embeddings_path(dialect: Dialect, model: &str) -> Option<String> {
    match dialect {
        Dialect::Chat | Dialect::Responses => Some("/embeddings".to_owned()),
        Dialect::OllamaChat | Dialect::OllamaGenerate => Some("/api/embed".to_owned()),
        Dialect::Gemini => Some(format!("/v1beta/models/{}:batchEmbedContents", segment(model))),
        Dialect::Anthropic | Dialect::Bedrock => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_s_name_cannot_leave_its_segment() {
        let way = path(Dialect::Gemini, "../x?y#z", false);
        assert_eq!(way, "/v1beta/models/..%2Fx%3Fy%23z:generateContent");
        let way = path(Dialect::Bedrock, "anthropic.claude-v1:0", true);
        assert_eq!(way, "/model/anthropic.claude-v1%3A0/converse-stream");
        assert_eq!(embeddings_path(Dialect::Anthropic, "x"), None);
    }

    #[test]
    fn the_ways_to_show_a_key_are_read() {
        let read = |text: &str| Auth::try_from(text.to_owned());
        assert_eq!(read("bearer"), Ok(Auth::Bearer));
        assert_eq!(read("header:x-api-key"), Ok(Auth::Header("x-api-key".to_owned())));
        for bad in ["", "Bearer", "header:", "header:X-Key", "header:a b", "basic"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn holes_are_found_and_filled() {
        let text = "https://bedrock-runtime.{region}.amazonaws.com/{x}";
        assert_eq!(holes(text).collect::<Vec<_>>(), ["region", "x"]);
        let values = [("region".to_owned(), "eu-central-1".to_owned())].into();
        assert_eq!(fill(text, &values), "https://bedrock-runtime.eu-central-1.amazonaws.com/{x}");
    }
}
