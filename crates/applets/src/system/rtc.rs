//! `hwclock`: the battery-backed clock, which is kept in UTC here.

use crate::calendar::{DAYS, MONTHS, date, days};
use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use nix::time::{ClockId, clock_settime};
use octant_sys::rtc::{self, Fields};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;

const HELP: &str = "\
Usage: hwclock [-r | -w | -s] [-f DEVICE] [--test]
Show the battery-backed clock, set it to the system's time (-w), or the system's time to it (-s). It runs in UTC.

  -u    accepted;  -l refused: a clock in local time jumps twice a year
  --test   change nothing
";

pub(crate) fn hwclock(arguments: Vec<OsString>) -> i32 {
    run("hwclock", || {
        let options = Options::read(
            "hwclock",
            HELP,
            "r|show w|systohc s|hctosys f|rtc= u|utc l|localtime |test |get v",
            &arguments,
        )?;
        if options.has("l") {
            return Err(Stop::new(1, "a clock in local time jumps twice a year; this one is kept in UTC"));
        }
        let path = options.text("f").unwrap_or_else(|| "/dev/rtc0".into());
        let clock = File::open(&path).map_err(failed(&path))?;
        if options.has("w") {
            let now = octant_sys::clock::wall_ms() / 1000;
            if !options.has("test") {
                rtc::set(clock.as_fd(), &fields(now)).map_err(failed(&path))?;
            }
            return Ok(0);
        }
        let read = rtc::read(clock.as_fd()).map_err(failed(&path))?;
        let at = seconds(&read)
            .ok_or_else(|| Stop::new(1, format!("{path}: shows no valid time; hwclock -w sets it")))?;
        if options.has("s") {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            if !options.has("test") {
                let time = nix::sys::time::TimeSpec::new(at, 0);
                clock_settime(ClockId::CLOCK_REALTIME, time).map_err(failed("the system's time"))?;
            }
            return Ok(0);
        }
        Ok(print("hwclock", &shown(at)))
    })
}

fn fields(at: u64) -> Fields {
    let (year, month, day) = date(at / 86_400);
    let small = |number: u64| i32::try_from(number).unwrap_or(0);
    let month = i32::try_from(month).unwrap_or(1) - 1;
    [
        small(at % 60),
        small(at / 60 % 60),
        small(at / 3_600 % 24),
        small(day),
        month,
        small(year) - 1900,
        0,
        0,
        0,
    ]
}

fn seconds(fields: &Fields) -> Option<u64> {
    let [second, minute, hour, day, month, year, ..] = *fields;
    let number = |value: i32, most: u64| u64::try_from(value).ok().filter(|value| *value <= most);
    let days = days(number(year, 8_000)? + 1900, number(month, 11)? + 1, number(day, 31)?)?;
    Some(days * 86_400 + number(hour, 23)? * 3_600 + number(minute, 59)? * 60 + number(second, 60)?)
}

fn shown(at: u64) -> String {
    let (year, month, day) = date(at / 86_400);
    let weekday = DAYS[usize::try_from((at / 86_400 + 4) % 7).unwrap_or(0)];
    let time = format!("{:02}:{:02}:{:02}", at / 3_600 % 24, at / 60 % 60, at % 60);
    format!("{weekday} {} {day:>2} {time} {year} UTC\n", MONTHS[month - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_and_nonsense_does_not() {
        for at in [0, 951_782_399, 1_000_000_000, 4_102_444_800] {
            assert_eq!(seconds(&fields(at)), Some(at));
        }
        assert_eq!(shown(1_000_000_000), "Sun Sep  9 01:46:40 2001 UTC\n");
        assert_eq!(seconds(&[0, 0, 0, 30, 1, 100, 0, 0, 0]), None, "the 30th of February");
        assert_eq!(seconds(&[-1, 0, 0, 1, 0, 100, 0, 0, 0]), None);
    }
}
