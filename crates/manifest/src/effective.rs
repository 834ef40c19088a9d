//! What an agent may really do.

use crate::action::Action;
use crate::domains::Unenforceable;
use crate::envelope::Signer;
use crate::grants::{Grants, NameSet, Narrowed, OnParentDeath, OnTimeout, Profile, Resources};
use crate::role::{Role, Roles};
use crate::schema::{Declared, Identity, Manifest, OWN, Program, below_own, readable, startable};
use crate::{Allotment, Delegated, Exhausted, GrantPath, KeyId};
use octant_ids::{ByteSize, Millis, Sha256};
use serde::Serialize;

/// What the machine has: no manifest can be granted more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its memory.
    pub memory_bytes: u64,
    /// Its processors.
    pub cpus: u32,
}

/// The bound of what a root agent can get: its role's, its operator's and the machine's.
#[derive(Debug, Clone)]
pub struct Ceiling {
    roles: Roles,
    machine: Machine,
    unlimited_lifetime: bool,
}

impl Ceiling {
    /// The ceiling of these roles on this machine.
    #[must_use]
    pub fn new(roles: &Roles, machine: Machine) -> Self {
        Self { roles: roles.clone(), machine, unlimited_lifetime: false }
    }

    fn role(&self, field: &'static str, name: &str) -> Result<&Role, RightsError> {
        self.roles.get(name).ok_or_else(|| RightsError::UnknownRole {
            field,
            role: name.to_owned(),
            known: self.roles.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The most that an agent of this role can get from this signer, and how many descendants.
    fn given(&self, signer: &Signer, asked: &str) -> Result<(Grants, u64), RightsError> {
        let (held, given) =
            (self.role("the signer's key", &signer.role)?, self.role("identity.role", asked)?);
        if held.assigns.iter().any(|role| role == asked) {
            return Ok((held.ceiling.meet(&given.ceiling), held.descendants.min(given.descendants)));
        }
        Err(RightsError::RoleCeiling {
            operator: signer.operator.clone(),
            holds: signer.role.clone(),
            asked: asked.to_owned(),
        })
    }

    /// The role that an agent's child asks for, if the agent's role gives it.
    fn child_role(&self, holds: &str, asked: &str) -> Result<&Role, RightsError> {
        let (held, given) = (self.role("the parent's role", holds)?, self.role("identity.role", asked)?);
        if held.assigns.iter().any(|role| role == asked) {
            return Ok(given);
        }
        Err(RightsError::ChildRole { holds: holds.to_owned(), asked: asked.to_owned() })
    }

    /// Whether an operator of this role may answer for an action of an agent of that role.
    pub(crate) fn may_approve(&self, holds: &str, action: &Action, agent: &str) -> bool {
        let held = self.roles.get(holds);
        held.is_some_and(|held| held.approves.cover(action) && held.assigns.iter().any(|role| role == agent))
    }

    /// The same ceiling after an operator has approved that this agent lives without a limit.
    #[must_use]
    pub fn with_unlimited_lifetime_approved(self) -> Self {
        Self { unlimited_lifetime: true, ..self }
    }
}

/// Why a wish does not become a right at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// A role that does not exist.
    #[error("{field}: there is no role {role:?}; the roles are {known}")]
    UnknownRole {
        /// Where it is named.
        field: &'static str,
        /// What it is called there.
        role: String,
        /// The roles that exist.
        known: String,
    },
    /// The operator's role may not give this one.
    #[error(
        "identity.role: operator {operator:?} has the role {holds:?} and cannot give the role {asked:?}; name a role within it, or let an operator with more sign"
    )]
    RoleCeiling {
        /// Who signed.
        operator: String,
        /// The signer's role.
        holds: String,
        /// The role that the manifest names.
        asked: String,
    },
    /// More than the machine has.
    #[error("{field}: {asked} asked and this machine has {has}; ask for less, or use a larger machine")]
    BeyondMachine {
        /// Which limit.
        field: &'static str,
        /// What was asked.
        asked: String,
        /// What there is.
        has: String,
    },
    /// No end of life, and nobody approved that.
    #[error(
        "lifetime.ttl: an unlimited life needs an operator's approval, which this spawn does not have; write a time such as \"8h\""
    )]
    UnlimitedLifetime,
    /// The program itself was narrowed away.
    #[error(
        "program.executable: {0} is not within what the agent gets; grant it in the role, or choose another program"
    )]
    ProgramNarrowed(GrantPath),
    /// The working directory was narrowed away.
    #[error("program.cwd: {0} is not within what the agent gets; use /workspace, or a path within the role")]
    CwdNarrowed(GrantPath),
    /// Something that is asked and that this build has nothing to enforce with.
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    /// An agent that has no generation below it.
    #[error(
        "spawning: this agent may spawn nobody; an operator has to sign a manifest for it with spawning.allowed, depth and descendants"
    )]
    MayNotSpawn,
    /// A child of another operator's.
    #[error(
        "identity.operator: the operator who answers for this agent and its children is {root:?} and not {named:?}; write {root:?}"
    )]
    ChildOperator {
        /// Whom the child's manifest names.
        named: String,
        /// Who signed for the root.
        root: String,
    },
    /// A tree of the machine's where the parent has only a place of its own.
    #[error(
        "filesystem: {path} of the machine is not the parent's to give: its {own} is its own, and not the machine's; name a place that it was granted"
    )]
    ParentsOwn {
        /// The tree.
        path: GrantPath,
        /// The parent's own place.
        own: &'static str,
    },
    /// A role that the parent's role does not give.
    #[error(
        "identity.role: an agent of the role {holds:?} cannot give the role {asked:?}; name a role within it"
    )]
    ChildRole {
        /// The parent's role.
        holds: String,
        /// The role that the child's manifest names.
        asked: String,
    },
    /// The parent has not as much left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// Where an agent's rights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An operator's signature.
    Signed {
        /// The operator.
        operator: String,
        /// The key.
        key: KeyId,
    },
    /// Another agent's rights, of which these are a part.
    Delegated {
        /// The digest of the parent's manifest.
        parent: Sha256,
    },
}

