//! A server that nobody here wrote: what is heard of it, what is taken, what is said to it.

use super::*;
use proptest::prelude::*;

fn heard(line: &str) -> Result<Heard, Unfit> {
    hear(line.as_bytes())
}

#[test]
fn answers_requests_and_notifications_are_told_apart() {
    let answer = Heard::Answer { id: 7, result: Ok(json!({"a": 1})) };
    assert_eq!(heard(r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#).unwrap(), answer);
    let failed = Heard::Answer { id: 7, result: Err((-3, "no".into())) };
    assert_eq!(
        heard(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-3,"message":"no","data":1}}"#).unwrap(),
        failed
    );
    let asks = Heard::Request { id: "\"x\"".into(), method: "sampling/createMessage".into() };
    assert_eq!(
        heard(r#"{"jsonrpc":"2.0","id":"x","method":"sampling/createMessage","params":{}}"#).unwrap(),
        asks
    );
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(heard(changed).unwrap(), Heard::Changed);
    assert_eq!(
        heard(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#).unwrap(),
        Heard::Dropped
    );
}

#[test]
fn what_is_no_message_is_refused() {
    for line in [
        "",
        "Server listening on port 3000",
        "[]",
        r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
        r#"{"id":7,"result":{}}"#,
        r#"{"jsonrpc":"1.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":7,"id":8,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"7","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
    ] {
        assert!(matches!(heard(line), Err(Unfit::Message(_))), "{line}");
    }
}

#[test]
fn a_ping_is_answered_and_everything_else_that_it_asks_is_refused() {
    let answer = |id, method| serde_json::from_str::<Value>(&answer_to(id, method)).unwrap();
    assert_eq!(answer("3", "ping"), json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    for method in ["sampling/createMessage", "elicitation/create", "roots/list", "x\"}"] {
        let said = answer("\"a\"", method);
        assert_eq!((&said["id"], &said["error"]["code"]), (&json!("a"), &json!(-32601)), "{method}");
    }
}

#[test]
fn a_revision_that_is_spoken_begins_and_a_server_without_tools_does_not() {
    let tools = json!({"tools": {"listChanged": true}});
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        assert_eq!(begun(&json!({"protocolVersion": version, "capabilities": tools})), Ok(Revision::V2025));
    }
    for version in [json!("2026-07-28"), json!("2023-01-01"), json!(7), Value::Null] {
        let answered = begun(&json!({"protocolVersion": version, "capabilities": tools}));
        assert!(matches!(answered, Err(Unfit::Revision(_))), "{version}");
    }
    let none = json!({"protocolVersion": "2025-11-25", "capabilities": {"prompts": {}}});
    assert_eq!(begun(&none), Err(Unfit::NoTools));
    let new = json!({"supportedVersions": ["2030-01-01", "2026-07-28"], "capabilities": tools});
    assert_eq!(found(&new), Ok(Revision::V2026));
    assert!(matches!(found(&json!({"supportedVersions": ["2030-01-01"]})), Err(Unfit::Revision(_))));
    assert!(matches!(found(&json!([])), Err(Unfit::Revision(_))));
}

fn tool(change: Value) -> Value {
    let mut tool = json!({"name": "read", "description": "Reads.", "inputSchema": {"type": "object"}});
    let (Value::Object(tool_parts), Value::Object(change)) = (&mut tool, change) else { panic!() };
    tool_parts.extend(change);
    tool
}

fn one(tool: Value) -> Result<Offered, Unfit> {
    let (mut tools, next) = page(json!({"tools": [tool]}))?;
    assert_eq!(next, None);
    Ok(tools.remove(0))
}

#[test]
fn a_tool_has_one_form_whatever_the_order_of_its_parts_and_what_is_not_pinned_is_not_in_it() {
    let a = r#"{"tools":[{"name":"read","inputSchema":{"type":"object","properties":{"b":{},"a":{}}},"_meta":{"x":1},"icons":[]}]}"#;
    let b = r#"{"tools":[{"inputSchema":{"properties":{"a":{},"b":{}},"type":"object"},"title":null,"name":"read"}]}"#;
    let read = |text: &str| page(serde_json::from_str(text).unwrap()).unwrap().0.remove(0);
    assert_eq!(read(a), read(b));
    assert_eq!(
        read(a).text,
        r#"{"inputSchema":{"properties":{"a":{},"b":{}},"type":"object"},"name":"read"}"#
    );
    let listed = listed_as("files", &read(a).text).unwrap();
    assert_eq!(listed["name"], "files__read");
    assert_eq!(split("files__read__all"), Some(("files", "read__all")), "no server has __ in its name");
    assert_eq!(split("note"), None);
}

#[test]
fn a_tool_that_could_not_be_shown_or_called_is_refused_with_its_name() {
    let mut deep = json!({});
    for _ in 0..TOOL_DEPTH {
        deep = json!({ "properties": deep });
    }
    for change in [
        json!({"name": ""}),
        json!({"name": "a b"}),
        json!({"name": "re\u{202e}ad"}),
        json!({"name": "x".repeat(65)}),
        json!({"name": 7}),
        json!({"description": 7}),
        json!({"inputSchema": {"type": "string"}}),
        json!({"inputSchema": null}),
        json!({"inputSchema": true}),
        json!({"outputSchema": []}),
        json!({"annotations": "safe"}),
        json!({"description": "x".repeat(TOOL_MAX)}),
        json!({"inputSchema": {"type": "object", "properties": deep}}),
    ] {
        assert!(matches!(one(tool(change.clone())), Err(Unfit::Tool { .. })), "{change}");
    }
    let many: Vec<Value> = (0..=TOOLS_MAX).map(|n| tool(json!({ "name": format!("t{n}") }))).collect();
    for list in [
        json!([]),
        json!({}),
        json!({"tools": {}}),
        json!({"tools": [1]}),
        json!({ "tools": many }),
        json!({"tools": [], "nextCursor": 7}),
        json!({"tools": [], "nextCursor": "x".repeat(CURSOR_MAX + 1)}),
    ] {
        assert!(matches!(page(list), Err(Unfit::List(_))));
    }
}

#[test]
fn of_a_result_its_content_goes_on_and_a_question_does_not() {
    let text = json!([{"type": "text", "text": "x"}]);
    let result = json!({"content": text, "structuredContent": {"a": 1}, "isError": true, "_meta": {"y": 1}});
    let got = Value::Object(taken(result).unwrap());
    assert_eq!(got, json!({"content": text, "structuredContent": {"a": 1}, "isError": true}));
    let new = taken(json!({"content": [], "resultType": "complete"})).unwrap();
    assert_eq!(Value::Object(new), json!({"content": [], "isError": false}));
    let asks = json!({"content": [], "resultType": "input_required"});
    assert_eq!(taken(asks), Err(Unfit::Asks));
    for wrong in [
        json!(7),
        json!({}),
        json!({"content": "x"}),
        json!({"content": ["x"]}),
        json!({"content": [{}]}),
        json!({"content": vec![json!({"type": "text"}); PARTS_MAX + 1]}),
        json!({"content": [], "isError": 1}),
        json!({"content": [], "structuredContent": [1]}),
    ] {
        assert!(matches!(taken(wrong.clone()), Err(Unfit::Result(_))), "{wrong}");
    }
}

proptest! {
    #[test]
    fn whatever_a_server_writes_is_survived_and_arguments_go_there_as_they_came(
        line in "[{}\\[\\]\",:a-z0-9\\\\ ]{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..64),
        value in "[a-z\"\\\\{}]{0,20}",
    ) {
        let _ = heard(&line);
        let _ = hear(&bytes);
        let arguments = serde_json::value::to_raw_value(&json!({ "text": value })).unwrap();
        for revision in Revision::ALL {
            let line = call_tool(revision, 3, "read", &arguments);
            prop_assert!(!line.contains('\n'));
            let line: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&line["params"]["arguments"]["text"], &json!(value));
            prop_assert_eq!(line["params"].get("_meta").is_some(), revision == Revision::V2026);
        }
    }
}
