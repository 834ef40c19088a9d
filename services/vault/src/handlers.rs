//! The methods: from a request to the vault, and back.

use crate::bytes::pipe;
use crate::core::{self, Asking, Value};
use crate::refusal::Refusal;
use crate::state::{LeaseRecord, Op, State};
use crate::unseal::attest;
use crate::values::{Picked, seal_value};
use crate::vault::{Action, Changes, Open, Vault, locked, now};
use octant_api::error::{ApiError, Code};
use octant_api::text::Base64;
use octant_api::vault::{
    AttestRequest, Attestation, BackupRequest, Changed, Copied, DestroyRequest, Details, DoctorReport,
    DoctorRequest, GrantInfo, GrantRequest, Handler, IdentityRequest, InitRequest, Initialised, Kind, Lease,
    LeaseInfo, LeaseList, LeaseRequest, LeasesRequest, ListRequest, MachineIdentity, Mode, OpenRequest,
    Opened, Page, PutRequest, RekeyRequest, Rekeyed, ReleaseRequest, Released, RemoveRequest, RenewRequest,
    RestoreRequest, RetireRequest, RevealRequest, Revealed, RevokeRequest, Revoked, RollbackRequest,
    RotateRequest, SealRequest, Sealed, SecretInfo, ShowRequest, SignRequest, Signed, SlotAddRequest,
    SlotAdded, SlotRemoveRequest, Status, StatusRequest, Token, UnsealRequest, Unsealed, VALUE_MAX,
};
use octant_crypto::memory::{Buffer, Key};
use octant_crypto::sign::{SigningKey, sign_once};
use octant_ids::{Aid, Principal, SecretName, ServiceName, Sha256};
use octant_wire::Call;
use sha2::Digest;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The most secrets in one page.
const PAGE: u32 = 500;
/// The most leases in one answer.
const LEASES: usize = 1000;
/// The longest statement that is attested, in bytes.
const STATEMENT_MAX: usize = 4096;
/// The service's side of its socket.
#[derive(Debug)]
pub(crate) struct Methods {
    pub(crate) vault: Arc<Vault>,
}

/// The holder for whom a service asks, and with which cgroup.
fn asking(
    call: &Call,
    agent: Option<Aid>,
    manifest: Option<Sha256>,
    cgroup: Option<String>,
) -> Option<Asking> {
    let Principal::Service(service) = call.caller().principal.clone() else { return None };
    let holder = agent.map_or_else(|| Principal::Service(service.clone()), Principal::Agent);
    Some(Asking { service, holder, manifest, cgroup })
}

pub(crate) fn hashed(token: &Token) -> Sha256 {
    Sha256(sha2::Sha256::digest(token.0).into())
}

/// A key pair's public key, as text.
fn public_of(kind: Kind, value: &[u8]) -> Result<Option<String>, String> {
    if kind != Kind::KeyPair {
        return Ok(None);
    }
    let seed: &[u8; 32] = value.try_into().map_err(|_| "a seed has 32 bytes".to_owned())?;
    let pair = SigningKey::from_seed(seed).map_err(|error| error.to_string())?;
    Ok(Some(Sha256(pair.public()).to_string()))
}

impl Methods {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// The one descriptor of a request, read whole.
    fn bytes(&self, call: &mut Call, what: &'static str) -> Result<Option<Buffer>, ApiError> {
        call.take_fds().pop().map(|fd| self.vault.memory.read(fd, what)).transpose()
    }

    /// A new value: what came, or what is made here.
    fn value(
        &self,
        action: &Action,
        call: &mut Call,
        kind: Option<Kind>,
        generate: bool,
    ) -> Result<Buffer, ApiError> {
        let came = self.bytes(call, "the value")?;
        match (came, generate) {
            (Some(_), true) => Err(action.refused(&Refusal::BytesAndGenerate)),
            (None, false) => Err(action.refused(&Refusal::NoBytes("the value"))),
            (None, true) => {
                let made = Key::random().map_err(|error| {
                    ApiError::new(
                        Code::Unavailable,
                        action.what,
                        &action.place,
                        error,
                        "try again in a moment",
                    )
                })?;
                let mut buffer = self.vault.memory.room(32)?;
                buffer.copy_from_slice(made.bytes());
                Ok(buffer)
            }
            (Some(buffer), false) => Ok(self.decoded(kind, buffer)),
        }
    }

