//! What providers say of their limits in headers, in the several ways in which they do.

use octant_manifest::unix_ms as read_date;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Requests.
    Requests,
    /// Tokens of prompts and answers.
    Tokens,
    /// Tokens of prompts.
    Input,
    /// Tokens of answers.
    Output,
}

/// A limit as a provider says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The provider's own word for the limit (`requests`, `tokens-minute`): it can have several of one unit.
    pub(crate) what: String,
    /// What is limited.
    pub(crate) unit: Unit,
    /// How much of it there is in all.
    pub(crate) limit: Option<u64>,
    /// How much of it is left.
    pub(crate) left: u64,
    /// In how many milliseconds all of it is there again.
    pub(crate) full_in_ms: u64,
}

/// How many limits are taken of one answer, and how long the word for one is.
const LIMITS: usize = 8;
const WHAT_BYTES: usize = 40;
/// No provider's word is believed for longer.
pub(crate) const LONGEST_MS: u64 = 86_400_000;
/// What is taken where a provider does not say when.
const UNSAID_MS: u64 = 60_000;

/// Reads the limits of an answer's headers; what is not understood is passed over.
pub(crate) fn told(headers: &[(&str, &str)], unix_now_ms: u64) -> Vec<Told> {
    let mut out: Vec<Told> = Vec::new();
    for (name, value) in headers {
        if let Some((what, unit)) = split(name, "remaining")
            && out.len() < LIMITS
            && !out.iter().any(|told| told.what == what)
            && let Some(left) = count(value)
        {
            out.push(Told { what, unit, limit: None, left, full_in_ms: UNSAID_MS });
        }
    }
    for (name, value) in headers {
        if let Some((what, _)) = split(name, "limit")
            && let Some(told) = out.iter_mut().find(|told| told.what == what)
        {
            told.limit = count(value).filter(|limit| *limit > 0);
        }
        if let Some((what, _)) = split(name, "reset")
            && let Some(told) = out.iter_mut().find(|told| told.what == what)
            && let Some(reset_ms) = reset_ms(value, unix_now_ms)
        {
            told.full_in_ms = reset_ms.min(LONGEST_MS);
        }
    }
    out
}

/// What a header is about, if it says this (`remaining`, `limit`, `reset`) of a limit.
fn split(name: &str, says: &str) -> Option<(String, Unit)> {
    let name = name.to_ascii_lowercase();
    let rest =
        ["x-ratelimit-", "anthropic-ratelimit-", "ratelimit-"].iter().find_map(|p| name.strip_prefix(p))?;
    let words: Vec<&str> = rest.split('-').collect();
    let at = words.iter().position(|word| *word == says)?;
    let what: Vec<&str> =
        words.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, word)| *word).collect();
    let has = |word: &str| what.contains(&word);
    let unit = match () {
        () if has("tokens") && (has("input") || has("prompt")) => Unit::Input,
        () if has("tokens") && (has("output") || has("generated")) => Unit::Output,
        () if has("tokens") => Unit::Tokens,
        () if has("requests") || what.is_empty() => Unit::Requests,
        () => return None,
    };
    let what = if what.is_empty() { "requests".to_owned() } else { what.join("-") };
    (what.len() <= WHAT_BYTES).then_some((what, unit))
}

/// A count; below nothing is nothing, and a fraction is not a whole one.
fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(below) = text.strip_prefix('-') {
        return number(below).map(|_| 0);
    }
    number(text).map(|thousandths| thousandths / 1000)
}

/// A decimal number in thousandths, cut there.
fn number(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part.parse().ok()?)
}

/// In how many milliseconds: seconds (`59`, `0.5`), a duration (`1m2.5s`, `20ms`), a date (RFC 3339), or seconds or
/// milliseconds since 1970.
fn reset_ms(text: &str, unix_now_ms: u64) -> Option<u64> {
    let text = text.trim();
    if let Some(ms) = number(text) {
        return Some(match ms {
            // Nothing resets in thirty years: these are points in time.
            1_000_000_000_000_000.. => (ms / 1000).saturating_sub(unix_now_ms),
            1_000_000_000_000.. => ms.saturating_sub(unix_now_ms),
            _ => ms,
        });
    }
    if let Some(date) = read_date(text) {
        return Some(date.saturating_sub(unix_now_ms));
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value = number(&rest[..digits])?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let ms = match &rest[..end] {
            "d" => value.checked_mul(86_400)?,
            "h" => value.checked_mul(3600)?,
            "m" => value.checked_mul(60)?,
            "s" => value,
            "ms" => value.div_ceil(1000),
            "us" | "µs" | "ns" => 1,
            _ => return None,
        };
        sum = sum.checked_add(ms)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

    #[test]
    fn times_are_read_in_every_form() {
        for (text, ms) in [
            ("1s", Some(1000)),
            ("6m0s", Some(360_000)),
            ("20ms", Some(20)),
            ("1h2m3s", Some(3_723_000)),
            ("2m59.56s", Some(179_560)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("59", Some(59_000)),
            ("0.25", Some(250)),
            ("2026-01-01T00:00:07Z", Some(7000)),
            ("2025-12-31T23:59:59Z", Some(0)),
            ("1767225605", Some(5000)),
            ("1767225605000", Some(5000)),
            ("", None),
            ("soon", None),
            ("5 minutes", None),
            ("1.2.3s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(reset_ms(text, NOW), ms, "{text}");
        }
    }

    #[test]
    fn limits_are_read_of_each_provider() {
        let of = |headers: &[(&str, &str)]| told(headers, NOW);
        let openai = of(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("X-RateLimit-Remaining-Tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let told = |what: &str, unit, limit, left, full_in_ms| Told {
            what: what.to_owned(),
            unit,
            limit,
            left,
            full_in_ms,
        };
        assert_eq!(
            openai,
            [
                told("requests", Unit::Requests, Some(500), 499, 120),
                told("tokens", Unit::Tokens, None, 0, 360_000)
            ]
        );
        let anthropic = of(&[
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "10"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:01:00Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "7"),
            ("anthropic-ratelimit-unified-status", "allowed"),
        ]);
        assert_eq!(
            anthropic,
            [
                told("input-tokens", Unit::Input, Some(1000), 10, 60_000),
                told("output-tokens", Unit::Output, None, 7, UNSAID_MS),
            ]
        );
        let others = of(&[
            ("x-ratelimit-remaining-tokens-minute", "-3"),
            ("x-ratelimit-remaining", "12.0"),
            ("x-ratelimit-reset", "1767225605000"),
            ("x-ratelimit-remaining-images", "9"),
            ("x-ratelimit-remaining-requests-day", "many"),
        ]);
        assert_eq!(
            others,
            [
                told("tokens-minute", Unit::Tokens, None, 0, UNSAID_MS),
                told("requests", Unit::Requests, None, 12, 5000),
            ]
        );
        let year = of(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "31536000")]);
        assert_eq!(year[0].full_in_ms, LONGEST_MS, "nobody is believed for a year");
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(name in "(x-|anthropic-)?ratelimit-[a-z-]{0,60}", value in "\\PC{0,40}") {
            let _ = told(&[(&name, &value), ("x-ratelimit-remaining", &value), ("x-ratelimit-reset", &value)], NOW);
        }
    }
}
