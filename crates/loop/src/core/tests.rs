use super::*;
use crate::entry::VERSION;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};
use serde_json::json;
use std::collections::BTreeSet;

fn settings() -> Settings {
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": true });
    Settings {
        model: "m".into(),
        system: "s".into(),
        tools: vec![Tool { name: "t".into(), about: None, schema }],
        max_steps: 12,
        max_ms: 1000,
        window: Some(4000),
        max_output: None,
        repeats: 6,
    }
}

fn begun(more: bool) -> State {
    let mut state = State::default();
    state.apply(&Entry::Began { version: VERSION, agent: "a".into(), model: "m".into() });
    state.apply(&Entry::Said { number: 1, text: "the task".into(), more });
    state
}

fn answer(text: &str, calls: usize, stop: Stop) -> Entry {
    let mut pieces: Vec<Piece> = Vec::new();
    pieces.extend((!text.is_empty()).then(|| Piece::Text { text: text.into() }));
    pieces.extend((0..calls).map(|n| {
        Piece::Call(Call { id: format!("c{n}"), name: "t".into(), arguments: format!("{{\"n\":{n}}}") })
    }));
    Entry::Answered(Answer { pieces, stop, usage: Used { input: 3, output: 2 } })
}

fn is_ended(next: &Next, wanted: End) -> bool {
    matches!(next, Next::Note(Entry::Ended { end, .. }) if *end == wanted)
}

#[test]
fn nothing_is_done_before_something_is_said() {
    assert_eq!(State::default().next(&settings(), 0), Next::Listen);
    assert!(matches!(begun(false).next(&settings(), 0), Next::Ask(_)));
}

#[test]
fn what_was_begun_and_has_no_result_is_told_as_interrupted_and_not_made_again() {
    let mut state = begun(false);
    state.apply(&answer("", 2, Stop::ToolCalls));
    let Next::Call { call, .. } = state.next(&settings(), 0) else { panic!("a call comes next") };
    state.apply(&Entry::Calling { id: call.id.clone() });
    let Next::Note(note @ Entry::Result { .. }) = state.next(&settings(), 0) else {
        panic!("its result comes next")
    };
    assert!(
        matches!(&note, Entry::Result { id, text, failed: true, .. } if *id == call.id && text.starts_with("interrupted"))
    );
    state.apply(&note);
    assert!(matches!(state.next(&settings(), 0), Next::Call { call, .. } if call.id == "c1"));
}

#[test]
fn what_waits_for_an_operator_waits_again_after_a_restart() {
    let mut state = begun(false);
    state.apply(&answer("", 1, Stop::ToolCalls));
    state.apply(&Entry::Calling { id: "c0".into() });
    state.apply(&Entry::Waits { id: "c0".into(), request: "3f".into() });
    assert_eq!(state.next(&settings(), 0), Next::Await { id: "c0".into(), request: "3f".into() });
    state.approved("c0");
    assert!(matches!(state.next(&settings(), 0), Next::Call { .. }));
}

#[test]
fn a_stop_ends_the_turn_or_the_loop() {
    for more in [true, false] {
        let mut state = begun(more);
        state.apply(&answer("", 2, Stop::ToolCalls));
        state.apply(&Entry::Calling { id: "c0".into() });
        state.apply(&Entry::Stopped);
        let next = state.next(&settings(), 0);
        assert_eq!(next, if more { Next::Listen } else { Next::End });
        assert_eq!(state.end().map(|end| end.0), (!more).then_some(End::Stopped));
        state.apply(&Entry::Said { number: 2, text: "go on".into(), more });
        assert!(matches!(state.next(&settings(), 0), Next::Ask(_)));
    }
}

#[test]
fn a_loop_of_another_agent_goes_on_with_the_conversation_and_hears_its_own_words() {
    let mut state = begun(false);
    state.apply(&answer("done", 0, Stop::End));
    state.apply(&ended(End::Done, ""));
    state.apply(&Entry::Began { version: VERSION, agent: "b".into(), model: "m".into() });
    assert_eq!((state.heard(), state.next(&settings(), 0)), (0, Next::End));
    state.apply(&Entry::Said { number: 1, text: "more".into(), more: false });
    let Next::Ask(request) = state.next(&settings(), 0) else { panic!("it is asked") };
    assert_eq!(request.messages.len(), 3, "the task, the answer, and what was said");
}

