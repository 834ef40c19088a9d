//! The lifecycle of one agent: what happens to it, and what has to be done for that, in which order.
//!
//! | phase       | event                     | next        | what is done                                     |
//! |-------------|---------------------------|-------------|--------------------------------------------------|
//! | provisioned | `Verified`                | validated   | record, record the intent, isolate               |
//! | provisioned | `Refused`, `NotRecorded`  | rejected    | record later, seal                               |
//! | validated   | `Isolated`                | isolated    | record the outcome                               |
//! | validated   | `NotIsolated`, `CutOff`   | rejected    | record later, retire                             |
//! | isolated    | `Released`                | running     | record, serve its socket                         |
//! | running     | see [`held`]              | suspended, throttled, and back | freeze, slow down, and back   |
//! | it lives    | `EndAsked`, `NotRecorded` | same        | record later, signal or kill at once             |
//! | isolated    | `Exited`                  | same        | wait for `Released`, which then does both rows   |
//! | it lives    | `Exited`                  | terminated  | close its socket, kill the rest, record, retire  |
//! | terminated  | `Retired`                 | archived    | record later, seal                               |
//! | both ends   | `Retired`                 | same        | seal, if that was not done                       |
//!
//! One whose program waits after `Released` is in [`prepared`].
//!
//! The seal is the last that is ever recorded about an agent, when nothing of it is left.
//!
//! It lives while it is isolated, running, suspended or throttled. One that is suspended has no grace: its program could
//! not use it.
//!
//! What adds authority (`Isolate`, `Release`, `Serve`) comes after a `Record` in the same list: whoever performs the list
//! stops at a record that was not accepted and says `NotRecorded`. What gives authority back comes after `Given`, which
//! only an accepted `Give` leads to. What takes authority away never stands behind a record.

pub(crate) mod budget;
pub(crate) mod held;
pub(crate) mod prepared;

use held::{Held, Suspension};
use octant_api::agents::{AgentState, ExitInfo};
use octant_api::error::Code;
use prepared::Program;

/// Where an agent is in its life, and what is known of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Its phase.
    pub(crate) phase: AgentState,
    /// Why it is being ended; none while nobody asked for that.
    pub(crate) ending: Option<Ending>,
    /// How its first process ended.
    pub(crate) exit: Option<ExitInfo>,
    /// An end that was seen while its isolation was still being put on record.
    pub(crate) early: Option<Option<ExitInfo>>,
    /// Why it was rejected or ended, when there is more to say than `exit` does.
    pub(crate) reason: Option<String>,
    /// Whether its seal was decided on.
    pub(crate) sealed: bool,
    /// What it does not have for now.
    pub(crate) held: Held,
    /// What stands between its workstation and its program.
    pub(crate) program: Program,
}

impl State {
    /// An agent in this phase, of which nothing else is known yet.
    pub(crate) fn new(phase: AgentState) -> Self {
        let (held, program) = (Held::default(), Program::Starts);
        Self { phase, ending: None, exit: None, early: None, reason: None, sealed: false, held, program }
    }
}

/// Why an agent is ended before its program ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An operator asked for it.
    Operator,
    /// An agent above it asked for it.
    Parent,
    /// The agent that it was under has ended.
    ParentEnded,
    /// It has lived as long as it may.
    Lifetime,
    /// The ledger did not accept a record that had to come first.
    Unrecorded,
    /// What was needed to go on with it after a restart of the service is gone.
    Lost,
    /// It was suspended or throttled and could not be kept so.
    NotHeld,
    /// The key under which it was being started was revoked.
    Revoked,
    /// It was prepared, and nobody shall have it any more. Means nothing to one that was taken.
    NotWanted,
    /// It was prepared, and what is prepared does not outlive this service.
    NotKept,
    /// It offered tools, and the conversation with it is over.
    Unserved,
}

