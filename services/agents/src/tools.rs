//! The agent's socket: the native methods and MCP, on the same lines. A tool of MCP is one of the native methods, so there is
//! one handler, one check of authority and one entry of the ledger for both.

use crate::guest::Guest;
use octant_api::agent::{
    self, ApprovalRequest, BorrowRequest, BudgetRequest, ChildrenRequest, CredentialsRequest, INTERFACE,
    KillRequest, NoteRequest, PreviewRequest, ReceiveRequest, ReturnRequest, SelfRequest, SendRequest,
    SnapshotRequest, SpawnRequest, WaitRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Deadline, Dispatch, Interface, Meta, Method, Request};
use octant_manifest::{Grants, Way};
use octant_mcp::client::BETWEEN;
use octant_mcp::{METHODS, Tool};
use octant_wire::Call;
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// What a model is told about all of them.
const INSTRUCTIONS: &str = "Tools of the workstation that this agent runs in. They do what its manifest allows, on its own \
                            behalf; each call that changes anything is on record. A result with isError says what to do next.";

/// How long a call of another's tool may take, in milliseconds.
const OTHERS_MS: u64 = 75_000;
const NATIVE: usize = INTERFACE.methods.len();
/// Every method of the socket: the native ones, then those of MCP.
static ALL: [Method; NATIVE + METHODS.len()] = {
    let mut all = [INTERFACE.methods[0]; NATIVE + METHODS.len()];
    let mut at = 1;
    while at < all.len() {
        all[at] = if at < NATIVE { INTERFACE.methods[at] } else { METHODS[at - NATIVE] };
        at += 1;
    }
    all
};

/// What of a manifest allows a tool; nothing has to where there is none.
type Allows = Option<fn(&Grants) -> bool>;

fn family(grants: &Grants) -> bool {
    grants.generations() > 0
}

fn keeps(grants: &Grants) -> bool {
    !grants.retain().places.is_empty()
}

fn rooms(grants: &Grants) -> bool {
    grants.rooms().iter().next().is_some()
}

fn network(grants: &Grants) -> bool {
    grants.has_network()
}

fn leases(grants: &Grants) -> bool {
    !grants.leases().is_empty()
}

fn secrets(grants: &Grants) -> bool {
    grants.credentials().iter().any(|grant| matches!(grant.way, Way::Use(..)))
}

fn approvals(grants: &Grants) -> bool {
    grants.approvals().iter().next().is_some()
}

