//! `octant router`: which models there are, who asks them, what that costs.

use crate::agents;
use crate::args::Router as Command;
use crate::error::CliError;
use crate::ledger;
use crate::out::{Out, Table, span};
use crate::service::Service;
use octant_api::ledger::QueryRequest;
use octant_api::router::{
    ExplainRequest, MetricsRequest, ProvidersRequest, ReloadRequest, Status, StatusRequest, TestRequest,
    UsageRequest,
};
use octant_ids::{Layout, Principal};

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let (router, agents) = (Service::of(layout, "router"), Service::of(layout, "agents"));
    let aid = |given: &str| agents::find(&agents, given).map(|info| info.aid);
    match command {
        Command::Status => status(&router.call(&StatusRequest {})?, out),
        Command::Providers => providers(&router, out),
        Command::Test { model } => test(&router, model, out),
        Command::Usage { agent } => {
            let aid = agent.as_deref().map(aid).transpose()?;
            usage(&router, &UsageRequest { aid }, out)
        }
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
    let mut table =
        Table::new(&["AGENT", "MODEL", "CALLS", "FAILED", "DENIED", "CACHED", "IN", "OUT", "USD"]);
    for row in used.rows {
        let usage = row.usage;
        let numbers = [usage.calls, usage.failed, usage.denied, usage.cached, usage.input, usage.output]
            .map(|n| n.to_string());
        let first = [row.aid.to_string(), row.model];
        table.row(first.into_iter().chain(numbers).chain([usd(usage.microusd)]));
    }
    out.table(&table)
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
