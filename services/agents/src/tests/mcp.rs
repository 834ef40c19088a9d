//! The agent's socket as a client of MCP sees it: the official SDK, over both revisions, and lines by hand.

use super::family::{SLEEP, machinery, text};
use super::world::{Machinery, World, key, manifest};
use octant_api::ledger::Kind;
use octant_ids::Aid;
use rmcp::model::{CallToolRequestParams, CallToolResult, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RoleClient, RunningService};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

pub(super) type Client = RunningService<RoleClient, ()>;

async fn agent(world: &World, change: &[(&str, &str)]) -> Aid {
    spawned(world, text("lead", SLEEP, 1, 4, change)).await
}

async fn spawned(world: &World, text: String) -> Aid {
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

pub(super) async fn stream(machinery: &Machinery, aid: Aid) -> UnixStream {
    UnixStream::connect(machinery.scratch.path().join(format!("{aid}.sock"))).await.unwrap()
}

/// A client of one revision.
pub(super) async fn client(machinery: &Machinery, aid: Aid, version: &ProtocolVersion) -> Client {
    let lifecycle = match version.has_initialize() {
        true => ClientLifecycleMode::Initialize,
        false => ClientLifecycleMode::Discover { preferred_versions: vec![version.clone()] },
    };
    ().serve_with_lifecycle(stream(machinery, aid).await, lifecycle).await.unwrap()
}

pub(super) async fn call(client: &Client, name: &'static str, arguments: Value) -> CallToolResult {
    let Value::Object(arguments) = arguments else { panic!("arguments have names") };
    client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await.unwrap()
}

pub(super) const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];

#[tokio::test]
async fn the_official_client_lists_tools_and_calls_them_in_both_revisions() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = agent(&world, &[]).await;
    for version in BOTH {
        let client = client(&machinery, aid, &version).await;
        let info = client.peer_info().unwrap();
        assert_eq!(info.protocol_version, version);
        assert!(info.capabilities.tools.is_some() && info.capabilities.resources.is_none());
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(
            names,
            ["self", "budget", "note", "spawn", "children", "wait", "kill"],
            "what this manifest allows"
        );
        for tool in &tools {
            assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
            assert_eq!(tool.output_schema.as_ref().unwrap()["type"], "object", "{}", tool.name);
        }
        let noted = call(&client, "note", json!({ "text": version.to_string() })).await;
        assert_eq!(noted.is_error, Some(false));
        let seq = noted.structured_content.as_ref().unwrap()["seq"].as_u64().unwrap();
        let shown = serde_json::to_value(&noted.content[0]).unwrap();
        let shown: Value = serde_json::from_str(shown["text"].as_str().unwrap()).unwrap();
        assert_eq!(shown["seq"], seq, "the text says the same");
        let own = call(&client, "self", json!({})).await.structured_content.unwrap();
        assert_eq!(own["aid"], json!(aid));
        client.cancel().await.unwrap();
    }
    let notes = machinery.ledger.of(Kind::Note);
    assert!(notes.iter().all(|note| note.actor == Some(aid)), "in the agent's own name");
    let told: Vec<String> =
        machinery.ledger.told().into_iter().filter(|what| what.starts_with("note")).collect();
    assert_eq!(told, ["note 2025-11-25", "note 2026-07-28"]);
}

#[tokio::test]
async fn what_a_manifest_does_not_allow_is_no_tool_and_what_fails_says_what_next() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = spawned(&world, manifest("alone", SLEEP, &[("join = []", "join = [\"team\"]")])).await;
    for version in BOTH {
        let client = client(&machinery, aid, &version).await;
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["self", "budget", "note", "send", "receive"]);
        for name in ["spawn", "reveal", "lease", "nothing", "agent.note"] {
            let unknown = client.call_tool(CallToolRequestParams::new(name)).await.unwrap_err().to_string();
            assert!(unknown.contains("-32602") && unknown.contains(name), "{unknown}");
        }
        for (name, arguments, code) in [
            ("note", json!({}), -32602),
            ("note", json!({ "text": "x".repeat(5000) }), -32006),
            ("send", json!({ "room": "other", "kind": "k", "body": { "text": "x" } }), -32002),
        ] {
            let failed = call(&client, name, arguments).await;
            let failed = serde_json::to_value(failed).unwrap();
            assert_eq!(failed["isError"], true);
            assert_eq!(failed["_meta"]["octant/error"]["code"], code, "{failed}");
            assert!(failed["content"][0]["text"].as_str().unwrap().contains("; "), "and what next: {failed}");
        }
        client.cancel().await.unwrap();
    }
}

/// Sends lines and gives the answers to the ids that are waited for.
async fn exchange(machinery: &Machinery, aid: Aid, lines: &[&str], answers: usize) -> Vec<Value> {
    let (read, mut write) = stream(machinery, aid).await.into_split();
    for line in lines {
        write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
    let mut lines = BufReader::new(read).lines();
    let mut got = Vec::new();
    while got.len() < answers {
        got.push(serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap());
    }
    got
}

#[tokio::test]
async fn both_protocols_are_served_on_one_connection_and_a_call_can_be_taken_back() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = agent(&world, &[("join = []", "join = [\"team\"]")]).await;
    let wait = r#"{"jsonrpc":"2.0","id":"w","method":"tools/call","params":{"name":"receive","arguments":{"wait_ms":30000}}}"#;
    let back = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"w","reason":"enough"}}"#;
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"agent.self","params":{}}"#,
        wait,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":"w","method":"ping"}"#,
        back,
        r#"{"jsonrpc":"2.0","id":"w","method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/list"}"#,
        r#"[{"jsonrpc":"2.0","id":3,"method":"ping"}]"#,
    ];
    let got = exchange(&machinery, aid, &lines, 5).await;
    assert_eq!(got[0]["result"]["aid"], json!(aid));
    assert_eq!(got[1]["error"]["code"], -32014, "its id is taken while it waits");
    assert_eq!(
        (&got[2]["id"], &got[2]["result"]),
        (&json!("w"), &json!({})),
        "and free once it is taken back"
    );
    assert_eq!(got[3]["error"]["code"], -32601, "what is not declared is not there");
    assert_eq!(got[4]["error"]["code"], -32600, "neither revision has batches");
}

#[tokio::test]
async fn a_revision_that_is_not_served_is_refused_with_those_that_are() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = agent(&world, &[]).await;
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2030-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let older = r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let got = exchange(&machinery, aid, &[discover, older], 2).await;
    assert_eq!(got[0]["error"]["code"], -32022);
    assert_eq!(got[0]["error"]["data"]["supported"], json!(["2026-07-28", "2025-11-25"]));
    assert_eq!(got[0]["error"]["data"]["requested"], "2030-01-01");
    assert_eq!(got[1]["result"]["protocolVersion"], "2025-11-25", "what is served is offered");
}
