//! `octant router`: which models there are, who asks them, what that costs.

use crate::agents;
use crate::args::Router as Command;
use crate::args::{KeyData as Data, NewKey, RouterKey as Key};
use crate::error::CliError;
use crate::ledger;
use crate::out::{Out, Table, span};
use crate::service::Service;
use octant_api::ledger::QueryRequest;
use octant_api::router::{
    DataClass, ExplainRequest, IssueRequest, KeysFound, KeysRequest, MetricsRequest, ProvidersRequest,
    ReloadRequest, RevokeRequest, Status, StatusRequest, TestRequest, UsageRequest, WindowLimits,
};
use octant_ids::{Layout, Principal, utc};

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let (router, agents) = (Service::of(layout, "router"), Service::of(layout, "agents"));
    let aid = |given: &str| agents::find(&agents, given).map(|info| info.aid);
    match command {
        Command::Status => status(&router.call(&StatusRequest {})?, out),
        Command::Providers => providers(&router, out),
        Command::Test { model } => test(&router, model, out),
        Command::Usage { who } => {
            // Who is no agent is called by what it is.
            let by = |who: &String| match who.contains(':') {
                true => Ok(who.clone()),
                false => aid(who).map(|aid| aid.to_string()),
            };
            let by = who.as_ref().map(by).transpose()?;
            usage(&router, &UsageRequest { by }, out)
        }
        Command::Key(command) => key(&router, command, out),
        Command::Log { agent, limit } => {
            let actor = "router".parse().ok().map(Principal::Service);
            let request = QueryRequest { actor, agent: Some(aid(agent)?), ..QueryRequest::default() };
            ledger::query(&Service::of(layout, "ledger"), request, *limit, out)
        }
        Command::Explain { model, agent, prompt } => {
            let aid = agent.as_deref().map(aid).transpose()?;
            let request = ExplainRequest { aid, model: model.clone(), prompt: prompt.clone() };
            explain(&router, &request, out)
        }
        Command::Metrics => {
            let metrics = router.call(&MetricsRequest {})?;
            if out.json {
                return out.json(&metrics);
            }
            out.line(format_args!("{}", metrics.text.trim_end()))
        }
        Command::Reload => {
            let done = router.call(&ReloadRequest {})?;
            if out.json {
                return out.json(&done);
            }
            for warning in &done.warnings {
                out.line(format_args!("warning: {warning}"))?;
            }
            out.line(format_args!("in force; deployments: {}", done.deployments))
        }
    }
}

fn status(status: &Status, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(status);
    }
    out.line(format_args!(
        "{}: {} deployments, {} names of models",
        status.file, status.providers, status.models
    ))?;
    if !status.fault.is_empty() {
        out.line(format_args!("not in force as it stands there: {}", status.fault))?;
    }
    let mut table = Table::new(&["AGENT", "MAY ASK", "OPEN", "CALLS", "FAILED", "DENIED", "TOKENS", "USD"]);
    for agent in &status.agents {
        let usage = &agent.usage;
        table.row([
            agent.aid.to_string(),
            agent.models.join(" "),
            agent.open.to_string(),
            usage.calls.to_string(),
            usage.failed.to_string(),
            usage.denied.to_string(),
            usage.input.saturating_add(usage.output).to_string(),
            usd(usage.microusd),
        ]);
    }
    out.table(&table)
}

/// Millionths of a dollar as dollars.
pub(crate) fn usd(microusd: u64) -> String {
    format!("{}.{:06}", microusd / 1_000_000, microusd % 1_000_000)
}

fn providers(router: &Service, out: &mut Out) -> Result<(), CliError> {
    let answer = router.call(&ProvidersRequest {})?;
    if out.json {
        return out.json(&answer);
    }
    let mut table = Table::new(&["DEPLOYMENT", "MODEL", "WHERE", "KEY", "STANDS"]);
    for row in answer.deployments {
        let left = if row.left_ms > 0 {
            format!(", {} yet", span(row.left_ms.div_ceil(1000)))
        } else {
            String::new()
        };
        let key = if row.key.is_empty() { "none".to_owned() } else { row.key };
        table.row([row.name, row.model, row.url, key, format!("{}{left}", row.state)]);
    }
    out.table(&table)
}

fn test(router: &Service, model: &str, out: &mut Out) -> Result<(), CliError> {
    // As long as a slow provider takes, for each of several.
    let tested = router.call_within(&TestRequest { model: model.to_owned() }, 60_000)?;
    if out.json {
        return out.json(&tested);
    }
    let mut table = Table::new(&["DEPLOYMENT", "ANSWERED", "MS", "SAID"]);
    for row in tested.rows {
        let answered = if row.answered { "yes" } else { "no" };
        table.row([row.deployment, answered.to_owned(), row.ms.to_string(), row.said]);
    }
    out.table(&table)
}

