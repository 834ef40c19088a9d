//! Taking an agent's time from it while it lives, and giving it back.
//!
//! | phase              | event             | next      | what is done                                            |
//! |--------------------|-------------------|-----------|---------------------------------------------------------|
//! | running, throttled | `SuspendAsked`    | same      | freeze                                                  |
//! | both               | `Frozen`          | suspended | record later                                            |
//! | both               | `FreezerFailed`   | same      | thaw, refuse; an agent whose time is over is ended      |
//! | suspended          | `SuspendAsked`    | same      | a resume under way is taken back; record later          |
//! | suspended          | `ResumeAsked`     | same      | record                                                  |
//! | suspended          | `Given`           | same      | set its new deadline, thaw                              |
//! | suspended          | `Thawed`          | before it | nothing: it is on record                                |
//! | suspended          | `FreezerFailed`   | same      | refuse, record later; one that does not stay frozen ends |
//! | running, throttled | `ThrottleAsked`   | same      | slow down                                               |
//! | both               | `Slowed`          | throttled | record later                                            |
//! | throttled          | `UnthrottleAsked` | same      | record                                                  |
//! | throttled          | `Given`           | same      | give its speed back                                     |
//! | throttled          | `Restored`        | running   | nothing: it is on record                                |
//! | every one of them  | `NotGiven`        | same      | refuse                                                  |
//!
//! `SetFreezer` and `SetSpeed` bring the kernel to what the state says at the moment in which they are performed, so
//! that of two that cross each other the later state wins.

use super::{Effect, Ending, Event, Record, State, end, enter};
use octant_api::agents::AgentState;
use octant_api::error::Code;
use serde::{Deserialize, Serialize};

/// What an agent that lives does not have for now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    /// Why it is frozen, or about to be.
    pub(crate) suspension: Option<Suspension>,
    /// To how many hundredths of a processor it is slowed down, or about to be.
    pub(crate) throttle: Option<u64>,
    /// What it is about to get back. Not kept over a restart: what was not given by then is not given.
    #[serde(skip)]
    giving: Option<Giving>,
    /// How often something was about to be given: an answer to an earlier time is none to this one.
    #[serde(skip)]
    times: u32,
}

/// Why an agent is suspended. Of several reasons the last of these is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Suspension {
    /// An operator asked for it.
    Operator,
    /// The key that signed for it was revoked.
    Revoked,
    /// The agent that it was under has ended, and whether it goes on under another has to be approved.
    Orphaned,
    /// It has lived as long as it may, and its manifest lets an operator decide.
    Lifetime,
}

impl Suspension {
    /// The reason, for people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Operator => "suspended by an operator",
            Self::Revoked => {
                "suspended because the key that signed for it was revoked; resume it, or kill it"
            }
            Self::Orphaned => {
                "suspended because the agent that it was under has ended; going on needs an approval, so resume it, or kill it"
            }
            Self::Lifetime => "suspended because its time to live is over; resume it for a time, or kill it",
        }
    }
}

/// Something that is being given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Giving {
    time: u32,
    what: What,
    /// Whether that is on record; nothing is given before.
    recorded: bool,
    /// When its life is over from then on, in nanoseconds of CLOCK_BOOTTIME.
    until_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Run,
    Speed,
}

impl Held {
    fn given(&self, what: What) -> bool {
        self.giving.is_some_and(|giving| giving.recorded && giving.what == what)
    }

    /// Whether its processes have to be frozen.
    pub(crate) fn frozen(&self) -> bool {
        self.suspension.is_some() && !self.given(What::Run)
    }

    /// To how many hundredths of a processor it has to be slowed down.
    pub(crate) fn slowed(&self) -> Option<u64> {
        self.throttle.filter(|_| !self.given(What::Speed))
    }

    /// Begins to give something back: with its record.
    fn give(&mut self, what: What, until_ns: Option<u64>, record: Record) -> Vec<Effect> {
        self.times = self.times.wrapping_add(1);
        self.giving = Some(Giving { time: self.times, what, recorded: false, until_ns });
        vec![Effect::Give(self.times, record)]
    }

