//! Which deployments are asked for a request, in which order, and why the others are not.

use crate::ability::Abilities;
use crate::catalogue::{Catalogue, Deployment, Step};
use crate::complexity::Class;
use crate::health::{Health, Load, Standing, Why};
use crate::price::Cap;
use crate::reason::Reason;
use crate::seed;
use octant_llm::{Failure, Kind};
use octant_manifest::{NamePattern, PatternSet};
use serde::Deserialize;
use std::fmt;

/// In which order the deployments of a group are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By chance, as their weights say.
    #[default]
    Weighted,
    /// The cheapest for this request first.
    Cost,
    /// The fastest for this request first, as measured.
    Latency,
    /// Those first whose calls end well.
    Success,
    /// The group for requests of this class; only as a group's own.
    Complexity,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weighted => "weighted",
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::Success => "success",
            Self::Complexity => "complexity",
        })
    }
}

/// Where a prompt may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DataClass {
    /// To every deployment.
    #[default]
    Any,
    /// To those that keep nothing of it.
    NoRetention,
    /// Nowhere outside this machine.
    LocalOnly,
}

/// What is wanted of an upstream for one request.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The model, group or alias asked for.
    pub asked: &'a str,
    /// What who asks may ask for: either the name as it asks, or the model's own.
    pub allowed: &'a PatternSet<NamePattern>,
    /// What the request needs.
    pub needs: Abilities,
    /// Where the prompt may go.
    pub data: DataClass,
    /// The most that tokens may cost.
    pub cap: Option<Cap>,
    /// Whether money is counted, so that a model without a price cannot be asked.
    pub priced: bool,
    /// At most so many tokens of the prompt: [`octant_llm::estimate`], which counts each byte as one.
    pub input: u64,
    /// The most tokens of the answer, where the request says it.
    pub output: Option<u64>,
    /// How hard it looks.
    pub class: Class,
    /// A strategy in place of the groups' own.
    pub strategy: Option<Strategy>,
    /// Chance, for weights: another for each request, or the same for all of a conversation, which then stays where the
    /// provider's cache is warm as long as it can.
    pub seed: u64,
}

/// A deployment that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which: an index of [`Catalogue::deployments`].
    pub deployment: usize,
    /// The group that it is asked in.
    pub group: String,
    /// By what it has its place.
    pub strategy: Strategy,
    /// The number that its place is by: millionths of a dollar, microseconds, thousandths of calls that ended well, or weight.
    pub score: u64,
    /// Until when it has to be waited for, and why, where it has.
    pub waits: Option<(u64, Why)>,
}

/// A deployment that is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub deployment: usize,
    /// The group in which it would have been.
    pub group: String,
    /// Why.
    pub reason: Reason,
}

/// Who is asked, in order, and who is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Who is asked: group by group, in each those first who need not be waited for.
    pub candidates: Vec<Candidate>,
    /// Who is not.
    pub left_out: Vec<LeftOut>,
}

/// Chooses.
#[must_use]
pub fn choose(catalogue: &Catalogue, health: &Health, wish: &Wish<'_>, now_ms: u64) -> Choice {
    let mut choice = Choice::default();
    let by_name = wish.by_name(catalogue);
    let mut seen = vec![false; catalogue.deployments.len()];
    for step in catalogue.way(wish.asked, wish.class) {
        let mut fit = Vec::new();
        for index in &step.deployments {
            if std::mem::replace(&mut seen[*index], true) {
                continue;
            }
            let deployment = &catalogue.deployments[*index];
            let reason = unfit(deployment, wish, by_name);
            let standing = health.standing(*index, wish.load(), now_ms);
            let group = step.group.clone();
            match (reason, standing) {
                (Some(reason), _) => choice.left_out.push(LeftOut { deployment: *index, group, reason }),
                (None, Standing::Out(why)) => {
                    choice.left_out.push(LeftOut { deployment: *index, group, reason: Reason::Out(why) });
                }
                (None, Standing::Waits { until_ms, why }) => fit.push((*index, Some((until_ms, why)))),
                (None, Standing::Ready) => fit.push((*index, None)),
            }
        }
        choice.candidates.extend(ranked(catalogue, health, wish, &step, fit, now_ms));
    }
    choice
}

