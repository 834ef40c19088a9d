//! The smallest program that can say when it was started; static, so that every init and every launcher of the
//! benches starts the same thing.
//!
//! `tick` prints CLOCK_MONOTONIC in nanoseconds and ends. `tick FILE` appends it to FILE as one line, says
//! `READY=1` on NOTIFY_SOCKET if there is one, writes a newline to descriptor `TICK_READY_FD` if that is set,
//! and stays. `tick FILE CMD ARGS...` appends it and becomes CMD.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;

fn main() -> std::io::Result<()> {
    let now = octant_sys::clock::monotonic_ns();
    let mut args = std::env::args_os().skip(1);
    let Some(file) = args.next() else {
        println!("{now}");
        return Ok(());
    };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    // One write, so that lines of several do not mix.
    file.write_all(format!("{now}\n").as_bytes())?;
    if let Some(program) = args.next() {
        return Err(std::process::Command::new(program).args(args).exec());
    }
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound()?.send_to(b"READY=1", socket)?;
    }
    if let Some(descriptor) = std::env::var_os("TICK_READY_FD") {
        let mut path = std::path::PathBuf::from("/proc/self/fd");
        path.push(descriptor);
        std::fs::OpenOptions::new().write(true).open(path)?.write_all(b"\n")?;
    }
    loop {
        std::thread::park();
    }
}
