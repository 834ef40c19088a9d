//! `ntp`: asks time servers, and changes nothing.

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::{help_or_version, print};
use octant_net::names::{Names, Want};
use octant_net::sntp::{self, Sample, Wrong};
use octant_sys::{clock, entropy};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

const HELP: &str = "\
Usage: ntp [-W SECONDS] [-p PORT] SERVER...
Ask time servers how far this machine's clock is behind, and whether they agree. The clock is left as it is: on a machine of
Octant's the service `network` keeps it right (`octant network status`).

  -W SECONDS    how long each may take (2)
  -p PORT       another port than 123

Exit code 0: most of them agree. 1: they do not, or none answers.
";

pub(crate) fn ntp(arguments: Vec<OsString>) -> i32 {
    help_or_version(&arguments, "ntp", HELP).unwrap_or_else(|| ended("ntp", run(arguments)))
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let wrong = |why: String| failed(2, why);
    let options = Options::read(arguments, "W:p:", &[]).map_err(wrong)?;
    if options.operands.is_empty() {
        return Err(failed(2, "a server is missing; see --help"));
    }
    let wait = Duration::from_secs(options.number('W', 2_u64).map_err(wrong)?.clamp(1, 60));
    let port = options.number('p', sntp::PORT).map_err(wrong)?;
    let names = Names::system();
    let (mut out, mut good) = (String::new(), Vec::new());
    for server in &options.operands {
        match ask(&names, server, port, wait) {
            Ok(sample) => {
                let (offset, delay) = (shown(sample.offset_ns), sample.delay_ns / 1_000_000);
                out.push_str(&format!(
                    "{server}: offset {offset} s, delay {delay} ms, stratum {}\n",
                    sample.stratum
                ));
                good.push(sample);
            }
            Err(why) => out.push_str(&format!("{server}: {why}\n")),
        }
    }
    let agreed = sntp::agreed(&good, options.operands.len());
    out.push_str(&match agreed {
        Some(sample) => format!("the clock is {} s behind\n", shown(sample.offset_ns)),
        None => "they do not agree\n".to_owned(),
    });
    Ok(print("ntp", &out).max(i32::from(agreed.is_none())))
}

fn ask(names: &Names, server: &str, port: u16, wait: Duration) -> Result<Sample, Wrong> {
    let found = names.addresses(server, Want::Any).map_err(io::Error::other)?;
    let ip = *found.first().ok_or_else(|| io::Error::other("it has no address"))?;
    let mut nonce = [0; 8];
    entropy::fill_seeded(&mut nonce)?;
    let at = SocketAddr::from((ip, port));
    sntp::ask(at, u64::from_ne_bytes(nonce), wait, clock::wall_ns, clock::monotonic_ns)
}

/// Seconds with a sign and six places.
fn shown(ns: i64) -> String {
    let us = ns.unsigned_abs() / 1_000;
    format!("{}{}.{:06}", if ns < 0 { '-' } else { '+' }, us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_server_is_asked_and_its_word_shown() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let answering = std::thread::spawn(move || {
            let mut asked = [0; 100];
            let (length, from) = server.recv_from(&mut asked).unwrap();
            assert_eq!(length, 48);
            let mut answer = [0; 48];
            (answer[0], answer[1]) = (4 << 3 | 4, 1);
            answer[24..32].copy_from_slice(&asked[40..48]);
            // One second after this machine's time.
            let seconds = clock::wall_ns() / 1_000_000_000 + 2_208_988_800 + 1;
            for at in [32, 40] {
                answer[at..at + 8].copy_from_slice(&(seconds << 32).to_be_bytes());
            }
            server.send_to(&answer, from).unwrap();
        });
        let line = ["ntp", "-W", "20", "-p", &port, "127.0.0.1"].map(OsString::from);
        assert_eq!(run(line.to_vec()).map_err(|failed| failed.why), Ok(0));
        answering.join().unwrap();
        assert_eq!(run(["ntp"].map(OsString::from).to_vec()).unwrap_err().code, 2);
        assert_eq!([shown(-1_500_000_000), shown(7_000)], ["-1.500000", "+0.000007"]);
    }
}