fn usage(router: &Service, request: &UsageRequest, out: &mut Out) -> Result<(), CliError> {
    let used = router.call(request)?;
    if out.json {
        return out.json(&used);
    }
    let mut table = Table::new(&[
        "DAY", "WHO", "MODEL", "PROVIDER", "CALLS", "FAILED", "DENIED", "CACHED", "IN", "OUT", "USD",
    ]);
    for row in used.rows {
        let usage = row.usage;
        let numbers = [usage.calls, usage.failed, usage.denied, usage.cached, usage.input, usage.output]
            .map(|n| n.to_string());
        let first = [date(row.day.saturating_mul(DAY_MS)), row.by, row.model, row.provider];
        table.row(first.into_iter().chain(numbers).chain([usd(usage.microusd)]));
    }
    out.table(&table)
}

const DAY_MS: u64 = 86_400_000;

/// The day of a time, of UTC.
fn date(wall_ms: u64) -> String {
    utc(wall_ms).chars().take(10).collect()
}

fn key(router: &Service, command: &Key, out: &mut Out) -> Result<(), CliError> {
    match command {
        Key::New(new) => {
            let issued = router.call(&new_key(new))?;
            if out.json { out.json(&issued) } else { out.line(format_args!("{}", issued.key)) }
        }
        Key::List => keys(&router.call(&KeysRequest {})?, out),
        Key::Revoke { name } => {
            let done = router.call(&RevokeRequest { name: name.clone() })?;
            if out.json {
                return out.json(&done);
            }
            out.line(format_args!("{name} is good for nothing any more; calls that were cut: {}", done.cut))
        }
    }
}

fn new_key(new: &NewKey) -> IssueRequest {
    IssueRequest {
        name: new.name.clone(),
        models: new.models.clone(),
        data: match new.data {
            Data::Local => DataClass::Local,
            Data::NoRetention => DataClass::NoRetention,
            Data::Any => DataClass::Any,
        },
        max_price_microusd: new.max_price,
        limits: WindowLimits {
            tokens_per_minute: new.tokens_per_minute,
            microusd_per_minute: new.usd_per_minute,
            tokens_per_day: new.tokens_per_day,
            microusd_per_day: new.usd_per_day,
            tokens: new.tokens,
            microusd: new.usd,
        },
        ttl_ms: new.ttl.map(|ttl| ttl.0),
    }
}

fn keys(found: &KeysFound, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(found);
    }
    match (found.at.as_str(), found.fault.as_str()) {
        ("", "") => out.line(format_args!("nobody listens: router.toml has no [listen]"))?,
        ("", fault) => out.line(format_args!("nobody listens: {fault}"))?,
        (at, _) => out.line(format_args!("programs ask at http://{at}"))?,
    }
    let mut table = Table::new(&["NAME", "MAY ASK", "SINCE", "UNTIL", "OPEN", "A MINUTE", "A DAY", "IN ALL"]);
    for row in &found.keys {
        let limits = &row.issued.limits;
        table.row([
            row.issued.name.clone(),
            row.issued.models.join(" "),
            date(row.issued_ms),
            row.until_ms.map_or_else(|| "revoked".to_owned(), utc),
            row.open.to_string(),
            much(limits.tokens_per_minute, limits.microusd_per_minute),
            much(limits.tokens_per_day, limits.microusd_per_day),
            much(limits.tokens, limits.microusd),
        ]);
    }
    out.table(&table)
}

/// How much there is of both.
fn much(tokens: Option<u64>, microusd: Option<u64>) -> String {
    match (tokens, microusd.map(usd)) {
        (None, None) => "no end".to_owned(),
        (Some(tokens), None) => format!("{tokens} tokens"),
        (None, Some(usd)) => format!("{usd} USD"),
        (Some(tokens), Some(usd)) => format!("{tokens} tokens, {usd} USD"),
    }
}

fn explain(router: &Service, request: &ExplainRequest, out: &mut Out) -> Result<(), CliError> {
    let explained = router.call(request)?;
    if out.json {
        return out.json(&explained);
    }
    for line in &explained.lines {
        out.line(format_args!("{line}"))?;
    }
    if explained.denied.is_empty() {
        return Ok(());
    }
    out.line(format_args!("would be denied: {}; {}", explained.denied, explained.next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_to_the_millionth() {
        assert_eq!([usd(0), usd(1), usd(2_500_000)], ["0.000000", "0.000001", "2.500000"]);
    }
}
