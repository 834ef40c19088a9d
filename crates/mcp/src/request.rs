//! What a client asks.

use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Deadline, Method, Need};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How long everything but a call of a tool may take, in milliseconds: nothing of it waits for anybody.
const ANSWER_MS: u64 = 5_000;
/// The longest cursor that an answer gives, in digits.
const CURSOR_MAX: usize = 6;
/// The longest text of a client that is shown back to it, in characters.
const SHOWN: usize = 64;
const AGENT: &[Need] = &[Need::Agent];

const INITIALIZE: Method =
    row("initialize", "Begins, in revisions of MCP before 2026-07-28.", Deadline::Ms(ANSWER_MS));
const PING: Method =
    row("ping", "Says that it is there, in revisions of MCP before 2026-07-28.", Deadline::Ms(ANSWER_MS));
const DISCOVER: Method =
    row("server/discover", "Says which revisions of MCP are served, and what with.", Deadline::Ms(ANSWER_MS));
const LIST: Method =
    row("tools/list", "Lists the tools that this agent's manifest allows.", Deadline::Ms(ANSWER_MS));
/// As long as the method lasts that the tool is.
const CALL: Method = row("tools/call", "Calls a tool.", Deadline::Open);

/// The methods that are served.
pub const METHODS: [Method; 5] = [INITIALIZE, PING, DISCOVER, LIST, CALL];

const fn row(name: &'static str, about: &'static str, deadline: Deadline) -> Method {
    Method::plain(name, about, AGENT, deadline, false)
}

/// A revision of the protocol that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// With a handshake.
    V2025,
    /// Every request by itself.
    V2026,
}

impl Revision {
    /// Those that are served, newest first.
    pub const ALL: [Self; 2] = [Self::V2026, Self::V2025];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2025 => "2025-11-25",
            Self::V2026 => "2026-07-28",
        }
    }
}

/// A request, and in which revision its answer is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The revision.
    pub revision: Revision,
    /// The request.
    pub request: Request,
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The handshake; the answer offers what is served, whatever the client offers.
    Initialize,
    /// Whether anybody is there.
    Ping,
    /// What is served.
    Discover,
    /// Which tools there are.
    ListTools {
        /// How many of them the pages before had.
        from: usize,
    },
    /// A call of a tool.
    CallTool {
        /// Its name.
        name: String,
        /// The text of the object of its arguments.
        arguments: String,
    },
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

/// The parameters of every method together. What else a client sends is for servers that do more, and is left alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow, rename = "_meta", default)]
    meta: Meta<'a>,
    #[serde(borrow)]
    protocol_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
}

fn wrong(method: &Method, why: impl std::fmt::Display, next: &str) -> ApiError {
    ApiError::new(Code::InvalidParams, "read the parameters", method.name, why, next)
}

fn is_object(text: Option<&RawValue>) -> bool {
    text.is_some_and(|text| text.get().starts_with('{'))
}

/// Reads the parameters of one of [`METHODS`].
///
/// # Errors
/// The codes of the protocol: -32601 for a method that the revision does not have, -32602 for parameters, -32022 for a
/// revision that is not served.
pub fn read(method: &'static Method, params: &str) -> Result<Asked, ApiError> {
    let compare = "compare them with the protocol's schema of this method";
    let params: Params<'_> = serde_json::from_str(params).map_err(|error| wrong(method, error, compare))?;
    let revision = revision(method, &params.meta)?;
    let request = match method.name {
        "initialize" if params.protocol_version.is_none() => {
            return Err(wrong(method, "there is no protocolVersion", "send the revision that you speak"));
        }
        "initialize" => return Ok(Asked { revision: Revision::V2025, request: Request::Initialize }),
        "ping" if revision == Revision::V2026 => {
            let why = "revision 2026-07-28 has no ping";
            return Err(ApiError::new(
                Code::MethodNotFound,
                "call a method",
                method.name,
                why,
                "ask for what you need",
            ));
        }
        "ping" => Request::Ping,
        "server/discover" => Request::Discover,
        "tools/list" => Request::ListTools { from: page(method, params.cursor)? },
        _ => {
            let Some(name) = params.name else {
                return Err(wrong(method, "there is no name", "name one of tools/list"));
            };
            if params.arguments.is_some() && !is_object(params.arguments) {
                return Err(wrong(method, "arguments is not an object", "send them by their names"));
            }
            let arguments = crate::canonical::compact(params.arguments.map_or("{}", RawValue::get));
            let arguments = arguments.map_err(|error| {
                wrong(method, format!("arguments cannot be read: {error}"), "name each part of them once")
            })?;
            Request::CallTool { name: name.into_owned(), arguments }
        }
    };
    Ok(Asked { revision, request })
}

/// Where a page begins: its cursor is the number of tools before it.
fn page(method: &Method, cursor: Option<&RawValue>) -> Result<usize, ApiError> {
    let Some(cursor) = cursor.map(RawValue::get).filter(|cursor| *cursor != "null") else { return Ok(0) };
    let number = cursor.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let from = number.filter(|number| number.len() <= CURSOR_MAX).and_then(|number| number.parse().ok());
    from.ok_or_else(|| wrong(method, "no answer gave this cursor", "ask without a cursor"))
}