/// The rights of an agent. Only [`Effective::root`] and [`Effective::narrow`] make one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    identity: Identity,
    program: Program,
    grants: Grants,
    allotment: Allotment,
    origin: Origin,
    digest: Sha256,
    narrowed: Vec<Narrowed>,
}

impl Effective {
    /// A root agent's rights: what the manifest asks, within its role, its operator's role and the machine.
    ///
    /// What is asked beyond the roles is narrowed, and [`Effective::narrowed`] says so.
    ///
    /// # Errors
    /// Every reason: a role that the signer cannot give, a limit that this machine cannot keep, a life without end
    /// that nobody approved, what this build cannot enforce, or a program that is not within the rest.
    pub fn root(declared: &Declared, ceiling: &Ceiling) -> Result<Self, Vec<RightsError>> {
        let (manifest, signer) = (declared.manifest(), declared.signer());
        let mut reasons = Vec::new();
        let given =
            ceiling.given(signer, &manifest.identity.role).map_err(|reason| reasons.push(reason)).ok();
        reasons.extend(beyond(&manifest.grants.resources, ceiling.machine));
        reasons.extend(manifest.unenforceable().into_iter().map(RightsError::from));
        let unlimited = manifest.grants.ttl.is_none();
        if unlimited && !ceiling.unlimited_lifetime {
            reasons.push(RightsError::UnlimitedLifetime);
        }
        // Without a ceiling there are no grants to start anything with: the reason for that is enough.
        let given = given.map(|(mut bound, descendants)| {
            bound.ttl = bound.ttl.filter(|_| !unlimited);
            (manifest.grants.meet(&bound), descendants.min(manifest.descendants))
        });
        reasons.extend(given.iter().flat_map(|(grants, _)| unstartable(&manifest.program, grants)));
        match given {
            Some((grants, descendants)) if reasons.is_empty() => {
                let origin = Origin::Signed { operator: signer.operator.clone(), key: signer.key };
                let budget = manifest.budget();
                let allotment = Allotment::new(budget.with(descendants));
                Ok(Self::of(manifest, declared.digest(), grants, allotment, origin))
            }
            _ => Err(reasons),
        }
    }