    /// A line break at the end of what somebody typed or piped is not part of it, where bytes are text.
    fn decoded(&self, kind: Option<Kind>, mut buffer: Buffer) -> Buffer {
        let text = matches!(kind, Some(Kind::Password | Kind::OauthRefresh));
        if text && buffer.last() == Some(&b'\n') {
            let len = buffer.len() - 1;
            buffer.truncate(len);
        }
        buffer
    }

    /// Stores a version of a secret.
    async fn store(
        &self,
        action: Action,
        value: Buffer,
        not_after_ms: Option<u64>,
        kind: impl FnOnce(&State) -> Result<Kind, Refusal> + Send + 'static,
        decide: impl FnOnce(&State, &Value<'_>) -> Result<SecretInfo, Refusal> + Send + 'static,
    ) -> Result<Changed, ApiError> {
        let asked = action.clone();
        let mut value = value;
        let decide = move |open: &Open, state: &State, _| {
            let refused = |refusal: Refusal| asked.refused(&refusal);
            let failed = |why: String| {
                ApiError::new(Code::Unavailable, asked.what, &asked.place, why, "try again in a moment")
            };
            let kind = kind(state).map_err(refused)?;
            let public = public_of(kind, &value).ok().flatten();
            let about = Value { bytes: value.len(), public_key: public.as_deref(), not_after_ms };
            let info = decide(state, &about).map_err(refused)?;
            let newest =
                info.versions.last().ok_or_else(|| failed("the secret has no version".to_owned()))?;
            let sealed = seal_value(&open.key, &open.vault, &info, newest, &mut value);
            let sealed = sealed.map_err(|error| failed(error.to_string()))?;
            let (name, version) = (info.name.clone(), info.current);
            let changes =
                vec![(Op::Secret { secret: info }, Vec::new()), (Op::Value { name, version }, sealed)];
            Ok::<Changes<u64>, ApiError>((changes, version))
        };
        let (version, epoch) = self.vault.change(action, decide).await?;
        Ok(Changed { epoch, version })
    }

    /// Changes a secret's metadata.
    async fn edit(
        &self,
        action: Action,
        decide: impl FnOnce(&State, crate::state::Now) -> Result<SecretInfo, Refusal> + Send + 'static,
    ) -> Result<Changed, ApiError> {
        let asked = action.clone();
        let decide = move |_: &Open, state: &State, now| {
            let info = decide(state, now).map_err(|refusal| asked.refused(&refusal))?;
            let current = info.current;
            Ok::<Changes<u64>, ApiError>((vec![(Op::Secret { secret: info }, Vec::new())], current))
        };
        let (version, epoch) = self.vault.change(action, decide).await?;
        Ok(Changed { epoch, version })
    }

    fn open(&self, what: &'static str) -> Result<Arc<Open>, ApiError> {
        self.vault.open(what, "vault")
    }

    /// A lease as its holder gets it.
    fn shown(state: &State, record: &LeaseRecord, token: Token) -> Lease {
        let left = |end: u64| end.saturating_sub(now().boot_ns) / 1_000_000;
        let secret = state.secrets.get(&record.name);
        Lease {
            token,
            mode: record.mode,
            expires_in_ms: record.until_ns.map(left),
            renewable_ms: record.last_ns.map(left),
            hosts: state.grants.get(&record.grant).map(|grant| grant.hosts.clone()).unwrap_or_default(),
            username: secret.map(|secret| secret.info.username.clone()).unwrap_or_default(),
            public_key: secret.and_then(|secret| public_key(&secret.info)),
        }
    }

    async fn lease_of(&self, who: Asking, asked: LeaseRequest) -> Result<Lease, ApiError> {
        let by = Principal::Service(who.service.clone());
        let agent = asked.agent;
        let action = Action::new("give a lease", "lease", &by, &asked.name)
            .with("mode", asked.mode.as_str())
            .about(agent);
        let token = Key::random().map_err(|error| {
            ApiError::new(Code::Unavailable, action.what, "vault", error, "try again in a moment")
        })?;
        let token = Token(*token.bytes());
        let hash = hashed(&token);
        let (vault, denying, boot) = (Arc::clone(&self.vault), action.clone(), self.vault.site.boot.clone());
        // Only `agents` knows agents, and the gate, which is told of them by `agents` alone and uses a value for them at a
        // host. Who else names one has taken it from nowhere.
        let knows = match who.service.as_str() {
            "agents" => true,
            "egress" => asked.mode == Mode::Use,
            _ => false,
        };
        if agent.is_some() && !knows {
            return Err(self.vault.deny(&action, &Refusal::NotGranted));
        }
        // Decided a first time without the right to change anything: a refusal takes the same way for everybody, and
        // waits for nobody.
        let decide = move |state: &State, now| core::lease(state, &who, &asked, hash, &boot, now);
        {
            let open = self.open(action.what)?;
            let mut state = locked(&open.state);
            state.expire(now(), 64);
            if let Err(refusal) = decide(&state, now()) {
                drop(state);
                return Err(self.vault.deny(&action, &refusal));
            }
        }
        let change = move |_: &Open, state: &State, now| {
            let lease = decide(state, now).map_err(|refusal| vault.deny(&denying, &refusal))?;
            Ok::<Changes<()>, ApiError>((vec![(Op::Lease { lease }, Vec::new())], ()))
        };
        let (vault, giving) = (Arc::clone(&self.vault), action.clone());
        // To its end, also when the agent is gone by then: nobody else would take its lease back.
        crate::vault::task(&action, async move {
            vault.change(giving.clone(), change).await?;
            if agent.is_some_and(|agent| vault.has_ended(agent)) {
                vault.take_away(giving.clone(), move |_, _| (vec![Op::Release { token: hash }], ())).await?;
                return Err(giving.refused(&Refusal::NotGranted));
            }
            Ok(())
        })
        .await?;
        let open = self.open(action.what)?;
        let state = locked(&open.state);
        let (record, _) = state.lease(&hash, now()).ok_or_else(|| action.refused(&Refusal::NoLease))?;
        Ok(Self::shown(&state, record, token))
    }
}

/// Who calls is a service: the method's row says so.
fn must(asking: Option<Asking>) -> Result<Asking, ApiError> {
    let why = "only services ask for leases";
    asking.ok_or_else(|| ApiError::new(Code::Denied, "use a lease", "caller", why, "ask through a service"))
}

fn handed(call: &Call, bytes: &[u8]) -> Result<(), ApiError> {
    call.attach(pipe(bytes)?)
}

impl Handler<Call> for Methods {
    async fn status(&self, _: StatusRequest, call: Call) -> Result<Status, ApiError> {
        let status = self.vault.status();
        if matches!(call.caller().principal, Principal::Operator(_)) {
            return Ok(status);
        }
        // Names of secrets and of hardware are an operator's to see.
        Ok(Status { why: String::new(), warnings: Vec::new(), ..status })
    }

