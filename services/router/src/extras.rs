//! What a request asks a provider for beyond an answer to what stands in it: to reach other hosts, to run something, to read
//! or keep something, to have another model answer, to answer for another price. Pure.
//!
//! All of that would pass the gate, and the budgets, unseen. A request that another dialect could say too asks for nothing
//! of the kind but pictures at a URL. Of others, which pass to their own dialect as they are, only what is in these tables is
//! known to be harmless.

use octant_llm::{Image, Part, Request};
use serde_json::Value;

/// Fields of a request that change how a model answers, and nothing else, in any dialect that programs speak. Sorted.
const HARMLESS: [&str; 78] = [
    "audio",
    "bad_words",
    "best_of",
    "cache_control",
    "chat_template_kwargs",
    "context",
    "context_management",
    "diagnostics",
    "do_sample",
    "dry_multiplier",
    "dynatemp_range",
    "echo",
    "format",
    "frequency_penalty",
    "grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "images",
    "include",
    "inference_geo",
    "input",
    "instructions",
    "keep_alive",
    "length_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tool_calls",
    "messages",
    "metadata",
    "min_p",
    "min_tokens",
    "mirostat",
    "modalities",
    "model",
    "n",
    "options",
    "output_config",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "raw",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "repeat_penalty",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "shift",
    "skip_special_tokens",
    "stop",
    "stop_sequences",
    "stop_token_ids",
    "stream",
    "stream_options",
    "suffix",
    "system",
    "temperature",
    "template",
    "text",
    "think",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "truncate",
    "user",
    "verbosity",
];

/// Fields with the values that ask for what happens anyway.
const USUAL: [(&str, &[&str]); 6] = [
    ("background", &["false"]),
    ("mcp_servers", &["[]"]),
    ("service_tier", &["\"auto\"", "\"default\"", "\"flex\"", "\"standard_only\""]),
    ("speed", &["\"standard\""]),
    ("store", &["false"]),
    ("truncation", &["\"auto\"", "\"disabled\""]),
];

/// Sorts of tools that who asks runs itself.
const TOOLS: [&str; 4] = ["function", "custom", "local_shell", "apply_patch"];
const TOOL_BEGINNINGS: [&str; 4] = ["bash_", "text_editor_", "computer_", "memory_"];

/// What the first thing beyond an answer is, of a request that any dialect can say.
pub(crate) fn of_request(request: &Request) -> Option<String> {
    fn fetched(parts: &[Part]) -> bool {
        parts.iter().any(|part| match part {
            Part::Image(Image::Url(_)) => true,
            Part::ToolResult { parts, .. } => fetched(parts),
            _ => false,
        })
    }
    let mut all = request.messages.iter().map(|message| &message.parts).chain([&request.system]);
    all.any(|parts| fetched(parts)).then(|| "a picture at a URL".to_owned())
}

/// What the first thing beyond an answer is, of a request that only its own dialect can say.
pub(crate) fn of_body(body: &Value) -> Option<String> {
    let fields = body.as_object()?;
    let usual = |name: &str, value: &Value| {
        let said = value.to_string();
        let tier = USUAL.iter().find(|(own, _)| *own == name);
        // Of Ollama's it is what is said; of others something that they keep.
        let said_here = name == "prompt" && value.is_string();
        said_here
            || value.is_null()
            || HARMLESS.binary_search(&name).is_ok()
            || tier.is_some_and(|(_, of)| of.contains(&said.as_str()))
    };
    if let Some((name, _)) = fields.iter().find(|(name, value)| !usual(name, value)) {
        return Some(format!("{name:.64}"));
    }
    let tools = fields.get("tools").and_then(Value::as_array).into_iter().flatten();
    for tool in tools {
        let sort = tool["type"].as_str().unwrap_or("");
        let own = TOOLS.contains(&sort) || TOOL_BEGINNINGS.iter().any(|begins| sort.starts_with(begins));
        let plain = tool["type"].is_null() && (tool["name"].is_string() || tool["function"].is_object());
        if !own && !plain {
            return Some(format!("the tool {:.64}", if sort.is_empty() { "without a type" } else { sort }));
        }
    }
    fields.iter().filter(|(name, _)| SAID.contains(&name.as_str())).find_map(|(_, said)| reference(said))
}

