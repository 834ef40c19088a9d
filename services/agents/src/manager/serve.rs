//! Agents that offer tools to others: their conversations, what of their lists an operator has approved, and calls.
//!
//! A server is an agent as any other, with a manifest, a workstation and an end. What it offers reaches others only through
//! here: they call it on their own sockets, and neither side ever has a descriptor of the other's.

use super::approve::{Deed, Used};
use super::spawn::Asked;
use super::{Agent, Inner, Manager, about};
use crate::admit::WHAT;
use crate::core::{Ending, Event};
use crate::served::pins::{Change, Pins, digest};
use crate::served::{Fault, NoAnswer, Over, Session};
use octant_api::agents::{AgentState, ApprovalState, PARAMS_MAX, ServerInfo, ServerState, ToolInfo};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{Action, NamePattern, PatternSet};
use octant_mcp::Revision;
use octant_mcp::client::{self, BETWEEN, Offered};
use octant_service::record;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};

const CALL: &str = "call a tool";
/// How often a list is read again at the most, however often its server says that it is another.
const LIST_PAUSE: Duration = Duration::from_secs(1);

/// The servers of this run, and what is approved of them.
#[derive(Debug)]
pub(crate) struct Servers {
    pins: Pins,
    rows: Mutex<BTreeMap<String, Server>>,
}

#[derive(Debug)]
struct Server {
    aid: Aid,
    state: ServerState,
    why: String,
    session: Option<Arc<Session>>,
    revision: Option<Revision>,
    listed: BTreeMap<String, Offered>,
    /// The request that waits.
    approval: Option<String>,
    /// Told when an operator wants the list to be read again.
    again: Arc<Notify>,
}

/// A tool that can be called.
struct Ready {
    server: Aid,
    session: Arc<Session>,
    revision: Revision,
    tool: Offered,
}