    async fn init(&self, asked: InitRequest, mut call: Call) -> Result<Initialised, ApiError> {
        let bytes = self.bytes(&mut call, "what the slot needs")?;
        let (made, shares) = self.vault.init(&call.caller().principal.clone(), asked, bytes).await?;
        shares.map_or(Ok(()), |shares| handed(&call, &shares))?;
        Ok(made)
    }

    async fn unseal(&self, asked: UnsealRequest, mut call: Call) -> Result<Unsealed, ApiError> {
        let bytes = self.bytes(&mut call, "what unseals it")?;
        self.vault.unseal(&call.caller().principal.clone(), asked, bytes).await
    }

    async fn seal(&self, _: SealRequest, call: Call) -> Result<Sealed, ApiError> {
        let closed = self.vault.close("an operator sealed it");
        let was_unsealed = closed.is_some();
        let payload = serde_json::json!({
            "do": "vault seal", "by": call.caller().principal.to_string(), "was_unsealed": was_unsealed,
        });
        self.vault.audit.later(&payload, None, None);
        let action = Action::new("seal the vault", "seal", &call.caller().principal, "vault");
        let (vault, asked) = (Arc::clone(&self.vault), action.clone());
        crate::vault::task(&action, async move {
            // A restart of the vault must not undo it.
            let place = Arc::clone(&vault.place);
            let kept = crate::vault::blocking(&asked, move || place.keep_sealed(true)).await?;
            kept.map_err(|error| asked.failed(&error))?;
            let settled = match closed {
                Some(closed) => crate::vault::settled(&closed).await,
                None => true,
            };
            Ok(Sealed { was_unsealed, settled })
        })
        .await
    }