impl Ending {
    /// The reason, for people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Operator => "ended by an operator",
            Self::Parent => "ended by an agent above it",
            Self::ParentEnded => "the agent that it was under has ended",
            Self::Lifetime => "its time to live is over",
            Self::Unrecorded => "the ledger did not accept its record",
            Self::Lost => "its handles were lost in a restart",
            Self::NotHeld => "it could not be kept suspended or throttled",
            Self::Revoked => "the key under which it was being started was revoked",
            Self::NotWanted => "it was prepared, and is not wanted any more",
            Self::Unserved => "it offered tools, and the conversation with it is over",
            Self::NotKept => "it was prepared, and that does not outlive a restart of the service",
        }
    }
}

/// What happens to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its manifest is authentic and within its ceiling.
    Verified,
    /// Its manifest was refused.
    Refused(String),
    /// A record that had to come first was not accepted.
    NotRecorded(String),
    /// Its workstation stands and was read back.
    Isolated,
    /// Its workstation could not be built; nothing was started.
    NotIsolated(String),
    /// This service ended while the spawner was asked: what became of that nobody knows.
    CutOff(String),
    /// Everything about its isolation is on record.
    Released,
    /// A spawn of the manifest that it was prepared for wants it.
    Taken,
    /// Its program was let go.
    LetGo,
    /// Its program could not be let go, and does not run.
    NotLetGo(String),
    /// Its first process ended, and so every other; `None` where nobody saw how.
    Exited(Option<ExitInfo>),
    /// It is to end.
    EndAsked {
        /// Why.
        why: Ending,
        /// How long it has after SIGTERM, in milliseconds; 0 kills at once.
        grace_ms: u64,
    },
    /// The time that it had is over.
    GraceOver,
    /// Nothing of it is left.
    Retired,
    /// Something of it is left.
    Residue,
    /// It is to be frozen.
    SuspendAsked(Suspension),
    /// It is to run again.
    ResumeAsked {
        /// When its life is over from then on, in nanoseconds of CLOCK_BOOTTIME; none where that does not change.
        until_ns: Option<u64>,
    },
    /// It is to have no more than so many hundredths of a processor.
    ThrottleAsked(u64),
    /// It is to have its manifest's share of the processors again.
    UnthrottleAsked,
    /// The record of what it gets back was accepted; which time.
    Given(u32),
    /// That record was not accepted, and why.
    NotGiven(u32, String),
    /// None of its processes runs.
    Frozen,
    /// Its processes run again.
    Thawed,
    /// The kernel did not freeze it, or not let it go.
    FreezerFailed {
        /// Whether it was to be frozen.
        frozen: bool,
        /// What kind of failure.
        code: Code,
        /// Why.
        why: String,
    },
    /// It has no more than its throttle lets it have.
    Slowed,
    /// It has its manifest's share again.
    Restored,
    /// The kernel did not change its share.
    SpeedFailed {
        /// Whether it was to be slowed down.
        slowed: bool,
        /// What kind of failure.
        code: Code,
        /// Why.
        why: String,
    },
    /// A new run of this service goes on with it.
    Adopted,
}

/// What is put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// A change of phase.
    Transition {
        /// From where; `None` for the first.
        from: Option<AgentState>,
        /// Where to.
        to: AgentState,
    },
    /// An operator asked for it.
    Command,
    /// It is about to be isolated.
    Intent,
    /// What became of that.
    Outcome(Became),
    /// Its end was asked for.
    EndAsked(Ending),
    /// Nothing comes after this.
    Seal,
}

/// What became of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Became {
    /// It was done.
    Done,
    /// Nothing of it was done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Put on record before anything that follows in the list.
    Record(Record),
    /// Put on record when it can be, without waiting.
    RecordLater(Record),
    /// Have the spawner build its workstation and start its program, unless that is to wait.
    Isolate,
    /// Have the spawner let its program go.
    Release,
    /// Put on record what it gets back, and say `Given` or `NotGiven`.
    Give(u32, Record),
    /// Freeze it or let it run, as the state says by then.
    SetFreezer,
    /// Slow it down or give its share back, as the state says by then.
    SetSpeed,
    /// Its life is over at this time from now on, in nanoseconds of CLOCK_BOOTTIME.
    Extend(u64),
    /// Tell who asked that it is not done, and why.
    Refuse(Code, String),
    /// Serve its socket.
    Serve,
    /// Ask its program to end.
    Signal,
    /// Say `GraceOver` after so many milliseconds.
    ArmGrace(u64),
    /// Kill all its processes.
    Kill,
    /// Stop serving its socket.
    CloseSocket,
    /// Have the spawner remove what it had.
    Retire,
    /// The same, after a while.
    RetireLater,
}

