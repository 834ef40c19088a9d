//! The agent loop: a language model, a task, and tools, until the task is done or a limit is reached.
//!
//! Owns: what happens from one step to the next ([`core`]), the transcript from which a loop goes on after whatever ended it
//! ([`transcript`]), the tools for files and the shell, and the conversation with a model over HTTP ([`model`]).
//! Promises: nothing is asked of the model and no tool is called before the transcript has it on disk; a call that may
//! have been carried out is never made again by itself; a limit ends it with what was reached.
//! Never: decides what an agent may do (its workstation and Octant's services do), holds a key, retries what a router has
//! already tried.
#![forbid(unsafe_code)]

pub mod core;
pub mod entry;
mod error;
pub mod model;
mod picture;
mod run;
mod shape;
mod show;
mod socket;
mod text;
mod tools;
pub mod transcript;

pub use error::LoopError;
pub use picture::Picture;
pub use run::{Places, run};
pub use show::{Form, Shown, Text};
pub use text::visible;
