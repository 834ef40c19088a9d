//! Anthropic's messages.

mod answer;
mod request;
mod stream;

pub use request::ANTHROPIC_MAX_OUTPUT;

pub(crate) use answer::{Count, read_answer, reason, write_answer};
pub(crate) use request::{read_request, write_request};
pub(crate) use stream::{Reader, Writer};