/// Where what is said stands.
const SAID: [&str; 4] = ["messages", "input", "system", "instructions"];

/// What stands in what is said without its content: at a URL, or kept by the provider.
fn reference(said: &Value) -> Option<String> {
    match said {
        Value::Array(list) => list.iter().find_map(reference),
        Value::Object(fields) => {
            let sort = fields.get("type").and_then(Value::as_str).unwrap_or("");
            if sort == "item_reference" {
                return Some(sort.to_owned());
            }
            fields.iter().find_map(|(name, value)| {
                let elsewhere = name.ends_with("url") || name.ends_with("uri");
                let kept = name.ends_with("file_id") || name.ends_with("file_ids");
                match value.as_str() {
                    Some(text) if elsewhere && !text.starts_with("data:") => Some(format!("{name:.64}")),
                    _ if kept && !value.is_null() => Some(format!("{name:.64}")),
                    // What a model wrote for a tool is the tool's.
                    _ if matches!(name.as_str(), "input" | "arguments") => None,
                    _ => reference(value),
                }
            })
        }
        _ => None,
    }
}

/// Whether a request has parts that can be more tokens than they have bytes: pictures, documents, sound.
pub(crate) fn has_media(said: &Value) -> bool {
    match said {
        Value::Array(list) => list.iter().any(has_media),
        Value::Object(fields) => {
            let sort = fields.get("type").and_then(Value::as_str).unwrap_or("");
            let media =
                ["image", "document", "file", "audio", "video"].iter().any(|word| sort.contains(word));
            media || fields.contains_key("images") || fields.values().any(has_media)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_known_is_sorted_and_nothing_else_is_harmless() {
        assert!(HARMLESS.is_sorted(), "{HARMLESS:?}");
        for (body, what) in [
            (json!({"model": "m", "n": 2, "messages": [], "store": false, "mcp_servers": []}), None),
            (json!({"tools": [{"name": "a"}, {"type": "function"}, {"type": "bash_20250124"}]}), None),
            (
                json!({"tools": [{"type": "web_search_20250305", "name": "w"}]}),
                Some("the tool web_search_20250305"),
            ),
            (json!({"tools": [{"google_search": {}}]}), Some("the tool without a type")),
            (json!({"mcp_servers": [{"url": "https://evil.example"}]}), Some("mcp_servers")),
            (json!({"models": ["dear/model"]}), Some("models")),
            (json!({"service_tier": "priority"}), Some("service_tier")),
            (json!({"previous_response_id": "r"}), Some("previous_response_id")),
            (json!({"store": true}), Some("store")),
            (json!({"web_search_options": {}}), Some("web_search_options")),
            (json!({"input": [{"type": "item_reference", "id": "r"}]}), Some("item_reference")),
            (
                json!({"messages": [{"content": [{"type": "document", "source": {"type": "url", "url": "http://x"}}]}]}),
                Some("url"),
            ),
            (
                json!({"messages": [{"content": [{"type": "image_url", "image_url": "data:image/png;base64,AA"}]}]}),
                None,
            ),
            (json!({"messages": [{"content": [{"type": "tool_use", "input": {"url": "http://x"}}]}]}), None),
            (json!({"input": [{"type": "input_file", "file_id": "f"}]}), Some("file_id")),
        ] {
            assert_eq!(of_body(&body).as_deref(), what, "{body}");
        }
        assert!(has_media(&json!({"messages": [{"content": [{"type": "input_file", "file_data": "x"}]}]})));
        assert!(!has_media(&json!({"messages": [{"content": [{"type": "text", "text": "an image"}]}]})));
    }
}
