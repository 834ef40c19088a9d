//! What programs and providers of language models say to each other, in every dialect: pure.
//!
//! Owns: the request ([`Request`]) and the stream of events ([`Event`]) between which each dialect translates.
//! Promises: what a dialect says and another can say too is kept, in its order; what another cannot say is refused by
//! name and not dropped; a stream without its terminal event ends as a failure.
//! Never: opens a socket, reads a clock, holds a key.
#![forbid(unsafe_code)]

mod answer;
mod anthropic;
mod bedrock;
mod chat;
mod dialect;
pub mod embeddings;
mod estimate;
mod event;
mod failure;
mod failures;
mod framing;
mod fuzz;
mod gemini;
mod json;
mod meter;
mod ollama;
mod proof;
mod request;
mod responses;
mod stream;
mod tools;
mod whole;

pub use answer::{Answer, Draft};
pub use anthropic::ANTHROPIC_MAX_OUTPUT;
pub use dialect::{Decoder, Dialect, Encoder, Manner};
pub use estimate::estimate;
pub use event::{Block, Delta, Event, StopReason, Usage};
pub use failure::{Failure, Kind};
pub use fuzz::fuzz_llm;
pub use json::Json;
pub use meter::Meter;
pub use request::{
    Effort, Format, Image, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};
pub use whole::Cutter;
