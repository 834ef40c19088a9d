//! Points in time as TOML writes them. Proleptic Gregorian, years 1970 to 9999; no clock is read.

/// The last millisecond that has a text: the end of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// The milliseconds since 1970 of a date with an offset. Leap seconds count as the second before.
pub(crate) fn milliseconds(date: &toml::value::Datetime) -> Option<u64> {
    let (day, time, offset) = (date.date?, date.time?, date.offset?);
    let (month, mday) = (i64::from(day.month), i64::from(day.day));
    let year = i64::from(day.year) - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + mday - 1;
    let of_era = (year % 400) * 365 + (year % 400) / 4 - (year % 400) / 100 + of_year;
    let days = (year / 400) * 146_097 + of_era - 719_468;
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let second = i64::from(time.second.unwrap_or(0).min(59));
    let seconds = ((days * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - minutes) * 60 + second;
    let ms = seconds * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(ms).ok()
}

/// Reads a date with an offset (RFC 3339): milliseconds since 1970.
pub fn parse(text: &str) -> Option<u64> {
    milliseconds(&text.parse().ok()?)
}

/// The text of a point in time, to the second; what lies behind the year 9999 is its end.
pub(crate) fn text(ms: u64) -> String {
    let seconds = ms.min(LAST_MS) / 1000;
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_it_was_written() {
        let days = [0, 58, 59, 60, 364, 365, 789, 10_956, 11_016, 20_000, 2_932_896];
        for ms in days.map(|day: u64| day * 86_400_000 + 12_345_000) {
            assert_eq!(milliseconds(&text(ms).parse().unwrap()), Some(ms), "{}", text(ms));
        }
        assert_eq!(text(2_051_222_400_000), "2035-01-01T00:00:00Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