/// A new agent, and what is done first. The lifecycle's first record opens the agent's partition, so the command comes
/// after it: provisioning adds no authority.
pub(crate) fn provision() -> (State, Vec<Effect>) {
    let first = Record::Transition { from: None, to: AgentState::Provisioned };
    (State::new(AgentState::Provisioned), vec![Effect::Record(first), Effect::Record(Record::Command)])
}

/// The same for one that is prepared: nobody has asked for an agent yet.
pub(crate) fn prepare() -> (State, Vec<Effect>) {
    let (state, mut effects) = provision();
    effects.retain(|effect| *effect != Effect::Record(Record::Command));
    (State { program: Program::Prepares, ..state }, effects)
}

/// An agent's next state, and what has to be done in order. An event that means nothing in a state (a second
/// kill, an exit that was seen twice) changes nothing.
pub(crate) fn step(mut state: State, event: Event) -> (State, Vec<Effect>) {
    let effects = match state.phase {
        _ if held::is_ours(&event) => held::hold(&mut state, event),
        _ if event == Event::Taken => prepared::take(&mut state),
        AgentState::Isolated if state.prepared() => prepared::wait(&mut state, event),
        AgentState::Provisioned | AgentState::Validated => begin(&mut state, event),
        phase if phase.live() => live(&mut state, event),
        _ => leave(&mut state, event),
    };
    (state, effects)
}

/// Moves to a phase; gives the record of it.
fn enter(state: &mut State, to: AgentState) -> Record {
    let from = Some(std::mem::replace(&mut state.phase, to));
    Record::Transition { from, to }
}

/// Before anything runs.
fn begin(state: &mut State, event: Event) -> Vec<Effect> {
    use AgentState as Phase;
    match (state.phase, event) {
        (Phase::Provisioned, Event::Verified) => {
            let validated = enter(state, Phase::Validated);
            vec![Effect::Record(validated), Effect::Record(Record::Intent), Effect::Isolate]
        }
        (Phase::Provisioned, Event::Refused(why) | Event::NotRecorded(why)) => reject(state, why),
        (Phase::Provisioned, Event::EndAsked { why, .. }) => reject(state, why.reason().to_owned()),
        // The spawner was not asked. If it is the record after the intent that was not accepted, the intent is there.
        (Phase::Validated, Event::Refused(why) | Event::NotRecorded(why)) => {
            let outcome = Effect::RecordLater(Record::Outcome(Became::Refused));
            std::iter::once(outcome).chain(reject(state, why)).collect()
        }
        (Phase::Validated, Event::EndAsked { why, grace_ms }) => end(state, why, grace_ms),
        (Phase::Validated, Event::NotIsolated(why)) => undo(state, Became::Refused, why),
        (Phase::Validated, Event::CutOff(why)) => undo(state, Became::Unknown, why),
        (Phase::Validated, Event::Isolated) => {
            let records = [Record::Outcome(Became::Done), enter(state, Phase::Isolated)];
            match state.ending {
                None => records.map(Effect::Record).to_vec(),
                // Its end was asked for while it was being started: the spawner cannot be interrupted.
                Some(_) => std::iter::once(Effect::Kill).chain(records.map(Effect::RecordLater)).collect(),
            }
        }
        _ => Vec::new(),
    }
}

/// Before the spawner was asked: there is nothing to retire.
fn reject(state: &mut State, why: String) -> Vec<Effect> {
    state.reason = Some(why);
    let rejected = Effect::RecordLater(enter(state, AgentState::Rejected));
    std::iter::once(rejected).chain(seal(state)).collect()
}

/// After the spawner was asked: it may have left something.
fn undo(state: &mut State, became: Became, why: String) -> Vec<Effect> {
    state.reason = Some(why);
    let rejected = enter(state, AgentState::Rejected);
    vec![Effect::RecordLater(Record::Outcome(became)), Effect::RecordLater(rejected), Effect::Retire]
}

