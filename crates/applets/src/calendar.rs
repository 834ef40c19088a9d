//! Days and dates, in UTC.

/// The months' names.
pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The names of the days of the week, Sunday first: 1970-01-01 was a Thursday.
pub(crate) const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Year, month and day, both from 1, of a number of days since 1970-01-01.
pub(crate) fn date(days: u64) -> (u64, usize, u64) {
    // Years are counted from March, so that the leap day is a year's last; 719,468 days before 1970 is 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, usize::try_from(month).unwrap_or(1), of_month)
}

/// The number of days since 1970-01-01 of a date; none before that and for what is no date.
pub(crate) fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let found = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    // The 31st of a shorter month is a day of the next one.
    (date(found).2 == day).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_comes_back() {
        let mut last = (1969, 12, 31);
        for day in 0..365_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month as u64, of_month), Some(day));
            assert!((year, month, of_month) > last, "{last:?}");
            last = (year, month, of_month);
        }
        assert_eq!((date(0), date(11_016), date(19_782)), ((1970, 1, 1), (2000, 2, 29), (2024, 2, 29)));
        assert_eq!((days(2023, 2, 29), days(1969, 1, 1), days(2024, 13, 1)), (None, None, None));
    }
}
