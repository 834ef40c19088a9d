//! The log files that the incident-report example reads: one day of sshd and nginx on one host.
//!
//! Owns: the shape of `auth.log` and `access.log`, and the facts planted in them.
//! Promises: the same seed gives the same bytes on every machine; every planted fact stands out from the
//! background by a margin that does not depend on the seed.
//! Never: reads a clock, uses a real person's address (RFC 5737 and RFC 1918 ranges only), needs a dependency.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// How many lines `auth.log` has.
pub(crate) const AUTH_LINES: usize = 20_000;
/// How many lines `access.log` has.
pub(crate) const ACCESS_LINES: usize = 30_000;

const DAY_SECONDS: u32 = 86_400;
/// 14 March 2026: any day does, as long as every build has the same one.
const DAY: &str = "14";

/// What was hidden in the logs, for a test to compare a report with. Its text form is one `key value` a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planted {
    /// The address that guessed passwords.
    pub(crate) source: String,
    /// How many of its guesses failed.
    pub(crate) source_failures: usize,
    /// The account that it tried most often.
    pub(crate) target: &'static str,
    /// How often it tried that account.
    pub(crate) target_failures: usize,
    /// The account that it got into in the end.
    pub(crate) intruded: &'static str,
    /// The address with most requests in `access.log`.
    pub(crate) talker: String,
    /// How many requests it made.
    pub(crate) talker_requests: usize,
    /// The minute with most answers of 500 and above, as nginx writes it (`14/Mar/2026:13:37`).
    pub(crate) burst_minute: String,
    /// How many there were in that minute.
    pub(crate) burst_errors: usize,
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source {}", self.source)?;
        writeln!(f, "source_failures {}", self.source_failures)?;
        writeln!(f, "target {}", self.target)?;
        writeln!(f, "target_failures {}", self.target_failures)?;
        writeln!(f, "intruded {}", self.intruded)?;
        writeln!(f, "talker {}", self.talker)?;
        writeln!(f, "talker_requests {}", self.talker_requests)?;
        writeln!(f, "burst_minute {}", self.burst_minute)?;
        writeln!(f, "burst_errors {}", self.burst_errors)
    }
}

