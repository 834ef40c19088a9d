//! Scripts: what is said, and what goes wrong, in words that are the name of the model.
//!
//! The words are joined by `-`; the first says what is said: `text`, `tools`, `shape` (structured output), `image`, `think`,
//! `refuse`, `length`, `countN` (N numbers), `agent` (a task of five steps), `errands` (calls that the user names). The others:
//!
//! | word | what |
//! |---|---|
//! | `statusN` | refuses with this status |
//! | `failN` | the first N calls are refused (503, or as `statusN` says), then it answers |
//! | `retryN` | a refusal says to come again after N seconds |
//! | `limits` | headers that say how much is left |
//! | `slowN`, `lateN`, `paceN` | N ms before the head, before the first event, between events |
//! | `bytes` | every byte by itself |
//! | `cutN`, `tornN` | the connection ends behind N events, or in the middle of the next |
//! | `brokenN`, `garbageN` | behind N events comes one that says it failed, or one that is none |
//! | `noend`, `wrongend` | what ends a stream is left out, or comes without what must stand before it |
//! | `dead`, `hang` | the connection ends without an answer; there is none until the caller goes away |
//! | `mixed` | the arguments of calls come in turns |
//! | `inN`, `outN` | so many tokens were used |

use std::time::Duration;

/// What was used, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, with those from the cache.
    pub input: u64,
    /// Of those, from the cache.
    pub cached: u64,
    /// Of the answer, with reasoning.
    pub output: u64,
    /// Of those, reasoning.
    pub reasoning: u64,
}

/// What every answer uses unless its script says otherwise.
pub const USAGE: Usage = Usage { input: 17, cached: 3, output: 11, reasoning: 0 };
/// Reasoning's part of an answer that has some.
pub const REASONING: u64 = 4;

/// A text whose pieces break translators: several bytes a character, quotes, backslashes, line ends, what looks like an event.
pub const TEXT: [&str; 7] =
    ["Grüße", " aus ", "東京", ": 🌧 und", " \"Zitate\", \\ ", "und\n\ndata: [DONE]\n\n", "– Ende."];
/// A thought.
pub const THOUGHT: [&str; 3] = ["Zuerst", " überlege", " ich 🤔."];
/// What proves a thought, in dialects that have such a thing.
pub const SIGNATURE: &str = "c2lnbmF0dXJlIG9mIGEgdGVzdA==";
/// Why it will not.
pub const REFUSAL: [&str; 2] = ["That I ", "will not say."];
/// JSON of a shape.
pub const SHAPE: [&str; 3] = ["{\"city\":\"Zür", "ich\",\"deg", "rees\":21}"];
/// Calls at a time: the name, and the pieces of the arguments.
pub const CALLS: [(&str, [&str; 4]); 3] = [
    ("weather", ["{\"ci", "ty\":\"Zü", "rich\",", "\"days\":2}"]),
    ("weather", ["{\"city\":", "\"東", "京\",\"days\"", ":1}"]),
    ("clock", ["{", "\"zone\"", ":\"U", "TC\"}"]),
];

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// [`TEXT`].
    Text,
    /// [`CALLS`], then their results.
    Tools,
    /// [`SHAPE`], when it is asked for.
    Shape,
    /// What images there are.
    Images,
    /// [`THOUGHT`], then [`TEXT`].
    Thought,
    /// [`REFUSAL`].
    Refusal,
    /// [`TEXT`], with no room for more.
    Length,
    /// So many numbers.
    Count(u64),
    /// A task of five steps.
    Agent,
    /// A call for each errand that the user names.
    Errands,
}

/// How a stream breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaks {
    /// The connection ends between two events.
    Cut,
    /// It ends within one.
    Torn,
    /// An event says that it failed.
    Failed,
    /// An event is none.
    Garbage,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it has to.
    Right,
    /// The body ends without it.
    None,
    /// With what ends it, but not with what has to stand before.
    Wrong,
}

/// A script.
#[derive(Debug, Clone)]
pub struct Script {
    /// What is said.
    pub says: Says,
    pub(super) before_head: Duration,
    pub(super) before_first: Duration,
    pub(super) between: Duration,
    pub(super) bytewise: bool,
    pub(super) breaks: Option<(usize, Breaks)>,
    pub(super) end: End,
    pub(super) hangs: bool,
    pub(super) closes: bool,
    pub(super) mixed: bool,
    status: Option<u16>,
    fails: Option<u64>,
    retry: Option<u64>,
    limits: bool,
    usage: Usage,
}

/// A word with a number behind it, or without: then this one.
fn number(word: &str, name: &str, without: u64) -> Option<u64> {
    let rest = word.strip_prefix(name)?;
    if rest.is_empty() { Some(without) } else { rest.parse().ok() }
}

