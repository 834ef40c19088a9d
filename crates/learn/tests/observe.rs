//! Real programs, watched.

use octant_learn::observe;
use std::path::{Path, PathBuf};
use std::process::Command;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("octant-learn-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.canonicalize().unwrap()
}

#[test]
fn a_shell_and_what_it_starts_are_seen_in_full() {
    let dir = scratch("shell");
    std::fs::write(dir.join("in"), "x").unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg("cat in >out; (cat in | wc -c) >>out; exit 7").current_dir(&dir);
    let (status, seen) = observe(command).unwrap();
    assert_eq!(status.code(), Some(7), "it ran as it would have");
    assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "x1\n");
    assert!(seen.read.contains(&dir.join("in")), "{:?}", seen.read);
    assert!(seen.write.contains(&dir.join("out")) || seen.write.contains(&dir), "{:?}", seen.write);
    let cat = Path::new("/bin/cat").canonicalize().unwrap();
    assert!(seen.execute.contains(&cat), "{:?}", seen.execute);
    for call in ["execve", "openat", "mmap", "exit_group"] {
        assert!(seen.calls.contains(call), "{call}");
    }
    assert!(seen.connected.is_empty());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn threads_and_removals_are_seen() {
    let dir = scratch("threads");
    std::fs::write(dir.join("old"), "x").unwrap();
    let mut command = Command::new("/usr/bin/python3");
    let script =
        "import threading,os; t=threading.Thread(target=lambda: os.unlink('old')); t.start(); t.join()";
    command.arg("-c").arg(script).current_dir(&dir);
    let (status, seen) = observe(command).unwrap();
    assert!(status.success() && !dir.join("old").exists());
    assert!(seen.write.contains(&dir), "its directory changed: {:?}", seen.write);
    assert!(seen.usage.memory_bytes > 4 << 20 && seen.usage.tasks >= 1, "{:?}", seen.usage);
    assert!(seen.calls.contains("clone") && !seen.calls.contains("clone3"), "inside it falls back");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_connection_is_seen_with_its_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("/bin/bash");
    command.arg("-c").arg(format!("exec 3<>/dev/tcp/127.0.0.1/{port}"));
    let (_, seen) = observe(command).unwrap();
    assert!(seen.connected.contains(&format!("127.0.0.1:{port}")), "{:?}", seen.connected);
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_nothing_waits() {
    let error = observe(Command::new("/no/such/program")).unwrap_err();
    assert!(error.to_string().contains("does not start"), "{error}");
}
