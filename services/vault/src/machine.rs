//! The machine's identity: a key pair that is made with the vault and never leaves it, and what the hardware was like.
//!
//! Hardware facts do not go into the key: a board that was replaced must not cost the machine its name. They are compared
//! at each unseal instead.

use crate::state::Machine;
use octant_api::vault::Fact;
use octant_ids::Sha256;
use std::collections::BTreeMap;

/// Facts that make another machine of it when they differ. What is only here and not there, as in a container, says
/// nothing.
const IDENTIFYING: [&str; 2] = ["product_uuid", "tpm"];
/// The name of the fact that is the TPM's storage key.
pub(crate) const TPM_FACT: &str = "tpm";
/// What a statement's signature begins with, so that no other signature of the key can be taken for one.
pub(crate) const STATEMENT: &[u8] = b"octant machine statement, v. 1\0";

/// What is known of the hardware now.
pub(crate) type Facts = BTreeMap<String, String>;

/// How the machine compares with the one that the vault was made on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Facts that make it another machine: name, then, now.
    pub(crate) other: Vec<(String, String, String)>,
    /// Other facts that changed, and identifying ones that cannot be read here.
    pub(crate) changed: Vec<(String, String, String)>,
}

/// Compares.
pub(crate) fn compare(then: &Facts, now: &Facts) -> Compared {
    let mut compared = Compared::default();
    for (name, old) in then {
        let identifies = IDENTIFYING.contains(&name.as_str());
        match now.get(name) {
            Some(new) if new == old => {}
            Some(new) => {
                let row = (name.clone(), old.clone(), new.clone());
                if identifies { compared.other.push(row) } else { compared.changed.push(row) }
            }
            None if identifies => compared.changed.push((name.clone(), old.clone(), "unknown".to_owned())),
            None => {}
        }
    }
    compared
}

/// What is kept when an operator accepts the hardware: what is known now, and what was known of the rest.
pub(crate) fn accepted(then: &Facts, now: &Facts) -> Facts {
    then.iter().chain(now).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Changes in words.
pub(crate) fn words(rows: &[(String, String, String)]) -> String {
    let row = |(name, old, new): &(String, String, String)| format!("{name} was {old} and is {new}");
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

/// Facts then and now, for people.
pub(crate) fn facts(machine: &Machine, now: &Facts) -> Vec<Fact> {
    let names: std::collections::BTreeSet<&String> = machine.facts.keys().chain(now.keys()).collect();
    let fact = |name: &String| Fact {
        name: name.clone(),
        then: machine.facts.get(name).cloned(),
        now: now.get(name).cloned(),
        identifies: IDENTIFYING.contains(&name.as_str()),
    };
    names.into_iter().map(fact).collect()
}

/// SHA-256 of a public key.
pub(crate) fn fingerprint(public: &Sha256) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(public.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(rows: &[(&str, &str)]) -> Facts {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_changed_board_is_reported_and_another_machine_is_one() {
        let then = facts(&[("product_uuid", "a"), ("board_serial", "1"), ("tpm", "k")]);
        assert_eq!(compare(&then, &then), Compared::default());
        let nothing = compare(&then, &facts(&[]));
        assert!(nothing.other.is_empty() && nothing.changed.len() == 2, "what identifies is missed");
        assert_eq!(accepted(&then, &facts(&[("tpm", "new")]))["tpm"], "new");
        assert_eq!(accepted(&then, &facts(&[("tpm", "new")]))["product_uuid"], "a");
        let board = compare(&then, &facts(&[("product_uuid", "a"), ("board_serial", "2"), ("tpm", "k")]));
        assert!(board.other.is_empty() && board.changed.len() == 1);
        for (name, value) in [("product_uuid", "b"), ("tpm", "other")] {
            let mut now = then.clone();
            now.insert(name.to_owned(), value.to_owned());
            assert_eq!(compare(&then, &now).other.len(), 1, "{name}");
        }
    }
}
