//! What an operator has to approve each time.

use crate::money;
use crate::pattern::{NamePattern, Pattern, PatternError};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

const WRITE: &str = "lifetime.unlimited, spawn, adopt, lease:SECRET, lease:HOST, message:ROOM, tool:NAME, offer:SERVER or \
                     spend:USD, where the beginning of names with a * behind it stands for all of them";

/// An action, or all actions of one sort whose names begin alike. The set is closed: what is not here cannot be
/// demanded, so that no manifest counts on a rule that nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A life without end. Needs an approval whether a manifest says so or not.
    UnlimitedLifetime,
    /// Spawning a child.
    Spawn,
    /// Going on under another when the agent that spawned it has ended.
    Adopt,
    /// A lease of a secret, or of a host as a manifest writes it (`lease:tls://api.example.org:443`).
    Lease(NamePattern),
    /// A message into a room.
    Message(NamePattern),
    /// A call of a tool.
    Tool(NamePattern),
    /// The tools that a server offers, as it describes them. Needs an approval whether a manifest says so or not.
    Offer(NamePattern),
    /// Spending this much at once or more, in millionths of a US dollar.
    Spend(u64),
}

impl Action {
    /// An action of a sort that has names, about one of them.
    ///
    /// # Errors
    /// Not a name of this sort.
    pub fn named(sort: &str, name: &str) -> Result<Self, PatternError> {
        let text = format!("{sort}:{name}");
        match text.parse() {
            Ok(action @ (Self::Lease(_) | Self::Message(_) | Self::Tool(_) | Self::Offer(_)))
                if !name.ends_with('*') =>
            {
                Ok(action)
            }
            Ok(_) => Err(PatternError::new(&text, "it is not one action", WRITE)),
            Err(error) => Err(error),
        }
    }

    /// Whether it is one action and not all of a sort.
    #[must_use]
    pub fn single(&self) -> bool {
        match self {
            Self::UnlimitedLifetime | Self::Spawn | Self::Adopt | Self::Spend(_) => true,
            Self::Lease(name) | Self::Message(name) | Self::Tool(name) | Self::Offer(name) => !name.open(),
        }
    }

    /// The sort of action, which is what comes before the colon.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        match self {
            Self::UnlimitedLifetime => "lifetime.unlimited",
            Self::Spawn => "spawn",
            Self::Adopt => "adopt",
            Self::Lease(_) => "lease",
            Self::Message(_) => "message",
            Self::Tool(_) => "tool",
            Self::Offer(_) => "offer",
            Self::Spend(_) => "spend",
        }
    }
}

impl Pattern for Action {
    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Lease(a), Self::Lease(b)) => a.meet(b).map(Self::Lease),
            (Self::Message(a), Self::Message(b)) => a.meet(b).map(Self::Message),
            (Self::Tool(a), Self::Tool(b)) => a.meet(b).map(Self::Tool),
            (Self::Offer(a), Self::Offer(b)) => a.meet(b).map(Self::Offer),
            (Self::Spend(a), Self::Spend(b)) => Some(Self::Spend(*a.max(b))),
            (a, b) => (a == b).then(|| a.clone()),
        }
    }
}

impl FromStr for Action {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (sort, of) = text.split_once(':').map_or((text, None), |(sort, of)| (sort, Some(of)));
        match (sort, of) {
            ("lifetime.unlimited", None) => Ok(Self::UnlimitedLifetime),
            ("spawn", None) => Ok(Self::Spawn),
            ("adopt", None) => Ok(Self::Adopt),
            ("lease", Some(name)) => name.parse().map(Self::Lease),
            ("message", Some(name)) => name.parse().map(Self::Message),
            ("tool", Some(name)) => name.parse().map(Self::Tool),
            ("offer", Some(name)) => name.parse().map(Self::Offer),
            ("spend", Some(amount)) => {
                let why = "an amount has digits, at most six of them behind the point";
                money::micro(amount).map(Self::Spend).ok_or_else(|| PatternError::new(text, why, WRITE))
            }
            _ => Err(PatternError::new(text, "there is no such action", WRITE)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sort())?;
        match self {
            Self::UnlimitedLifetime | Self::Spawn | Self::Adopt => Ok(()),
            Self::Lease(name) | Self::Message(name) | Self::Tool(name) | Self::Offer(name) => {
                write!(f, ":{name}")
            }
            Self::Spend(amount) => write!(f, ":{}", money::text(*amount)),
        }
    }
}

/// Actions that an operator has to approve each time. The more are in it, the less its holder may do: where everything
/// else is met, this is joined. Kept minimal (none lies within another), so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals(BTreeSet<Action>);

impl Approvals {
    /// What either has to have approved.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }

    /// Whether this action is among them.
    #[must_use]
    pub fn cover(&self, action: &Action) -> bool {
        self.0.iter().any(|demanded| action.within(demanded))
    }

    /// The actions, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Action> {
        self.0.iter()
    }
}

impl FromIterator<Action> for Approvals {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let all: BTreeSet<Action> = actions.into_iter().collect();
        let lower = |a: &Action| all.iter().any(|b| b != a && a.within(b));
        Self(all.iter().filter(|a| !lower(a)).cloned().collect())
    }
}

impl fmt::Display for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl Serialize for Approvals {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(text: &str) -> Action {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn actions_read_as_they_are_written() {
        let all = [
            "lifetime.unlimited",
            "spawn",
            "adopt",
            "lease:prod/db",
            "lease:*",
            "message:ops",
            "tool:git__*",
            "offer:git",
            "spend:0.5",
        ];
        for text in all {
            let read = action(text);
            assert_eq!((read.to_string().as_str(), read.single()), (text, !text.ends_with('*')));
        }
        for text in
            ["", "lease", "lease:", "spawn:x", "Spawn", "tool:a*b", "spend", "spend:-1", "spend:1e3", "x:y"]
        {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_action_is_demanded_by_its_name_its_sort_or_its_amount() {
        let demanded: Approvals = ["message:ops.*", "spend:0.5", "tool:x"].into_iter().map(action).collect();
        for text in ["message:ops.eu", "spend:0.5", "spend:2", "tool:x"] {
            assert!(demanded.cover(&action(text)), "{text}");
        }
        for text in ["message:op", "lease:ops.eu", "spend:0.499999", "tool:xy", "spawn"] {
            assert!(!demanded.cover(&action(text)), "{text}");
        }
    }

    #[test]
    fn one_action_is_named_and_not_a_pattern() {
        assert_eq!(Action::named("message", "ops"), Ok(action("message:ops")));
        for (sort, name) in [("message", "*"), ("lease", "a*"), ("spend", "1"), ("other", "x"), ("lease", "")]
        {
            assert!(Action::named(sort, name).is_err(), "{sort} {name}");
        }
    }
}
