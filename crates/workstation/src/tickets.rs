//! The spawner as an actuator: nothing is built without a ticket of the ledger for exactly this plan.

use crate::step::{SpawnError, Step};
use octant_api::ticket::Ticket;
use octant_ids::{ServiceName, Sha256};
use octant_ticket::{Actuator, Keys, Redeemed};
use sha2::Digest;
use std::cell::RefCell;

/// The spawner's name in intents and tickets.
pub(crate) const NAME: &str = "spawner";

/// What redeems tickets, or why nothing does.
#[derive(Debug)]
pub(crate) struct Tickets(RefCell<Result<Actuator, String>>);

impl Tickets {
    /// From the keys that PID 1 gave, at the spawner's start.
    pub(crate) fn new(keys: Result<Keys, String>, now_ns: u64) -> Self {
        let actuator = keys.and_then(|keys| {
            let key = keys.get(NAME).ok_or_else(|| format!("PID 1 gave keys, and none is for {NAME}"))?;
            let name: ServiceName = NAME.parse().map_err(|error| format!("{error}"))?;
            Ok(Actuator::new(name, key.clone(), now_ns))
        });
        Self(RefCell::new(actuator))
    }

    /// Why every spawn is refused, when that is so.
    pub(crate) fn missing(&self) -> Option<String> {
        self.0
            .borrow()
            .as_ref()
            .err()
            .map(|why| format!("every spawn is refused, tickets cannot be checked: {why}"))
    }

    /// Redeems a ticket for the plan with this [`digest`].
    pub(crate) fn redeem(
        &self,
        ticket: Option<&Ticket>,
        plan: &Sha256,
        now_ns: u64,
    ) -> Result<Redeemed, SpawnError> {
        let refused = |text: String| SpawnError::refused(Step::Ticket, text);
        if let Some(why) = self.missing() {
            return Err(refused(why));
        }
        let ticket = ticket.ok_or_else(|| {
            refused(
                "a spawn comes with a ticket; append an intent with the plan's digest to the ledger first"
                    .into(),
            )
        })?;
        match &mut *self.0.borrow_mut() {
            Ok(actuator) => actuator.redeem(ticket, plan, now_ns).map_err(|error| refused(error.to_string())),
            Err(why) => Err(refused(why.clone())),
        }
    }

    /// In a copy of the spawner that goes on as something else: wipes the key.
    pub(crate) fn forget(&self) {
        if let Ok(actuator) = &mut *self.0.borrow_mut() {
            actuator.forget();
        }
    }
}

/// The SHA-256 of a plan's bytes: the digest of the intent to spawn.
pub(crate) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use octant_ticket::{Issuer, Key, SECOND_NS};

    pub(crate) fn keys(names: &[&str]) -> Keys {
        Keys::new(names.iter().map(|name| (name.parse().unwrap(), Key::new(&[7; 32])))).unwrap()
    }

    /// The proof that the intent of this plan is durable, as the ledger's ticket gives it.
    pub(crate) fn redeemed(plan: &[u8]) -> Redeemed {
        let ticket = Issuer::new(keys(&[NAME])).issue(1, digest(plan), NAME, 5, SECOND_NS);
        Tickets::new(Ok(keys(&[NAME])), 5).redeem(ticket.as_ref(), &digest(plan), 5).unwrap()
    }

    fn refusal(tickets: &Tickets, ticket: Option<&Ticket>, plan: &[u8]) -> String {
        let error = tickets.redeem(ticket, &digest(plan), 5).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::Ticket, 0));
        error.text
    }

    #[test]
    fn without_keys_every_spawn_is_refused_and_says_why() {
        let ticket = Issuer::new(keys(&[NAME])).issue(1, digest(b"plan"), NAME, 5, SECOND_NS).unwrap();
        for keys in [Err("PID 1 gave none".to_owned()), Ok(keys(&["vault"])), Ok(Keys::default())] {
            let why = keys.as_ref().err().cloned().unwrap_or_else(|| "none is for spawner".into());
            let tickets = Tickets::new(keys, 1);
            assert!(refusal(&tickets, Some(&ticket), b"plan").contains(&why));
            assert!(tickets.missing().unwrap().contains("every spawn is refused"));
        }
    }

    #[test]
    fn a_ticket_is_for_the_bytes_of_its_plan_once_and_with_the_key() {
        let tickets = Tickets::new(Ok(keys(&[NAME])), 1);
        assert_eq!(tickets.missing(), None);
        let ticket = Issuer::new(keys(&[NAME])).issue(8, digest(b"plan"), NAME, 5, SECOND_NS).unwrap();
        assert!(refusal(&tickets, None, b"plan").contains("comes with a ticket"));
        assert!(refusal(&tickets, Some(&ticket), b"plan ").contains("entry 8 is for an intent with digest"));
        assert_eq!(tickets.redeem(Some(&ticket), &digest(b"plan"), 5).unwrap().seq(), 8);
        assert!(refusal(&tickets, Some(&ticket), b"plan").contains("was used before"));
        let next = Issuer::new(keys(&[NAME])).issue(9, digest(b"plan"), NAME, 5, SECOND_NS).unwrap();
        tickets.forget();
        assert!(tickets.redeem(Some(&next), &digest(b"plan"), 5).is_err(), "the key is forgotten");
    }
}