/// The end of its partition, once.
fn seal(state: &mut State) -> Option<Effect> {
    let first = !std::mem::replace(&mut state.sealed, true);
    first.then_some(Effect::RecordLater(Record::Seal))
}

/// While it runs.
fn live(state: &mut State, event: Event) -> Vec<Effect> {
    use AgentState as Phase;
    match (state.phase, event) {
        (Phase::Isolated, Event::Exited(exit)) if state.ending.is_none() && state.early.is_none() => {
            // It ran, and its record shall say so: `Released` or `NotRecorded` is on its way.
            state.early = Some(exit);
            Vec::new()
        }
        (Phase::Isolated, Event::Released) if state.early.is_some() => {
            let ran = Effect::RecordLater(enter(state, Phase::Running));
            let exit = state.early.take().flatten();
            std::iter::once(ran).chain(terminate(state, exit)).collect()
        }
        (Phase::Isolated, Event::NotRecorded(why)) if state.early.is_some() => {
            state.reason = Some(why);
            let exit = state.early.take().flatten();
            terminate(state, exit)
        }
        (Phase::Isolated, Event::Released) if state.ending.is_none() => {
            vec![Effect::Record(enter(state, Phase::Running)), Effect::Serve]
        }
        (_, Event::NotRecorded(why)) => {
            state.reason = Some(why);
            end(state, Ending::Unrecorded, 0)
        }
        // It was meant for one that waits, and a spawn was quicker.
        (_, Event::EndAsked { why: Ending::NotWanted, .. }) => Vec::new(),
        (_, Event::EndAsked { why, grace_ms }) => end(state, why, grace_ms),
        (_, Event::GraceOver) => vec![Effect::Kill],
        (_, Event::Exited(exit)) => terminate(state, exit),
        _ => Vec::new(),
    }
}

/// After its end.
fn leave(state: &mut State, event: Event) -> Vec<Effect> {
    match (state.phase, event) {
        (AgentState::Terminated, Event::Retired) => {
            let archived = Effect::RecordLater(enter(state, AgentState::Archived));
            std::iter::once(archived).chain(seal(state)).collect()
        }
        (AgentState::Archived | AgentState::Rejected, Event::Retired) => seal(state).into_iter().collect(),
        (AgentState::Terminated | AgentState::Rejected, Event::Residue) => vec![Effect::RetireLater],
        _ => Vec::new(),
    }
}

fn terminate(state: &mut State, exit: Option<ExitInfo>) -> Vec<Effect> {
    let record = enter(state, AgentState::Terminated);
    (state.exit, state.held) = (exit, Held::default());
    if state.reason.is_none() {
        let unseen = exit.is_none().then_some("nobody saw how it ended");
        state.reason = state.ending.map(Ending::reason).or(unseen).map(str::to_owned);
    }
    vec![Effect::CloseSocket, Effect::Kill, Effect::RecordLater(record), Effect::Retire]
}

