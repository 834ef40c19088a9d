//! What programs and providers of language models say to each other, in every dialect: pure.
//!
//! Owns: the request ([`Request`]) and the stream of events ([`Event`]) between which each dialect translates.
//! Promises: what a dialect says and another can say too is kept, in its order; what another cannot say is refused by
//! name and not dropped; a stream without its terminal event ends as a failure.
//! Never: opens a socket, reads a clock, holds a key.
#![forbid(unsafe_code)]

mod event;
mod failure;
mod request;

pub use event::{Block, Delta, Event, StopReason, Usage};
pub use failure::{Failure, Kind};
pub use request::{
    Effort, Format, Image, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};
