//! What a line says: requests, notifications, answers.

use crate::scan::DEPTH_MAX;
use octant_api::error::{ApiError, Code};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The longest text that may be a request's id, in bytes.
pub const ID_MAX: usize = 64;
/// The longest answer or item, in bytes. Methods that could answer with more do it in pages.
pub const REPLY_MAX: usize = 4 << 20;
/// Deepest nesting that a client accepts in an answer: a request's payload comes back inside a few more
/// levels.
pub const REPLY_DEPTH_MAX: u32 = 64;
/// The notification that carries one item of a stream.
pub const STREAM: &str = "stream";
/// The notification by which a caller takes a request back (the name is MCP's).
pub const CANCELLED: &str = "notifications/cancelled";

/// A request's id, chosen by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// An integer.
    Number(i64),
    /// A text of at most [`ID_MAX`] bytes.
    Text(Box<str>),
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an id: an integer, or a text of at most {ID_MAX} bytes")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                i64::try_from(number)
                    .map(Id::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                if text.len() > ID_MAX {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Id::Text(text.into()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// A request, or a notification when it has no id.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The request's id; none for a notification.
    pub id: Option<Id>,
    /// The method.
    pub method: Cow<'a, str>,
    /// The text of the parameters' object; `{}` when there are none.
    pub params: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'a, str>>,
    // `null` is no id here: it would be answered with an id that no caller can tell from an error's.
    #[serde(default, deserialize_with = "present")]
    id: Option<Id>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id>, D::Error> {
    Id::deserialize(deserializer).map(Some)
}

/// A line that cannot be taken as a request: the answer, and the id to answer to if it could be read.
#[derive(Debug)]
pub struct Refused {
    /// The id, if the line was good enough to have one.
    pub id: Option<Id>,
    /// The answer.
    pub error: ApiError,
}

impl Refused {
    fn line(code: Code, why: impl fmt::Display, next: &str) -> Self {
        Self { id: None, error: ApiError::new(code, "read a request", "line", why, next) }
    }

    /// The refusal of a line with more bytes than `max`.
    #[must_use]
    pub fn too_long(max: usize) -> Self {
        Self::line(
            Code::TooLong,
            format_args!("the line has more than {max} bytes"),
            "send less in one request",
        )
    }
}

/// Reads a request. `deepest` is the nesting that the scanner measured in it.
///
/// # Errors
/// [`Refused`] with [`Code::TooDeep`], [`Code::Parse`] or [`Code::InvalidRequest`].
pub fn read_request(line: &[u8], deepest: u32) -> Result<Incoming<'_>, Refused> {
    const SHAPE: &str = "send {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"service.method\",\"params\":{}}";
    if deepest > DEPTH_MAX {
        let why = format_args!("it nests {deepest} levels deep, more than {DEPTH_MAX}");
        return Err(Refused::line(Code::TooDeep, why, "send flatter data"));
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        let code = if error.is_data() { Code::InvalidRequest } else { Code::Parse };
        Refused::line(code, error, SHAPE)
    })?;
    let invalid = |id: Option<Id>, why: &str| {
        let Refused { error, .. } = Refused::line(Code::InvalidRequest, why, SHAPE);
        Err(Refused { id, error })
    };
    if line.jsonrpc.as_deref() != Some("2.0") {
        return invalid(line.id, "\"jsonrpc\" is not \"2.0\"");
    }
    let Some(method) = line.method else {
        return invalid(line.id, "there is no \"method\"");
    };
    let params = line.params.map_or("{}", RawValue::get);
    if !params.starts_with('{') {
        return invalid(line.id, "\"params\" is not an object; parameters have names here");
    }
    Ok(Incoming { id: line.id, method, params })
}

/// Starts an answer's line: everything before the result.
pub(crate) fn start_answer(out: &mut Vec<u8>, id: &Id) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    write_id(out, Some(id));
    out.extend_from_slice(b",\"result\":");
}

/// Ends the line that [`start_answer`] began.
pub(crate) fn end_answer(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n");
}

/// Writes a whole error answer.
pub(crate) fn write_error(out: &mut Vec<u8>, id: Option<&Id>, error: &ApiError) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    write_id(out, id);
    out.extend_from_slice(b",\"error\":");
    write_json(out, error);
    out.extend_from_slice(b"}\n");
}

/// Starts an item's line: everything before the item.
pub(crate) fn start_item(out: &mut Vec<u8>, id: &Id) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"stream\",\"params\":{\"id\":");
    write_id(out, Some(id));
    out.extend_from_slice(b",\"item\":");
}

/// Ends the line that [`start_item`] began.
pub(crate) fn end_item(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}}\n");
}

