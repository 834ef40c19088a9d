//! Agents that take all they can get, and a neighbour that measures what it feels of them.
//!
//! - `load neighbour UNITS`: a small unit of work every [`EVERY`]; says how long after it was due each was done.
//! - `load forks|memory|disk|descriptors`: takes more and more of one thing and never stops; says [`AT_LIMIT`] once when
//!   it was first refused, or for memory when it has begun.
//! - `load busy THREADS`: computes for ever.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use octant_sys::clock::monotonic_ns;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

/// How often the neighbour works.
const EVERY: Duration = Duration::from_millis(20);
/// What the scripts wait for.
const AT_LIMIT: &str = "at its limit";
/// The neighbour's file.
const FILE: &str = "/workspace/unit";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = || args.get(1).and_then(|text| text.parse::<usize>().ok());
    match (args.first().map(String::as_str), number()) {
        (Some("neighbour"), Some(units)) => neighbour(units),
        (Some("busy"), Some(threads)) => busy(threads),
        (Some("forks"), _) => forks(args.get(1).is_some()),
        (Some("memory"), _) => memory(),
        (Some("disk"), _) => disk(),
        (Some("descriptors"), _) => descriptors(args.get(1).is_some()),
        _ => {
            println!("usage: load neighbour UNITS | busy THREADS | forks | memory | disk | descriptors");
            ExitCode::from(2)
        }
    }
}

/// What a program does all the time: a file, memory, a pipe and its two descriptors, a thread.
fn unit(number: usize) -> io::Result<()> {
    let bytes = vec![u8::try_from(number % 251).unwrap_or_default(); 64 << 10];
    std::fs::write(FILE, &bytes[..16 << 10])?;
    let (mut from, mut to) = io::pipe()?;
    to.write_all(&bytes[..1024])?;
    let mut piped = [0; 1024];
    from.read_exact(&mut piped)?;
    let read = std::thread::Builder::new().spawn(|| std::fs::read(FILE))?.join();
    let read = read.map_err(|_| io::Error::other("the thread ended by a panic"))??;
    if read == bytes[..16 << 10] && piped == bytes[..1024] {
        Ok(())
    } else {
        Err(io::Error::other("what was read is not what was written"))
    }
}

/// `units N failed N p50 US p99 US most US`, times in microseconds; fails when a unit did.
fn neighbour(units: usize) -> ExitCode {
    let (mut took, mut failed) = (Vec::with_capacity(units), 0_usize);
    let mut due = monotonic_ns();
    for number in 0..units {
        // One that is late delays no other: with less processor than the work needs, the figures would be about how long
        // this goes on.
        due = monotonic_ns().max(due + u64::try_from(EVERY.as_nanos()).unwrap_or(u64::MAX));
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(monotonic_ns())));
        if let Err(error) = unit(number) {
            failed += 1;
            println!("unit {number}: {error}");
        }
        took.push(monotonic_ns().saturating_sub(due) / 1000);
    }
    took.sort_unstable();
    let at =
        |per_mille: usize| took.get(took.len().saturating_sub(1) * per_mille / 1000).copied().unwrap_or(0);
    println!("units {units} failed {failed} p50 {} p99 {} most {}", at(500), at(990), at(1000));
    ExitCode::from(u8::from(failed > 0))
}

fn busy(threads: usize) -> ExitCode {
    let spin = || {
        let mut x = 1_u64;
        loop {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    };
    for _ in 1..threads {
        std::thread::spawn(spin);
    }
    spin()
}

/// This program once more, in the same role.
fn again(role: &str) -> io::Result<Child> {
    Command::new("/opt/octant-load").args([role, "0"]).spawn()
}

/// Starts itself over and over, and every copy does the same.
fn forks(copy: bool) -> ExitCode {
    let mut said = copy;
    loop {
        if again("forks").is_err() && !said {
            println!("{AT_LIMIT}");
            said = true;
        }
    }
}

/// Holds more and more.
fn memory() -> ExitCode {
    println!("{AT_LIMIT}");
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1 << 20]);
    }
}

/// Fills both of its file systems, then makes room and fills them again.
fn disk() -> ExitCode {
    let mut said = false;
    loop {
        for dir in ["/workspace", "/tmp"] {
            let full = File::create(format!("{dir}/fill"))
                .and_then(|mut file| (0..1 << 16).try_for_each(|_| file.write_all(&[7; 64 << 10])));
            let files = (0..1 << 16).try_for_each(|number| File::create(format!("{dir}/{number}")).map(drop));
            if full.is_err() && files.is_err() && !said && dir == "/tmp" {
                println!("{AT_LIMIT}");
                said = true;
            }
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for entry in entries.flatten() {
                // What cannot be removed stays in the way, which is what this is for.
                let _stays = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Every process that it may have holds every descriptor that it may have, and asks for more.
fn descriptors(copy: bool) -> ExitCode {
    let mut held = Vec::new();
    let mut children = Vec::new();
    let mut said = copy;
    loop {
        // Copies first: to start one takes descriptors.
        if !copy && children.len() < 64 {
            children.extend(again("descriptors"));
        }
        match io::pipe() {
            Ok(pair) => held.push(pair),
            Err(_) if !said => {
                println!("{AT_LIMIT}");
                said = true;
            }
            Err(_) => {}
        }
    }
}
