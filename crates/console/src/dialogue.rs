//! The questions of a login, as a pure state machine: what is asked next, and how it ends.

/// So many wrong passphrases, and the line is given up: whoever is there begins with a fresh one.
const TRIES: u32 = 3;

/// Where a login is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// The name is asked for.
    Name {
        /// Wrong passphrases so far.
        failed: u32,
    },
    /// The passphrase is asked for.
    Passphrase {
        /// Wrong ones so far.
        failed: u32,
        /// The name that was given.
        name: String,
    },
    /// A challenge waits for its answer.
    Answer {
        /// Wrong ones so far.
        failed: u32,
        /// The name that was given.
        name: String,
    },
    /// It is over.
    Over(End),
}

/// How a login ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// This account is in.
    In(String),
    /// Too many wrong passphrases.
    Refused,
    /// Nobody answered in time.
    Late,
    /// Whoever was there has gone.
    Left,
    /// This process is to end.
    Told,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A line was typed as the name.
    Name(String),
    /// Enter in place of the passphrase: whoever is there has a key.
    ByKey,
    /// The passphrase or the answer was typed, and this is what came of the check.
    Checked(bool),
    /// Ctrl-C.
    Cancelled,
    /// The end of the input, or a hangup.
    Ended,
    /// The time is over.
    TimedOut,
}

impl State {
    /// The first question.
    pub(crate) const fn new() -> Self {
        Self::Name { failed: 0 }
    }

    /// What follows from an event. An event that does not belong to the question changes nothing.
    pub(crate) fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Over(end), _) => Self::Over(end),
            (_, Event::Ended) => Self::Over(End::Left),
            (_, Event::TimedOut) => Self::Over(End::Late),
            (
                Self::Name { failed } | Self::Passphrase { failed, .. } | Self::Answer { failed, .. },
                Event::Cancelled,
            ) => Self::Name { failed },
            (Self::Name { failed }, Event::Name(name)) if name.is_empty() => Self::Name { failed },
            // Whether there is such an account makes no difference to what is asked.
            (Self::Name { failed }, Event::Name(name)) => Self::Passphrase { failed, name },
            (Self::Passphrase { failed, name }, Event::ByKey) => Self::Answer { failed, name },
            (Self::Passphrase { name, .. } | Self::Answer { name, .. }, Event::Checked(true)) => {
                Self::Over(End::In(name))
            }
            (Self::Passphrase { failed, .. } | Self::Answer { failed, .. }, Event::Checked(false)) => {
                if failed + 1 >= TRIES {
                    Self::Over(End::Refused)
                } else {
                    Self::Name { failed: failed + 1 }
                }
            }
            (state, Event::Name(_) | Event::ByKey | Event::Checked(_)) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> State {
        events.iter().cloned().fold(State::new(), State::step)
    }

    fn name(text: &str) -> Event {
        Event::Name(text.into())
    }

    #[test]
    fn only_a_checked_passphrase_lets_in() {
        assert_eq!(after(&[name("alice"), Event::Checked(true)]), State::Over(End::In("alice".into())));
        assert_eq!(after(&[Event::Checked(true)]), State::new(), "nothing was asked yet");
        assert_eq!(after(&[name(""), Event::Checked(true)]), State::new());
        let asked = State::Passphrase { failed: 0, name: "alice".into() };
        assert_eq!(after(&[name("alice"), name("bob")]), asked);
    }

    #[test]
    fn three_wrong_ones_end_it_and_beginning_again_does_not_help() {
        let wrong = [name("a"), Event::Checked(false)];
        assert_eq!(after(&wrong), State::Name { failed: 1 });
        let cancelled =
            [&wrong[..], &[name("b"), Event::Cancelled], &wrong, &[Event::Cancelled], &wrong].concat();
        assert_eq!(after(&cancelled), State::Over(End::Refused));
        assert_eq!(
            after(&[&cancelled[..], &[name("a"), Event::Checked(true)]].concat()),
            State::Over(End::Refused)
        );
    }

    #[test]
    fn a_key_is_asked_for_in_place_of_a_passphrase_and_counts_the_same() {
        let asked = [name("alice"), Event::ByKey];
        assert_eq!(after(&asked), State::Answer { failed: 0, name: "alice".into() });
        assert_eq!(
            after(&[&asked[..], &[Event::Checked(true)]].concat()),
            State::Over(End::In("alice".into()))
        );
        assert_eq!(after(&[Event::ByKey, Event::Checked(true)]), State::new(), "no name was given");
        assert_eq!(after(&[&asked[..], &[Event::Cancelled]].concat()), State::Name { failed: 0 });
        let wrong = [&asked[..], &[Event::Checked(false)]].concat();
        assert_eq!(after(&wrong), State::Name { failed: 1 });
        let mixed = [&wrong[..], &[name("a"), Event::Checked(false)], &wrong].concat();
        assert_eq!(after(&mixed), State::Over(End::Refused), "passphrases and keys count together");
    }

    #[test]
    fn silence_and_a_hangup_end_it_at_every_question() {
        for before in [&[][..], &[name("a")], &[name("a"), Event::ByKey]] {
            let ends = [Event::TimedOut, Event::Ended].map(|event| after(&[before, &[event]].concat()));
            assert_eq!(ends, [State::Over(End::Late), State::Over(End::Left)]);
        }
    }
}