/// Writes a request's line.
pub(crate) fn write_request<P: Serialize>(
    out: &mut Vec<u8>,
    id: i64,
    method: &str,
    params: &P,
    deadline_ms: Option<u64>,
) -> Result<(), serde_json::Error> {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    write_id(out, Some(&Id::Number(id)));
    out.extend_from_slice(b",\"method\":\"");
    // Names of methods are constants of the table: letters, dots and underscores.
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":");
    let start = out.len();
    serde_json::to_writer(&mut *out, params)?;
    if let Some(ms) = deadline_ms {
        // Parameters are an object by the table's rule; its closing brace makes place for `_meta`.
        let empty = out.len() == start + 2;
        out.pop();
        out.extend_from_slice(if empty { b"" } else { b"," });
        out.extend_from_slice(b"\"_meta\":{\"deadline_ms\":");
        write_json(out, &ms);
        out.extend_from_slice(b"}}");
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Writes the line by which a caller takes a request back.
pub(crate) fn write_cancel(out: &mut Vec<u8>, id: i64) {
    out.extend_from_slice(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    write_json(out, &id);
    out.extend_from_slice(b"}}\n");
}

fn write_id(out: &mut Vec<u8>, id: Option<&Id>) {
    write_json(out, &id);
}

/// For values that always have a JSON form: numbers, texts, and structures of them.
fn write_json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// What a server sent.
#[derive(Debug, Deserialize)]
pub(crate) struct FromServer<'a> {
    #[serde(default)]
    pub(crate) id: Option<i64>,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) error: Option<ApiError>,
    #[serde(borrow, default)]
    pub(crate) params: Option<Item<'a>>,
}

/// The parameters of a [`STREAM`] notification.
#[derive(Debug, Deserialize)]
pub(crate) struct Item<'a> {
    pub(crate) id: i64,
    #[serde(borrow)]
    pub(crate) item: &'a RawValue,
}

/// The parameters of a [`CANCELLED`] notification.
#[derive(Debug, Deserialize)]
pub(crate) struct Cancelled {
    #[serde(rename = "requestId")]
    pub(crate) request_id: Id,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    fn read(line: &str) -> Result<Incoming<'_>, Refused> {
        let mut scanner = Scanner::default();
        scanner.feed(line.as_bytes());
        read_request(line.as_bytes(), scanner.deepest())
    }

    #[test]
    fn a_request_is_read() {
        let got = read(r#"{"jsonrpc":"2.0","id":"a","method":"a.b","params":{"x":[1]}}"#).unwrap();
        assert_eq!(got.id, Some(Id::Text("a".into())));
        assert_eq!((&*got.method, got.params), ("a.b", r#"{"x":[1]}"#));
        let bare = read(r#"{"jsonrpc":"2.0","method":"a\u002eb"}"#).unwrap();
        assert_eq!((bare.id, &*bare.method, bare.params), (None, "a.b", "{}"));
    }

    #[test]
    fn each_kind_of_bad_line_has_its_own_code() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}}}"#,
            "[".repeat(40) + &"]".repeat(40)
        );
        for (line, code) in [
            ("", Code::Parse),
            ("{", Code::Parse),
            ("\u{feff}{}", Code::Parse),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"} x"#, Code::Parse),
            ("[]", Code::InvalidRequest),
            ("7", Code::InvalidRequest),
            ("{}", Code::InvalidRequest),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"m"}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#, Code::InvalidRequest),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","more":1}"#, Code::InvalidRequest),
            (&deep, Code::TooDeep),
        ] {
            assert_eq!(read(line).unwrap_err().error.code, code, "{line}");
        }
        let long_id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(ID_MAX + 1));
        assert_eq!(read(&long_id).unwrap_err().error.code, Code::InvalidRequest);
        // Where the id could be read, the refusal is addressed to it.
        assert_eq!(read(r#"{"id":7,"method":"m"}"#).unwrap_err().id, Some(Id::Number(7)));
    }

    #[test]
    fn a_written_request_is_read_back_with_its_deadline() {
        #[derive(Serialize)]
        struct None {}
        #[derive(Serialize)]
        struct One {
            a: u8,
        }
        let mut out = Vec::new();
        write_request(&mut out, 3, "s.m", &None {}, Some(9)).unwrap();
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"s.m\",\"params\":{\"_meta\":{\"deadline_ms\":9}}}\n"
        );
        out.clear();
        write_request(&mut out, 3, "s.m", &One { a: 1 }, Some(9)).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(read(&line).unwrap().params, "{\"a\":1,\"_meta\":{\"deadline_ms\":9}}");
    }
}
