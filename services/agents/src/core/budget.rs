//! What services use up for an agent: reserved before, settled after. Pure.
//!
//! A service says how much it has used so far for an agent and up to how much it may have to use; it is told up to how much
//! it may. What it may use is reserved: out of the agent's allotment, so that neither the agent's children nor another
//! service have it too. Limits are totals over a run of the service and not steps, so a question that is asked twice reserves
//! once.
//!
//! | what                        | allotment | reserved | used |
//! |-----------------------------|-----------|----------|------|
//! | a service asks for more     | less      | more     |      |
//! | it says what it used        |           | less     | more |
//! | the agent ends, and the service says what it used | more | less | more |
//! | the service starts anew, or does not know the agent any more | | less: none | more: all of it |
//!
//! What is left, reserved and used, here and in every descendant, adds up to what was given at first.

use octant_api::agents::Amounts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one run of a service may use, and has used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drawn {
    run: String,
    limit: Amounts,
    used: Amounts,
}

/// One agent's account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    /// What it was given at first.
    pub(crate) given: Amounts,
    /// What runs that are over have used for it.
    used: Amounts,
    /// What its descendants that have ended have used, with all below them.
    pub(crate) below: Amounts,
    /// What services draw, by their names.
    drawn: BTreeMap<String, Drawn>,
}

impl Account {
    pub(crate) fn given(given: Amounts) -> Self {
        Self { given, ..Self::default() }
    }

    /// How much more has to be reserved for this: what is to be taken out of the allotment, as far as it is there, and then
    /// handed to [`Account::draw`].
    pub(crate) fn lacks(&self, service: &str, run: &str, want: Amounts) -> Amounts {
        let limit = self.drawn.get(service).filter(|drawn| drawn.run == run).map(|drawn| drawn.limit);
        want.zip(limit.unwrap_or_default(), u64::saturating_sub)
    }

    /// Takes a service's word for what it has used, and reserves what was taken out of the allotment for it; up to how much
    /// it may use now.
    pub(crate) fn draw(&mut self, service: &str, run: &str, used: Amounts, taken: Amounts) -> Amounts {
        let drawn = self.drawn.entry(service.to_owned()).or_default();
        if drawn.run != run {
            // It ended without a word: it may have used everything that it was allowed to.
            self.used = self.used.zip(drawn.limit, u64::saturating_add);
            *drawn = Drawn { run: run.to_owned(), ..Drawn::default() };
        }
        drawn.limit = drawn.limit.zip(taken, u64::saturating_add);
        // It can use no more than it may, and what it has used does not get less.
        drawn.used = drawn.used.zip(used, u64::max).zip(drawn.limit, u64::min);
        drawn.limit
    }

    /// Closes a service's part: with its last word, which gives back what it did not use, or without, which gives nothing.
    pub(crate) fn settle(&mut self, service: &str, word: Option<(&str, Amounts)>) -> Amounts {
        let Some(drawn) = self.drawn.remove(service) else { return Amounts::default() };
        let used = match word {
            Some((run, used)) if run == drawn.run => {
                drawn.used.zip(used, u64::max).zip(drawn.limit, u64::min)
            }
            _ => drawn.limit,
        };
        self.used = self.used.zip(used, u64::saturating_add);
        drawn.limit.zip(used, u64::saturating_sub)
    }

    /// Whether this service has anything of it that is not settled.
    pub(crate) fn draws(&self, service: &str) -> bool {
        self.drawn.contains_key(service)
    }

    /// Whether no service has anything of it that is not settled.
    pub(crate) fn settled(&self) -> bool {
        self.drawn.is_empty()
    }

    /// What was used, as far as it is known.
    pub(crate) fn used(&self) -> Amounts {
        self.drawn.values().fold(self.used, |sum, drawn| sum.zip(drawn.used, u64::saturating_add))
    }

    /// What is reserved and not known to be used.
    pub(crate) fn reserved(&self) -> Amounts {
        let rest = |drawn: &Drawn| drawn.limit.zip(drawn.used, u64::saturating_sub);
        self.drawn.values().fold(Amounts::default(), |sum, drawn| sum.zip(rest(drawn), u64::saturating_add))
    }

