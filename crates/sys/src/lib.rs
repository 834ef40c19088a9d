//! The operating system's calls that the standard library and `nix` do not offer safely.
//!
//! Owns: every `unsafe` block of Octant, behind safe functions that check what their call demands.
//! Promises: no function here can be misused into undefined behaviour; errors are the kernel's own.
//! Never: decides policy, logs, keeps state of its own.
#![expect(unsafe_code, reason = "the one crate that may; each block is short and names its precondition")]

pub mod audit;
pub mod block;
pub mod capacity;
pub mod clock;
pub mod clone;
pub mod confine;
pub mod console;
pub mod descriptor;
pub mod entropy;
pub mod fault;
pub mod hooks;
pub mod inherit;
pub mod modules;
pub mod mount;
pub mod names;
pub mod netlink;
pub mod nftables;
pub mod observe;
pub mod packet;
pub mod probe;
pub mod process;
pub mod rtc;
pub mod schedule;
pub mod secret_memory;
#[cfg(all(feature = "step", target_arch = "x86_64"))]
pub mod step;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", target_feature = "crt-static"))]
pub mod termios_shim;