fn end(state: &mut State, why: Ending, grace_ms: u64) -> Vec<Effect> {
    let first = state.ending.is_none();
    state.ending.get_or_insert(why);
    let record = first.then_some(Effect::RecordLater(Record::EndAsked(why)));
    let act = match (state.phase, grace_ms) {
        // Nothing runs yet; `Isolated` will find the wish.
        (AgentState::Validated, _) => vec![],
        (_, 0) | (AgentState::Suspended, _) => vec![Effect::Kill],
        (_, grace_ms) if first => vec![Effect::Signal, Effect::ArmGrace(grace_ms)],
        _ => vec![],
    };
    // Kept for later before the act: the agent's end, and so its seal, follows the act.
    record.into_iter().chain(act).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use proptest::{prop_assert, prop_assert_eq};

    fn event() -> impl Strategy<Value = Event> {
        let ending = prop_oneof![
            Just(Ending::Operator),
            Just(Ending::Lifetime),
            Just(Ending::Lost),
            Just(Ending::NotWanted),
        ];
        prop_oneof![
            4 => Just(Event::Verified),
            1 => Just(Event::Refused("r".into())),
            1 => Just(Event::NotRecorded("n".into())),
            4 => Just(Event::Isolated),
            1 => Just(Event::NotIsolated("i".into())),
            1 => Just(Event::CutOff("c".into())),
            4 => Just(Event::Released),
            3 => Just(Event::Taken),
            3 => Just(Event::LetGo),
            1 => Just(Event::NotLetGo("g".into())),
            2 => proptest::option::of((0..256).prop_map(ExitInfo::Code)).prop_map(Event::Exited),
            2 => (ending, prop_oneof![Just(0_u64), Just(500)])
                .prop_map(|(why, grace_ms)| Event::EndAsked { why, grace_ms }),
            1 => Just(Event::GraceOver),
            2 => Just(Event::Retired),
            1 => Just(Event::Residue),
            2 => held::tests::event(),
        ]
    }

    /// Performs as the manager does: stops a list at a record that is not accepted. `accepts` says so of each
    /// record in turn.
    fn run(events: Vec<Event>, accepts: &[bool]) -> (State, Vec<Effect>, Vec<AgentState>) {
        run_from(provision(), events, accepts)
    }

    fn run_from(
        (mut state, mut effects): (State, Vec<Effect>),
        events: Vec<Event>,
        accepts: &[bool],
    ) -> (State, Vec<Effect>, Vec<AgentState>) {
        let mut accepts = accepts.iter().copied().chain(std::iter::repeat(true));
        let (mut done, mut phases) = (Vec::new(), vec![state.phase]);
        let mut events = std::collections::VecDeque::from(events);
        loop {
            for effect in effects {
                if matches!(effect, Effect::Record(_)) && accepts.next() == Some(false) {
                    events.push_front(Event::NotRecorded("ledger".into()));
                    break;
                }
                if let Effect::Give(time, _) = effect {
                    let given = accepts.next() != Some(false);
                    let refused = || Event::NotGiven(time, "ledger".into());
                    events.push_front(if given { Event::Given(time) } else { refused() });
                }
                done.push(effect);
            }
            let Some(event) = events.pop_front() else { return (state, done, phases) };
            (state, effects) = step(state, event);
            if phases.last() != Some(&state.phase) {
                phases.push(state.phase);
            }
        }
    }

    fn at(effects: &[Effect], wanted: &Effect) -> Vec<usize> {
        effects.iter().enumerate().filter(|(_, e)| *e == wanted).map(|(i, _)| i).collect()
    }

    #[test]
    fn a_life_from_beginning_to_end() {
        let events = [
            Event::Verified,
            Event::Isolated,
            Event::Released,
            Event::Exited(Some(ExitInfo::Code(3))),
            Event::Retired,
        ];
        let (state, done, phases) = run(events.to_vec(), &[]);
        use AgentState as Phase;
        let all = [
            Phase::Provisioned,
            Phase::Validated,
            Phase::Isolated,
            Phase::Running,
            Phase::Terminated,
            Phase::Archived,
        ];
        assert_eq!(phases, all);
        assert_eq!((state.exit, state.reason), (Some(ExitInfo::Code(3)), None));
        assert_eq!(at(&done, &Effect::Retire).len(), 1);
    }

    #[test]
    fn a_ledger_that_refuses_stops_a_spawn_at_each_record() {
        let events = [Event::Verified, Event::Isolated, Event::Released];
        for refused in 0..4 {
            let accepts: Vec<bool> = (0..=refused).map(|i| i != refused).collect();
            let (state, done, _) = run(events.to_vec(), &accepts);
            assert_eq!(state.phase, AgentState::Rejected, "record {refused}");
            assert!(!done.contains(&Effect::Isolate), "record {refused}");
            assert_eq!(done.last(), Some(&Effect::RecordLater(Record::Seal)), "record {refused}");
        }
        for refused in 4..7 {
            let accepts: Vec<bool> = (0..=refused).map(|i| i != refused).collect();
            let (state, done, _) = run(events.to_vec(), &accepts);
            assert_eq!(state.ending, Some(Ending::Unrecorded), "record {refused}");
            assert!(done.contains(&Effect::Kill) && !done.contains(&Effect::Serve), "record {refused}");
        }
    }

    #[test]
    fn a_program_that_ends_at_once_has_run_on_record() {
        let exit = Event::Exited(Some(ExitInfo::Code(0)));
        let events = [Event::Verified, Event::Isolated, exit.clone(), Event::Released, Event::Retired];
        let (state, done, _) = run(events.to_vec(), &[]);
        assert_eq!((state.phase, state.exit), (AgentState::Archived, Some(ExitInfo::Code(0))));
        let ran = Record::Transition { from: Some(AgentState::Isolated), to: AgentState::Running };
        assert!(done.contains(&Effect::RecordLater(ran)) && !done.contains(&Effect::Serve));
        let kill = Event::EndAsked { why: Ending::Operator, grace_ms: 0 };
        let (state, _, _) = run(vec![Event::Verified, Event::Isolated, exit, kill, Event::Released], &[]);
        assert_eq!(state.phase, AgentState::Terminated);
    }

    #[test]
    fn an_end_asked_for_during_the_start_comes_with_the_start() {
        let kill = Event::EndAsked { why: Ending::Operator, grace_ms: 5000 };
        let (state, done, _) = run(vec![Event::Verified, kill, Event::Isolated, Event::Released], &[]);
        assert_eq!(state.phase, AgentState::Isolated);
        assert!(done.contains(&Effect::Kill) && !done.contains(&Effect::Serve));
    }

    #[test]
    fn an_intent_is_closed_by_what_is_known_of_it() {
        let became = |event: Event| {
            let (_, done, _) = run(vec![Event::Verified, event], &[]);
            let outcome = |e: &Effect| match e {
                Effect::Record(Record::Outcome(became)) | Effect::RecordLater(Record::Outcome(became)) => {
                    Some(*became)
                }
                _ => None,
            };
            done.iter().filter_map(outcome).collect::<Vec<_>>()
        };
        assert_eq!(became(Event::Isolated), [Became::Done]);
        assert_eq!(became(Event::NotIsolated("no".into())), [Became::Refused]);
        assert_eq!(became(Event::CutOff("who knows".into())), [Became::Unknown]);
    }

    #[test]
    fn a_rejected_agent_is_sealed_when_nothing_of_it_is_left() {
        let seal = Effect::RecordLater(Record::Seal);
        let (_, done, _) = run(vec![Event::Refused("no".into())], &[]);
        assert_eq!(at(&done, &seal), [done.len() - 1], "the spawner never heard of it");
        let failed = [Event::Verified, Event::NotIsolated("no".into())];
        let (_, done, _) = run(failed.to_vec(), &[]);
        assert!(!done.contains(&seal), "something may be left");
        let (_, done, _) = run([&failed[..], &[Event::Residue]].concat(), &[]);
        assert!(!done.contains(&seal), "something is left");
        let (_, done, _) =
            run([&failed[..], &[Event::Residue, Event::Retired, Event::Retired]].concat(), &[]);
        assert_eq!(at(&done, &seal), [done.len() - 1], "once");
    }

    #[test]
    fn grace_is_given_once_and_can_be_cut_short() {
        let kill = |grace_ms| Event::EndAsked { why: Ending::Operator, grace_ms };
        let start = [Event::Verified, Event::Isolated, Event::Released];
        let (_, done, _) = run([&start[..], &[kill(500), kill(500)]].concat(), &[]);
        assert_eq!((at(&done, &Effect::Signal).len(), at(&done, &Effect::Kill).len()), (1, 0));
        let (_, done, _) = run([&start[..], &[kill(500), kill(0)]].concat(), &[]);
        assert_eq!(at(&done, &Effect::Kill).len(), 1);
        let (_, done, _) = run([&start[..], &[kill(500), Event::GraceOver]].concat(), &[]);
        assert_eq!(at(&done, &Effect::Kill).len(), 1);
    }

    /// A new agent of either kind.
    fn begun() -> impl Strategy<Value = (State, Vec<Effect>)> {
        any::<bool>().prop_map(|waits| if waits { prepare() } else { provision() })
    }

    proptest! {
        #[test]
        fn authority_comes_after_its_record(
            begun in begun(),
            events in vec(event(), 0..24),
            accepts in vec(any::<bool>(), 0..12),
        ) {
            let (_, done, _) = run_from(begun, events, &accepts);
            for effect in [Effect::Isolate, Effect::Release] {
                prop_assert!(at(&done, &effect).len() <= 1);
                for given in at(&done, &effect) {
                    prop_assert_eq!(&done[given - 1], &Effect::Record(Record::Intent));
                }
            }
            for serve in at(&done, &Effect::Serve) {
                let running = Record::Transition { from: Some(AgentState::Isolated), to: AgentState::Running };
                prop_assert_eq!(&done[serve - 1], &Effect::Record(running));
            }
            prop_assert!(at(&done, &Effect::Isolate).len() <= 1 && at(&done, &Effect::Serve).len() <= 1);
        }

        #[test]
        fn an_end_never_waits_for_a_record(begun in begun(), events in vec(event(), 0..24)) {
            let (mut state, _) = begun;
            for event in events {
                let (next, effects) = step(state, event);
                let record = effects.iter().position(|e| matches!(e, Effect::Record(_) | Effect::Give(..)));
                let reduces = |e: &Effect| match e {
                    Effect::Kill | Effect::Signal | Effect::CloseSocket | Effect::Retire => true,
                    Effect::SetFreezer => next.held.frozen(),
                    Effect::SetSpeed => next.held.slowed().is_some(),
                    _ => false,
                };
                let end = effects.iter().rposition(reduces);
                prop_assert!(record.is_none() || end.is_none(), "{effects:?}");
                state = next;
            }
        }

        #[test]
        fn the_end_is_final_and_every_change_is_recorded_once(
            begun in begun(),
            events in vec(event(), 0..32),
            accepts in vec(any::<bool>(), 0..12),
        ) {
            let (_, done, phases) = run_from(begun, events, &accepts);
            let last = phases.iter().position(|p| matches!(p, AgentState::Archived | AgentState::Rejected));
            prop_assert!(last.is_none_or(|at| at == phases.len() - 1), "{phases:?}");
            for pair in phases.windows(2) {
                let change = Record::Transition { from: Some(pair[0]), to: pair[1] };
                // These come again: each way there has a record of its own.
                if pair.iter().any(|p| matches!(p, AgentState::Suspended | AgentState::Throttled)) {
                    continue;
                }
                let count = done.iter().filter(|e| match e {
                    Effect::Record(r) | Effect::RecordLater(r) => *r == change,
                    _ => false,
                });
                prop_assert!(count.count() <= 1);
            }
        }

        #[test]
        fn nothing_is_recorded_after_the_seal_and_every_end_has_one(
            begun in begun(),
            events in vec(event(), 0..32),
            accepts in vec(any::<bool>(), 0..12),
        ) {
            let (state, done, _) = run_from(begun, events, &accepts);
            let is_record = |e: &Effect| matches!(e, Effect::Record(_) | Effect::RecordLater(_));
            let last = done.iter().rposition(is_record);
            let seals = at(&done, &Effect::RecordLater(Record::Seal));
            prop_assert!(seals.len() <= 1 && seals.iter().all(|at| Some(*at) == last), "{done:?}");
            prop_assert_eq!(seals.len() == 1, state.sealed);
            if state.phase == AgentState::Archived {
                prop_assert!(state.sealed);
            }
        }

        #[test]
        fn every_life_can_be_ended(begun in begun(), events in vec(event(), 0..24)) {
            let (state, _, _) = run_from(begun, events, &[]);
            let kill = Event::EndAsked { why: Ending::Operator, grace_ms: 0 };
            let mut state = step(state, kill).0;
            let rest = [
                Event::NotIsolated("x".into()),
                Event::Exited(None),
                Event::Released,
                Event::LetGo,
                Event::Retired,
            ];
            for event in rest {
                state = step(state, event).0;
            }
            prop_assert!(matches!(state.phase, AgentState::Archived | AgentState::Rejected), "{:?}", state);
        }
    }
}
