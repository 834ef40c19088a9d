//! An agent whose workstation is built before anybody spawns it, and whose program waits until somebody does.
//!
//! | program  | event                  | next     | what is done                                             |
//! |----------|------------------------|----------|----------------------------------------------------------|
//! | prepares | `Released`             | waits    | nothing: it can be taken from now on                     |
//! | prepares | `Exited`               | same     | wait for `Released` or `NotRecorded`, then end            |
//! | waits    | `Taken`                | taken    | record the command and an intent of its own, let it go   |
//! | waits    | `Exited`               | starts   | end, as any that lives                                   |
//! | taken    | `LetGo`                | starts   | record the outcome and that it runs, serve its socket    |
//! | taken    | `NotLetGo`, `NotRecorded` | starts | record later, kill                                      |
//! | taken    | `Exited`               | same     | wait for one of the three above, then end                |
//!
//! All of that is in the phase isolated. One that was taken is used up, whatever becomes of it: it never waits again.

use super::{Became, Effect, Ending, Event, Record, State, end, enter, terminate};
use octant_api::agents::AgentState;
use octant_api::error::Code;

/// What stands between a workstation and its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Nothing: it starts with its workstation.
    Starts,
    /// It will wait, and that is being put on record.
    Prepares,
    /// It waits for a spawn of its manifest.
    Waits,
    /// A spawn has taken it, and it is being let go.
    Taken,
}

impl State {
    /// Whether a spawn can take it.
    pub(crate) fn waits(&self) -> bool {
        self.phase == AgentState::Isolated && self.program == Program::Waits && self.ending.is_none()
    }

    /// Whether it has a workstation, or is to have one, in which nobody has let anything run yet.
    pub(crate) fn prepared(&self) -> bool {
        self.program != Program::Starts && !self.phase.ended()
    }
}

/// A spawn wants it: refused unless it waits.
pub(super) fn take(state: &mut State) -> Vec<Effect> {
    if !state.waits() {
        return vec![Effect::Refuse(Code::Conflict, "it ended while it was being let go".to_owned())];
    }
    state.program = Program::Taken;
    vec![Effect::Record(Record::Command), Effect::Record(Record::Intent), Effect::Release]
}

/// What happens while its program does not run.
pub(super) fn wait(state: &mut State, event: Event) -> Vec<Effect> {
    match (state.program, event) {
        (Program::Prepares, Event::Exited(exit)) if state.ending.is_none() && state.early.is_none() => {
            state.early = Some(exit);
            Vec::new()
        }
        (Program::Taken, Event::Exited(exit)) if state.early.is_none() => {
            state.early = Some(exit);
            Vec::new()
        }
        (Program::Prepares, Event::Released) => match state.early.take() {
            Some(exit) => unused(state, exit),
            None => {
                state.program = Program::Waits;
                Vec::new()
            }
        },
        (Program::Taken, Event::LetGo) => let_go(state),
        (Program::Taken, Event::NotLetGo(why) | Event::NotRecorded(why)) => {
            (state.program, state.reason) = (Program::Starts, Some(why));
            let outcome = Effect::RecordLater(Record::Outcome(Became::Refused));
            let then = match state.early.take() {
                Some(exit) => terminate(state, exit),
                None => end(state, Ending::Unrecorded, 0),
            };
            std::iter::once(outcome).chain(then).collect()
        }
        (_, Event::NotRecorded(why)) => {
            state.reason = Some(why);
            match state.early.take() {
                Some(exit) => terminate(state, exit),
                None => end(state, Ending::Unrecorded, 0),
            }
        }
        // A spawn was quicker.
        (Program::Taken, Event::EndAsked { why: Ending::NotWanted, .. }) => Vec::new(),
        // A program that waits can do nothing with a grace.
        (_, Event::EndAsked { why, .. }) => end(state, why, 0),
        (_, Event::GraceOver) => vec![Effect::Kill],
        (_, Event::Exited(exit)) => unused(state, exit),
        _ => Vec::new(),
    }
}

fn let_go(state: &mut State) -> Vec<Effect> {
    state.program = Program::Starts;
    let records = [Record::Outcome(Became::Done), enter(state, AgentState::Running)];
    match (state.early.take(), state.ending) {
        (Some(exit), _) => {
            let records = records.into_iter().map(Effect::RecordLater);
            records.chain(terminate(state, exit)).collect()
        }
        (None, None) => records.map(Effect::Record).into_iter().chain([Effect::Serve]).collect(),
        // Its end was asked for meanwhile, and acted upon.
        (None, Some(_)) => records.map(Effect::RecordLater).to_vec(),
    }
}

fn unused(state: &mut State, exit: Option<octant_api::agents::ExitInfo>) -> Vec<Effect> {
    if state.ending.is_none() && state.reason.is_none() {
        state.reason = Some("it ended before its program was let go".to_owned());
    }
    terminate(state, exit)
}

#[cfg(test)]
mod tests {
    use super::super::{prepare, step};
    use super::*;
    use octant_api::agents::ExitInfo;

    fn run(events: &[Event]) -> (State, Vec<Effect>) {
        let (mut state, mut all) = prepare();
        for event in events {
            let (next, effects) = step(state, event.clone());
            state = next;
            all.extend(effects);
        }
        (state, all)
    }

    const STANDS: [Event; 3] = [Event::Verified, Event::Isolated, Event::Released];

