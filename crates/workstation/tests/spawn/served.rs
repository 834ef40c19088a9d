//! The standard descriptors of a server of tools.

use crate::bench::{Bench, plan, ticket, wait};
use octant_workstation::{Plan, Stdio, Step};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Says the line that it reads.
pub(crate) fn inside() -> ExitCode {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("heard {line}");
    ExitCode::SUCCESS
}

/// A server of tools reads what the service says and nothing else, through a pipe too.
pub(crate) fn a_server_reads_and_writes_pipes_of_the_service() {
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut bench = Bench::new(None);
    let plan = Plan { stdio: Stdio::Served, ..plan(&["hear"]) };
    let ((input, to), (from, output), (_, errors)) = (pipe(), pipe(), pipe());
    let (socket, _other) = UnixStream::pair().unwrap();
    let (out, err) = (output.as_fd(), errors.as_fd());
    for wrong in [
        &[out, err][..],
        &[to.as_fd(), out, err],
        &[socket.as_fd(), out, err],
        &[input.as_fd(), input.as_fd(), err],
    ] {
        let error = bench.client.spawn(&plan, &ticket(&plan), wrong).unwrap_err();
        assert_eq!(error.step, Step::Request, "{error}");
        bench.assert_nothing_is_left(&plan);
    }
    let spawned = bench.client.spawn(&plan, &ticket(&plan), &[input.as_fd(), out, err]).unwrap();
    drop((input, output));
    File::from(to).write_all(b"a word\n").unwrap();
    let mut text = String::new();
    File::from(from).read_to_string(&mut text).unwrap();
    assert_eq!(text, "heard a word\n\n");
    assert_eq!(wait(&spawned), 0);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}