/// The tools in the order in which they are listed. Leases of secrets are not among them: no manifest of this build grants
/// what they are for.
static TOOLS: LazyLock<Vec<(Tool, Allows)>> = LazyLock::new(|| {
    let rows: [(&'static Method, Allows); 15] = [
        (SelfRequest::METHOD, None),
        (BudgetRequest::METHOD, None),
        (NoteRequest::METHOD, None),
        (SnapshotRequest::METHOD, Some(keeps)),
        (CredentialsRequest::METHOD, Some(secrets)),
        (PreviewRequest::METHOD, Some(network)),
        (BorrowRequest::METHOD, Some(leases)),
        (ReturnRequest::METHOD, Some(network)),
        (SendRequest::METHOD, Some(rooms)),
        (ReceiveRequest::METHOD, Some(rooms)),
        (SpawnRequest::METHOD, Some(family)),
        (ChildrenRequest::METHOD, Some(family)),
        (WaitRequest::METHOD, Some(family)),
        (KillRequest::METHOD, Some(family)),
        (ApprovalRequest::METHOD, Some(approvals)),
    ];
    let tool = |(method, allows)| {
        let (params, answer) = agent::schemas_of(method)?;
        Some((Tool::of(method, params, answer)?, allows))
    };
    rows.into_iter().filter_map(tool).collect()
});

/// One agent's side of its socket.
#[derive(Debug)]
pub(crate) struct Front {
    guest: Arc<Guest>,
    native: agent::Server<Guest>,
}

/// A request in either form.
#[derive(Debug)]
pub(crate) enum Asked {
    Native(agent::Call),
    Mcp(octant_mcp::Asked),
}

impl Front {
    pub(crate) fn new(guest: Guest) -> Self {
        let guest = Arc::new(guest);
        Self { native: agent::Server(Arc::clone(&guest)), guest }
    }

    /// Every tool that the agent is shown: Octant's own in their order, then those of others by their names.
    fn listed(&self) -> Vec<Value> {
        let own = self.allowed().into_iter().map(|tool| tool.shown().clone());
        own.chain(self.guest.manager.tools_for(self.guest.aid)).collect()
    }

    /// The tools of Octant's own that the agent's manifest allows; of one whose rights are not known any more, those that need none.
    fn allowed(&self) -> Vec<&'static Tool> {
        let allowed: Vec<bool> = self.guest.manager.with_grants(self.guest.aid, |grants| {
            let allows = |allows: Allows| allows.is_none_or(|allows| grants.is_some_and(allows));
            TOOLS.iter().map(|row| allows(row.1)).collect()
        });
        TOOLS.iter().zip(allowed).filter_map(|((tool, _), allowed)| allowed.then_some(tool)).collect()
    }

    async fn call(
        &self,
        name: &str,
        arguments: &str,
        call: Call,
    ) -> Result<Result<Vec<u8>, ApiError>, ApiError> {
        let tools = self.allowed();
        let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
            let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
            let shown: String = name.chars().take(64).collect();
            let why = "there is no such tool, or this agent's manifest does not allow it";
            let next = format!("use one of: {}", names.join(", "));
            return Err(ApiError::new(Code::InvalidParams, "call a tool", shown, why, next));
        };
        let request = match <agent::Server<Guest> as Dispatch<Call>>::parse(tool.method, arguments) {
            Ok((request, _)) => request,
            // A model can read this and do better.
            Err(error) => return Ok(Err(error)),
        };
        let mut answered = Vec::new();
        Ok(self.native.handle(request, call, &mut answered).await.map(|()| answered))
    }

    async fn answer(&self, asked: octant_mcp::Asked, call: Call) -> Result<Value, ApiError> {
        let revision = asked.revision;
        match asked.request {
            octant_mcp::Request::Initialize => Ok(octant_mcp::initialized(INSTRUCTIONS)),
            octant_mcp::Request::Ping => Ok(octant_mcp::pong()),
            octant_mcp::Request::Discover => Ok(octant_mcp::discovered(revision, INSTRUCTIONS)),
            octant_mcp::Request::ListTools { from } => Ok(octant_mcp::listed(revision, self.listed(), from)),
            // No tool of Octant's own has this in its name, and every tool of another has.
            octant_mcp::Request::CallTool { name, arguments } if name.contains(BETWEEN) => {
                match self.guest.use_tool(&name, arguments).await {
                    Ok(taken) => Ok(octant_mcp::result_with(revision, taken)),
                    Err(error) => octant_mcp::result_of(revision, Err(&error)),
                }
            }
            octant_mcp::Request::CallTool { name, arguments } => {
                let done = self.call(&name, &arguments, call).await?;
                octant_mcp::result_of(revision, done.as_deref())
            }
        }
    }
}

/// How long a call of a tool may take: as long as the method that it is.
fn deadline(request: &octant_mcp::Request) -> Meta {
    let octant_mcp::Request::CallTool { name, .. } = request else { return Meta::default() };
    if name.contains(BETWEEN) {
        // As long as the server has, and what is recorded before and after.
        return Meta { deadline_ms: Some(OTHERS_MS) };
    }
    let tool = TOOLS.iter().map(|row| &row.0).find(|tool| tool.name == name);
    let deadline_ms = match tool.map(|tool| tool.method.deadline) {
        Some(Deadline::Ms(ms)) => Some(ms),
        Some(Deadline::Open) | None => None,
    };
    Meta { deadline_ms }
}

impl Dispatch<Call> for Front {
    type Request = Asked;
    const INTERFACE: &'static Interface =
        &Interface { name: INTERFACE.name, about: INTERFACE.about, methods: &ALL };

    fn parse(method: &'static Method, params: &str) -> Result<(Asked, Meta), ApiError> {
        if METHODS.iter().any(|row| row.name == method.name) {
            let asked = octant_mcp::read(method, params)?;
            let meta = deadline(&asked.request);
            return Ok((Asked::Mcp(asked), meta));
        }
        let (request, meta) = <agent::Server<Guest> as Dispatch<Call>>::parse(method, params)?;
        Ok((Asked::Native(request), meta))
    }

    async fn handle(&self, request: Asked, call: Call, out: &mut Vec<u8>) -> Result<(), ApiError> {
        match request {
            Asked::Native(request) => self.native.handle(request, call, out).await,
            Asked::Mcp(asked) => {
                out.extend_from_slice(self.answer(asked, call).await?.to_string().as_bytes());
                Ok(())
            }
        }
    }
}
