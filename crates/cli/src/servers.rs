//! `octant mcp servers`, `tools` and `pin`: the agents that offer tools to others, as an operator sees them.

use crate::args::Mcp;
use crate::error::CliError;
use crate::out::{Out, Table, printable};
use crate::service::Service;
use octant_api::agents::{PinRequest, ServerInfo, ServersRequest};
use octant_ids::{Exit, Layout};

/// The command.
pub(crate) fn run(command: &Mcp, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let service = Service::of(layout, "agents");
    match command {
        Mcp::Servers => list(&service, out),
        Mcp::Tools { server } => tools(&service, server.as_deref(), out),
        Mcp::Pin { server } => {
            let info = service.call(&PinRequest { server: server.clone() })?;
            if out.json {
                return out.json(&info);
            }
            out.line(format_args!(
                "the list of {} is read again; see `octant mcp servers` and `octant approvals list`",
                info.name
            ))
        }
    }
}

fn list(service: &Service, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&ServersRequest::default())?;
    if out.json {
        return out.json(&list);
    }
    let mut table = Table::new(&["SERVER", "STATE", "OFFERED", "REQUEST", "AGENT"]);
    for server in &list.servers {
        let offered = server.tools.iter().filter(|tool| tool.offered).count();
        let counts = format!("{offered} of {}", server.tools.len());
        let request = server.approval.clone().unwrap_or_else(|| "-".to_owned());
        let (name, state) = (server.name.clone(), server.state.as_str().to_owned());
        table.row([name, state, counts, request, server.agent.to_string()]);
    }
    out.table(&table)?;
    let told = list.servers.iter().filter(|server| !server.why.is_empty());
    told.into_iter()
        .try_for_each(|server| out.line(format_args!("{}: {}", server.name, printable(&server.why))))
}

fn tools(service: &Service, server: Option<&str>, out: &mut Out) -> Result<(), CliError> {
    let mut list = service.call(&ServersRequest::default())?;
    list.servers.retain(|row| server.is_none_or(|server| row.name == server));
    if let (Some(server), []) = (server, &list.servers[..]) {
        return Err(CliError::Refused {
            what: format!("cannot list the tools of {}", printable(server)),
            why: "no server of this name runs".to_owned(),
            exit: Exit::NotFound,
            next: Some("see `octant mcp servers`".to_owned()),
        });
    }
    let tools: Vec<_> = list.servers.iter().flat_map(|server: &ServerInfo| &server.tools).collect();
    if out.json {
        return out.json(&tools);
    }
    let mut table = Table::new(&["OFFERED", "TOOL", "DIGEST"]);
    for tool in tools {
        let offered = if tool.offered { "yes" } else { "no" };
        table.row([offered.to_owned(), tool.name.clone(), tool.digest.to_string()]);
    }
    out.table(&table)
}
