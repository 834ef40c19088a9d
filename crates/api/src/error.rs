//! The error that every method answers with.

use octant_ids::Exit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of failure an [`ApiError`] is; the `code` of a JSON-RPC 2.0 error object.
///
/// The first five are JSON-RPC's own, the rest lie in the range that it leaves to implementations
/// (-32099 to -32000). A number is never given to another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The line is not JSON.
    Parse,
    /// The line is JSON but not a request (version, id, shape).
    InvalidRequest,
    /// There is no such method on this socket.
    MethodNotFound,
    /// The parameters do not fit the method.
    InvalidParams,
    /// A fault in the service itself.
    Internal,
    /// The caller has no authority for it.
    Denied,
    /// What was named does not exist.
    NotFound,
    /// The service, or one that it needs, cannot do it now.
    Unavailable,
    /// The deadline passed.
    Deadline,
    /// A limit on work in flight is reached; the same request may pass later.
    Busy,
    /// A line, field or reply is longer than its limit.
    TooLong,
    /// JSON nested deeper than the limit.
    TooDeep,
    /// The state does not allow it (already ended, already exists).
    Conflict,
    /// A signature, hash or chain does not verify.
    Unverified,
    /// No space left to store it durably.
    Full,
    /// Stored data is damaged; reading goes on, writing is refused.
    Damaged,
    /// A layer of isolation cannot be put in place.
    LayerMissing,
    /// The caller took the request back, or went away.
    Cancelled,
    /// A request with this id is still in flight.
    DuplicateId,
    /// It was tried and failed.
    Failed,
    /// An operator has to approve it first: `data.approval` is the request that waits. The same call is made again after
    /// the answer.
    ApprovalNeeded,
    /// MCP's own: a revision of that protocol that is not served. `data.supported` names those that are.
    UnsupportedVersion,
    /// A code that this build does not know.
    Other(i32),
}

/// Every code with its number, its name in the documentation, and the exit code that a command ends with.
pub const CODES: [(Code, i32, &str, Exit); 22] = [
    (Code::Parse, -32700, "parse", Exit::Invalid),
    (Code::InvalidRequest, -32600, "invalid_request", Exit::Invalid),
    (Code::MethodNotFound, -32601, "method_not_found", Exit::NotFound),
    (Code::InvalidParams, -32602, "invalid_params", Exit::Invalid),
    (Code::Internal, -32603, "internal", Exit::Internal),
    (Code::Denied, -32001, "denied", Exit::Denied),
    (Code::NotFound, -32002, "not_found", Exit::NotFound),
    (Code::Unavailable, -32003, "unavailable", Exit::Unavailable),
    (Code::Deadline, -32004, "deadline", Exit::Deadline),
    (Code::Busy, -32005, "busy", Exit::Unavailable),
    (Code::TooLong, -32006, "too_long", Exit::Invalid),
    (Code::TooDeep, -32007, "too_deep", Exit::Invalid),
    (Code::Conflict, -32008, "conflict", Exit::Failed),
    (Code::Unverified, -32009, "unverified", Exit::Unverified),
    (Code::Full, -32010, "full", Exit::Unavailable),
    (Code::Damaged, -32011, "damaged", Exit::Unverified),
    (Code::LayerMissing, -32012, "layer_missing", Exit::LayerMissing),
    (Code::Cancelled, -32013, "cancelled", Exit::Failed),
    (Code::DuplicateId, -32014, "duplicate_id", Exit::Invalid),
    (Code::Failed, -32015, "failed", Exit::Failed),
    (Code::ApprovalNeeded, -32016, "approval_needed", Exit::Denied),
    (Code::UnsupportedVersion, -32022, "unsupported_version", Exit::Invalid),
];

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Other(number) => number,
            known => CODES.iter().find(|row| row.0 == known).map_or(-32603, |row| row.1),
        }
    }

    /// The code of a number; [`Code::Other`] when it is not in the table.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        CODES.iter().find(|row| row.1 == number).map_or(Self::Other(number), |row| row.0)
    }

    /// The exit code of a command that fails with it.
    #[must_use]
    pub fn exit(self) -> Exit {
        CODES.iter().find(|row| row.0 == self).map_or(Exit::Failed, |row| row.3)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.number())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i32::deserialize(deserializer).map(Self::of_number)
    }
}

/// The error object of a JSON-RPC answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// The kind of failure.
    #[schemars(with = "i32")]
    pub code: Code,
    /// One sentence: what failed, where and why.
    pub message: String,
    /// The same, in parts, with the next step.
    #[serde(default)]
    pub data: Box<ErrorData>,
}

/// The parts of an error's message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// What failed: `"append to the ledger"`.
    #[serde(default)]
    pub what: String,
    /// Where: a path, method, field or service.
    #[serde(default, rename = "where")]
    pub place: String,
    /// Why, as far as it is known.
    #[serde(default)]
    pub why: String,
    /// What to do next.
    #[serde(default)]
    pub next: String,
    /// The rules for manifests that are broken, by name and in order; empty for every other error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The request that waits for an operator's answer; only with the code `approval_needed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The revisions of MCP that are served; only with the code `unsupported_version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported: Vec<String>,
    /// The revision that was asked for; only with the code `unsupported_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
}

impl ApiError {
    /// An error of its four parts; the message is made of the first three.
    #[must_use]
    pub fn new(
        code: Code,
        what: impl Into<String>,
        place: impl Into<String>,
        why: impl fmt::Display,
        next: impl Into<String>,
    ) -> Self {
        let (what, place, why) = (what.into(), place.into(), why.to_string());
        let message = format!("{what} ({place}): {why}");
        Self {
            code,
            message,
            data: Box::new(ErrorData { what, place, why, next: next.into(), ..ErrorData::default() }),
        }
    }

    /// The same, with the rules for manifests that are broken.
    #[must_use]
    pub fn breaks<'a>(mut self, rules: impl IntoIterator<Item = &'a str>) -> Self {
        self.data.rules = rules.into_iter().map(str::to_owned).collect();
        self
    }

    /// The same, with the request for approval that it waits for.
    #[must_use]
    pub fn waits_for(mut self, approval: String) -> Self {
        self.data.approval = Some(approval);
        self
    }

    /// The exit code of a command that fails with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.code.exit()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.data.next.is_empty() { Ok(()) } else { write!(f, "; {}", self.data.next) }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_one_to_one() {
        for (i, row) in CODES.iter().enumerate() {
            assert_eq!(Code::of_number(row.1), row.0);
            assert_eq!(row.0.number(), row.1);
            assert!(CODES[..i].iter().all(|other| other.1 != row.1 && other.2 != row.2), "{row:?}");
        }
        assert_eq!(Code::of_number(-1), Code::Other(-1));
        assert_eq!(Code::Other(-1).number(), -1);
    }

    #[test]
    fn an_error_object_reads_as_json_rpc_says() {
        let error = ApiError::new(Code::Denied, "append", "ledger.append", "uid 7 is nobody", "ask");
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"code":-32001,"message":"append (ledger.append): uid 7 is nobody","data":{"what":"append","where":"ledger.append","why":"uid 7 is nobody","next":"ask"}}"#
        );
        assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
        assert_eq!(error.exit(), Exit::Denied);
        // A foreign peer may leave `data` out.
        let bare: ApiError = serde_json::from_str(r#"{"code":-5,"message":"m"}"#).unwrap();
        assert_eq!(bare.to_string(), "m");
    }
}
