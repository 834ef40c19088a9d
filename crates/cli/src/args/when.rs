//! Points in time as people type them.

use octant_ids::Millis;
use octant_sys::clock;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Milliseconds since 1970.
    At(u64),
    /// So long before the command runs.
    Ago(Millis),
    /// So long after the command runs.
    In(Millis),
}

impl When {
    /// Milliseconds since 1970, by this machine's clock where it matters.
    pub(crate) fn wall_ms(self) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(span) => clock::wall_ms().saturating_sub(span.0),
            Self::In(span) => clock::wall_ms().saturating_add(span.0),
        }
    }
}

/// Reads `2026-03-14T13:37:05Z` (RFC 3339), `2026-03-14` (its beginning), milliseconds since 1970, or `10min ago`.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Some(span) = text.strip_suffix("ago") {
        return span_of(span.trim_end()).map(When::Ago);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(When::At).map_err(|_| format!("{text} milliseconds are too many"));
    }
    rfc3339(text).map(When::At).ok_or_else(|| {
        format!(
            "{text:?} is not a time; write 2026-03-14T13:37:05Z, 2026-03-14, milliseconds since 1970 or \"10min ago\""
        )
    })
}

/// Reads a time that is to come: what [`when`] reads, or how long it is until then (`90d`).
pub(crate) fn until(text: &str) -> Result<When, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let at = match span_of(text) {
        Ok(span) if !digits => return Ok(When::In(span)),
        _ => when(text).map_err(|error| format!("{error}; or how long it is until then: 90d, 12h"))?,
    };
    let over = at.wall_ms() <= clock::wall_ms();
    if over { Err(format!("{text:?} is over already; give a time that is to come")) } else { Ok(at) }
}

/// Reads how long something lasts: `90d`, `12h`, `30min`, `10s`, `500ms`.
pub(crate) fn span_of(span: &str) -> Result<Millis, String> {
    match span.strip_suffix('d') {
        Some(days) => {
            let days: Option<u64> = days.trim_end().parse().ok();
            let ms = days.and_then(|days| days.checked_mul(86_400_000));
            ms.map(Millis).ok_or_else(|| format!("{span:?} is not a number of days"))
        }
        None => super::millis(span),
    }
}

/// Milliseconds since 1970 of a date, or of a date and time with its offset (RFC 3339 section 5.6); what comes after
/// the third digit of a second's fraction is cut off, and a leap second counts as the one after it.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = match text.split_at_checked(10)? {
        (date, "") => (date, "T00:00:00Z"),
        parts => parts,
    };
    let days = days(date)?;
    let clock = time.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = clock.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, ':')?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (ms, offset) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
            let (fraction, offset) = rest.split_at(end);
            (format!("{fraction:0<3}").get(..3)?.parse().ok()?, offset)
        }
    };
    let local = i64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?;
    let utc = u64::try_from(local - offset_seconds(offset)?).ok()?;
    Some(utc * 1000 + ms)
}

/// How far ahead of UTC.
fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(text.strip_prefix(['+', '-'])?, ':')?;
    let seconds = (hours <= 23 && minutes <= 59).then_some((hours * 60 + minutes) * 60)?;
    Some(sign * i64::try_from(seconds).ok()?)
}

/// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", days_from_civil; for days from 1970
/// on only).
fn days(date: &str) -> Option<u64> {
    let [year, month, day] = numbers(date, '-')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || day == 0 || day > longest {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Exactly `N` numbers of digits alone; the first has up to four, the others two.
fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for (i, place) in found.iter_mut().enumerate() {
        let part = parts.next()?;
        let length = if i == 0 && between == '-' { 4 } else { 2 };
        *place = (part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::utc;

    #[test]
    fn times_are_read_in_three_ways() {
        let rows = [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2026-03-14T13:37:05.123Z", 1_773_495_425_123),
            ("2026-03-14 13:37:05.1239z", 1_773_495_425_123),
            ("2026-03-14T15:07:05.123+01:30", 1_773_495_425_123),
            ("2026-03-14T11:37:05-02:00", 1_773_495_425_000),
            ("2099-12-31T23:59:59.999Z", 4_102_444_799_999),
            ("1773495425123", 1_773_495_425_123),
        ];
        for (text, expected) in rows {
            assert_eq!(when(text), Ok(When::At(expected)), "{text}");
        }
        assert_eq!(when("10min ago"), Ok(When::Ago(Millis(600_000))));
        assert_eq!(when("2h ago"), Ok(When::Ago(Millis(7_200_000))));
        assert_eq!(when("3d ago"), Ok(When::Ago(Millis(259_200_000))));
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for bad in [
            "",
            "now",
            "ago",
            "x ago",
            "2026-02-29",
            "2026-13-01",
            "2026-3-1",
            "1969-12-31",
            "2026-03-14T13:37Z",
            "2026-03-14T13:37:05",
            "2026-03-14T24:00:00Z",
            "2026-03-14T13:37:05.Z",
            "2026-03-14T13:37:05+1:00",
            "1970-01-01T00:00:00+01:00",
            "99999999999999999999",
            "+026-03-14",
            "2026-03-14T13:37:05Zx",
            "20é6-03-14",
        ] {
            assert!(when(bad).is_err(), "{bad}");
        }
        assert!(when("tomorrow").unwrap_err().contains("10min ago"));
    }

    #[test]
    fn a_time_to_come_is_a_date_or_how_long_it_is_until_then() {
        assert_eq!(until("90d"), Ok(When::In(Millis(7_776_000_000))));
        assert_eq!(until("12h"), Ok(When::In(Millis(43_200_000))));
        assert_eq!(until("2999-01-01"), when("2999-01-01"));
        let in_a_day = clock::wall_ms() + 86_400_000;
        assert_eq!(until(&in_a_day.to_string()), Ok(When::At(in_a_day)));
        assert!(When::In(Millis(60_000)).wall_ms() > clock::wall_ms());
        for over in ["2000-01-01", "10min ago", "1"] {
            assert!(until(over).unwrap_err().contains("over already"), "{over}");
        }
        for bad in ["", "d", "soon", "90 days", "9999999999999999999d"] {
            assert!(until(bad).unwrap_err().contains("90d"), "{bad}");
        }
    }

    /// Every day of four centuries reads as it is written.
    #[test]
    fn days_read_back() {
        for day in 0..146_097_u64 {
            let ms = day * 86_400_000;
            assert_eq!(when(&utc(ms)), Ok(When::At(ms)));
        }
    }
}
