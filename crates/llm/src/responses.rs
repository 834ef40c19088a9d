//! `OpenAI`'s responses.

mod answer;
mod request;
mod stream;
mod writer;

pub(crate) use answer::{read_answer, read_usage, reason, write_answer};
pub(crate) use request::{read_request, write_request};
pub(crate) use stream::Reader;
pub(crate) use writer::Writer;