/// Writes `auth.log` and `access.log` into `dir`, which is made when it is not there.
///
/// # Errors
/// A directory or file that cannot be written.
pub(crate) fn write_logs(dir: &Path, seed: u64) -> io::Result<Planted> {
    let (auth, access, planted) = generate(seed);
    fs::create_dir_all(dir)?;
    for (name, lines) in [("auth.log", auth), ("access.log", access)] {
        let mut file = BufWriter::new(File::create(dir.join(name))?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()?;
    }
    Ok(planted)
}

/// Both files' lines and what is hidden in them.
pub(crate) fn generate(seed: u64) -> (Vec<String>, Vec<String>, Planted) {
    let mut rng = Rng::new(seed);
    let source = format!("203.0.113.{}", rng.within(10, 250));
    let (auth, attack) = auth_log(&mut rng, &source);
    let (access, traffic) = access_log(&mut rng, &source);
    let planted = Planted {
        source,
        source_failures: attack.failures,
        target: attack.target,
        target_failures: attack.target_failures,
        intruded: attack.intruded,
        talker: traffic.talker,
        talker_requests: traffic.talker_requests,
        burst_minute: traffic.burst_minute,
        burst_errors: traffic.burst_errors,
    };
    (auth, access, planted)
}

struct Attack {
    failures: usize,
    target: &'static str,
    target_failures: usize,
    intruded: &'static str,
}

struct Traffic {
    talker: String,
    talker_requests: usize,
    burst_minute: String,
    burst_errors: usize,
}

/// A line and the second of the day at which it was written.
type Event = (u32, String);

const STAFF: [&str; 6] = ["alice", "bora", "chen", "deploy", "git", "monitor"];
const GUESSED: [&str; 8] = ["admin", "test", "ubuntu", "pi", "guest", "user", "ftp", "minecraft"];

fn auth_log(rng: &mut Rng, source: &str) -> (Vec<String>, Attack) {
    let mut events = Vec::with_capacity(AUTH_LINES);
    let attack = brute_force(rng, source, &mut events);
    slow_guesser(rng, &mut events);
    while events.len() < AUTH_LINES {
        let at = rng.below(DAY_SECONDS);
        let pid = rng.within(800, 30_000);
        let left = AUTH_LINES - events.len();
        match rng.below(100) {
            0..30 if left >= 4 => login(rng, at, pid, &mut events),
            30..34 => {
                let (who, from) = (pick(rng, &STAFF), office(rng.below(40)));
                events.push(failed(rng, at, pid, who, "", &from));
            }
            34..60 if left >= 2 => stranger(rng, at, pid, &mut events),
            60..75 if left >= 2 => cron(at, pid, &mut events),
            _ => {
                let address = stranger_address(rng);
                let port = rng.within(32_768, 60_999);
                let account = pick(rng, &["root", "admin", "ubuntu"]);
                let text = format!(
                    "Connection closed by authenticating user {account} {address} port {port} [preauth]"
                );
                events.push(sshd(at, pid, &text));
            }
        }
    }
    (in_order(events), attack)
}

/// Half an hour of guesses from one address, then the one that was right, then what was done with it.
fn brute_force(rng: &mut Rng, source: &str, events: &mut Vec<Event>) -> Attack {
    let start = rng.within(2 * 3600, 4 * 3600);
    let failures = rng.within(1500, 2200);
    let accounts: [&'static str; 4] = match rng.below(3) {
        0 => ["root", "postgres", "admin", "oracle"],
        1 => ["admin", "root", "jenkins", "postgres"],
        _ => ["postgres", "root", "oracle", "admin"],
    };
    let intruded = ["backup", "www-data", "jenkins"][rng.below(3) as usize];
    let (mut total, mut on_target) = (0, 0);
    for _ in 0..failures {
        // Half of the guesses go to the first account, the rest to the others alike.
        let account = if rng.below(2) == 0 { accounts[0] } else { accounts[1 + rng.below(3) as usize] };
        let unknown = if matches!(account, "oracle" | "jenkins" | "admin") { "invalid user " } else { "" };
        let at = start + rng.below(1800);
        let pid = rng.within(800, 30_000);
        events.push(failed(rng, at, pid, account, unknown, source));
        total += 1;
        on_target += usize::from(account == accounts[0]);
    }
    let (at, pid) = (start + 1830, 24_117);
    let port = rng.within(32_768, 60_999);
    events.push(sshd(at, pid, &format!("Accepted password for {intruded} from {source} port {port} ssh2")));
    events.push(sshd(
        at,
        pid,
        &format!("pam_unix(sshd:session): session opened for user {intruded}(uid=34) by (uid=0)"),
    ));
    events.push((
        at + 41,
        format!(
            "{} web-01 sudo[24198]: {intruded} : TTY=pts/2 ; PWD=/var/backups ; USER=root ; COMMAND=/usr/bin/tar -cf /tmp/.x.tar /etc",
            stamp(at + 41)
        ),
    ));
    Attack { failures: total, target: accounts[0], target_failures: on_target, intruded }
}

/// One guess every ten minutes all day long: below most thresholds, visible in a day's count.
fn slow_guesser(rng: &mut Rng, events: &mut Vec<Event>) {
    for turn in 0..DAY_SECONDS / 600 {
        let at = turn * 600 + rng.below(60);
        let pid = rng.within(800, 30_000);
        events.push(failed(rng, at, pid, "root", "", "198.51.100.23"));
    }
}

fn login(rng: &mut Rng, at: u32, pid: u32, events: &mut Vec<Event>) {
    let (who, from) = (pick(rng, &STAFF), office(rng.below(40)));
    let port = rng.within(32_768, 60_999);
    let key = rng.text(43);
    let end = (at + rng.within(5, 900)).min(DAY_SECONDS - 1);
    let accepted = format!("Accepted publickey for {who} from {from} port {port} ssh2: ED25519 SHA256:{key}");
    events.push(sshd(at, pid, &accepted));
    events.push(sshd(
        at,
        pid,
        &format!("pam_unix(sshd:session): session opened for user {who}(uid=1000) by (uid=0)"),
    ));
    events.push(sshd(
        end,
        pid,
        &format!("Received disconnect from {from} port {port}:11: disconnected by user"),
    ));
    events.push(sshd(end, pid, &format!("pam_unix(sshd:session): session closed for user {who}")));
}

/// A scanner that tries one account and leaves.
fn stranger(rng: &mut Rng, at: u32, pid: u32, events: &mut Vec<Event>) {
    let (who, from) = (pick(rng, &GUESSED), stranger_address(rng));
    let port = rng.within(32_768, 60_999);
    events.push(sshd(at, pid, &format!("Invalid user {who} from {from} port {port}")));
    events.push(failed(rng, at, pid, who, "invalid user ", &from));
}

fn cron(at: u32, pid: u32, events: &mut Vec<Event>) {
    for what in ["opened for user root(uid=0) by (uid=0)", "closed for user root"] {
        let time = stamp(at);
        events.push((at, format!("{time} web-01 CRON[{pid}]: pam_unix(cron:session): session {what}")));
    }
}

fn failed(rng: &mut Rng, at: u32, pid: u32, who: &str, unknown: &str, from: &str) -> Event {
    let port = rng.within(32_768, 60_999);
    sshd(at, pid, &format!("Failed password for {unknown}{who} from {from} port {port} ssh2"))
}

fn sshd(at: u32, pid: u32, text: &str) -> Event {
    (at, format!("{} web-01 sshd[{pid}]: {text}", stamp(at)))
}

const PAGES: [(&str, u32); 8] = [
    ("/", 5120),
    ("/api/orders", 912),
    ("/api/orders/search?q=open", 4410),
    ("/login", 2048),
    ("/static/app.css", 18_220),
    ("/static/app.js", 204_800),
    ("/img/logo.svg", 3318),
    ("/healthz", 2),
];
const BROWSERS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "curl/8.14.1",
];