#[test]
fn limits_end_it() {
    let mut state = begun(false);
    assert!(is_ended(&state.next(&settings(), 1000), End::Time));
    for _ in 0..12 {
        state.apply(&answer("x", 0, Stop::Paused));
    }
    assert!(is_ended(&state.next(&settings(), 0), End::Steps));
    let mut state = begun(false);
    for _ in 0..=AGAIN_MAX {
        assert!(matches!(state.next(&settings(), 0), Next::Ask(_)));
        state.apply(&Entry::NoAnswer { why: "x".into(), then: Then::Again });
    }
    assert!(is_ended(&state.next(&settings(), 0), End::Unavailable));
    let mut state = begun(false);
    state.apply(&answer("", 1, Stop::Refusal));
    assert_eq!(state.end().map(|end| end.0), Some(End::Refused));
}

/// Whatever happens next in the world: what an action comes to.
fn outcome() -> impl Strategy<Value = (u8, usize, String)> {
    (any::<u8>(), 0..4_usize, prop_oneof![Just(String::new()), Just("x".repeat(3000)), ".{0,20}"])
}

/// The entry that an action comes to.
fn follow(next: &Next, dice: u8, calls: usize, text: &str) -> Option<Entry> {
    Some(match next {
        Next::Listen | Next::End => return None,
        Next::Note(entry) => entry.clone(),
        Next::Ask(_) => match dice % 8 {
            0 => Entry::NoAnswer { why: "x".into(), then: Then::Again },
            1 => Entry::NoAnswer { why: "x".into(), then: Then::Less },
            2 => answer(text, calls, Stop::Length),
            3 => answer(text, 0, Stop::End),
            _ => answer(text, calls, if calls > 0 { Stop::ToolCalls } else { Stop::Paused }),
        },
        Next::Summarise { upto, .. } => {
            Entry::Compacted { upto: *upto, summary: text.to_owned(), usage: Used::default() }
        }
        Next::Await { id, .. } => Entry::words(id, "denied".into(), true),
        Next::Call { call, .. } => match dice % 4 {
            0 => Entry::Waits { id: call.id.clone(), request: "r".into() },
            _ => Entry::words(&call.id, format!("{dice}{text}"), dice % 4 == 1),
        },
    })
}

/// What every provider wants of a conversation: turns alternate, and each call has one result in the turn behind it.
fn is_whole(messages: &[Message]) -> bool {
    let calls = |message: &Message| -> Vec<String> {
        let id = |part: &Part| match part {
            Part::ToolCall { id, .. } => Some(id.clone()),
            _ => None,
        };
        message.parts.iter().filter_map(id).collect()
    };
    let results = |message: &Message| -> Vec<String> {
        let id = |part: &Part| match part {
            Part::ToolResult { id, .. } => Some(id.clone()),
            _ => None,
        };
        message.parts.iter().filter_map(id).collect()
    };
    let pairs = messages.windows(2).all(|two| calls(&two[0]) == results(&two[1]));
    let first = messages.first().is_some_and(|first| first.role == Role::User && results(first).is_empty());
    // A pause is gone on from by handing it back.
    first && pairs && messages.last().is_some_and(|last| calls(last).is_empty())
}

proptest! {
    /// Under any outcomes: it ends, what is asked is whole and within the window as far as it is known, no call is made twice,
    /// and the same entries played again are the same state.
    #[test]
    fn a_loop_ends_and_can_be_played_again(outcomes in collection::vec(outcome(), 1..40)) {
        let settings = settings();
        let mut state = begun(false);
        let mut entries = Vec::new();
        let (mut steps, mut turn) = (0, BTreeSet::new());
        while steps < 2000 {
            let (dice, calls, text) = &outcomes[steps % outcomes.len()];
            let next = state.next(&settings, 0);
            match &next {
                Next::Ask(request) => {
                    prop_assert!(is_whole(&request.messages), "{:?}", request.messages);
                    turn.clear();
                }
                Next::Call { call, .. } => {
                    prop_assert!(turn.insert(call.id.clone()), "{} is made again", call.id);
                    entries.push(Entry::Calling { id: call.id.clone() });
                    state.apply(entries.last().unwrap());
                }
                _ => {}
            }
            let Some(entry) = follow(&next, *dice, *calls, text) else { break };
            state.apply(&entry);
            entries.push(entry);
            steps += 1;
        }
        prop_assert!(state.end().is_some(), "it goes on for ever");
        let mut again = begun(false);
        entries.iter().for_each(|entry| again.apply(entry));
        prop_assert_eq!(again.messages(), state.messages());
        prop_assert_eq!(again.end(), state.end());
        prop_assert_eq!(again.counts(), state.counts());
    }
}