    /// A child's rights: what its manifest asks, within this agent's and within its role, for at most as long as is
    /// left of this agent's life. The child itself and its descendants are taken out of this agent's allotment.
    ///
    /// # Errors
    /// Every reason for which there can be no such child. Nothing is taken then.
    pub fn narrow(
        &mut self,
        declared: &Delegated,
        ceiling: &Ceiling,
        life_left: Option<Millis>,
    ) -> Result<Self, Vec<RightsError>> {
        let manifest = declared.manifest();
        let mut reasons: Vec<RightsError> =
            manifest.unenforceable().into_iter().map(RightsError::from).collect();
        if self.grants.generations == 0 {
            reasons.push(RightsError::MayNotSpawn);
        }
        if manifest.identity.operator != self.identity.operator {
            let (named, root) = (manifest.identity.operator.clone(), self.identity.operator.clone());
            reasons.push(RightsError::ChildOperator { named, root });
        }
        reasons.extend(self.not_the_machines(&manifest.grants));
        let role = ceiling.child_role(&self.identity.role, &manifest.identity.role);
        let role = role.map_err(|reason| reasons.push(reason)).ok();
        let mut bound = self.grants.for_child();
        bound.ttl = [bound.ttl, life_left].into_iter().flatten().min();
        let within = role.map_or(bound.clone(), |role| bound.meet(&role.ceiling));
        let grants = manifest.grants.meet(&within);
        if grants.ttl.is_none() {
            reasons.push(RightsError::UnlimitedLifetime);
        }
        reasons.extend(unstartable(&manifest.program, &grants));
        let most = if grants.generations == 0 { 0 } else { role.map_or(0, |role| role.descendants) };
        let descendants = manifest.descendants.min(most);
        let budget = manifest.budget();
        // One is the child itself.
        let share = budget.with(descendants + 1);
        reasons.extend(self.allotment.lacks(share).map(RightsError::from));
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let mut allotment = self.allotment.split(share).map_err(|e| vec![e.into()])?;
        allotment.spend_descendant();
        let origin = Origin::Delegated { parent: self.digest };
        Ok(Self::of(manifest, declared.digest(), grants, allotment, origin))
    }

    /// Where this agent may execute what it writes to its own `/tmp`, its trees hold `/tmp` and the machine's `/tmp/x` is
    /// not its to give. What it was granted there it can write, or its manifest would have been refused.
    fn not_the_machines(&self, asked: &Grants) -> Vec<RightsError> {
        let granted = asked.read.iter().filter(|path| !self.grants.write.covers(path));
        let own = |path: &GrantPath| Some((path.clone(), below_own(path, &self.grants.read)?));
        granted.filter_map(own).map(|(path, own)| RightsError::ParentsOwn { path, own }).collect()
    }

    /// Takes back what a descendant that has ended did not use up.
    pub fn take_back(&mut self, ended: Self) {
        self.allotment.restore(ended.allotment);
    }

    /// Keeps no more of its allotment than this: what is known to be left of it.
    pub fn limit_allotment(&mut self, left: [u64; 5]) {
        self.allotment.limit(left);
    }

    /// Sets something of its allotment apart, at most this: a service uses it up for this agent.
    #[must_use]
    pub fn set_apart(&mut self, most: [u64; 5]) -> Allotment {
        self.allotment.take(most)
    }

