//! PID 1.
//!
//! Owns: early boot, the service graph, supervision, reaping, shutdown, and its own replacement.
//! Promises: it never ends before everything that it started has ended; it never waits for one process; a panic
//! becomes a replacement of itself with every child kept, and too many become an Emergency that says why.
//! Never: runs an async runtime, speaks a network protocol, parses bytes of others beyond its own configuration,
//! notify datagrams and fixed operator frames.
#![forbid(unsafe_code)]

pub mod graph;
