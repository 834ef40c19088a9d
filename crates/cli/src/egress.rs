//! `octant egress`: what agents reach outside.

use crate::agents;
use crate::args::Egress as Command;
use crate::error::CliError;
use crate::ledger;
use crate::out::{Out, Table, span};
use crate::service::Service;
use octant_api::agents::{LendRequest, TakeBackRequest};
use octant_api::egress::{AtGate, ListRequest, PreviewRequest};
use octant_api::ledger::QueryRequest;
use octant_ids::{Aid, Layout, Principal};

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let (gate, agents) = (Service::of(layout, "egress"), Service::of(layout, "agents"));
    let aid = |given: &str| agents::find(&agents, given).map(|info| info.aid);
    match command {
        Command::List { agent } => {
            let aid = agent.as_deref().map(aid).transpose()?;
            list(&gate.call(&ListRequest { aid })?.agents, out)
        }
        Command::Preview { agent, url } => preview(&gate, aid(agent)?, url, out),
        Command::Log { agent, limit } => {
            let actor = "egress".parse().ok().map(Principal::Service);
            let request = QueryRequest { actor, agent: Some(aid(agent)?), ..QueryRequest::default() };
            ledger::query(&Service::of(layout, "ledger"), request, *limit, out)
        }
        Command::Lease { agent, host, ttl, bytes, connections, reason } => {
            let request = LendRequest {
                agent: agent.clone(),
                host: host.clone(),
                ttl_ms: ttl.0,
                bytes: *bytes,
                connections: *connections,
                reason: reason.clone(),
            };
            let lease = agents.call(&request)?;
            if out.json {
                return out.json(&lease);
            }
            out.line(format_args!("lease {} for {} lasts {}", lease.id, lease.host, span(ttl.0 / 1000)))
        }
        Command::Revoke { agent, lease } => {
            let taken = agents.call(&TakeBackRequest { agent: agent.clone(), lease: lease.clone() })?;
            if out.json {
                return out.json(&taken);
            }
            out.line(format_args!("lease {lease} is taken back; connections cut: {}", taken.cut))
        }
    }
}

fn list(agents: &[AtGate], out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(&agents);
    }
    let mut table = Table::new(&["AGENT", "MAY REACH", "OPEN", "OUT", "IN", "DENIED"]);
    for agent in agents {
        let usage = &agent.usage;
        let numbers = [agent.open_count, usage.bytes_out, usage.bytes_in, usage.denied];
        let leases = agent.leases.iter().map(|row| {
            format!("{} (lease {}, {} left)", row.lease.host, row.lease.id, span(row.left_ms / 1000))
        });
        let mut reach = agent.hosts.iter().cloned().chain(leases);
        let first = [agent.aid.to_string(), reach.next().unwrap_or_default()];
        table.row(first.into_iter().chain(numbers.map(|number| number.to_string())));
        for more in reach {
            let empty = || std::iter::repeat_n(String::new(), numbers.len());
            table.row([String::new(), more].into_iter().chain(empty()));
        }
    }
    out.table(&table)
}

fn preview(gate: &Service, aid: Aid, url: &str, out: &mut Out) -> Result<(), CliError> {
    let preview = gate.call(&PreviewRequest { aid, url: url.to_owned() })?;
    if out.json {
        return out.json(&preview);
    }
    let (host, port) = (&preview.host, preview.port);
    if preview.allowed {
        return out.line(format_args!("{host}:{port} would be let through by {}", preview.rule));
    }
    out.line(format_args!("{host}:{port} would be denied: {}; {}", preview.why, preview.next))
}