    /// A descendant has ended: what it and all below it have used.
    pub(crate) fn bury(&mut self, ended: &Self) {
        let spent = ended.used().zip(ended.below, u64::saturating_add);
        self.below = self.below.zip(spent, u64::saturating_add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_manifest::Allotment;
    use proptest::prelude::*;

    fn bytes(bytes: u64) -> Amounts {
        Amounts { bytes, ..Amounts::default() }
    }

    /// A service as it is held to its limit: it uses something only below it.
    #[derive(Default)]
    struct Gate {
        run: u64,
        limit: u64,
        used: u64,
        /// What all its runs have used for the agent.
        really: u64,
    }

    /// An agent with its allotment, its account, and the gate's side of it.
    struct Agent {
        left: Allotment,
        account: Account,
        gate: Gate,
        parent: Option<usize>,
        ended: bool,
    }

    impl Agent {
        fn new(left: Allotment, parent: Option<usize>) -> Self {
            let account = Account::given(bytes(left.parts()[3]));
            Self { left, account, gate: Gate::default(), parent, ended: false }
        }

        fn draw(&mut self, want: u64) {
            let run = self.gate.run.to_string();
            let lacks = self.account.lacks("egress", &run, bytes(want)).bytes;
            let taken = self.left.take([0, 0, 0, lacks, 0]).parts()[3];
            self.gate.limit = self.account.draw("egress", &run, bytes(self.gate.used), bytes(taken)).bytes;
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Draw(usize, u64),
        /// A question whose answer is lost: it is reserved, and the gate does not know.
        Lost(usize, u64),
        Use(usize, u64),
        Restart(usize),
        Spawn(usize, u64),
        End(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_usize..6, 0_u64..60).prop_map(|(who, more)| Step::Draw(who, more)),
            (0_usize..6, 0_u64..60).prop_map(|(who, more)| Step::Lost(who, more)),
            (0_usize..6, 0_u64..60).prop_map(|(who, units)| Step::Use(who, units)),
            (0_usize..6).prop_map(Step::Restart),
            (0_usize..6, 0_u64..60).prop_map(|(who, units)| Step::Spawn(who, units)),
            (0_usize..6, any::<bool>()).prop_map(|(who, word)| Step::End(who, word)),
        ]
    }

    fn take(agents: &mut Vec<Agent>, step: &Step) {
        let (Step::Draw(who, _)
        | Step::Lost(who, _)
        | Step::Use(who, _)
        | Step::Restart(who)
        | Step::Spawn(who, _)
        | Step::End(who, _)) = *step;
        let who = who % agents.len();
        let agent = &mut agents[who];
        if agent.ended {
            return;
        }
        match *step {
            Step::Draw(_, more) => agent.draw(agent.gate.used + more),
            Step::Lost(_, more) => {
                let knows = agent.gate.limit;
                agent.draw(agent.gate.used + more);
                agent.gate.limit = knows;
            }
            Step::Use(_, units) => {
                let units = units.min(agent.gate.limit - agent.gate.used);
                agent.gate.used += units;
                agent.gate.really += units;
            }
            Step::Restart(_) => {
                let Gate { run, really, .. } = agent.gate;
                agent.gate = Gate { run: run + 1, really, ..Gate::default() };
            }
            Step::Spawn(_, units) => {
                if let Ok(share) = agent.left.split([0, 0, 0, units, 0]) {
                    agents.push(Agent::new(share, Some(who)));
                }
            }
            Step::End(_, word) => {
                let Some(mut heir) = agent.parent else { return };
                agent.ended = true;
                let run = agent.gate.run.to_string();
                let used = bytes(agent.gate.used);
                let unused = agent.account.settle("egress", word.then_some((run.as_str(), used)));
                agent.left.restore(Allotment::new([0, 0, 0, unused.bytes, 0]));
                let (left, account) = (std::mem::take(&mut agent.left), agent.account.clone());
                while agents[heir].ended {
                    heir = agents[heir].parent.unwrap_or_default();
                }
                agents[heir].left.restore(left);
                agents[heir].account.bury(&account);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_given_adds_up_and_nobody_uses_more(
            total in 0_u64..200, steps in prop::collection::vec(step(), 0..60)
        ) {
            let mut agents = vec![Agent::new(Allotment::new([0, 0, 0, total, 0]), None)];
            for step in &steps {
                take(&mut agents, step);
                let live = || agents.iter().filter(|agent| !agent.ended);
                let held: u64 = live().map(|agent| {
                    let account = &agent.account;
                    agent.left.parts()[3] + account.used().bytes + account.reserved().bytes + account.below.bytes
                }).sum();
                prop_assert_eq!(held, total, "left, reserved and used are all there is, after {:?}", step);
                let really: u64 = agents.iter().map(|agent| agent.gate.really).sum();
                let booked: u64 = live().map(|agent| {
                    agent.account.used().bytes + agent.account.reserved().bytes + agent.account.below.bytes
                }).sum();
                prop_assert!(really <= booked, "{really} were used and {booked} are booked, after {step:?}");
            }
        }
    }

    #[test]
    fn a_question_that_is_asked_twice_reserves_once_and_a_lost_run_counts_as_used() {
        let mut agent = Agent::new(Allotment::new([0, 0, 0, 100, 0]), None);
        agent.draw(60);
        agent.draw(60);
        assert_eq!((agent.left.parts()[3], agent.gate.limit), (40, 60));
        agent.draw(200);
        assert_eq!((agent.left.parts()[3], agent.gate.limit), (0, 100), "as much as there is, to the unit");
        agent.gate = Gate { run: 1, ..Gate::default() };
        agent.draw(10);
        assert_eq!((agent.gate.limit, agent.account.used()), (0, bytes(100)));
    }

    #[test]
    fn a_budget_without_end_has_none_and_is_counted() {
        let mut agent = Agent::new(Allotment::new([0, 0, 0, u64::MAX, 0]), None);
        agent.draw(1 << 40);
        agent.gate.used = 7;
        agent.draw(1 << 41);
        assert_eq!((agent.left.parts()[3], agent.gate.limit), (u64::MAX, 1 << 41));
        assert_eq!(agent.account.used(), bytes(7));
    }
}