impl Script {
    /// The script of this name; none: a word is unknown.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut words = name.split('-');
        let says = match words.next()? {
            "text" => Says::Text,
            "tools" => Says::Tools,
            "shape" => Says::Shape,
            "image" => Says::Images,
            "think" => Says::Thought,
            "refuse" => Says::Refusal,
            "length" => Says::Length,
            "agent" => Says::Agent,
            "errands" => Says::Errands,
            word => Says::Count(number(word, "count", 10)?),
        };
        let mut script = Self {
            says,
            before_head: Duration::ZERO,
            before_first: Duration::ZERO,
            between: Duration::ZERO,
            bytewise: false,
            breaks: None,
            end: End::Right,
            hangs: false,
            closes: false,
            mixed: false,
            status: None,
            fails: None,
            retry: None,
            limits: false,
            usage: Usage { reasoning: if says == Says::Thought { REASONING } else { 0 }, ..USAGE },
        };
        words.try_for_each(|word| script.word(word))?;
        Some(script)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        match word {
            "bytes" => self.bytewise = true,
            "noend" => self.end = End::None,
            "wrongend" => self.end = End::Wrong,
            "dead" => self.closes = true,
            "hang" => self.hangs = true,
            "mixed" => self.mixed = true,
            "limits" => self.limits = true,
            _ => return self.numbered(word),
        }
        Some(())
    }

    fn numbered(&mut self, word: &str) -> Option<()> {
        let of = |name: &str, without: u64| number(word, name, without);
        let breaks = [
            ("cut", Breaks::Cut),
            ("torn", Breaks::Torn),
            ("broken", Breaks::Failed),
            ("garbage", Breaks::Garbage),
        ];
        if let Some((after, how)) = breaks.iter().find_map(|(name, how)| Some((of(name, 4)?, *how))) {
            self.breaks = Some((usize::try_from(after).ok()?, how));
        } else if let Some(status) = of("status", 500) {
            self.status = Some(u16::try_from(status).ok().filter(|status| (300..600).contains(status))?);
        } else if let Some(count) = of("fail", 1) {
            self.fails = Some(count);
        } else if let Some(seconds) = of("retry", 1) {
            self.retry = Some(seconds);
        } else if let Some(ms) = of("slow", 300) {
            self.before_head = Duration::from_millis(ms);
        } else if let Some(ms) = of("late", 300) {
            self.before_first = Duration::from_millis(ms);
        } else if let Some(ms) = of("pace", 100) {
            self.between = Duration::from_millis(ms);
        } else if let Some(tokens) = of("in", USAGE.input) {
            (self.usage.input, self.usage.cached) = (tokens, 0);
        } else {
            self.usage.output = of("out", USAGE.output)?;
        }
        Some(())
    }

    /// The status with which the call of this number, from 1, is refused.
    pub(super) fn refuses(&self, times: u64) -> Option<u16> {
        match self.fails {
            Some(count) if times > count => None,
            Some(_) => Some(self.status.unwrap_or(503)),
            None => self.status,
        }
    }

    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers: Vec<_> = self.retry.iter().map(|after| ("retry-after", after.to_string())).collect();
        if self.limits {
            let header = |name, value: &str| (name, value.to_owned());
            headers.extend([
                header("x-ratelimit-limit-requests", "100"),
                header("x-ratelimit-remaining-requests", "7"),
                header("x-ratelimit-reset-requests", "1s"),
                header("x-ratelimit-limit-tokens", "10000"),
                header("x-ratelimit-remaining-tokens", "900"),
                header("x-ratelimit-reset-tokens", "6m0s"),
            ]);
        }
        headers
    }
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// All is said.
    Done,
    /// The results of calls are needed.
    Calls,
    /// There is no more room.
    Length,
    /// It will not.
    Refusal,
}

/// The pieces of a text.
#[derive(Debug, Clone)]
pub enum Pieces {
    /// These.
    Of(Vec<String>),
    /// Numbers from 1, a space behind each.
    Count(u64),
}

impl Pieces {
    /// One after another.
    pub fn iter(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::Of(pieces) => Box::new(pieces.iter().cloned()),
            Self::Count(count) => Box::new((1..=*count).map(|number| format!("{number} "))),
        }
    }

    /// All together.
    #[must_use]
    pub fn whole(&self) -> String {
        self.iter().collect()
    }

    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// Its number, by which dialects make its identifier.
    pub number: usize,
    /// The tool.
    pub name: String,
    /// The pieces of its arguments.
    pub arguments: Vec<String>,
}

impl ToolCall {
    /// The arguments as JSON.
    #[must_use]
    pub fn input(&self) -> serde_json::Value {
        serde_json::from_str(&self.arguments.concat()).unwrap_or(serde_json::Value::Null)
    }
}