    /// Takes back what was set apart and not used up, of it or of a descendant that has ended.
    pub fn put_back(&mut self, share: Allotment) {
        self.allotment.restore(share);
    }

    fn of(manifest: &Manifest, digest: Sha256, grants: Grants, allotment: Allotment, origin: Origin) -> Self {
        let mut narrowed = manifest.grants.narrowed_to(&grants);
        let (asked, got) = (manifest.descendants, allotment.parts()[0]);
        if asked != got {
            let field = "spawning.descendants";
            narrowed.push(Narrowed { field, asked: asked.to_string(), got: got.to_string() });
        }
        let (identity, program) = (manifest.identity.clone(), manifest.program.clone());
        Self { identity, program, grants, allotment, origin, digest, narrowed }
    }

    /// Who the agent is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Every right that it shares.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The budgets that it has.
    #[must_use]
    pub fn allotment(&self) -> &Allotment {
        &self.allotment
    }

    /// Where its rights come from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The SHA-256 of the manifest's bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What was asked and not given in full.
    #[must_use]
    pub fn narrowed(&self) -> &[Narrowed] {
        &self.narrowed
    }

    /// The trees that it may read and not write.
    pub fn read_only(&self) -> impl Iterator<Item = &GrantPath> {
        self.grants.read_only()
    }

    /// The trees that it may write.
    pub fn writable(&self) -> impl Iterator<Item = &GrantPath> {
        self.grants.write.iter()
    }

    /// The trees whose files it may execute.
    pub fn executable_paths(&self) -> impl Iterator<Item = &GrantPath> {
        self.grants.execute.iter()
    }

    /// The utilities that it may run.
    pub fn utilities(&self) -> impl Iterator<Item = &str> {
        self.grants.utilities.iter()
    }

    /// The profile of system calls.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.grants.profile
    }

    /// The system calls beyond the profile.
    #[must_use]
    pub fn syscalls(&self) -> &NameSet {
        &self.grants.syscalls
    }

    /// Its limits.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.grants.resources
    }

    /// How long it may live; `None` only where an operator approved that.
    #[must_use]
    pub fn ttl(&self) -> Option<Millis> {
        self.grants.ttl
    }

    /// What the end of its time to live means for it.
    #[must_use]
    pub fn on_timeout(&self) -> OnTimeout {
        self.grants.on_timeout
    }

    /// What its spawner's end means for it.
    #[must_use]
    pub fn on_parent_death(&self) -> OnParentDeath {
        self.grants.on_parent_death
    }
}

/// Why the program cannot be started with these rights.
pub(crate) fn unstartable(program: &Program, grants: &Grants) -> Vec<RightsError> {
    let mut reasons = Vec::new();
    if !startable(&program.executable, grants) {
        reasons.push(RightsError::ProgramNarrowed(program.executable.clone()));
    }
    if !OWN.contains(&program.cwd.as_str()) && !readable(&program.cwd, grants) {
        reasons.push(RightsError::CwdNarrowed(program.cwd.clone()));
    }
    reasons
}

/// A limit above what the machine has would not be one: it is refused, so that nobody counts on it.
fn beyond(asked: &Resources, machine: Machine) -> Vec<RightsError> {
    let mut reasons = Vec::new();
    if asked.memory_max.0 > machine.memory_bytes {
        reasons.push(RightsError::BeyondMachine {
            field: "resources.memory_max",
            asked: asked.memory_max.to_string(),
            has: ByteSize(machine.memory_bytes).to_string(),
        });
    }
    let percent = u64::from(machine.cpus) * 100;
    if asked.cpu_quota_percent > percent {
        reasons.push(RightsError::BeyondMachine {
            field: "resources.cpu_quota_percent",
            asked: asked.cpu_quota_percent.to_string(),
            has: format!("{percent} ({} processors)", machine.cpus),
        });
    }
    reasons
}
