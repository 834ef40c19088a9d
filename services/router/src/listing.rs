//! Answers that need no upstream: which models an agent may ask, what is known of one, how long a prompt is.

use crate::agents::Agent;
use crate::http::{JSON, Reply, failed, whole};
use crate::router::Router;
use octant_llm::{Dialect, Failure, Kind, estimate};
use octant_route::{Ability, Class, Known};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The names that it may ask: granted themselves, or another word for a model that is.
fn names(router: &Router, agent: &Agent) -> Vec<String> {
    let Some(setup) = router.setup() else { return Vec::new() };
    let (rights, all) = (agent.rights(), &setup.catalogue.deployments);
    let own = |name: &str| all.iter().any(|d| (d.full == name || d.name == name) && rights.grants(&d.full));
    let names = setup.catalogue.names().into_iter().chain(all.iter().map(|d| d.name.as_str()));
    let may: BTreeSet<&str> = names.filter(|name| rights.grants(name) || own(name)).collect();
    may.into_iter().map(str::to_owned).collect()
}

/// What is known of those that may answer for a name.
#[derive(Default)]
struct Facts {
    /// The smallest window.
    window: Option<u64>,
    /// Whether one of them sees pictures.
    sees: Option<bool>,
    /// Each price that there is, the ones for long prompts apart.
    prices: BTreeSet<(u64, u64)>,
}

fn facts(router: &Router, agent: &Agent, name: &str) -> Facts {
    let Some(setup) = router.setup() else { return Facts::default() };
    let (rights, catalogue) = (agent.rights(), &setup.catalogue);
    let mut facts = Facts::default();
    // What is simple can be answered by every one of them.
    let way = catalogue.way(name, Class::Simple);
    for deployment in way.iter().flat_map(|step| &step.deployments).map(|at| &catalogue.deployments[*at]) {
        if rights.grants(name) || rights.grants(&deployment.full) {
            let Known { window, can, price, .. } = &deployment.known;
            facts.window = facts.window.into_iter().chain(*window).min();
            facts.sees = facts.sees.into_iter().chain(can.map(|can| can.has(Ability::Vision))).max();
            facts.prices.extend(price.map(|rates| (rates.input, rates.output)));
        }
    }
    facts
}

/// Dollars a token, of millionths of a dollar for a million tokens.
fn per_token(rate: u64) -> String {
    const MILLION_MILLIONTHS: u64 = 1_000_000_000_000;
    format!("{}.{:012}", rate / MILLION_MILLIONTHS, rate % MILLION_MILLIONTHS)
}

fn row(router: &Router, agent: &Agent, dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"})
        }
        Dialect::OllamaChat | Dialect::OllamaGenerate => json!({
            "name": name, "model": name, "modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "",
            "details": {"format": "", "family": "", "families": null, "parameter_size": "", "quantization_level": ""},
        }),
        _ => {
            let mut row = json!({"id": name, "object": "model", "created": 0, "owned_by": "octant"});
            let Facts { window, sees, prices } = facts(router, agent, name);
            // As OpenRouter names them; absent is not known, or not the same for all.
            if let Some(window) = window {
                row["context_length"] = json!(window);
            }
            if let Some(sees) = sees {
                let inputs: &[&str] = if sees { &["text", "image"] } else { &["text"] };
                row["architecture"] = json!({"input_modalities": inputs});
            }
            if let (Some((input, output)), 1) = (prices.first(), prices.len()) {
                row["pricing"] = json!({"prompt": per_token(*input), "completion": per_token(*output)});
            }
            row
        }
    }
}

fn said(value: &Value) -> Reply {
    whole(200, JSON, value.to_string())
}

/// Which models there are, for this agent.
pub(crate) fn list(router: &Router, agent: &Agent, dialect: Dialect) -> Reply {
    let names = names(router, agent);
    let rows: Vec<Value> = names.iter().map(|name| row(router, agent, dialect, name)).collect();
    said(&match dialect {
        Dialect::Anthropic => {
            json!({"data": rows, "first_id": names.first(), "last_id": names.last(), "has_more": false})
        }
        Dialect::OllamaChat | Dialect::OllamaGenerate => json!({"models": rows}),
        _ => json!({"object": "list", "data": rows}),
    })
}

/// What is known of one model.
pub(crate) fn show(
    router: &Router,
    agent: &Agent,
    dialect: Dialect,
    model: Option<String>,
    body: &[u8],
) -> Reply {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let of_body = || ["model", "name"].into_iter().find_map(|name| asked[name].as_str().map(str::to_owned));
    let Some(model) = model.or_else(of_body) else {
        return failed(dialect, &Failure::new(Kind::Invalid, "the model is missing").at("model"));
    };
    let missing = || {
        let what = format!(
            "there is no model {model:.128?} for this agent; GET /v1/models lists those that there are"
        );
        failed(dialect, &Failure::new(Kind::NotFound, what).at("model"))
    };
    let Some(setup) = router.setup() else { return missing() };
    if !names(router, agent).contains(&model) {
        return missing();
    }
    if !matches!(dialect, Dialect::OllamaChat | Dialect::OllamaGenerate) {
        return said(&row(router, agent, dialect, &model));
    }
    let known = setup.catalogue.known(setup.catalogue.unaliased(&model));
    let can = known.map(Known::abilities).unwrap_or_default();
    let words = [
        (Ability::Answers, "completion"),
        (Ability::Tools, "tools"),
        (Ability::Vision, "vision"),
        (Ability::Embeddings, "embedding"),
        (Ability::Reasoning, "thinking"),
    ];
    let can: Vec<&str> =
        words.iter().filter(|(ability, _)| can.has(*ability)).map(|(_, word)| *word).collect();
    let mut answer = row(router, agent, dialect, &model);
    answer["capabilities"] = json!(can);
    answer["model_info"] = json!({"general.architecture": "octant", "octant.context_length": known.and_then(|known| known.window)});
    said(&answer)
}

/// How many tokens a prompt has at the most: nobody is asked, so it is an upper bound, and says so.
pub(crate) fn count(body: &[u8]) -> Reply {
    // The real method has no limit for an answer that it does not give.
    let complete = crate::splice::field(body, "max_tokens").is_some();
    let with_limit = (!complete).then(|| crate::splice::with(body, "max_tokens", &json!(1))).flatten();
    match Dialect::Anthropic.read_request(with_limit.as_deref().unwrap_or(body)) {
        Ok(request) => {
            let mut reply = said(&json!({"input_tokens": estimate(&request)}));
            let note = hyper::header::HeaderValue::from_static("estimate; an upper bound");
            reply.headers_mut().insert("x-octant-tokens", note);
            reply
        }
        Err(failure) => failed(Dialect::Anthropic, &failure),
    }
}
