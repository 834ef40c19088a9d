//! What an agent may really do.

use crate::domains::Unenforceable;
use crate::envelope::Signer;
use crate::grants::{Grants, NameSet, Narrowed, OnParentDeath, OnTimeout, Profile, Resources};
use crate::role::{Role, Roles};
use crate::schema::{Declared, Identity, OWN, Program, startable};
use crate::{Allotment, Exhausted, GrantPath, KeyId};
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

    /// The most that an agent of this role can get from this signer.
    fn given(&self, signer: &Signer, asked: &str) -> Result<Grants, RightsError> {
        let (held, given) =
            (self.role("the signer's key", &signer.role)?, self.role("identity.role", asked)?);
        if held.assigns.iter().any(|role| role == asked) {
            return Ok(held.ceiling.meet(&given.ceiling));
        }
        Err(RightsError::RoleCeiling {
            operator: signer.operator.clone(),
            holds: signer.role.clone(),
            asked: asked.to_owned(),
        })
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
        let bound =
            ceiling.given(signer, &manifest.identity.role).map_err(|reason| reasons.push(reason)).ok();
        reasons.extend(beyond(&manifest.grants.resources, ceiling.machine));
        reasons.extend(manifest.unenforceable().into_iter().map(RightsError::from));
        let unlimited = manifest.grants.ttl.is_none();
        if unlimited && !ceiling.unlimited_lifetime {
            reasons.push(RightsError::UnlimitedLifetime);
        }
        // Without a ceiling there are no grants to start anything with: the reason for that is enough.
        let grants = bound.map(|mut bound| {
            bound.ttl = bound.ttl.filter(|_| !unlimited);
            manifest.grants.meet(&bound)
        });
        reasons.extend(grants.iter().flat_map(|grants| unstartable(&manifest.program, grants)));
        match grants {
            Some(grants) if reasons.is_empty() => {
                let origin = Origin::Signed { operator: signer.operator.clone(), key: signer.key };
                Ok(Self::of(declared, grants, Allotment::default(), origin))
            }
            _ => Err(reasons),
        }
    }

    /// A child's rights: what its manifest asks, within this agent's. The child's budgets are taken out of
    /// this agent's.
    ///
    /// # Errors
    /// Every reason: what this build cannot enforce, or a program that is not within the rest. Nothing is taken then.
    pub fn narrow(&mut self, declared: &Declared) -> Result<Self, Vec<RightsError>> {
        let manifest = declared.manifest();
        let grants = manifest.grants.meet(&self.grants);
        let mut reasons: Vec<RightsError> =
            manifest.unenforceable().into_iter().map(RightsError::from).collect();
        reasons.extend(unstartable(&manifest.program, &grants));
        // No manifest of this build can ask for a budget, so a child's share is empty.
        match self.allotment.split([0, 0, 0]) {
            Ok(share) if reasons.is_empty() => {
                Ok(Self::of(declared, grants, share, Origin::Delegated { parent: self.digest }))
            }
            Ok(share) => {
                self.allotment.restore(share);
                Err(reasons)
            }
            Err(exhausted) => {
                reasons.push(exhausted.into());
                Err(reasons)
            }
        }
    }

    fn of(declared: &Declared, grants: Grants, allotment: Allotment, origin: Origin) -> Self {
        let manifest = declared.manifest();
        let narrowed = manifest.grants.narrowed_to(&grants);
        let (identity, program) = (manifest.identity.clone(), manifest.program.clone());
        Self { identity, program, grants, allotment, origin, digest: declared.digest(), narrowed }
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
    if !OWN.contains(&program.cwd.as_str()) && !grants.read.covers(&program.cwd) {
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
