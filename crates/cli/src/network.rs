//! `octant network`: how the machine is connected.

use crate::args::Network as Command;
use crate::error::CliError;
use crate::out::{Out, Table, span};
use crate::service::Service;
use octant_api::network::{
    DhcpStatus, LinkStatus, NetworkStatus, RenewRequest, StatusRequest, StepRequest, TimeState, TimeStatus,
};
use octant_ids::{Exit, Layout};

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let network = Service::of(layout, "network");
    // PID 1 makes the socket before anything starts, and keeps it.
    if !network.path().exists() {
        return Err(CliError::Refused {
            what: "cannot ask how this machine is connected".to_owned(),
            why: "its network is not managed: octant.toml has no [network] table, or this is no machine"
                .to_owned(),
            exit: Exit::Unavailable,
            next: Some(format!(
                "write [network] into {}, then `octant reexec`; nothing is connected before that",
                layout.etc.join("octant.toml").display()
            )),
        });
    }
    match command {
        Command::Status => status(&network.call(&StatusRequest {})?, out),
        Command::Step => {
            let stepped = network.call(&StepRequest {})?;
            if out.json {
                return out.json(&stepped);
            }
            out.line(format_args!("the clock was set by {} ms", stepped.by_ms))
        }
        Command::Renew { link } => {
            let renewed = network.call(&RenewRequest { link: link.clone() })?;
            if out.json {
                return out.json(&renewed);
            }
            out.line(format_args!("asked again: {}", renewed.links.join(" ")))
        }
    }
}

fn status(status: &NetworkStatus, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(status);
    }
    let mut table = Table::new(&["LINK", "STATE", "ADDRESS", "GATEWAY", "LENT BY"]);
    for link in &status.links {
        let mut addresses = link.addresses.iter().cloned();
        let mut gateways = link.gateways.iter().map(ToString::to_string);
        let first = [link.name.clone(), state(link).to_owned()];
        let (address, gateway) = (addresses.next().unwrap_or_default(), gateways.next().unwrap_or_default());
        let lent = link.dhcp.as_ref().map(lent).unwrap_or_default();
        table.row(first.into_iter().chain([address, gateway, lent]));
        loop {
            let (address, gateway) = (addresses.next(), gateways.next());
            if address.is_none() && gateway.is_none() {
                break;
            }
            let more = [address.unwrap_or_default(), gateway.unwrap_or_default(), String::new()];
            table.row([String::new(), String::new()].into_iter().chain(more));
        }
    }
    out.table(&table)?;
    let servers: Vec<String> = status.name_servers.iter().map(ToString::to_string).collect();
    out.line(format_args!(
        "name servers: {}",
        if servers.is_empty() { "none".into() } else { servers.join(" ") }
    ))?;
    if !status.search.is_empty() {
        out.line(format_args!("search: {}", status.search.join(" ")))?;
    }
    out.line(format_args!("time: {}", time(&status.time)))?;
    let missing = status.missing.iter().map(|name| format!("{name}: the machine has no such link"));
    let troubles = status.links.iter().filter_map(|link| link.trouble.clone());
    troubles.chain(missing).try_for_each(|trouble| out.line(crate::out::printable(&trouble)))
}

fn time(time: &TimeStatus) -> String {
    let trouble = || {
        time.trouble.as_deref().map_or_else(String::new, |why| format!(": {}", crate::out::printable(why)))
    };
    match (time.state, time.offset_us) {
        (TimeState::Off, _) => "no server".into(),
        (TimeState::Asking, _) => format!("not known yet{}", trouble()),
        (TimeState::Right, offset) => {
            format!("right, to {} us when it was last asked", offset.unwrap_or(0).unsigned_abs())
        }
        (TimeState::Refused, _) => format!("WRONG{}; `octant network step` sets it", trouble()),
    }
}

fn state(link: &LinkStatus) -> &'static str {
    match (link.carrier, &link.trouble, link.addresses.is_empty()) {
        (false, _, _) => "no carrier",
        (true, Some(_), _) => "trouble",
        (true, None, true) => "waiting",
        (true, None, false) => "connected",
    }
}

fn lent(dhcp: &DhcpStatus) -> String {
    let Some(server) = dhcp.server else { return format!("({})", dhcp.state) };
    match dhcp.left_ms {
        Some(left) => format!("{server}, {} left", span(left / 1000)),
        None => format!("{server}, for ever"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_in_one_word_how_it_is() {
        let link = |carrier, trouble: Option<&str>, address: Option<&str>| LinkStatus {
            carrier,
            trouble: trouble.map(str::to_owned),
            addresses: address.map(str::to_owned).into_iter().collect(),
            ..LinkStatus::default()
        };
        assert_eq!(state(&link(false, Some("x"), Some("192.0.2.1/24"))), "no carrier");
        assert_eq!(state(&link(true, Some("x"), None)), "trouble");
        assert_eq!(state(&link(true, None, None)), "waiting");
        assert_eq!(state(&link(true, None, Some("192.0.2.1/24"))), "connected");
        let mut dhcp =
            DhcpStatus { state: "selecting".into(), address: None, server: None, left_ms: Some(90_000) };
        assert_eq!(lent(&dhcp), "(selecting)");
        dhcp.server = Some("192.0.2.1".parse().unwrap());
        assert!(lent(&dhcp).starts_with("192.0.2.1, 1m"), "{}", lent(&dhcp));
    }
}