    async fn slot_add(&self, asked: SlotAddRequest, mut call: Call) -> Result<SlotAdded, ApiError> {
        let bytes = self.bytes(&mut call, "what the slot needs")?;
        let (added, shares) =
            self.vault.slot_add(&call.caller().principal.clone(), asked.slot, bytes).await?;
        shares.map_or(Ok(()), |shares| handed(&call, &shares))?;
        Ok(added)
    }

    async fn slot_remove(&self, asked: SlotRemoveRequest, call: Call) -> Result<Changed, ApiError> {
        let epoch = self.vault.slot_remove(&call.caller().principal, asked.slot).await?;
        Ok(Changed { epoch, version: 0 })
    }

    async fn rekey(&self, asked: RekeyRequest, mut call: Call) -> Result<Rekeyed, ApiError> {
        let read = |fd: OwnedFd| self.vault.memory.read(fd, "what a slot needs");
        let bytes = call.take_fds().into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let by = call.caller().principal.clone();
        let (rekeyed, shares) = self.vault.rekey(&by, asked.slots, bytes).await?;
        shares.iter().try_for_each(|shares| handed(&call, shares))?;
        Ok(rekeyed)
    }

    async fn put(&self, asked: PutRequest, mut call: Call) -> Result<Changed, ApiError> {
        let action = Action::new("store a secret", "put", &call.caller().principal, &asked.name);
        let value = self.value(&action, &mut call, Some(asked.kind), asked.generate)?;
        let (kind, end) = (asked.kind, asked.not_after_ms);
        self.store(
            action,
            value,
            end,
            move |_| Ok(kind),
            move |state, value| core::put(state, &asked, value, now()),
        )
        .await
    }

    async fn rotate(&self, asked: RotateRequest, mut call: Call) -> Result<Changed, ApiError> {
        let action = Action::new("rotate a secret", "rotate", &call.caller().principal, &asked.name);
        let kind = {
            let open = self.vault.open(action.what, &action.place)?;
            let state = locked(&open.state);
            core::secret(&state, &asked.name).map(|secret| secret.info.kind)
        };
        let kind = kind.map_err(|refusal| action.refused(&refusal))?;
        let value = self.value(&action, &mut call, Some(kind), asked.generate)?;
        let (name, end) = (asked.name.clone(), asked.not_after_ms);
        let of = move |state: &State| core::secret(state, &name).map(|secret| secret.info.kind);
        self.store(action, value, end, of, move |state, value| core::rotate(state, &asked.name, value, now()))
            .await
    }

    async fn rollback(&self, asked: RollbackRequest, call: Call) -> Result<Changed, ApiError> {
        let action = Action::new("roll a secret back", "rollback", &call.caller().principal, &asked.name)
            .with("version", asked.version);
        self.edit(action, move |state, now| core::rollback(state, &asked.name, asked.version, now)).await
    }

    async fn destroy(&self, asked: DestroyRequest, call: Call) -> Result<Changed, ApiError> {
        let action = Action::new("destroy a version", "destroy", &call.caller().principal, &asked.name)
            .with("version", asked.version);
        self.edit(action, move |state, _| core::destroy(state, &asked.name, asked.version)).await
    }

    async fn remove(&self, asked: RemoveRequest, call: Call) -> Result<Changed, ApiError> {
        let action = Action::new("remove a secret", "remove", &call.caller().principal, &asked.name);
        let refusing = action.clone();
        let decide = move |_: &Open, state: &State, _| {
            core::secret(state, &asked.name).map_err(|refusal| refusing.refused(&refusal))?;
            Ok::<Changes<()>, ApiError>((vec![(Op::Remove { name: asked.name }, Vec::new())], ()))
        };
        let ((), epoch) = self.vault.change(action, decide).await?;
        Ok(Changed { epoch, version: 0 })
    }