impl Servers {
    pub(super) fn new(pins: Pins) -> Self {
        Self { pins, rows: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the row of a server, where it still is that agent's.
    fn change(&self, name: &str, aid: Aid, change: impl FnOnce(&mut Server)) {
        if let Some(server) = self.rows().get_mut(name).filter(|server| server.aid == aid) {
            change(server);
        }
    }

    fn listed(&self, name: &str) -> BTreeMap<String, Offered> {
        self.rows().get(name).map(|server| server.listed.clone()).unwrap_or_default()
    }

    fn info(&self, name: &str, server: &Server) -> ServerInfo {
        let tool = |tool: &Offered| ToolInfo {
            name: format!("{name}{BETWEEN}{}", tool.name),
            digest: digest(&tool.text),
            offered: server.state == ServerState::Serves && self.pins.holds(name, tool),
        };
        ServerInfo {
            name: name.to_owned(),
            agent: server.aid,
            state: server.state,
            why: server.why.clone(),
            approval: server.approval.clone(),
            tools: server.listed.values().map(tool).collect(),
        }
    }

    /// A tool that runs and is approved as it is, by the name by which agents call it.
    fn ready(&self, name: &str) -> Result<Ready, String> {
        let (server, tool) = client::split(name).ok_or("it is no server's")?;
        let rows = self.rows();
        let row = rows.get(server).ok_or_else(|| format!("no server {server} runs"))?;
        let (ServerState::Serves, Some(session), Some(revision)) = (row.state, &row.session, row.revision)
        else {
            return Err(match row.state {
                ServerState::Over => format!("the server {server} is over: {}", row.why),
                _ => format!("the server {server} has not listed its tools yet"),
            });
        };
        let offered = row.listed.get(tool).ok_or_else(|| format!("{server} has no such tool"))?;
        if !self.pins.holds(server, offered) {
            return Err(format!("an operator has not approved it as {server} describes it now"));
        }
        let session = Arc::clone(session);
        Ok(Ready { server: row.aid, session, revision, tool: offered.clone() })
    }
}

impl Inner {
    /// Takes the name under which an agent is going to offer tools, where its rights have one: it is nobody else's.
    pub(super) fn take_server_name(&mut self, aid: Aid, asked: &Asked<'_>) -> Result<(), ApiError> {
        let rights = self.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
        let Some(name) = rights.and_then(|rights| rights.grants().serves()).map(str::to_owned) else {
            return Ok(());
        };
        let refuse = |code, why: String, next| Err(ApiError::new(code, WHAT, "skills.serves", why, next));
        if matches!(asked, Asked::Prepared { .. }) {
            let why = "a server of tools cannot be prepared: there is one of each name".to_owned();
            return refuse(Code::InvalidParams, why, "spawn it");
        }
        let holds = |agent: &&Agent| {
            let saved = &agent.saved;
            saved.info.aid != aid && !agent.state.phase.ended() && saved.serves.as_ref() == Some(&name)
        };
        if let Some(other) = self.agents.values().find(holds) {
            let why = format!("{} offers tools under the name {name} already", other.saved.info.aid);
            return refuse(Code::Conflict, why, "end it first, or sign another name");
        }
        if let Some(agent) = self.agents.get_mut(&aid) {
            agent.saved.serves = Some(name);
        }
        Ok(())
    }
}

/// What is done when an operator has approved what a server offers.
const PIN: &str = "pin the tools of a server";

/// What a server offers, of which something is new or changed.
struct Offer {
    aid: Aid,
    server: String,
    changes: Vec<Change>,
    listed: BTreeMap<String, Offered>,
}

impl Manager {
    /// Begins to speak with an agent that offers tools.
    pub(super) fn serve_tools(self: &Arc<Self>, aid: Aid) {
        let found = {
            let mut inner = self.inner();
            let Some(agent) = inner.agents.get_mut(&aid) else { return };
            agent.saved.serves.clone().zip(agent.speech.take())
        };
        if let Some((name, speech)) = found {
            tokio::spawn(Arc::clone(self).converse(aid, name, speech));
        }
    }

    async fn converse(self: Arc<Self>, aid: Aid, name: String, (input, output): (OwnedFd, OwnedFd)) {
        let row = Server {
            aid,
            state: ServerState::Begins,
            why: String::new(),
            session: None,
            revision: None,
            listed: BTreeMap::new(),
            approval: None,
            again: Arc::default(),
        };
        self.servers.rows().insert(name.clone(), row);
        let pipes = pipe::Sender::from_owned_fd(input)
            .and_then(|to| Ok((Session::start(to), pipe::Receiver::from_owned_fd(output)?)));
        let over = match pipes {
            Err(error) => Over::Unreadable(error.to_string()),
            Ok((session, from)) => {
                self.servers.change(&name, aid, |server| server.session = Some(Arc::clone(&session)));
                let over = tokio::select! {
                    () = session.closed() => Over::Gone,
                    over = session.hear(from, |fault| self.note_fault(aid, &name, fault)) => over,
                    over = self.lead(aid, &name, &session) => over,
                };
                session.close(&over.to_string());
                over
            }
        };
        let why = over.to_string();
        self.servers.change(&name, aid, |server| {
            (server.state, server.why, server.approval) = (ServerState::Over, why.clone(), None);
            server.session = None;
        });
        self.note_of_server(aid, json!({"do": "offer tools", "server": name, "over": why}));
        self.drive(aid, Event::EndAsked { why: Ending::Unserved, grace_ms: 0 }).await;
    }

    /// Ends the conversation with an agent that has ended: who waits is not kept waiting for the end of its output, which
    /// any process of it may hold.
    pub(super) fn end_conversation(&self, aid: Aid) {
        let rows = self.servers.rows();
        if let Some(session) = rows.values().find(|row| row.aid == aid).and_then(|row| row.session.as_ref()) {
            session.close(&Over::Gone.to_string());
        }
    }

    /// Something about a server is on record, in its own partition while that is open.
    fn note_of_server(&self, aid: Aid, what: Value) {
        let inner = self.inner();
        let mut entry = about(aid, Kind::Decision, &what);
        entry.agent = inner.agents.get(&aid).filter(|agent| !agent.sealed).map(|_| aid);
        // While `inner` is held, so that nothing comes into the queue behind the seal that belongs before it.
        self.records.later(entry);
    }

    fn note_fault(&self, aid: Aid, name: &str, fault: &Fault) {
        tracing::warn!("{aid}: the server {name}: {fault}");
        self.note_of_server(aid, json!({"do": "offer tools", "server": name, "fault": fault.to_string()}));
    }

    /// Has its list read and approved, again each time that it changes, until that fails.
    async fn lead(self: &Arc<Self>, aid: Aid, name: &str, session: &Arc<Session>) -> Over {
        let revision = match session.begin().await {
            Ok(revision) => revision,
            Err(over) => return over,
        };
        let Some(again) = self.servers.rows().get(name).map(|server| Arc::clone(&server.again)) else {
            return Over::Gone;
        };
        let mut serves = false;
        loop {
            let listed = match session.list(revision).await {
                Ok(listed) => listed,
                // One that is busy is not over for that. Its list is read again when that is asked for.
                Err(over) if serves && over.is_of_the_moment() => {
                    self.servers.change(name, aid, |server| server.why = over.to_string());
                    tokio::select! {
                        () = session.changed.notified() => {}
                        () = again.notified() => {}
                    }
                    tokio::time::sleep(LIST_PAUSE).await;
                    continue;
                }
                Err(over) => return over,
            };
            serves = true;
            self.servers.change(name, aid, |server| {
                (server.listed, server.state) = (listed, ServerState::Serves);
                server.revision = Some(revision);
                (server.why, server.approval) = (String::new(), None);
            });
            let settled = async {
                if let Err(error) = self.have_approved(aid, name).await {
                    self.servers.change(name, aid, |server| {
                        (server.why, server.approval) = (error.to_string(), None);
                    });
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = settled => {}
                () = session.changed.notified() => {}
                () = again.notified() => {}
            }
            tokio::time::sleep(LIST_PAUSE).await;
        }
    }

    /// Pins what a server lists once an operator has approved what of it is new or changed. It waits for the answer.
    async fn have_approved(self: &Arc<Self>, aid: Aid, name: &str) -> Result<(), ApiError> {
        let failed = |e: String| ApiError::new(Code::Unavailable, PIN, name, e, "see `octant status`");
        let listed = self.servers.listed(name);
        let changes = self.servers.pins.changes(name, &listed).map_err(|e| failed(e.to_string()))?;
        if changes.is_empty() {
            return Ok(());
        }
        let offer = Arc::new(Offer { aid, server: name.to_owned(), changes, listed });
        loop {
            // A task of its own: once an approval is used up, what it is for follows, whatever the server says meanwhile.
            let task = tokio::spawn(Arc::clone(self).pin_approved(Arc::clone(&offer)));
            match task.await.map_err(|e| failed(e.to_string()))? {
                Err(ApiError { code: Code::ApprovalNeeded, data, message }) => {
                    let Some(id) = data.approval.clone() else { return Err(failed(message)) };
                    self.servers.change(name, aid, |server| {
                        server.why = "what is new or changed waits for an operator's approval".to_owned();
                        server.approval = Some(id.clone());
                    });
                    let answered = self.approvals.answered(&id).await.map_err(|e| failed(e.to_string()))?;
                    if answered.state == ApprovalState::Expired {
                        return Err(ApiError::new(
                            Code::Denied,
                            PIN,
                            name,
                            answered.why,
                            "ask again: octant mcp pin",
                        ));
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.servers.change(name, aid, |server| (server.why, server.approval) = (String::new(), None));
        Ok(())
    }

    /// Uses up the approval of an offer, puts the pin on record, and pins.
    async fn pin_approved(self: Arc<Self>, offer: Arc<Offer>) -> Result<(), ApiError> {
        let Offer { aid, server, changes, listed } = &*offer;
        let failed = |e: String| ApiError::new(Code::Unavailable, PIN, server, e, "see `octant status`");
        let action = Action::named("offer", server).map_err(|e| failed(e.to_string()))?;
        let used = self.approve_offer(*aid, server, action, changes).await?;
        let tools: BTreeMap<&String, _> =
            listed.iter().map(|(tool, offered)| (tool, digest(&offered.text))).collect();
        let what = json!({"do": "pin", "server": server, "agent": aid, "tools": tools, "approval": used});
        let (_, recorded) = self.records.append(&[about(*aid, Kind::Grant, &what)]).await;
        recorded.map_err(|e| failed(format!("the ledger did not accept it: {e}")))?;
        self.servers.pins.pin(server, listed).map_err(|e| failed(e.to_string()))
    }

    /// Uses up an operator's approval of what is new or changed, with what it was before; or asks for one.
    async fn approve_offer(
        self: &Arc<Self>,
        aid: Aid,
        server: &str,
        action: Action,
        changes: &[Change],
    ) -> Result<Used, ApiError> {
        #[derive(Serialize)]
        struct Exactly<'a> {
            server: &'a str,
            tools: &'a [Change],
        }
        let wrong = |e: serde_json::Error| {
            ApiError::new(Code::Internal, "ask for approval", server, e, "report it as a fault of Octant")
        };
        let params = Json::of(&Exactly { server, tools: changes }).map_err(wrong)?;
        let info = self.info(aid)?;
        let deed = Deed {
            action,
            agent: Some(aid),
            family: Some(aid),
            name: &info.name,
            role: &info.role,
            manifest: info.manifest_digest,
            by: Principal::Agent(aid).to_string(),
            method: "tools/list",
            params,
        };
        self.approved(deed).await
    }

    /// Every server of this run.
    pub(crate) fn servers(&self) -> Vec<ServerInfo> {
        self.servers.rows().iter().map(|(name, server)| self.servers.info(name, server)).collect()
    }

    /// Has a server's list read again, and what of it is not approved asked for anew.
    pub(crate) fn list_again(&self, name: &str) -> Result<ServerInfo, ApiError> {
        let rows = self.servers.rows();
        let shown: String = name.chars().take(64).collect();
        let refuse = |code, why: &str, next| {
            ApiError::new(code, "pin the tools of a server", shown.clone(), why, next)
        };
        let server = rows.get(name).ok_or_else(|| {
            refuse(Code::NotFound, "no server of this name runs", "see `octant mcp servers`")
        })?;
        if server.state == ServerState::Over {
            return Err(refuse(Code::Conflict, &server.why, "spawn it again"));
        }
        server.again.notify_one();
        Ok(self.servers.info(name, server))
    }

    /// The tools of others that an agent is shown, by their names: those that its manifest allows and that an operator has
    /// approved as they are.
    pub(crate) fn tools_for(&self, aid: Aid) -> Vec<Value> {
        let allowed = self.with_grants(aid, |grants| grants.map(|grants| grants.tools().clone()));
        let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) else { return Vec::new() };
        let rows = self.servers.rows();
        let serving = rows.iter().filter(|(_, server)| server.state == ServerState::Serves);
        let tools = serving.flat_map(|(name, server)| server.listed.values().map(move |tool| (name, tool)));
        let may = |(server, tool): &(&String, &Offered)| {
            names(&allowed, &format!("{server}{BETWEEN}{}", tool.name))
                && self.servers.pins.holds(server, tool)
        };
        // A text that was made here is a tool.
        tools.filter(may).filter_map(|(server, tool)| client::listed_as(server, &tool.text).ok()).collect()
    }

    /// Calls another's tool for an agent: its manifest allows it, an operator has approved the tool and, where the manifest
    /// demands that, the call; the call is on record before, and what became of it after. To be run as a task of its own.
    /// `gone` is done when nobody waits for it any more.
    pub(crate) async fn use_tool(
        self: &Arc<Self>,
        caller: Aid,
        name: &str,
        arguments: &RawValue,
        gone: oneshot::Receiver<()>,
    ) -> Result<Map<String, Value>, ApiError> {
        let refuse = |code, why: String, next| ApiError::new(code, CALL, name, why, next);
        let Ready { server, session, revision, tool } = self.ready_for(caller, name)?;
        let pinned = digest(&tool.text);
        let action =
            Action::named("tool", name).map_err(|e| refuse(Code::InvalidParams, e.to_string(), ""))?;
        let demanded =
            self.with_grants(caller, |grants| grants.is_some_and(|g| g.approvals().cover(&action)));
        if demanded && arguments.get().len() > PARAMS_MAX {
            let why =
                format!("an operator has to approve it, and its arguments have more than {PARAMS_MAX} bytes");
            return Err(refuse(Code::TooLong, why, "name what is long by its digest"));
        }
        let exactly = Exactly { server, tool: &tool.name, described: pinned, arguments };
        let used = self.permit(caller, action, "tools/call", &exactly).await?;
        let intent = json!({
            "do": CALL,
            "tool": name,
            "server": server,
            "described": pinned,
            "bytes": arguments.get().len(),
            "approval": used,
        });
        let mut entry = record(Kind::Intent, &intent);
        (entry.actor, entry.subject) = (Some(caller), Some(digest(arguments.get())));
        let (done, all) = self.records.append(&[entry]).await;
        all.map_err(|e| {
            let why = format!("the ledger did not accept it: {e}");
            refuse(Code::Unavailable, why, "see `octant status`; nothing is done without a record")
        })?;
        let seq = done.into_iter().next().flatten().map(|done| done.seq);
        let result = session.call(caller, revision, &tool.name, arguments, gone).await;
        self.note_result(caller, seq, name, &result);
        result.map_err(|error| no_answer(name, &error))
    }

    /// A tool that this agent can call now.
    fn ready_for(&self, caller: Aid, name: &str) -> Result<Ready, ApiError> {
        let allowed =
            self.with_grants(caller, |grants| grants.is_some_and(|grants| names(grants.tools(), name)));
        if !allowed {
            let why = "this agent's manifest does not allow it";
            let next = "use another, or have a manifest signed whose skills.tools names it";
            return Err(ApiError::new(Code::Denied, CALL, name, why, next));
        }
        let unavailable = |why: String| {
            let next = "use another tool; an operator sees more with `octant mcp servers`";
            ApiError::new(Code::Unavailable, CALL, name, why, next)
        };
        let ready = self.servers.ready(name).map_err(unavailable)?;
        match self.info(ready.server)?.state {
            AgentState::Running | AgentState::Throttled => Ok(ready),
            state => Err(unavailable(format!("its server is {}", state.as_str()))),
        }
    }

    /// What became of a call.
    fn note_result(
        &self,
        caller: Aid,
        intent: Option<u64>,
        name: &str,
        result: &Result<Map<String, Value>, NoAnswer>,
    ) {
        let what = match result {
            Ok(result) => {
                let text = json!(result).to_string();
                let failed = result.get("isError") == Some(&json!(true));
                json!({"tool": name, "bytes": text.len(), "result": digest(&text), "failed": failed})
            }
            Err(error) => json!({"tool": name, "no_answer": error.to_string()}),
        };
        let inner = self.inner();
        let mut entry = AppendRequest { intent, ..record(Kind::Outcome, &what) };
        entry.actor = inner.agents.get(&caller).filter(|agent| !agent.sealed).map(|_| caller);
        // While `inner` is held, so that nothing comes into the queue behind the seal that belongs before it.
        self.records.later(entry);
    }

    /// Puts on record that an agent called a tool of others that it cannot call.
    pub(crate) fn note_denied_tool(&self, caller: Aid, error: &ApiError) {
        let name: String = error.data.place.chars().take(128).collect();
        let what = json!({"do": CALL, "tool": name, "denied": error.data.why, "next": error.data.next});
        self.note_of_server(caller, what);
    }
}

/// Exactly what a call does.
#[derive(Serialize)]
struct Exactly<'a> {
    server: Aid,
    tool: &'a str,
    described: Sha256,
    arguments: &'a RawValue,
}

/// Whether patterns name this.
fn names(patterns: &PatternSet<NamePattern>, name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn no_answer(name: &str, error: &NoAnswer) -> ApiError {
    let (code, next) = match error {
        NoAnswer::Over(_) => (Code::Unavailable, "use another tool; an operator spawns the server again"),
        NoAnswer::Late(_) => (Code::Deadline, "whether it was done is not known"),
        NoAnswer::TakenBack => (Code::Cancelled, "nothing"),
        NoAnswer::Busy | NoAnswer::Share(_) | NoAnswer::Unread => (Code::Busy, "call it again later"),
        NoAnswer::Refused { .. } => (Code::Failed, "compare the arguments with the schema of the tool"),
        NoAnswer::Unfit(_) => (Code::Failed, "use another tool"),
    };
    ApiError::new(code, CALL, name, error, next)
}