    /// Takes note that it is on record; gives what is given then.
    fn given_now(&mut self, time: u32) -> Option<Giving> {
        let giving = self.giving.as_mut().filter(|giving| giving.time == time)?;
        giving.recorded = true;
        Some(*giving)
    }

    /// The phase of an agent that is not suspended.
    fn phase(&self) -> AgentState {
        if self.throttle.is_some() { AgentState::Throttled } else { AgentState::Running }
    }
}

fn refuse(code: Code, why: &str) -> Vec<Effect> {
    vec![Effect::Refuse(code, why.to_owned())]
}

fn changed(from: AgentState, to: AgentState) -> Record {
    Record::Transition { from: Some(from), to }
}

/// Whether an event is about what is taken and given back.
pub(super) fn is_ours(event: &Event) -> bool {
    matches!(
        event,
        Event::SuspendAsked(_)
            | Event::ResumeAsked { .. }
            | Event::ThrottleAsked(_)
            | Event::UnthrottleAsked
            | Event::Given(_)
            | Event::NotGiven(..)
            | Event::Frozen
            | Event::Thawed
            | Event::FreezerFailed { .. }
            | Event::Slowed
            | Event::Restored
            | Event::SpeedFailed { .. }
            | Event::Adopted
    )
}

/// What is done about an agent that lives.
pub(super) fn hold(state: &mut State, event: Event) -> Vec<Effect> {
    use AgentState as Phase;
    match (state.phase, event) {
        (phase, event) if !phase.live() => {
            let why = if phase.ended() { "it has ended" } else { "it is still being started" };
            if is_asked(&event) { refuse(Code::Conflict, why) } else { Vec::new() }
        }
        (_, Event::Adopted) => {
            let frozen = state.held.suspension.map(|_| Effect::SetFreezer);
            frozen.into_iter().chain(state.held.throttle.map(|_| Effect::SetSpeed)).collect()
        }
        (_, asked) if state.ending.is_some() && is_asked(&asked) => {
            refuse(Code::Conflict, "it is being ended")
        }
        // Nothing of it runs yet, so there is nothing to be kept.
        (Phase::Isolated, Event::SuspendAsked(Suspension::Lifetime)) => end(state, Ending::Lifetime, 0),
        (Phase::Isolated, Event::SuspendAsked(Suspension::Orphaned)) => end(state, Ending::ParentEnded, 0),
        (Phase::Isolated, Event::SuspendAsked(Suspension::Revoked)) => end(state, Ending::Revoked, 0),
        (Phase::Isolated, asked) if is_asked(&asked) => {
            refuse(Code::Conflict, "its program does not run yet")
        }
        (_, Event::NotGiven(time, why)) => {
            state.held.giving = state.held.giving.filter(|giving| giving.time != time);
            refuse(Code::Unavailable, &why)
        }
        (Phase::Suspended, event) => suspended(state, event),
        (Phase::Running | Phase::Throttled, event) => awake(state, event),
        _ => Vec::new(),
    }
}

fn is_asked(event: &Event) -> bool {
    matches!(
        event,
        Event::SuspendAsked(_) | Event::ResumeAsked { .. } | Event::ThrottleAsked(_) | Event::UnthrottleAsked
    )
}

/// Nobody can be asked any more whether it should go on: what should be held and is not, ends.
fn give_up(state: &mut State) -> Vec<Effect> {
    let why = match state.held.suspension {
        Some(Suspension::Lifetime) => Ending::Lifetime,
        _ => Ending::NotHeld,
    };
    end(state, why, 0)
}