    fn after(events: &[Event]) -> (State, Vec<Effect>) {
        let (before, _) = run(&STANDS);
        assert!(before.waits());
        let (mut state, mut all) = (before, Vec::new());
        for event in events {
            let (next, effects) = step(state, event.clone());
            state = next;
            all.extend(effects);
        }
        (state, all)
    }

    fn exit() -> Event {
        Event::Exited(Some(ExitInfo::Signal(9)))
    }

    #[test]
    fn it_waits_until_a_spawn_takes_it_and_goes_only_after_the_second_intent() {
        let (state, done) = run(&STANDS);
        assert!(state.waits() && !done.contains(&Effect::Serve) && !done.contains(&Effect::Release));
        assert!(!done.contains(&Effect::Record(Record::Command)), "nobody has asked for an agent yet");
        let (state, done) = after(&[Event::Taken]);
        let asked = [Effect::Record(Record::Command), Effect::Record(Record::Intent), Effect::Release];
        assert_eq!(done, asked);
        assert!(!state.waits(), "once");
        let (state, done) = after(&[Event::Taken, Event::LetGo]);
        let running = Record::Transition { from: Some(AgentState::Isolated), to: AgentState::Running };
        let went = [Record::Outcome(Became::Done), running].map(Effect::Record);
        assert_eq!(done[3..], [&went[..], &[Effect::Serve]].concat());
        assert!(!state.prepared());
    }

    #[test]
    fn what_cannot_be_taken_says_so() {
        let refused = |events: &[Event]| {
            let (_, done) = after(events);
            assert!(matches!(done.last(), Some(Effect::Refuse(Code::Conflict, _))), "{done:?}");
            assert!(!done.contains(&Effect::Release) || events[0] == Event::Taken, "{done:?}");
        };
        refused(&[Event::Taken, Event::Taken]);
        refused(&[Event::EndAsked { why: Ending::Operator, grace_ms: 9 }, Event::Taken]);
        refused(&[exit(), Event::Taken]);
        refused(&[Event::Taken, Event::LetGo, Event::Taken]);
        let (_, done) = run(&[Event::Verified, Event::Isolated, Event::Taken]);
        assert!(!done.contains(&Effect::Release), "not before it is on record that it stands");
    }

    #[test]
    fn one_that_ends_while_it_waits_never_ran() {
        let running = Record::Transition { from: Some(AgentState::Isolated), to: AgentState::Running };
        let ran = |done: &[Effect]| {
            done.contains(&Effect::Record(running.clone()))
                || done.contains(&Effect::RecordLater(running.clone()))
        };
        let (state, done) = after(&[exit()]);
        assert_eq!((state.phase, ran(&done)), (AgentState::Terminated, false));
        let (state, done) = run(&[Event::Verified, Event::Isolated, exit(), Event::Released]);
        assert_eq!((state.phase, ran(&done)), (AgentState::Terminated, false));
        let (state, done) = after(&[Event::EndAsked { why: Ending::Operator, grace_ms: 5000 }]);
        assert_eq!(done.last(), Some(&Effect::Kill), "without grace");
        assert_eq!(state.phase, AgentState::Isolated);
    }

    #[test]
    fn one_that_was_taken_is_not_ended_as_one_that_waits() {
        let drop = Event::EndAsked { why: Ending::NotWanted, grace_ms: 0 };
        for events in [&[Event::Taken][..], &[Event::Taken, Event::LetGo]] {
            let (state, done) = after(&[events, std::slice::from_ref(&drop)].concat());
            assert!(state.ending.is_none() && !done.contains(&Effect::Kill), "{events:?}");
        }
        assert_eq!(after(&[drop]).0.ending, Some(Ending::NotWanted));
    }

    #[test]
    fn the_second_intent_has_an_outcome_whatever_crosses_it() {
        let outcomes = |events: &[Event]| {
            let (state, done) = after(events);
            assert_eq!(state.phase, AgentState::Terminated, "{events:?}");
            let outcome = |effect: &Effect| match effect {
                Effect::Record(Record::Outcome(became)) | Effect::RecordLater(Record::Outcome(became)) => {
                    Some(*became)
                }
                _ => None,
            };
            done.iter().filter_map(outcome).collect::<Vec<_>>()
        };
        let kill = Event::EndAsked { why: Ending::Operator, grace_ms: 0 };
        let no = || Event::NotLetGo("no".into());
        assert_eq!(outcomes(&[Event::Taken, exit(), Event::LetGo]), [Became::Done]);
        assert_eq!(outcomes(&[Event::Taken, Event::LetGo, exit()]), [Became::Done]);
        assert_eq!(outcomes(&[Event::Taken, kill.clone(), exit(), Event::LetGo]), [Became::Done]);
        assert_eq!(outcomes(&[Event::Taken, kill.clone(), Event::LetGo, exit()]), [Became::Done]);
        assert_eq!(outcomes(&[Event::Taken, no(), exit()]), [Became::Refused]);
        assert_eq!(outcomes(&[Event::Taken, exit(), no()]), [Became::Refused]);
        assert_eq!(outcomes(&[Event::Taken, kill, exit(), no()]), [Became::Refused]);
        assert_eq!(outcomes(&[Event::Taken, Event::NotRecorded("full".into()), exit()]), [Became::Refused]);
    }
}
