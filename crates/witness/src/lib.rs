//! A witness of logs, and what brings checkpoints to witnesses.
#![forbid(unsafe_code)]