/// How many bytes a token has, as a rule of thumb, and at most on average over a prompt.
const BYTES: u64 = 4;
const BYTES_MOST: u64 = 8;

impl Wish<'_> {
    /// What the call is likely to take: what rates are kept by, before the provider has said what it took.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { input: self.input.div_ceil(BYTES), output: self.output.unwrap_or(0) }
    }

    /// The prompt certainly has so many tokens. A window is refused only where it is certainly too small: who is not sure asks the
    /// provider.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.input / BYTES_MOST
    }

    /// Whether who asks may ask by this name: as it asks, or as what an alias stands for.
    fn by_name(&self, catalogue: &Catalogue) -> bool {
        allows(self.allowed, self.asked) || allows(self.allowed, catalogue.unaliased(self.asked))
    }
}

/// Whether the patterns name this.
fn allows(allowed: &PatternSet<NamePattern>, name: &str) -> bool {
    match allowed {
        PatternSet::All => true,
        PatternSet::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
    }
}

/// Why a deployment cannot be asked for this, however it does.
fn unfit(deployment: &Deployment, wish: &Wish<'_>, by_name: bool) -> Option<Reason> {
    let known = &deployment.known;
    let lacks = wish.needs.without(known.abilities());
    let output = wish.output.unwrap_or(1);
    let needs = wish.least().saturating_add(output);
    if !by_name && !allows(wish.allowed, &deployment.full) {
        return Some(Reason::NotAllowed);
    }
    match wish.data {
        DataClass::LocalOnly if !deployment.provider.local => return Some(Reason::NotLocal),
        DataClass::NoRetention if !deployment.keeps_nothing => return Some(Reason::Keeps),
        _ => {}
    }
    if !lacks.is_empty() {
        return Some(if known.can.is_some() { Reason::Lacks(lacks) } else { Reason::Unknown(lacks) });
    }
    if let Some(has) = known.max_output.filter(|has| output > *has) {
        return Some(Reason::Output { asked: output, has });
    }
    if let Some(has) = known.window.filter(|has| needs > *has) {
        return Some(Reason::Window { needs, has });
    }
    match (deployment.rates(wish.input), wish.cap) {
        (Some(rates), Some(cap)) if !rates.within(cap) => Some(Reason::Price),
        (None, cap) if wish.priced || cap.is_some() => Some(Reason::NoPrice),
        _ => None,
    }
}

/// For how many tokens of an answer deployments are compared where the request does not say how many.
const TYPICAL_OUTPUT: u64 = 500;

fn ranked(
    catalogue: &Catalogue,
    health: &Health,
    wish: &Wish<'_>,
    step: &Step,
    fit: Vec<(usize, Option<(u64, Why)>)>,
    now_ms: u64,
) -> Vec<Candidate> {
    let strategy = wish.strategy.filter(|wanted| *wanted != Strategy::Complexity).unwrap_or(step.strategy);
    let weights: Vec<u32> = fit.iter().map(|(index, _)| catalogue.deployments[*index].weight).collect();
    let output = wish.output.unwrap_or(u64::MAX).min(TYPICAL_OUTPUT);
    let candidate = |at: usize| {
        let (index, waits) = &fit[at];
        let deployment = &catalogue.deployments[*index];
        let score = match strategy {
            Strategy::Weighted | Strategy::Complexity => u64::from(deployment.weight),
            // What nobody knows the price of is taken for the dearest.
            Strategy::Cost => {
                deployment.rates(wish.input).map_or(u64::MAX, |rates| rates.most(wish.load().input, output))
            }
            Strategy::Latency => health.expected_us(*index, output, now_ms),
            Strategy::Success => health.success(*index, now_ms),
        };
        let group = step.group.clone();
        Candidate { deployment: *index, group, strategy, score, waits: waits.clone() }
    };
    // Among equals the weights decide, so that nobody is first always.
    let mut out: Vec<Candidate> = seed::order(wish.seed, &weights).into_iter().map(candidate).collect();
    match strategy {
        Strategy::Weighted | Strategy::Complexity => {}
        Strategy::Cost => out.sort_by_key(|candidate| candidate.score),
        Strategy::Latency => out.sort_by_key(|candidate| octave(candidate.score)),
        Strategy::Success => out.sort_by_key(|candidate| std::cmp::Reverse((candidate.score + 50) / 100)),
    }
    out.sort_by_key(|candidate| candidate.waits.as_ref().map_or(0, |(until_ms, _)| *until_ms));
    out
}

