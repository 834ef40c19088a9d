//! The standard descriptors of a server of tools.

use crate::bench::{Bench, plan, ticket, wait};
use octant_workstation::{Plan, Stdio, Step};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
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

/// Says what it is answered at the router's socket.
pub(crate) fn ask() -> ExitCode {
    match UnixStream::connect("/run/octant/llm.sock") {
        Ok(mut stream) => {
            stream.write_all(b"a question\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            println!("answered {answer}");
        }
        Err(error) => println!("{}", error.kind()),
    }
    ExitCode::SUCCESS
}

/// Everything that confines the agent is in force: it connects all the same, and there is no such path where it asks nothing.
pub(crate) fn who_asks_models_has_the_routers_socket() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.run(&plan(&["ask"])), (0, "entity not found\n".into()));
    let plan = Plan { models: true, ..plan(&["ask"]) };
    let (mut spawned, output) = bench.spawn(&plan).unwrap();
    let listener = std::os::unix::net::UnixListener::from(spawned.models.take().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    write!(&stream, "to {line}").unwrap();
    drop(stream);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!((wait(&spawned), text.trim_end()), (0, "answered to a question"));
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}
