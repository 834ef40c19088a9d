//! The nine rules by which a manifest is accepted, in the order in which they are checked.

use crate::effective::RightsError;
use crate::envelope::VerifyError;
use crate::error::{ManifestErrors, Problem};
use serde::Serialize;

/// A rule that a manifest can break. The order is the order of checking, and part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// 1: a trusted, unrevoked key signed these bytes, for this machine, for now and for one more spawn.
    Signature,
    /// 2: every field is one of the schema's and can be enforced.
    Schema,
    /// 3: the signer's role gives the agent's role, and what the program needs is within both.
    RoleCeiling,
    /// 4: what a child's program needs is within its parent's rights.
    ParentIntersection,
    /// 5: the parent has a descendant, a generation and a budget left.
    SpawnBudget,
    /// 6: the machine has what is asked.
    Resources,
    /// 7: nothing is asked that no manifest can grant.
    DenyList,
    /// 8: the identifier is nobody else's, now or ever.
    UniqueIdentity,
    /// 9: a life without end has an operator's approval.
    UnlimitedLifetime,
}

impl Rule {
    /// Every rule, in order.
    pub const ALL: [Self; 9] = [
        Self::Signature,
        Self::Schema,
        Self::RoleCeiling,
        Self::ParentIntersection,
        Self::SpawnBudget,
        Self::Resources,
        Self::DenyList,
        Self::UniqueIdentity,
        Self::UnlimitedLifetime,
    ];

    /// Its name in the ledger and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Schema => "schema",
            Self::RoleCeiling => "role-ceiling",
            Self::ParentIntersection => "parent-intersection",
            Self::SpawnBudget => "spawn-budget",
            Self::Resources => "resources",
            Self::DenyList => "deny-list",
            Self::UniqueIdentity => "unique-identity",
            Self::UnlimitedLifetime => "unlimited-lifetime",
        }
    }
}

/// Each rule once, in order.
fn ordered(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let found: std::collections::BTreeSet<Rule> = rules.collect();
    found.into_iter().collect()
}

impl ManifestErrors {
    /// The rules that are broken.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        ordered(self.iter().map(|error| match error.problem {
            Problem::DeniedSyscall { .. } => Rule::DenyList,
            // Who signed is not whom the manifest names.
            Problem::Operator { .. } => Rule::Signature,
            _ => Rule::Schema,
        }))
    }
}

impl VerifyError {
    /// The rules that are broken.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        match self {
            Self::Manifest(errors) => errors.rules(),
            Self::NoTrustedKeys
            | Self::UnknownKey(_)
            | Self::Tampered { .. }
            | Self::RevokedKey { .. }
            | Self::ExpiredKey { .. }
            | Self::WrongAudience { .. }
            | Self::NotYetValid { .. }
            | Self::Expired { .. } => vec![Rule::Signature],
        }
    }
}

impl RightsError {
    /// The rule that is broken by a manifest that an operator signed.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::UnknownRole { .. }
            | Self::RoleCeiling { .. }
            | Self::ProgramNarrowed(_)
            | Self::CwdNarrowed(_) => Rule::RoleCeiling,
            Self::BeyondMachine { .. } => Rule::Resources,
            Self::UnlimitedLifetime => Rule::UnlimitedLifetime,
            Self::Unenforceable(_) => Rule::Schema,
            Self::ChildOperator { .. } | Self::ChildRole { .. } | Self::ParentsOwn { .. } => {
                Rule::ParentIntersection
            }
            Self::MayNotSpawn | Self::Exhausted(_) => Rule::SpawnBudget,
        }
    }

    /// The rule that is broken by a manifest that an agent wrote for its child: what narrows is the parent.
    #[must_use]
    pub fn child_rule(&self) -> Rule {
        match self.rule() {
            Rule::RoleCeiling => Rule::ParentIntersection,
            rule => rule,
        }
    }
}

/// The rules that several reasons break.
#[must_use]
pub fn broken(reasons: &[RightsError]) -> Vec<Rule> {
    ordered(reasons.iter().map(RightsError::rule))
}

/// The rules that the reasons for which a child cannot be break.
#[must_use]
pub fn broken_by_child(reasons: &[RightsError]) -> Vec<Rule> {
    ordered(reasons.iter().map(RightsError::child_rule))
}
