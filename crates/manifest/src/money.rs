//! Amounts of US dollars, in millionths, as decimal text: no fraction is ever rounded.

use std::fmt::Write;

/// The largest amount that a manifest can name, in millionths: a billion dollars.
pub(crate) const MOST: u64 = 1_000_000_000_000_000;

/// Reads `12`, `0.5`, `1.000001`: no sign, no exponent, at most six digits behind the point.
#[must_use]
pub fn micro(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    let amount = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)?;
    (amount <= MOST).then_some(amount)
}

/// The amount as text: `1.5`, `0.000001`, `12`; `unlimited` above what can be named.
pub(crate) fn text(micro: u64) -> String {
    if micro > MOST {
        return "unlimited".to_owned();
    }
    let mut out = (micro / 1_000_000).to_string();
    if !micro.is_multiple_of(1_000_000) {
        // A String takes everything.
        let _ = write!(out, ".{:06}", micro % 1_000_000);
        out.truncate(out.trim_end_matches('0').len());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_as_it_was_written() {
        for micro_usd in [0, 1, 10, 500_000, 1_000_000, 1_500_000, 123_456_789, MOST] {
            assert_eq!(micro(&text(micro_usd)), Some(micro_usd));
        }
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "1.0000001", "inf", "1000000001", "1_0"] {
            assert_eq!(micro(bad), None, "{bad}");
        }
        assert_eq!(text(u64::MAX), "unlimited");
    }
}