fn suspended(state: &mut State, event: Event) -> Vec<Effect> {
    let back = state.held.phase();
    match event {
        Event::SuspendAsked(why) => {
            let before = state.held.suspension;
            state.held.suspension = before.max(Some(why));
            // What may be on record by now as given back is taken again.
            match state.held.giving.take() {
                Some(_) => {
                    let record = changed(back, AgentState::Suspended);
                    vec![Effect::SetFreezer, Effect::RecordLater(record)]
                }
                None if state.held.suspension != before => {
                    vec![Effect::RecordLater(changed(AgentState::Suspended, AgentState::Suspended))]
                }
                None => Vec::new(),
            }
        }
        Event::ResumeAsked { until_ns } => match (state.held.suspension, until_ns) {
            _ if state.held.giving.is_some() => refuse(Code::Conflict, "it is being resumed"),
            (Some(Suspension::Lifetime), None) => {
                refuse(Code::InvalidParams, "its time to live is over, so it needs a new one")
            }
            (Some(Suspension::Operator | Suspension::Revoked | Suspension::Orphaned) | None, Some(_)) => {
                refuse(Code::InvalidParams, "its time to live is not over, so it gets no new one")
            }
            _ => state.held.give(What::Run, until_ns, changed(AgentState::Suspended, back)),
        },
        Event::Given(time) => {
            let Some(giving) = state.held.given_now(time) else { return Vec::new() };
            giving.until_ns.map(Effect::Extend).into_iter().chain([Effect::SetFreezer]).collect()
        }
        Event::Thawed if state.held.given(What::Run) => {
            (state.held.suspension, state.held.giving) = (None, None);
            state.phase = back;
            Vec::new()
        }
        Event::FreezerFailed { frozen: true, .. } => give_up(state),
        Event::FreezerFailed { frozen: false, code, why } => {
            state.held.giving = None;
            vec![
                Effect::RecordLater(changed(back, AgentState::Suspended)),
                Effect::SetFreezer,
                Effect::Refuse(code, why),
            ]
        }
        Event::SpeedFailed { .. } => give_up(state),
        Event::ThrottleAsked(_) | Event::UnthrottleAsked => {
            refuse(Code::Conflict, "it is suspended; resume it first")
        }
        _ => Vec::new(),
    }
}

fn awake(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::SuspendAsked(why) => {
            state.held.suspension = state.held.suspension.max(Some(why));
            vec![Effect::SetFreezer]
        }
        Event::Frozen if state.held.suspension.is_some() => {
            // A speed that was about to be given back is asked for again after the suspension.
            let speed = state.held.giving.take().map(|_| Effect::SetSpeed);
            let record = Effect::RecordLater(enter(state, AgentState::Suspended));
            speed.into_iter().chain([record]).collect()
        }
        Event::FreezerFailed { frozen: true, code, why } => {
            if state.held.suspension > Some(Suspension::Operator) {
                return give_up(state);
            }
            state.held.suspension = None;
            vec![Effect::SetFreezer, Effect::Refuse(code, why)]
        }
        Event::ResumeAsked { .. } => refuse(Code::Conflict, "it is not suspended"),
        event => speed(state, event),
    }
}

