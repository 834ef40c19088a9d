//! What the dialects of POSIX's regular expressions share, whichever utility reads them: characters and classes in the form
//! of the crates regex and regex-automata, the longest match, and which locale it is.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::look::LookMatcher;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Whether a character may have more than one byte: the first of these that is set and not empty says so.
pub(crate) fn locale_is_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.ends_with(b"utf-8") || value.ends_with(b"utf8")
    })
}

/// The crate's form of one character that stands for itself.
pub(crate) fn character(bytes: &[u8], utf8: bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if utf8 || bytes.is_ascii() => regex::escape(text),
        _ if utf8 => bytes.iter().map(|byte| format!("(?-u:\\x{byte:02x})")).collect(),
        _ => bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
    }
}

/// What stands in brackets of the crate's form for `[:NAME:]`.
pub(crate) fn class(name: &str, utf8: bool) -> Option<String> {
    let known = [
        "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
        "xdigit",
    ];
    match name {
        "alpha" if utf8 => Some(r"\p{Alphabetic}".into()),
        "alnum" if utf8 => Some(r"\p{Alphabetic}\p{Nd}".into()),
        "lower" if utf8 => Some(r"\p{Lowercase}".into()),
        "upper" if utf8 => Some(r"\p{Uppercase}".into()),
        _ if known.contains(&name) => Some(format!("[:{name}:]")),
        _ => None,
    }
}

/// Finds the longest match at a place, which is POSIX's, where the crate's own is the first of the alternatives.
#[derive(Debug)]
pub(crate) struct Longest(RefCell<(DFA, Cache)>);

impl Longest {
    /// For a form of the crate's; `None` where its automaton cannot do it.
    pub(crate) fn new(form: &str, syntax: syntax::Config, line_end: u8, size_max: usize) -> Option<Self> {
        let mut looks = LookMatcher::new();
        looks.set_line_terminator(line_end);
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(size_max)).look_matcher(looks);
        let dfa = DFA::builder()
            .syntax(syntax)
            .thompson(nfa)
            .configure(
                DFA::config()
                    .match_kind(MatchKind::All)
                    .unicode_word_boundary(true)
                    .skip_cache_capacity_check(true),
            )
            .build(form)
            .ok()?;
        let cache = dfa.create_cache();
        Some(Self(RefCell::new((dfa, cache))))
    }

    /// Where the longest match that begins here ends. `None` where the engine gives up, too: the caller's answer stands.
    pub(crate) fn end(&self, text: &[u8], start: usize) -> Option<usize> {
        let (dfa, cache) = &mut *self.0.borrow_mut();
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        dfa.try_search_fwd(cache, &input).ok().flatten().map(|end| end.offset())
    }
}