/// What an answer says.
#[derive(Debug, Clone)]
pub struct Turn {
    /// What is thought first.
    pub thought: Vec<String>,
    /// What is said.
    pub text: Pieces,
    /// What is called.
    pub calls: Vec<ToolCall>,
    /// Whether the arguments of calls come in turns.
    pub mixed: bool,
    /// Why it ends.
    pub why: Why,
    /// What it used.
    pub usage: Usage,
}

fn owned(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| (*piece).to_owned()).collect()
}

impl Turn {
    /// What a script says of itself.
    #[must_use]
    pub fn of(script: &Script) -> Self {
        let text = |pieces: &[&str]| Self::text(script, &owned(pieces));
        match script.says {
            Says::Tools => {
                let calls = (0..).zip(&CALLS).map(|(number, (name, arguments))| ToolCall {
                    number,
                    name: (*name).to_owned(),
                    arguments: owned(arguments),
                });
                Self { calls: calls.collect(), why: Why::Calls, ..text(&[]) }
            }
            Says::Shape => text(&SHAPE),
            Says::Refusal => Self { why: Why::Refusal, ..text(&REFUSAL) },
            Says::Length => Self { why: Why::Length, ..text(&TEXT) },
            Says::Thought => Self { thought: owned(&THOUGHT), ..text(&TEXT) },
            Says::Count(count) => Self { text: Pieces::Count(count), ..text(&[]) },
            Says::Text | Says::Images | Says::Agent | Says::Errands => text(&TEXT),
        }
    }

    /// This text.
    #[must_use]
    pub fn text(script: &Script, pieces: &[String]) -> Self {
        Self {
            thought: Vec::new(),
            text: Pieces::Of(pieces.to_vec()),
            calls: Vec::new(),
            mixed: script.mixed,
            why: Why::Done,
            usage: script.usage,
        }
    }

    /// One call.
    #[must_use]
    pub fn call(script: &Script, number: usize, name: &str, arguments: &serde_json::Value) -> Self {
        let arguments = arguments.to_string();
        let middle = (0..=arguments.len() / 2).rev().find(|at| arguments.is_char_boundary(*at)).unwrap_or(0);
        let arguments = owned(&[&arguments[..middle], &arguments[middle..]]);
        let calls = vec![ToolCall { number, name: name.to_owned(), arguments }];
        Self { calls, why: Why::Calls, ..Self::text(script, &[]) }
    }

    /// Whether it says something.
    pub(super) fn speaks(&self) -> bool {
        !self.text.is_empty()
    }

    /// The pieces of all calls' arguments in the order in which they come: the call's place, the piece, whether it is the
    /// call's first and its last.
    pub(super) fn arguments(&self) -> Vec<Argument<'_>> {
        let mut all: Vec<Argument<'_>> = Vec::new();
        for (place, call) in self.calls.iter().enumerate() {
            let last = call.arguments.len().saturating_sub(1);
            all.extend(call.arguments.iter().enumerate().map(|(at, piece)| Argument {
                place,
                at,
                piece,
                last: at == last,
            }));
        }
        if self.mixed {
            all.sort_by_key(|argument| (argument.at, argument.place));
        }
        all
    }
}

/// A piece of a call's arguments.
#[derive(Debug)]
pub(super) struct Argument<'a> {
    /// The call.
    pub(super) place: usize,
    /// Its number among the call's.
    pub(super) at: usize,
    pub(super) piece: &'a str,
    pub(super) last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_script_and_an_unknown_word_is_none() {
        let script = Script::of("tools-bytes-cut2-retry7-in100-out50").unwrap();
        assert_eq!((script.says, script.bytewise), (Says::Tools, true));
        assert_eq!(script.breaks, Some((2, Breaks::Cut)));
        assert_eq!(script.headers(), [("retry-after", "7".to_owned())]);
        assert_eq!(script.usage, Usage { input: 100, cached: 0, output: 50, reasoning: 0 });
        assert_eq!(Script::of("count").unwrap().says, Says::Count(10));
        for unknown in ["", "txt", "text-", "text-cutx", "text-status200", "gpt-5"] {
            assert!(Script::of(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn it_fails_as_often_as_it_says() {
        let script = Script::of("text-fail2-status429").unwrap();
        assert_eq!([1, 2, 3].map(|times| script.refuses(times)), [Some(429), Some(429), None]);
        assert_eq!(Script::of("text-status401").unwrap().refuses(9), Some(401));
        assert_eq!(Script::of("text").unwrap().refuses(1), None);
    }

    #[test]
    fn arguments_come_one_call_after_another_or_in_turns() {
        let places = |name: &str| -> Vec<usize> {
            Turn::of(&Script::of(name).unwrap()).arguments().iter().map(|a| a.place).collect()
        };
        assert_eq!(places("tools"), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(places("tools-mixed"), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }
}