/// Quarters of powers of two: what is in the same one is as fast.
fn octave(us: u64) -> u64 {
    let Some(log) = us.checked_ilog2() else { return 0 };
    let quarter = if log < 2 { 0 } else { (us >> (log - 2)) & 3 };
    u64::from(log) * 4 + quarter
}

impl Choice {
    /// What is said to who asks where nobody can be asked: the gentlest of the reasons, all of them named. Of what it may not
    /// ask for it is told nothing.
    #[must_use]
    pub fn refusal(&self, catalogue: &Catalogue, asked: &str) -> Failure {
        let shown: String = asked.chars().filter(|c| !c.is_control()).take(128).collect();
        if self.left_out.is_empty() {
            let why = "no group, alias or model of a deployment in router.toml has this name";
            return Failure::new(Kind::NotFound, format!("model {shown:?}: {why}")).at("model");
        }
        let mine: Vec<&LeftOut> =
            self.left_out.iter().filter(|left| left.reason != Reason::NotAllowed).collect();
        let rank = |kind: &Kind| match kind {
            Kind::Overloaded => 0,
            Kind::ContextLength => 1,
            Kind::Invalid => 2,
            _ => 3,
        };
        let Some(kind) = mine.iter().map(|left| left.reason.kind()).min_by_key(rank) else {
            let why = Reason::NotAllowed;
            return Failure::new(why.kind(), format!("model {shown:?}: {why}")).at("model");
        };
        let mut said: Vec<String> = Vec::new();
        for left in mine {
            let text = format!("{}: {}", catalogue.deployments[left.deployment].full, left.reason);
            if !said.contains(&text) {
                said.push(text);
            }
        }
        Failure::new(kind, format!("model {shown:?} cannot be asked for this: {}", said.join("; ")))
            .at("model")
    }

    /// The choice in words, a line for each deployment that was looked at.
    #[must_use]
    pub fn explain(&self, catalogue: &Catalogue, now_ms: u64) -> Vec<String> {
        let name = |index: usize| {
            let deployment = &catalogue.deployments[index];
            format!("{} ({})", deployment.name, deployment.full)
        };
        let candidates = self.candidates.iter().zip(1_u32..).map(|(candidate, place)| {
            let Candidate { deployment, group, strategy, score, waits } = candidate;
            let unit = match strategy {
                Strategy::Weighted | Strategy::Complexity => "by weight",
                Strategy::Cost => "millionths of a dollar at most",
                Strategy::Latency => "microseconds expected",
                Strategy::Success => "thousandths of calls ended well",
            };
            let waits = waits.as_ref().map_or(String::new(), |(until_ms, why)| {
                format!(", but {} ms have to be waited: {why}", until_ms.saturating_sub(now_ms))
            });
            format!("{place}. {} of {group}: {strategy}, {score} {unit}{waits}", name(*deployment))
        });
        let left_out = self.left_out.iter().map(|left| {
            format!("-  {} of {}: not asked: {}", name(left.deployment), left.group, left.reason)
        });
        candidates.chain(left_out).collect()
    }
}
