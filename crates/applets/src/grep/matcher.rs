//! Which lines match, and where: on the automata of regex-automata, a whole buffer at once. For patterns with back references
//! these find the lines that may match, and Oniguruma tells which do; for Perl's that the crate regex has not, it does all.

use super::options::{Kind, Settings};
use super::syntax::Dialect;
use crate::regular::Longest;
use memchr::{memchr, memrchr};
use onig::{EncodedBytes, EncodedChars, MatchParam, RegexOptions, Region, SearchOptions, Syntax};
use onig::{SyntaxBehavior, SyntaxOperator};
use regex_automata::util::syntax;
use regex_automata::{Input, meta};
use std::cell::RefCell;
use std::ops::Range;

/// What an automaton may take for patterns, which the caller chose.
const SIZE_MAX: usize = 256 << 20;

/// What was compiled.
#[derive(Debug)]
pub(super) struct Matcher {
    engine: Engine,
    line_end: u8,
}

#[derive(Debug)]
enum Engine {
    /// No pattern at all: nothing matches.
    Nothing,
    Automata(Automata),
    /// With what finds the lines to try; without, it is all of them.
    Backtracking(Backtracking, Option<Automata>),
}

#[derive(Debug)]
struct Automata {
    regex: Box<meta::Regex>,
    cache: Box<RefCell<meta::Cache>>,
    /// For POSIX's match.
    longest: Option<Box<Longest>>,
}

impl Matcher {
    /// # Errors
    /// Says what is wrong with a pattern, in GNU's words where it has some.
    pub(super) fn new(settings: &Settings, warn: impl Fn(&str)) -> Result<Self, String> {
        let line_end = settings.line_end();
        let engine = |engine| Ok(Self { engine, line_end });
        if settings.patterns.is_empty() {
            return engine(Engine::Nothing);
        }
        let dialect = Dialect { extended: settings.kind == Kind::Extended, utf8: settings.utf8, line_end };
        let mut forms = Vec::with_capacity(settings.patterns.len());
        let mut refers_back = false;
        for pattern in &settings.patterns {
            match settings.kind {
                Kind::Fixed => forms.push(dialect.fixed(pattern)),
                Kind::Perl => match super::perl::form(pattern, line_end) {
                    Some(form) => forms.push(form),
                    None => return engine(Engine::Backtracking(Backtracking::new(settings)?, None)),
                },
                Kind::Basic | Kind::Extended => {
                    let form = dialect.form(pattern)?;
                    form.warnings.iter().for_each(|warning| warn(warning));
                    refers_back |= form.refers_back;
                    forms.push(form.text);
                }
            }
        }
        let automata = Automata::new(settings, &forms, refers_back);
        if refers_back {
            // Without them every line is tried.
            return engine(Engine::Backtracking(Backtracking::new(settings)?, automata.ok()));
        }
        engine(Engine::Automata(automata?))
    }

    /// Why a line could not be searched, since this was last asked.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.engine {
            Engine::Backtracking(engine, _) => engine.failure.take(),
            Engine::Nothing | Engine::Automata(_) => None,
        }
    }

    /// The first line from `at` on, which begins one, that matches: with what ends it. `text` is whole lines.
    pub(super) fn next_line(&self, text: &[u8], at: usize) -> Option<Range<usize>> {
        match &self.engine {
            Engine::Nothing => None,
            Engine::Automata(automata) => automata.next_line(text, at, self.line_end),
            Engine::Backtracking(engine, automata) => {
                let mut start = at;
                while start < text.len() {
                    let line = match automata {
                        Some(automata) => automata.next_line(text, start, self.line_end)?,
                        None => {
                            start
                                ..memchr(self.line_end, &text[start..])
                                    .map_or(text.len(), |end| start + end + 1)
                        }
                    };
                    if engine.find(&text[line.start..line.end - 1], 0).is_some() {
                        return Some(line);
                    }
                    start = line.end;
                }
                None
            }
        }
    }

    /// The leftmost match in a line from `from` on, as long as it can be.
    pub(super) fn find(&self, line: &[u8], from: usize) -> Option<Range<usize>> {
        match &self.engine {
            Engine::Nothing => None,
            Engine::Automata(automata) => automata.find(line, from),
            Engine::Backtracking(engine, _) => engine.find(line, from),
        }
    }
}

