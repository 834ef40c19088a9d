//! Whether the arguments of a call fit the tool's schema, in words that a model can do better by.
//!
//! What of JSON Schema is not known here is passed over: whoever serves the tool checks as well.

use crate::core::Tool;
use crate::entry::Call;
use crate::text::head;
use serde_json::{Map, Value};

/// The longest arguments, in bytes.
pub(crate) const ARGUMENTS_MAX: usize = 768 << 10;
/// How deep they nest.
const DEPTH_MAX: usize = 24;

/// The arguments of a call, or why it is not made.
pub(crate) fn arguments(tools: &[Tool], call: &Call) -> Result<Value, String> {
    let Some(tool) = tools.iter().find(|tool| tool.name == call.name) else {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        return Err(format!("there is no tool {:?}; there are: {}", head(&call.name, 64), names.join(", ")));
    };
    if call.arguments.len() > ARGUMENTS_MAX {
        let got = call.arguments.len();
        return Err(format!(
            "not called: the arguments have {got} bytes, at most {ARGUMENTS_MAX} are taken; do it in parts"
        ));
    }
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!("not called: the arguments are not JSON ({error}); write the whole object again")
    })?;
    let mut path = String::new();
    check(&value, &tool.schema, &mut path, 0).map_err(|why| format!("not called: {why}"))?;
    Ok(value)
}

fn at(path: &str) -> &str {
    if path.is_empty() { "the arguments" } else { &path[1..] }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    let got = kind(value);
    got == wanted || (wanted == "number" && got == "integer")
}

fn check(value: &Value, schema: &Value, path: &mut String, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{} nests deeper than {DEPTH_MAX} levels", at(path)));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|wanted| is_of(value, wanted)) {
        return Err(format!("{} is a {}, and has to be a {}", at(path), kind(value), kinds.join(" or ")));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Err(format!("{} is none of {}", at(path), schema["enum"]));
    }
    bounds(value, schema, path)?;
    if let (Value::Array(items), of @ Value::Object(_)) = (value, &schema["items"]) {
        for (index, item) in items.iter().enumerate() {
            within(path, &format!("[{index}]"), |path| check(item, of, path, depth + 1))?;
        }
    }
    match value {
        Value::Object(fields) => object(fields, schema, path, depth),
        _ => Ok(()),
    }
}

fn bounds(value: &Value, schema: &Value, path: &str) -> Result<(), String> {
    let number = value.as_f64();
    let size = value.as_str().map(|text| text.chars().count()).or(value.as_array().map(Vec::len));
    let size = size.and_then(|size| u32::try_from(size).ok()).map(f64::from);
    let rows = [
        ("minimum", number, false),
        ("maximum", number, true),
        ("minLength", size.filter(|_| value.is_string()), false),
        ("maxLength", size.filter(|_| value.is_string()), true),
        ("minItems", size.filter(|_| value.is_array()), false),
        ("maxItems", size.filter(|_| value.is_array()), true),
    ];
    for (name, got, upper) in rows {
        if let (Some(got), Some(bound)) = (got, schema[name].as_f64())
            && (if upper { got > bound } else { got < bound })
        {
            return Err(format!("{} does not keep to {name} {bound}", at(path)));
        }
    }
    Ok(())
}

fn object(
    fields: &Map<String, Value>,
    schema: &Value,
    path: &mut String,
    depth: usize,
) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{} has no {name:?}, which is required", at(path)));
        }
    }
    let known = schema["properties"].as_object();
    for (name, value) in fields {
        match known.and_then(|known| known.get(name)) {
            Some(of) => within(path, &format!(".{name}"), |path| check(value, of, path, depth + 1))?,
            None if schema["additionalProperties"] == false => {
                let names: Vec<&str> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                let names = names.join(", ");
                return Err(format!(
                    "{} has {:?}, which is not known; known are: {names}",
                    at(path),
                    head(name, 64)
                ));
            }
            None => {}
        }
    }
    Ok(())
}

fn within<T>(path: &mut String, part: &str, todo: impl FnOnce(&mut String) -> T) -> T {
    let before = path.len();
    path.push_str(part);
    let done = todo(path);
    path.truncate(before);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use serde_json::json;

    fn tool() -> Tool {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["path"],
            "properties": {
                "path": { "type": "string", "minLength": 1, "maxLength": 8 },
                "lines": { "type": ["integer", "null"], "minimum": 1 },
                "how": { "enum": ["a", "b"] },
                "all": { "type": "array", "items": { "type": "object", "required": ["x"] } },
            },
        });
        Tool { name: "file_read".into(), about: None, schema }
    }

    fn tried(name: &str, text: &str) -> Result<Value, String> {
        arguments(&[tool()], &Call { id: "1".into(), name: name.into(), arguments: text.into() })
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let rows = [
            ("{\"path\":\"a\",", "not JSON"),
            ("[]", "the arguments is a array, and has to be a object"),
            ("{}", "has no \"path\""),
            ("", "has no \"path\""),
            (r#"{"path":7}"#, "path is a integer, and has to be a string"),
            (r#"{"path":""}"#, "minLength 1"),
            (r#"{"path":"123456789"}"#, "maxLength 8"),
            (r#"{"path":"a","lines":0}"#, "lines does not keep to minimum 1"),
            (r#"{"path":"a","how":"c"}"#, r#"how is none of ["a","b"]"#),
            (r#"{"path":"a","all":[{"x":1},{}]}"#, "all[1] has no \"x\""),
            (r#"{"path":"a","more":1}"#, "known are: all, how, lines, path"),
        ];
        for (text, wanted) in rows {
            let why = tried("file_read", text).unwrap_err();
            assert!(why.starts_with("not called: ") && why.contains(wanted), "{text}: {why}");
        }
        assert!(tried("nothing", "{}").unwrap_err().contains("there are: file_read"));
        assert!(tried("file_read", r#"{"path":"a","lines":null,"how":"b"}"#).is_ok());
        let huge = format!("{{\"path\":\"{}\"}}", "x".repeat(ARGUMENTS_MAX));
        assert!(tried("file_read", &huge).unwrap_err().contains("do it in parts"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_fits(text in any::<String>()) {
            if let Ok(value) = tried("file_read", &text) {
                assert!(value["path"].is_string());
            }
        }
    }
}
