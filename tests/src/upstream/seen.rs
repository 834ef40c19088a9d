//! What came in: every call, with how it ended.

use super::http::Request;
use super::wire::Stop;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// So many calls are kept; all are counted.
const KEPT: usize = 4096;
/// So much of a body is kept.
const BODY: usize = 256 << 10;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Open,
    /// The answer went out as the script has it.
    Said,
    /// The script closed the connection.
    Closed,
    /// The caller went away before the answer was out.
    Gone,
}

impl Outcome {
    pub(super) fn of(said: &Result<(), Stop>) -> Self {
        match said {
            Ok(()) | Err(Stop::Early) => Self::Said,
            Err(Stop::Scripted) => Self::Closed,
            Err(Stop::Gone) => Self::Gone,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Said => "said",
            Self::Closed => "closed",
            Self::Gone => "gone",
        }
    }
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// From 0.
    pub number: usize,
    /// GET, POST.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// The model, where the path speaks a dialect.
    pub model: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// As it came, up to a bound.
    pub body: Vec<u8>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Call {
    /// The body as JSON, or null.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    calls: VecDeque<Call>,
    count: usize,
    times: BTreeMap<String, u64>,
}

impl Seen {
    /// Takes a call down; gives its number.
    pub(super) fn begin(&mut self, request: &Request, model: &str) -> usize {
        let number = self.count;
        self.count += 1;
        *self.times.entry(model.to_owned()).or_default() += 1;
        if self.calls.len() == KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            number,
            method: request.method.clone(),
            path: request.path.clone(),
            model: model.to_owned(),
            headers: request.headers.clone(),
            body: request.body[..request.body.len().min(BODY)].to_vec(),
            outcome: Outcome::Open,
        });
        number
    }

    /// Takes down how it ended, where it is still kept.
    pub(super) fn end(&mut self, number: usize, outcome: Outcome) {
        if let Some(call) = self.calls.iter_mut().rev().find(|call| call.number == number) {
            call.outcome = outcome;
        }
    }

    /// How often this model was asked.
    pub(super) fn times(&self, model: &str) -> u64 {
        self.times.get(model).copied().unwrap_or(0)
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.iter().cloned().collect()
    }

    /// For tests in other languages.
    pub(super) fn json(&self) -> Value {
        let call = |call: &Call| {
            json!({
                "number": call.number, "method": call.method, "path": call.path, "model": call.model,
                "headers": call.headers, "body": String::from_utf8_lossy(&call.body),
                "outcome": call.outcome.name(),
            })
        };
        json!({"count": self.count, "times": self.times, "calls": self.calls.iter().map(call).collect::<Vec<_>>()})
    }
}