impl Automata {
    /// For lines to try only, `tried` later, words and lines need not be whole.
    fn new(settings: &Settings, forms: &[String], tried: bool) -> Result<Self, String> {
        let line_end = settings.line_end();
        let mut form = match forms {
            [one] => one.clone(),
            _ => forms.iter().map(|form| format!("(?:{form})")).collect::<Vec<_>>().join("|"),
        };
        if settings.whole_lines && !tried {
            form = format!("^(?:{form})$");
        } else if settings.whole_words && !tried {
            form = format!(r"\b{{start-half}}(?:{form})\b{{end-half}}");
        }
        let syntax = syntax::Config::new()
            .unicode(settings.utf8)
            .utf8(false)
            .multi_line(true)
            .case_insensitive(settings.ignore_case)
            .line_terminator(line_end);
        let config = meta::Config::new()
            .utf8_empty(false)
            .line_terminator(line_end)
            .nfa_size_limit(Some(SIZE_MAX))
            .onepass_size_limit(Some(1 << 20));
        let regex = meta::Regex::builder().syntax(syntax).configure(config).build(&form).map_err(
            |error| match error.size_limit() {
                Some(_) => "Regular expression too big".to_owned(),
                None => format!("{error}: {}", settings.shown_patterns()),
            },
        )?;
        // Perl's match is the first of the alternatives.
        let longest = (settings.needs_places() && settings.kind != Kind::Perl && !tried)
            .then(|| Longest::new(&form, syntax, line_end, SIZE_MAX).map(Box::new));
        let cache = Box::new(RefCell::new(regex.create_cache()));
        Ok(Self { regex: Box::new(regex), cache, longest: longest.flatten() })
    }

    fn next_line(&self, text: &[u8], at: usize, line_end: u8) -> Option<Range<usize>> {
        // Where a match ends is enough to know its line, for no match reaches beyond one.
        let input = Input::new(text).range(at..).earliest(true);
        let found = self.regex.search_half_with(&mut self.cache.borrow_mut(), &input)?.offset();
        let end = found + memchr(line_end, &text[found..])? + 1;
        let start = memrchr(line_end, &text[at..found]).map_or(at, |before| at + before + 1);
        Some(start..end)
    }

    fn find(&self, line: &[u8], from: usize) -> Option<Range<usize>> {
        let mut found =
            self.regex.search_with(&mut self.cache.borrow_mut(), &Input::new(line).range(from..))?.range();
        if let Some(end) = self.longest.as_ref().and_then(|longest| longest.end(line, found.start)) {
            found.end = found.end.max(end);
        }
        Some(found)
    }
}

/// Patterns on Oniguruma: each one's first match, and (but Perl's) its longest one at a place.
#[derive(Debug)]
struct Backtracking {
    patterns: Vec<(onig::Regex, Option<onig::Regex>)>,
    utf8: bool,
    whole_lines: bool,
    whole_words: bool,
    /// Why the engine gave up on a line, which then does not match.
    failure: RefCell<Option<String>>,
}