    async fn list(&self, asked: ListRequest, _: Call) -> Result<Page, ApiError> {
        let open = self.open("list secrets")?;
        let state = locked(&open.state);
        let limit = if asked.limit == 0 { PAGE } else { asked.limit.min(PAGE) } as usize;
        let after = asked.after.as_ref().map(SecretName::as_str).unwrap_or_default();
        let from = if after > asked.prefix.as_str() { after } else { asked.prefix.as_str() };
        let mut secrets: Vec<SecretInfo> = state
            .secrets
            .range::<str, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
            .filter(|(name, _)| name.as_str() != after || after.is_empty())
            .take_while(|(name, _)| name.as_str().starts_with(&asked.prefix))
            .take(limit + 1)
            .map(|(_, secret)| secret.info.clone())
            .collect();
        let more = secrets.len() > limit;
        secrets.truncate(limit);
        let next = secrets.last().filter(|_| more).map(|last| last.name.clone());
        Ok(Page { secrets, next })
    }

    async fn show(&self, asked: ShowRequest, _: Call) -> Result<Details, ApiError> {
        let open = self.open("show a secret")?;
        let state = locked(&open.state);
        let secret = core::secret(&state, &asked.name)
            .map_err(|refusal| refusal.answer("show a secret", asked.name.as_str()))?;
        Ok(Details {
            secret: secret.info.clone(),
            grants: state.grants_of(&asked.name).cloned().collect(),
            leases: state.live_leases(now()).filter(|lease| lease.name == asked.name).count() as u64,
        })
    }

    async fn reveal(&self, asked: RevealRequest, call: Call) -> Result<Revealed, ApiError> {
        let action = Action::new("reveal a secret", "reveal", &call.caller().principal, &asked.name)
            .with("reason", asked.reason.clone());
        crate::making::check_reason(&asked.reason).map_err(|refusal| action.refused(&refusal))?;
        let decide = move |state: &State, now| {
            let secret = core::secret(state, &asked.name)?;
            if secret.info.kind == Kind::KeyPair {
                let (name, kind) = (asked.name.clone(), Kind::KeyPair);
                return Err(Refusal::Mode { name, kind, mode: Mode::Reveal });
            }
            core::usable(state, secret, asked.version, now).map(Picked::from)
        };
        let used = self.vault.use_value(action, decide, |picked, value| {
            Ok((
                pipe(value)?,
                Revealed { kind: picked.kind, version: picked.version, bytes: value.len() as u64 },
            ))
        });
        let (fd, revealed) = used.await?;
        call.attach(fd)?;
        Ok(revealed)
    }

    async fn grant(&self, asked: GrantRequest, call: Call) -> Result<GrantInfo, ApiError> {
        let caller = call.caller();
        let modes: Vec<&str> = asked.modes.iter().map(|mode| mode.as_str()).collect();
        let action = Action::new("give a grant", "grant", &caller.principal, &asked.name)
            .with("to", asked.to.to_string())
            .with("modes", modes)
            .with("unlimited", asked.unlimited)
            .with("reason", asked.reason.clone());
        let (refusing, by) = (action.clone(), caller.uid);
        let decide = move |_: &Open, state: &State, now| {
            let grant = core::grant(state, &asked, by, now).map_err(|refusal| refusing.refused(&refusal))?;
            Ok::<Changes<GrantInfo>, ApiError>((
                vec![(Op::Grant { grant: grant.clone() }, Vec::new())],
                grant,
            ))
        };
        Ok(self.vault.change(action, decide).await?.0)
    }

    async fn revoke(&self, asked: RevokeRequest, call: Call) -> Result<Revoked, ApiError> {
        let what = serde_json::to_value(&asked.what).unwrap_or_default();
        let action = Action::new("revoke", "revoke", &call.caller().principal, &what);
        let decide = move |state: &State, now| {
            let (ops, grants, leases) = core::revoke(state, &asked.what, now);
            (ops, (grants, leases))
        };
        let ((grants, leases), durable) = self.vault.take_away(action, decide).await?;
        Ok(Revoked { grants, leases, durable })
    }