fn revision(method: &Method, meta: &Meta<'_>) -> Result<Revision, ApiError> {
    let Some(version) = &meta.version else {
        if method.name == DISCOVER.name {
            let why = "there is no io.modelcontextprotocol/protocolVersion in _meta";
            return Err(wrong(method, why, "send the revision that you speak"));
        }
        return Ok(Revision::V2025);
    };
    let Some(revision) = Revision::ALL.into_iter().find(|revision| revision.name() == version) else {
        return Err(unsupported(method, version));
    };
    if revision == Revision::V2026 && !is_object(meta.capabilities) {
        let why = "there is no object io.modelcontextprotocol/clientCapabilities in _meta";
        return Err(wrong(method, why, "send it with every request; it can be empty"));
    }
    Ok(revision)
}

fn unsupported(method: &Method, version: &str) -> ApiError {
    let supported = Revision::ALL.map(|revision| revision.name().to_owned());
    let requested: String = version.chars().take(SHOWN).collect();
    let why = format!("revision {requested:?} is not served");
    let next = format!("use one of: {}", supported.join(", "));
    let mut error = ApiError::new(Code::UnsupportedVersion, "read the parameters", method.name, why, next);
    (error.data.supported, error.data.requested) = (supported.to_vec(), Some(requested));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn method(name: &str) -> &'static Method {
        const ROWS: &[Method] = &METHODS;
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    const NEW: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":1}"#;

    #[test]
    fn a_request_says_by_itself_which_revision_it_is_of() {
        let call = |meta: &str| {
            read(method("tools/call"), &format!(r#"{{"name":"note","arguments":{{"text":"x"}}{meta}}}"#))
        };
        let old = call("").unwrap();
        let new = call(&format!(",{NEW}")).unwrap();
        assert_eq!((old.revision, new.revision), (Revision::V2025, Revision::V2026));
        assert_eq!(old.request, new.request);
        assert_eq!(
            old.request,
            Request::CallTool { name: "note".into(), arguments: r#"{"text":"x"}"#.into() }
        );
        let offered =
            r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"x","version":"1"}}"#;
        assert_eq!(read(method("initialize"), offered).unwrap().request, Request::Initialize);
        assert_eq!(read(method("ping"), "{}").unwrap().request, Request::Ping);
        for (cursor, from) in [("null", 0), (r#""12""#, 12)] {
            let list = read(method("tools/list"), &format!(r#"{{"cursor":{cursor}}}"#)).unwrap();
            assert_eq!(list.request, Request::ListTools { from });
        }
        let bare = read(method("tools/call"), r#"{"name":"self"}"#).unwrap().request;
        assert_eq!(bare, Request::CallTool { name: "self".into(), arguments: "{}".into() });
    }

    #[test]
    fn what_is_wrong_has_the_protocols_own_code() {
        let old_version = NEW.replace("2026-07-28", "1900-01-01");
        let no_capabilities = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        let rows = [
            ("server/discover", String::new(), -32602),
            ("server/discover", old_version, -32022),
            ("server/discover", no_capabilities.to_owned(), -32602),
            ("ping", NEW.to_owned(), -32601),
            ("tools/list", r#""cursor":"x""#.to_owned(), -32602),
            ("tools/list", r#""cursor":"1000000""#.to_owned(), -32602),
            ("tools/list", r#""cursor":1"#.to_owned(), -32602),
            ("tools/call", String::new(), -32602),
            ("tools/call", r#""name":"note","arguments":[]"#.to_owned(), -32602),
            ("tools/call", r#""name":7"#.to_owned(), -32602),
            ("initialize", String::new(), -32602),
        ];
        for (name, params, code) in rows {
            let error = read(method(name), &format!("{{{params}}}")).unwrap_err();
            assert_eq!(error.code.number(), code, "{name} {params}");
            assert!(!error.data.next.is_empty(), "{error}");
        }
        let error =
            read(method("tools/list"), &format!("{{{}}}", NEW.replace("2026-07-28", "x"))).unwrap_err();
        assert_eq!(error.data.supported, ["2026-07-28", "2025-11-25"]);
        assert_eq!(error.data.requested.as_deref(), Some("x"));
    }

    proptest! {
        #[test]
        fn any_parameters_are_survived_and_arguments_stay_as_they_are(
            text in "[{}\\[\\]\",:a-z0-9\\\\ ]{0,80}", value in "[a-z\"\\\\{}]{0,20}"
        ) {
            const ROWS: &[Method] = &METHODS;
            for row in ROWS {
                let _ = read(row, &text);
            }
            let arguments = serde_json::json!({ "text": value }).to_string();
            let asked = read(method("tools/call"), &format!(r#"{{"arguments":{arguments},"name":"n"}}"#)).unwrap();
            prop_assert_eq!(asked.request, Request::CallTool { name: "n".into(), arguments });
        }
    }
}
