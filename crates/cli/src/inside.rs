//! `octant lease`, `octant note` and `octant self`: what an agent can ask, from inside its workstation.

use crate::agents::budget;
use crate::args::{Attempt, Borrow};
use crate::error::CliError;
use crate::out::{Out, span};
use crate::service::Service;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use octant_api::agent::{BorrowRequest, BudgetRequest, NoteRequest, ReturnRequest, SelfRequest};
use octant_ids::{Exit, Layout};
use serde::Serialize;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// An address that leads nowhere (RFC 5737), so that a hole in the confinement reaches nobody.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
/// A refusal comes at once; silence for so long means that a packet left.
const PATIENCE: Duration = Duration::from_secs(3);

/// `octant note TEXT`
pub(crate) fn note(text: &str, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let noted = Service::of_workstation(layout).call(&NoteRequest { text: text.to_owned() })?;
    if out.json { out.json(&noted) } else { out.line(format_args!("ledger entry {}", noted.seq)) }
}

/// `octant lease HOST`, `octant lease --give-back LEASE`
pub(crate) fn lease(wish: &Borrow, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let own = Service::of_workstation(layout);
    if let Some(lease) = &wish.give_back {
        let taken = own.call(&ReturnRequest { lease: lease.clone() })?;
        if out.json {
            return out.json(&taken);
        }
        return out.line(format_args!("lease {lease} is given back; connections cut: {}", taken.cut));
    }
    let lease = own.call(&BorrowRequest {
        host: wish.host.clone().unwrap_or_default(),
        ttl_ms: wish.ttl.0,
        bytes: wish.bytes,
        connections: wish.connections,
        reason: wish.reason.clone().unwrap_or_default(),
    })?;
    if out.json {
        return out.json(&lease);
    }
    out.line(format_args!("lease {} for {} lasts {}", lease.id, lease.host, span(wish.ttl.0 / 1000)))
}

/// `octant self`
pub(crate) fn describe(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let own = Service::of_workstation(layout);
    let info = own.call(&SelfRequest {})?;
    if out.json {
        return out.json(&info);
    }
    let rows = [
        ("agent", info.aid.to_string()),
        ("name", info.name.clone()),
        ("role", info.role.clone()),
        ("operator", info.operator.clone()),
        ("state", info.state.as_str().to_owned()),
        ("under", info.parent.map_or_else(|| "its operator".to_owned(), |parent| parent.to_string())),
        ("manifest", info.manifest_digest.to_string()),
    ];
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    info.grants.iter().try_for_each(|grant| out.wrapped("grant", grant))?;
    let budgets = own.call(&BudgetRequest {})?.budgets;
    budgets.iter().filter_map(budget::line).try_for_each(|line| out.wrapped("budget", &line))
}

#[derive(Serialize)]
struct Tried {
    tried: &'static str,
    denied: bool,
    answer: String,
}

/// `octant self --try WHAT`
///
/// Asks for the agent's own socket first: outside a workstation the attempts would be no attempts but deeds.
pub(crate) fn attempt(what: Attempt, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    Service::of_workstation(layout).call(&SelfRequest {})?;
    let (tried, answer) = match what {
        Attempt::Connect => ("connect to 192.0.2.1 port 80", connect()),
        Attempt::Mount => ("mount a tmpfs on /tmp", mount_tmpfs()),
        Attempt::Trace => ("read the memory of PID 1", read_init()),
    };
    let denied = answer.is_err();
    let answer = answer.map_or_else(|error| error.to_string(), str::to_owned);
    if out.json {
        out.json(&Tried { tried, denied, answer: answer.clone() })?;
    } else if !denied {
        out.line(format_args!("could {tried}: {answer}"))?;
    }
    if denied {
        return Err(CliError::Refused {
            what: format!("cannot {tried}"),
            why: answer,
            exit: Exit::Denied,
            next: None,
        });
    }
    Ok(())
}

fn connect() -> io::Result<&'static str> {
    match TcpStream::connect_timeout(&NOWHERE, PATIENCE) {
        Ok(_) => Ok("connected"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok("a packet left and nobody answered"),
        Err(error) => Err(error),
    }
}

fn mount_tmpfs() -> io::Result<&'static str> {
    mount(None::<&str>, "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok("mounted")
}

/// process_vm_readv(2) needs the right that ptrace(2) needs. EFAULT is the answer of a kernel that would have
/// let it read, had there been something at that address.
fn read_init() -> io::Result<&'static str> {
    let mut byte = [0];
    let remote = [RemoteIoVec { base: 0x1000, len: 1 }];
    match process_vm_readv(Pid::from_raw(1), &mut [IoSliceMut::new(&mut byte)], &remote) {
        Ok(_) | Err(Errno::EFAULT) => Ok("the right to trace it was given"),
        Err(errno) => Err(errno.into()),
    }
}