    async fn leases(&self, asked: LeasesRequest, _: Call) -> Result<LeaseList, ApiError> {
        let open = self.open("list leases")?;
        let state = locked(&open.state);
        let wanted = asked.agent.map(Principal::Agent);
        let time = now();
        let mut total = 0;
        let mut leases = Vec::new();
        for lease in state.live_leases(time).filter(|l| wanted.as_ref().is_none_or(|w| *w == l.holder)) {
            total += 1;
            if leases.len() < LEASES {
                leases.push(LeaseInfo {
                    holder: lease.holder.clone(),
                    name: lease.name.clone(),
                    mode: lease.mode,
                    grant: lease.grant,
                    expires_in_ms: lease.until_ns.map(|end| end.saturating_sub(time.boot_ns) / 1_000_000),
                });
            }
        }
        Ok(LeaseList { leases, total })
    }

    async fn backup(&self, _: BackupRequest, mut call: Call) -> Result<Copied, ApiError> {
        let fd = file(&mut call, "write a backup")?;
        self.vault.backup(&call.caller().principal, fd).await
    }

    async fn restore(&self, asked: RestoreRequest, mut call: Call) -> Result<Copied, ApiError> {
        let fd = file(&mut call, "restore a backup")?;
        self.vault.restore(&call.caller().principal, fd, asked.reason).await
    }

    async fn doctor(&self, _: DoctorRequest, call: Call) -> Result<DoctorReport, ApiError> {
        self.vault.doctor(&call.caller().principal).await
    }

    async fn identity(&self, _: IdentityRequest, call: Call) -> Result<MachineIdentity, ApiError> {
        self.vault.identity(&call.caller().principal)
    }

    async fn attest(&self, asked: AttestRequest, call: Call) -> Result<Attestation, ApiError> {
        let action = Action::new("attest a statement", "attest", &call.caller().principal, "machine")
            .with("statement", asked.statement.clone());
        let bytes = asked.statement.len();
        if bytes == 0 || bytes > STATEMENT_MAX {
            let refusal = Refusal::Length { what: "the statement", bytes, least: 1, most: STATEMENT_MAX };
            return Err(action.refused(&refusal));
        }
        let vault = Arc::clone(&self.vault);
        crate::vault::task(&action.clone(), async move {
            let open = vault.open(action.what, &action.place)?;
            let (agent, subject) = (None, None);
            let intent = crate::audit::Intent { payload: action.payload.clone(), agent, subject };
            let recorded = vault.audit.intent(intent).await?;
            let statement = attest(&open.machine, asked.statement);
            vault.audit.outcome(recorded, &crate::audit::done(&Ok::<(), &str>(()), None));
            Ok(statement)
        })
        .await
    }

    async fn lease(&self, asked: LeaseRequest, call: Call) -> Result<Lease, ApiError> {
        let who = must(asking(&call, asked.agent, asked.manifest, asked.cgroup.clone()))?;
        self.lease_of(who, asked).await
    }

    async fn renew(&self, asked: RenewRequest, call: Call) -> Result<Lease, ApiError> {
        let who = must(asking(&call, asked.agent, None, asked.cgroup.clone()))?;
        let by = Principal::Service(who.service.clone());
        let action = Action::new("renew a lease", "renew", &by, "lease").about(asked.agent);
        let (token, hash) = (asked.token.clone(), hashed(&asked.token));
        let (vault, denying) = (Arc::clone(&self.vault), action.clone());
        let decide = move |_: &Open, state: &State, now| {
            let decided = core::held(state, &who, &hash, now)
                .and_then(|(lease, _)| core::renew(lease, asked.ttl_ms, now));
            let until_ns = decided.map_err(|refusal| vault.deny(&denying, &refusal))?;
            Ok::<Changes<()>, ApiError>((vec![(Op::Extend { token: hash, until_ns }, Vec::new())], ()))
        };
        self.vault.change(action.clone(), decide).await?;
        let open = self.open(action.what)?;
        let state = locked(&open.state);
        let (record, _) = state.lease(&hash, now()).ok_or_else(|| action.refused(&Refusal::NoLease))?;
        Ok(Self::shown(&state, record, token))
    }

    async fn release(&self, asked: ReleaseRequest, call: Call) -> Result<Released, ApiError> {
        let who = must(asking(&call, asked.agent, None, asked.cgroup.clone()))?;
        let by = Principal::Service(who.service.clone());
        let action = Action::new("give a lease back", "release", &by, "lease").about(asked.agent);
        let token = hashed(&asked.token);
        let decide = move |state: &State, now| match core::held(state, &who, &token, now) {
            Ok(_) => (vec![Op::Release { token }], 1),
            Err(_) => (Vec::new(), 0),
        };
        let (leases, _) = self.vault.take_away(action, decide).await?;
        Ok(Released { leases })
    }