fn access_log(rng: &mut Rng, source: &str) -> (Vec<String>, Traffic) {
    let mut events = Vec::with_capacity(ACCESS_LINES);
    let talker = format!("192.0.2.{}", rng.within(100, 250));
    let talker_requests = rng.within(3000, 4000);
    for _ in 0..talker_requests {
        let (at, page) = (rng.below(DAY_SECONDS), rng.within(1, 9000));
        let path = format!("/catalogue?page={page}");
        events.push(request(at, &talker, &path, 200, 9216, "ExampleBot/2.1 (+http://bot.example/about)"));
    }
    // The address that guessed passwords also looked for what is often left open.
    for _ in 0..rng.within(150, 250) {
        let at = rng.below(2 * 3600);
        let path = pick(rng, &["/.env", "/.git/config", "/wp-login.php", "/phpmyadmin/", "/backup.tar.gz"]);
        events.push(request(at, source, path, 404, 153, "python-requests/2.32.3"));
    }
    let burst_start = rng.within(12 * 60, 20 * 60);
    let peak = burst_start + 2;
    for (minute, errors) in (burst_start..).zip([60_u32, 140, 260, 120, 40]) {
        for _ in 0..errors + rng.below(15) {
            let at = minute * 60 + rng.below(60);
            let status = if rng.below(4) == 0 { 504 } else { 502 };
            let client = office(rng.below(200));
            let browser = pick(rng, &BROWSERS);
            events.push(request(at, &client, "/api/orders/search?q=open", status, 157, browser));
        }
    }
    while events.len() < ACCESS_LINES {
        let at = rng.below(DAY_SECONDS);
        let (path, size) = PAGES[rng.below(8) as usize];
        let status = match rng.below(1000) {
            0..3 => 500,
            3..40 => 404,
            40..90 => 304,
            _ => 200,
        };
        let client = if rng.below(3) == 0 { office(rng.below(200)) } else { visitor(rng) };
        let browser = pick(rng, &BROWSERS);
        events.push(request(at, &client, path, status, size, browser));
    }
    let burst_minute = minute_stamp(peak * 60);
    let burst_errors = events.iter().filter(|(at, line)| at / 60 == peak && line.contains("\" 50")).count();
    let traffic = Traffic { talker, talker_requests: talker_requests as usize, burst_minute, burst_errors };
    (in_order(events), traffic)
}

fn request(at: u32, client: &str, path: &str, status: u32, size: u32, agent: &str) -> Event {
    let time = format!("{}:{:02} +0000", minute_stamp(at), at % 60);
    (at, format!("{client} - - [{time}] \"GET {path} HTTP/1.1\" {status} {size} \"-\" \"{agent}\""))
}