impl Backtracking {
    fn new(settings: &Settings) -> Result<Self, String> {
        let mut syntax = *match settings.kind {
            Kind::Fixed => Syntax::asis(),
            Kind::Basic => Syntax::grep(),
            Kind::Extended => Syntax::gnu_regex(),
            Kind::Perl => Syntax::perl_ng(),
        };
        let mut options = RegexOptions::REGEX_OPTION_NONE;
        let posix = matches!(settings.kind, Kind::Basic | Kind::Extended);
        if settings.kind == Kind::Perl {
            // `(?P<name>...)`: the crate's flag is that of the second word of flags, without the shift to it.
            let named = SyntaxOperator::SYNTAX_OPERATOR_QMARK_CAPITAL_P_NAME.bits() << 32;
            syntax.enable_operators(SyntaxOperator::from_bits_retain(named));
        }
        syntax.enable_behavior(SyntaxBehavior::SYNTAX_BEHAVIOR_ALLOW_INTERVAL_LOW_ABBREV);
        if posix {
            syntax.enable_operators(SyntaxOperator::SYNTAX_OPERATOR_ESC_GNU_BUF_ANCHOR);
        }
        if posix && settings.null_data {
            options |= RegexOptions::REGEX_OPTION_MULTILINE;
        }
        if settings.ignore_case {
            options |= RegexOptions::REGEX_OPTION_IGNORECASE;
        }
        let compile = |pattern: &[u8], options| {
            onig::Regex::with_options_and_encoding(encoded(pattern, settings.utf8), options, &syntax)
                .map_err(|error| format!("{}: {}", String::from_utf8_lossy(pattern), error.description()))
        };
        let mut patterns = Vec::with_capacity(settings.patterns.len());
        for pattern in &settings.patterns {
            if settings.utf8 && std::str::from_utf8(pattern).is_err() {
                return Err("a pattern with \\1 or of Perl's must be UTF-8 in this locale".into());
            }
            let longest = RegexOptions::REGEX_OPTION_FIND_LONGEST | options;
            let longest = if posix { Some(compile(pattern, longest)?) } else { None };
            patterns.push((compile(pattern, options)?, longest));
        }
        let Settings { utf8, whole_lines, whole_words, .. } = *settings;
        Ok(Self { patterns, utf8, whole_lines, whole_words, failure: RefCell::default() })
    }

    /// The leftmost match of any pattern, the longest of those.
    fn find(&self, line: &[u8], from: usize) -> Option<Range<usize>> {
        let replaced;
        let line = if self.utf8 && std::str::from_utf8(line).is_err() {
            // The engine reads only characters; what is none is NUL to it.
            replaced = characters(line);
            &replaced[..]
        } else {
            line
        };
        self.patterns
            .iter()
            .filter_map(|pattern| self.find_one(pattern, line, from))
            .min_by_key(|found| (found.start, usize::MAX - found.end))
    }

    fn find_one(
        &self,
        (first, longest): &(onig::Regex, Option<onig::Regex>),
        line: &[u8],
        mut from: usize,
    ) -> Option<Range<usize>> {
        let text = || encoded(line, self.utf8);
        let none = SearchOptions::SEARCH_OPTION_NONE;
        while from <= line.len() {
            let mut region = Region::new();
            let found = first.search_with_param(
                text(),
                from,
                line.len(),
                none,
                Some(&mut region),
                MatchParam::default(),
            );
            self.unless_it_failed(found)?;
            let (start, mut end) = region.pos(0)?;
            if let Some(longest) = longest {
                let length = longest.match_with_param(text(), start, none, None, MatchParam::default());
                end = self.unless_it_failed(length).map_or(end, |length| end.max(start + length));
            }
            if self.is_whole(line, start..end) {
                return Some(start..end);
            }
            from = start
                + line[start..]
                    .first()
                    .map_or(1, |_| crate::awk::format::width_of(&line[start..], self.utf8));
        }
        None
    }

    /// What was found. The engine has bounds for its steps and its stack.
    fn unless_it_failed(&self, found: Result<Option<usize>, onig::Error>) -> Option<usize> {
        found.unwrap_or_else(|error| {
            *self.failure.borrow_mut() = Some(error.description().to_owned());
            None
        })
    }

    fn is_whole(&self, line: &[u8], found: Range<usize>) -> bool {
        if self.whole_lines {
            return found == (0..line.len());
        }
        !self.whole_words || !(word_ends(&line[..found.start]) || word_begins(&line[found.end..]))
    }
}

fn encoded(bytes: &[u8], utf8: bool) -> EncodedBytes<'_> {
    if utf8 { EncodedBytes::from_parts(bytes, "".encoding()) } else { EncodedBytes::ascii(bytes) }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn word_begins(text: &[u8]) -> bool {
    let text = &text[..text.len().min(4)];
    let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.chars().next().is_some_and(is_word)
}

fn word_ends(text: &[u8]) -> bool {
    let text = &text[text.len().saturating_sub(4)..];
    let last = text.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty());
    last.and_then(|chunk| chunk.valid().chars().next_back()).is_some_and(is_word)
}

/// The text with NUL for each byte that belongs to no character: its places stay.
fn characters(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        out.resize(out.len() + chunk.invalid().len(), 0);
    }
    out
}