/// The same about how fast it runs.
fn speed(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::ThrottleAsked(percent) => match state.held.throttle {
            Some(now) if percent > now => {
                let why = format!("it is throttled to {now}% already; give its speed back first");
                refuse(Code::Conflict, &why)
            }
            _ if state.held.giving.is_some() => refuse(Code::Conflict, "its speed is being given back"),
            _ => {
                state.held.throttle = Some(percent);
                vec![Effect::SetSpeed]
            }
        },
        Event::Slowed if state.phase == AgentState::Running && state.held.throttle.is_some() => {
            vec![Effect::RecordLater(enter(state, AgentState::Throttled))]
        }
        // Slowed down further.
        Event::Slowed if state.held.slowed().is_some() => {
            vec![Effect::RecordLater(changed(AgentState::Throttled, AgentState::Throttled))]
        }
        Event::UnthrottleAsked if state.phase != AgentState::Throttled => {
            refuse(Code::Conflict, "it is not throttled")
        }
        Event::UnthrottleAsked if state.held.giving.is_some() => {
            refuse(Code::Conflict, "its speed is being given back")
        }
        Event::UnthrottleAsked => {
            state.held.give(What::Speed, None, changed(AgentState::Throttled, AgentState::Running))
        }
        Event::Given(time) => state.held.given_now(time).map(|_| Effect::SetSpeed).into_iter().collect(),
        Event::Restored if state.held.given(What::Speed) => {
            (state.held.throttle, state.held.giving) = (None, None);
            state.phase = AgentState::Running;
            Vec::new()
        }
        Event::SpeedFailed { slowed: true, code, why } if state.phase == AgentState::Running => {
            state.held.throttle = None;
            vec![Effect::Refuse(code, why)]
        }
        Event::SpeedFailed { slowed: true, .. } => give_up(state),
        Event::SpeedFailed { slowed: false, code, why } => {
            state.held.giving = None;
            vec![
                Effect::RecordLater(changed(AgentState::Running, AgentState::Throttled)),
                Effect::SetSpeed,
                Effect::Refuse(code, why),
            ]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::step;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use proptest::prop_assert;

    /// Everything that can be asked for or happen here.
    pub(in crate::core) fn event() -> impl Strategy<Value = Event> {
        let failed = |code, why: &str| (code, why.to_owned());
        prop_oneof![
            asked(),
            (1_u32..3).prop_map(Event::Given),
            (1_u32..3).prop_map(|time| Event::NotGiven(time, "n".into())),
            Just(Event::Frozen),
            Just(Event::Thawed),
            any::<bool>().prop_map(move |frozen| {
                let (code, why) = failed(Code::Failed, "f");
                Event::FreezerFailed { frozen, code, why }
            }),
            Just(Event::Slowed),
            Just(Event::Restored),
            any::<bool>().prop_map(move |slowed| {
                let (code, why) = failed(Code::LayerMissing, "s");
                Event::SpeedFailed { slowed, code, why }
            }),
            Just(Event::Adopted),
        ]
    }

    fn asked() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::SuspendAsked(Suspension::Operator)),
            Just(Event::SuspendAsked(Suspension::Revoked)),
            Just(Event::SuspendAsked(Suspension::Orphaned)),
            Just(Event::SuspendAsked(Suspension::Lifetime)),
            Just(Event::ResumeAsked { until_ns: None }),
            Just(Event::ResumeAsked { until_ns: Some(7) }),
            (1_u64..50).prop_map(Event::ThrottleAsked),
            Just(Event::UnthrottleAsked),
        ]
    }

    fn running() -> State {
        State::new(AgentState::Running)
    }

    /// The last state and every effect, of events that are all performed as they come.
    fn run(mut state: State, events: &[Event]) -> (State, Vec<Effect>) {
        let mut all = Vec::new();
        for event in events {
            let (next, effects) = step(state, event.clone());
            state = next;
            all.extend(effects);
        }
        (state, all)
    }

    fn suspend() -> [Event; 2] {
        [Event::SuspendAsked(Suspension::Operator), Event::Frozen]
    }

    #[test]
    fn a_freeze_comes_first_and_its_record_after() {
        let (state, done) = run(running(), &suspend());
        assert_eq!(state.phase, AgentState::Suspended);
        let record = changed(AgentState::Running, AgentState::Suspended);
        assert_eq!(done, [Effect::SetFreezer, Effect::RecordLater(record)]);
        assert!(state.held.frozen());
    }

    #[test]
    fn nothing_is_given_back_before_its_record() {
        let (suspended, _) = run(running(), &suspend());
        let (asked, done) = run(suspended.clone(), &[Event::ResumeAsked { until_ns: None }]);
        assert_eq!(done, [Effect::Give(1, changed(AgentState::Suspended, AgentState::Running))]);
        assert!(asked.held.frozen(), "not yet");
        let (refused, done) = run(asked.clone(), &[Event::NotGiven(1, "full".into())]);
        assert_eq!((refused.phase, refused.held.frozen()), (AgentState::Suspended, true));
        assert_eq!(done, [Effect::Refuse(Code::Unavailable, "full".into())]);
        let (given, done) = run(asked, &[Event::Given(1)]);
        assert_eq!((done, given.held.frozen()), (vec![Effect::SetFreezer], false));
        let (state, done) = run(given, &[Event::Thawed]);
        assert_eq!((state.phase, state.held.frozen(), done), (AgentState::Running, false, vec![]));
    }

    #[test]
    fn a_suspension_takes_back_a_resume_that_is_under_way() {
        let again = Event::SuspendAsked(Suspension::Operator);
        for (under_way, thaw) in [(vec![], false), (vec![Event::Given(1)], true)] {
            let (state, _) = run(running(), &suspend());
            let (state, _) = run(state, &[Event::ResumeAsked { until_ns: None }]);
            let (state, _) = run(state, &under_way);
            assert_eq!(!state.held.frozen(), thaw);
            let (state, done) = run(state, std::slice::from_ref(&again));
            assert!(state.held.frozen() && done.contains(&Effect::SetFreezer), "{done:?}");
            // Its answers come too late.
            let late = [Event::Given(1), Event::Thawed, Event::Frozen];
            let (state, done) = run(state, &late);
            assert_eq!((state.phase, state.held.frozen(), done), (AgentState::Suspended, true, vec![]));
        }
    }

    #[test]
    fn a_life_whose_time_is_over_needs_a_new_time() {
        let over = [Event::SuspendAsked(Suspension::Lifetime), Event::Frozen];
        let (state, _) = run(running(), &over);
        let (_, done) = run(state.clone(), &[Event::ResumeAsked { until_ns: None }]);
        assert!(matches!(done[..], [Effect::Refuse(Code::InvalidParams, _)]), "{done:?}");
        let resume = [Event::ResumeAsked { until_ns: Some(9) }, Event::Given(1)];
        let (_, done) = run(state, &resume);
        assert_eq!(done[1..], [Effect::Extend(9), Effect::SetFreezer]);
        let (state, _) = run(running(), &suspend());
        let (_, done) = run(state.clone(), &[Event::ResumeAsked { until_ns: Some(9) }]);
        assert!(matches!(done[..], [Effect::Refuse(Code::InvalidParams, _)]), "{done:?}");
        // It is over while an operator had it suspended.
        let (state, done) = run(state, &over[..1]);
        assert_eq!(state.held.suspension, Some(Suspension::Lifetime));
        assert!(matches!(done[..], [Effect::RecordLater(_)]), "{done:?}");
    }

    #[test]
    fn what_cannot_be_held_goes_on_only_where_somebody_can_be_told() {
        let failed = || Event::FreezerFailed { frozen: true, code: Code::LayerMissing, why: "no".into() };
        let (state, done) = run(running(), &[suspend()[0].clone(), failed()]);
        assert_eq!(state, running());
        assert_eq!(done.last(), Some(&Effect::Refuse(Code::LayerMissing, "no".into())));
        let (state, done) = run(running(), &[Event::SuspendAsked(Suspension::Lifetime), failed()]);
        assert_eq!((state.ending, done.last()), (Some(Ending::Lifetime), Some(&Effect::Kill)));
        let (state, _) = run(running(), &suspend());
        let (state, done) = run(state, &[Event::Adopted, failed()]);
        assert_eq!((state.ending, done.last()), (Some(Ending::NotHeld), Some(&Effect::Kill)));
    }

    #[test]
    fn a_throttle_only_lowers_and_outlasts_a_suspension() {
        let (state, done) = run(running(), &[Event::ThrottleAsked(20), Event::Slowed]);
        assert_eq!(state.phase, AgentState::Throttled);
        let record = changed(AgentState::Running, AgentState::Throttled);
        assert_eq!(done, [Effect::SetSpeed, Effect::RecordLater(record)]);
        let (_, done) = run(state.clone(), &[Event::ThrottleAsked(21)]);
        assert!(matches!(done[..], [Effect::Refuse(Code::Conflict, _)]), "{done:?}");
        let (state, _) = run(state, &[Event::ThrottleAsked(10), Event::Slowed]);
        assert_eq!(state.held.slowed(), Some(10));
        let (state, _) = run(state, &suspend());
        let (_, done) = run(state.clone(), &[Event::UnthrottleAsked]);
        assert!(matches!(done[..], [Effect::Refuse(Code::Conflict, _)]), "{done:?}");
        let resume = [Event::ResumeAsked { until_ns: None }, Event::Given(1), Event::Thawed];
        let (state, _) = run(state, &resume);
        assert_eq!((state.phase, state.held.slowed()), (AgentState::Throttled, Some(10)));
        let restore = [Event::UnthrottleAsked, Event::Given(2), Event::Restored];
        let (state, done) = run(state, &restore);
        assert_eq!(
            done,
            [Effect::Give(2, changed(AgentState::Throttled, AgentState::Running)), Effect::SetSpeed]
        );
        assert_eq!((state.phase, state.held.slowed()), (AgentState::Running, None));
    }

    #[test]
    fn a_suspended_agent_is_ended_without_grace() {
        let (state, _) = run(running(), &suspend());
        let (state, done) = run(state, &[Event::EndAsked { why: Ending::Operator, grace_ms: 60_000 }]);
        assert_eq!(done, [Effect::RecordLater(Record::EndAsked(Ending::Operator)), Effect::Kill]);
        let (_, done) = run(state.clone(), &[Event::ResumeAsked { until_ns: None }]);
        assert!(matches!(done[..], [Effect::Refuse(Code::Conflict, _)]), "{done:?}");
        let (state, _) = run(state, &[Event::Exited(None)]);
        assert_eq!((state.phase, state.held), (AgentState::Terminated, Held::default()));
    }

    /// The kernel, and what is on its way: effects whose events have not come back.
    #[derive(Default)]
    struct World {
        frozen: bool,
        slowed: Option<u64>,
        pending: Vec<Effect>,
        /// How often a record of giving was accepted.
        given: [usize; 2],
        /// How often something was given.
        thawed: [usize; 2],
    }

    impl World {
        /// Performs one of the effects that wait, and says what follows.
        fn perform(&mut self, at: usize, state: &State, works: bool) -> Option<Event> {
            let at = at % self.pending.len().max(1);
            if at >= self.pending.len() {
                return None;
            }
            let failed = || (Code::Failed, "no".to_owned());
            match self.pending.remove(at) {
                Effect::Give(time, Record::Transition { from, .. }) => {
                    self.given[usize::from(from == Some(AgentState::Throttled))] += usize::from(works);
                    Some(if works { Event::Given(time) } else { Event::NotGiven(time, "full".into()) })
                }
                Effect::SetFreezer if works => {
                    let was = std::mem::replace(&mut self.frozen, state.held.frozen());
                    self.thawed[0] += usize::from(was && !self.frozen && state.held.suspension.is_some());
                    Some(if self.frozen { Event::Frozen } else { Event::Thawed })
                }
                Effect::SetFreezer => {
                    let ((code, why), frozen) = (failed(), state.held.frozen());
                    Some(Event::FreezerFailed { frozen, code, why })
                }
                Effect::SetSpeed if works => {
                    let was = std::mem::replace(&mut self.slowed, state.held.slowed());
                    self.thawed[1] += usize::from(was.is_some() && self.slowed.is_none());
                    Some(if self.slowed.is_some() { Event::Slowed } else { Event::Restored })
                }
                Effect::SetSpeed => {
                    let ((code, why), slowed) = (failed(), state.held.slowed().is_some());
                    Some(Event::SpeedFailed { slowed, code, why })
                }
                _ => None,
            }
        }
    }

    proptest! {
        /// Whatever crosses what, and whatever fails: nothing is given back that is not on record, and in the end the
        /// kernel has what the state says.
        #[test]
        fn the_kernel_follows_the_state(
            script in vec((proptest::option::of(asked()), 0_usize..4, proptest::bool::weighted(0.9)), 0..60),
        ) {
            let (mut state, mut world) = (running(), World::default());
            let rest = std::iter::repeat_n((None, 0, true), 200);
            for (event, at, works) in script.into_iter().chain(rest) {
                let happened = event.or_else(|| world.perform(at, &state, works));
                let Some(happened) = happened else { continue };
                let (next, effects) = step(state, happened);
                state = next;
                world.pending.extend(effects);
                world.pending.retain(|e| matches!(e, Effect::Give(..) | Effect::SetFreezer | Effect::SetSpeed));
                prop_assert!(world.thawed[0] <= world.given[0], "thawed without a record");
                prop_assert!(world.thawed[1] <= world.given[1], "sped up without a record");
                if state.ending.is_some() {
                    return Ok(());
                }
            }
            prop_assert!(world.pending.is_empty(), "{:?}", world.pending);
            prop_assert!(world.frozen == (state.phase == AgentState::Suspended), "{state:?}");
            prop_assert!(world.slowed == state.held.throttle, "{state:?} {:?}", world.slowed);
            let throttled = state.held.throttle.is_some() && state.phase != AgentState::Suspended;
            prop_assert!(throttled == (state.phase == AgentState::Throttled), "{state:?}");
        }
    }
}