    async fn open(&self, asked: OpenRequest, call: Call) -> Result<Opened, ApiError> {
        let who = must(asking(&call, asked.agent, None, asked.cgroup.clone()))?;
        let mut action =
            for_lease("open a value", "open", &who.service, asked.agent).with("host", asked.host.clone());
        if let Some(requests) = asked.requests {
            action = action.with("requests", requests);
        }
        let token = hashed(&asked.token);
        let decide = move |state: &State, now| {
            core::open(state, &who, &token, asked.host.as_deref(), now)
                .map(|(usable, _)| Picked::from(usable))
        };
        let used = self.vault.use_value(action, decide, |picked, value| {
            let (version, bytes) = (picked.version, value.len() as u64);
            Ok((pipe(value)?, Opened { version, bytes, username: picked.username.clone() }))
        });
        let (fd, opened) = used.await?;
        call.attach(fd)?;
        Ok(opened)
    }

    async fn sign(&self, asked: SignRequest, call: Call) -> Result<Signed, ApiError> {
        let who = must(asking(&call, asked.agent, None, asked.cgroup.clone()))?;
        let message = asked.message.0;
        let digest = Sha256(sha2::Sha256::digest(&message).into());
        let action = for_lease("sign", "sign", &who.service, asked.agent)
            .with("sha256", digest.to_string())
            .with("host", asked.host.clone());
        if message.len() > VALUE_MAX {
            let (what, bytes) = ("the message", message.len());
            return Err(action.refused(&Refusal::Length { what, bytes, least: 0, most: VALUE_MAX }));
        }
        let token = hashed(&asked.token);
        let host = asked.host;
        let decide =
            move |state: &State, now| core::sign(state, &who, &token, host.as_deref(), now).map(Picked::from);
        let with = move |picked: &Picked, seed: &[u8]| {
            let broken = |why: String| {
                ApiError::new(
                    Code::Damaged,
                    "sign",
                    picked.name.as_str(),
                    why,
                    "restore the vault from a backup",
                )
            };
            let seed = seed.try_into().map_err(|_| broken("the seed has not 32 bytes".to_owned()))?;
            let (public, signature) = sign_once(seed, &message);
            if picked.public_key.as_ref() != Some(&Sha256(public).to_string()) {
                return Err(broken("the seed is not that of the public key".to_owned()));
            }
            Ok(Signed {
                version: picked.version,
                public_key: Base64(public.to_vec()),
                signature: Base64(signature.to_vec()),
            })
        };
        self.vault.use_value(action, decide, with).await
    }

    async fn retire(&self, asked: RetireRequest, call: Call) -> Result<Released, ApiError> {
        self.vault.note_end(asked.agent);
        if !self.vault.is_open() {
            // Nothing can be used now, and when something can, this agent's leases are gone.
            return Ok(Released { leases: 0 });
        }
        let holder = Principal::Agent(asked.agent);
        let action = Action::new("retire an agent", "retire", &call.caller().principal, asked.agent);
        let decide = move |state: &State, _| match state.held_by(&holder) {
            0 => (Vec::new(), 0),
            count => (vec![Op::Retire { holder }], count as u64),
        };
        let (leases, _) = self.vault.take_away(action, decide).await?;
        Ok(Released { leases })
    }
}

/// The public key of the version in use.
fn public_key(info: &SecretInfo) -> Option<Base64> {
    let current = info.versions.iter().find(|version| version.version == info.current)?;
    let key: Sha256 = current.public_key.as_ref()?.parse().ok()?;
    Some(Base64(key.0.to_vec()))
}

/// An action with a lease; what it is of is not known before the lease was looked at.
fn for_lease(what: &'static str, verb: &str, service: &ServiceName, agent: Option<Aid>) -> Action {
    Action::new(what, verb, &Principal::Service(service.clone()), "lease").about(agent)
}

fn file(call: &mut Call, what: &'static str) -> Result<OwnedFd, ApiError> {
    let refusal = Refusal::NoBytes("the backup's file");
    call.take_fds().pop().ok_or_else(|| refusal.answer(what, "descriptor"))
}
