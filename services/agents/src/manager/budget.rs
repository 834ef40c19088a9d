//! What services use up for agents, out of their allotments.

use super::{Agent, Manager};
use octant_api::agents::{Amounts, BudgetInfo, BudgetRow};
use octant_api::egress::{Draw, FundRequest, Settled};
use octant_api::error::ApiError;
use octant_api::router;
use octant_ids::Aid;
use octant_manifest::{Allotment, BUDGETS, Effective, NO_END};

/// A service that draws from budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawer {
    /// Bytes and requests.
    Gate,
    /// Tokens and money.
    Router,
}

impl Drawer {
    fn name(self) -> &'static str {
        match self {
            Self::Gate => "egress",
            Self::Router => "router",
        }
    }

    /// Of amounts, those that it uses up.
    fn own(self, amounts: Amounts) -> Amounts {
        let Amounts { bytes, requests, tokens, microusd } = amounts;
        match self {
            Self::Gate => Amounts { bytes, requests, ..Amounts::default() },
            Self::Router => Amounts { tokens, microusd, ..Amounts::default() },
        }
    }
}

/// The most that is reserved at once: a quarter of what is left, so that what is lost with a service that ends is never most
/// of it, and what is near its end in one piece.
fn most_at_once(left: Amounts) -> Amounts {
    let least = Amounts { bytes: 64 << 10, requests: 16, tokens: 16 << 10, microusd: 100_000 };
    left.zip(least, |left, least| (left / 4).max(least))
}

/// Amounts as parts of an allotment, which has descendants too.
fn parts(amounts: Amounts) -> [u64; 5] {
    let Amounts { bytes, requests, tokens, microusd } = amounts;
    [0, tokens, microusd, bytes, requests]
}

fn amounts([_, tokens, microusd, bytes, requests]: [u64; 5]) -> Amounts {
    Amounts { bytes, requests, tokens, microusd }
}

/// What rights were given at first, of what services use up.
pub(super) fn given(rights: &Effective) -> Amounts {
    amounts(rights.allotment().parts())
}

impl Agent {
    /// Puts what was set apart and not used back to where it came from.
    fn put_back(&mut self, unused: Amounts) {
        if let Some(rights) = &mut self.rights {
            rights.put_back(Allotment::new(parts(unused)));
            self.saved.allotment = rights.allotment().parts();
        }
    }
}

impl Manager {
    /// Reserves what a service is going to use up for an agent, and tells it up to how much it may. Where that cannot be
    /// kept, or the agent is gone, it may use no more than it was told before.
    pub(super) async fn fund(&self, drawer: Drawer, run: String, wish: Draw) {
        let aid = wish.aid;
        let limit = self.draw(drawer, &run, &wish).unwrap_or_else(|why| {
            tracing::warn!("{aid}: nothing is drawn from its budgets: {why}");
            Amounts::default()
        });
        let told = match drawer {
            Drawer::Gate => self.gate.call(&FundRequest { aid, run, limit }).await.map(drop),
            Drawer::Router => self.router.call(&router::FundRequest { aid, run, limit }).await.map(drop),
        };
        if let Err(error) = told {
            tracing::warn!("{aid}: {} was not told what it may use: {error}", drawer.name());
        }
    }

    /// Reserves; up to how much this run of the service may use now. What is answered is kept.
    pub(crate) fn draw(&self, drawer: Drawer, run: &str, wish: &Draw) -> Result<Amounts, String> {
        let service = drawer.name();
        let mut inner = self.inner();
        let agent = inner.alive(wish.aid).map_err(|error| error.to_string())?;
        let lacks = agent.saved.account.lacks(service, run, drawer.own(wish.want));
        let lacks = lacks.zip(most_at_once(amounts(agent.saved.allotment)), u64::min);
        // Of rights that are not known any more nothing can be taken.
        let share = agent.rights.as_mut().map(|rights| rights.set_apart(parts(lacks)));
        let taken = share.map(|share| amounts(share.parts())).unwrap_or_default();
        let before = agent.saved.account.clone();
        let limit = agent.saved.account.draw(service, run, drawer.own(wish.used), taken);
        if let Some(rights) = &agent.rights {
            agent.saved.allotment = rights.allotment().parts();
        }
        if let Err(error) = self.store.save(&agent.saved) {
            agent.saved.account = before;
            agent.put_back(taken);
            return Err(error.to_string());
        }
        Ok(limit)
    }

    /// Takes a service's last word about an agent; without one all that it drew counts as used.
    pub(super) fn settle_drawn(&self, drawer: Drawer, aid: Aid, word: Option<&Settled>) {
        let mut inner = self.inner();
        let draws = |agent: &&mut Agent| agent.saved.account.draws(drawer.name());
        let Some(agent) = inner.agents.get_mut(&aid).filter(draws) else {
            return;
        };
        let word = word.map(|word| (word.run.as_str(), drawer.own(word.used)));
        let unused = agent.saved.account.settle(drawer.name(), word);
        let (ended, account) = (agent.rights.is_none(), agent.saved.account.clone());
        agent.put_back(unused);
        self.keep(&mut inner, aid, false);
        let heir = inner.agents.get(&aid).and_then(|agent| inner.heir(&agent.saved));
        if let Some(heir) = heir.filter(|_| ended)
            && let Some(above) = inner.agents.get_mut(&heir)
        {
            above.put_back(unused);
            // Once, when nobody has anything of it any more.
            if account.settled() {
                above.saved.account.bury(&account);
            }
            self.keep(&mut inner, heir, false);
        }
    }

    /// How each budget of an agent stands.
    pub(crate) fn budget(&self, aid: Aid) -> Result<BudgetInfo, ApiError> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid).ok_or_else(|| super::no_agent(&aid.to_string()))?;
        let account = &agent.saved.account;
        let descendants = inner.agents.values().filter(|agent| agent.saved.ancestors.contains(&aid));
        // Those that have ended and are settled are in the account of the nearest above them that lives.
        let lives = descendants.filter(|agent| !agent.buried());
        let below = lives.fold(account.below, |sum, agent| {
            let own = agent.saved.account.used().zip(agent.saved.account.below, u64::saturating_add);
            sum.zip(own, u64::saturating_add)
        });
        let left = agent.saved.allotment;
        let columns = [account.given, account.used(), account.reserved(), below].map(parts);
        let [given, used, reserved, below] = columns;
        let finite = |units: u64| (units != NO_END).then_some(units);
        // Descendants are counted elsewhere.
        let rows = (1..BUDGETS.len()).map(|at| BudgetRow {
            budget: BUDGETS[at].to_owned(),
            given: finite(given[at]),
            used: used[at],
            reserved: reserved[at],
            below: below[at],
            left: finite(left[at]),
        });
        Ok(BudgetInfo { agent: aid, budgets: rows.collect() })
    }
}

impl Agent {
    /// Whether what it used is in the account of one above it.
    fn buried(&self) -> bool {
        self.state.phase.ended() && self.saved.account.settled()
    }
}