/// Stable by second, as a log file is: lines of one second keep the order in which they were made.
fn in_order(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(|event| event.0);
    events.into_iter().map(|event| event.1).collect()
}

/// The classic syslog form (RFC 3164).
fn stamp(at: u32) -> String {
    format!("Mar {DAY} {:02}:{:02}:{:02}", at / 3600, at / 60 % 60, at % 60)
}

/// nginx's `$time_local` up to the minute.
fn minute_stamp(at: u32) -> String {
    format!("{DAY}/Mar/2026:{:02}:{:02}", at / 3600, at / 60 % 60)
}

fn office(n: u32) -> String {
    format!("10.20.{}.{}", n / 200, 10 + n % 200)
}

fn stranger_address(rng: &mut Rng) -> String {
    // From .30 on: below it is the slow guesser.
    format!("198.51.100.{}", rng.within(30, 250))
}

fn visitor(rng: &mut Rng) -> String {
    format!("172.{}.{}.{}", rng.within(16, 32), rng.below(256), rng.within(1, 255))
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    let count = u32::try_from(from.len()).unwrap_or(1);
    from[rng.below(count) as usize]
}

/// xorshift64* (Vigna 2016): four lines, and the same numbers everywhere. Not for secrets.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        // Zero is the one state from which xorshift never leaves.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(high).unwrap_or(0)
    }

    /// A number below `limit`, which must not be 0. The bias of the remainder does not matter here.
    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    fn within(&mut self, low: u32, end: u32) -> u32 {
        low + self.below(end - low)
    }

    fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length).map(|_| char::from(LETTERS[self.below(64) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn counts<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
        let mut counts = BTreeMap::<&str, usize>::new();
        keys.for_each(|key| *counts.entry(key).or_default() += 1);
        let mut rows: Vec<_> = counts.into_iter().map(|(key, n)| (n, key)).collect();
        rows.sort_by(|a, b| b.cmp(a));
        rows
    }

    /// The word after `marker` in a line.
    fn after<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
        line.split_once(marker)?.1.split(' ').next()
    }

    #[test]
    fn the_same_seed_gives_the_same_lines_and_another_seed_others() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7).0, generate(8).0);
        let (auth, access, _) = generate(7);
        assert_eq!((auth.len(), access.len()), (AUTH_LINES, ACCESS_LINES));
    }

    #[test]
    fn what_is_planted_is_there_and_stands_out() {
        for seed in [0, 1, 2, 3, 42, u64::MAX] {
            let (auth, access, planted) = generate(seed);
            let failures: Vec<&String> = auth.iter().filter(|l| l.contains("Failed password")).collect();
            let by_source = counts(failures.iter().filter_map(|l| after(l, " from ")));
            assert_eq!(by_source[0], (planted.source_failures, planted.source.as_str()), "seed {seed}");
            assert!(by_source[0].0 > 5 * by_source[1].0, "seed {seed}: {:?}", &by_source[..3]);

            let attack = failures.iter().filter(|l| l.contains(&format!(" from {} ", planted.source)));
            let by_target = counts(attack.filter_map(|l| l.split(" from ").next()?.rsplit(' ').next()));
            assert_eq!(by_target[0], (planted.target_failures, planted.target), "seed {seed}");

            let inside = format!("Accepted password for {} from {} ", planted.intruded, planted.source);
            assert_eq!(auth.iter().filter(|l| l.contains(&inside)).count(), 1, "seed {seed}");

            let by_client = counts(access.iter().filter_map(|l| l.split(' ').next()));
            assert_eq!(by_client[0], (planted.talker_requests, planted.talker.as_str()), "seed {seed}");

            let errors =
                access.iter().filter(|l| after(l, "HTTP/1.1\" ").is_some_and(|s| s.starts_with('5')));
            let by_minute = counts(errors.filter_map(|l| Some(&l.split_once('[')?.1[..17])));
            assert_eq!(by_minute[0], (planted.burst_errors, planted.burst_minute.as_str()), "seed {seed}");
        }
    }

    #[test]
    fn lines_are_in_the_order_of_time() {
        let (auth, access, _) = generate(3);
        assert!(auth.is_sorted_by_key(|l| l[7..15].to_owned()));
        assert!(access.is_sorted_by_key(|l| l.split_once('[').map(|(_, time)| time[..20].to_owned())));
    }
}
