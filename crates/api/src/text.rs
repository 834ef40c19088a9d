//! Values that need a form of their own in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octant_ids::{Aid, Principal, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// Bytes that need not be text; base 64 (RFC 4648 section 4, padded) in JSON.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Base64(#[schemars(with = "String")] pub Vec<u8>);

/// The text is not padded base 64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not base 64 with padding (RFC 4648 section 4): {0}")]
pub struct Base64Error(#[from] base64::DecodeError);

impl TryFrom<String> for Base64 {
    type Error = Base64Error;
    fn try_from(text: String) -> Result<Self, Base64Error> {
        Ok(Self(STANDARD.decode(text)?))
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        STANDARD.encode(bytes.0)
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

/// Any JSON, kept as the exact text that came, because a hash is computed over it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON of a value.
    ///
    /// # Errors
    /// The value has no JSON form (a map whose keys are not text).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Takes a text that is one JSON value.
    ///
    /// # Errors
    /// The text is not one JSON value.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The exact text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// It is not of that type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "Any JSON value, kept as the exact text that came." })
    }
    fn inline_schema() -> bool {
        true
    }
}

/// The shape of [`Principal`] for the schema; the type itself is in the crate of identifiers, which knows no
/// schemas.
#[derive(JsonSchema)]
#[schemars(rename = "Principal", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its shape is used")]
pub(crate) enum PrincipalShape {
    /// PID 1.
    Init,
    /// A person at the machine, by numeric user id.
    Operator(u32),
    /// One of Octant's own services.
    Service(#[schemars(with = "String")] ServiceName),
    /// An agent.
    Agent(#[schemars(with = "String")] Aid),
    /// Some other local user.
    Stranger(u32),
}

const _: fn(&Principal) -> PrincipalShape = |principal| match principal.clone() {
    // Does not compile when the two come apart.
    Principal::Init => PrincipalShape::Init,
    Principal::Operator(uid) => PrincipalShape::Operator(uid),
    Principal::Service(name) => PrincipalShape::Service(name),
    Principal::Agent(aid) => PrincipalShape::Agent(aid),
    Principal::Stranger(uid) => PrincipalShape::Stranger(uid),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_in_json() {
        let bytes = Base64(vec![0, 255, 10]);
        assert_eq!(serde_json::to_string(&bytes).unwrap(), r#""AP8K""#);
        assert_eq!(serde_json::from_str::<Base64>(r#""AP8K""#).unwrap(), bytes);
        assert!(serde_json::from_str::<Base64>(r#""A""#).is_err());
    }

    #[test]
    fn json_is_kept_to_the_letter() {
        let text = r#"{ "b":1.50,"a":[ ] }"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(json.text(), text);
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert!(Json::from_text("{".into()).is_err());
    }
}
