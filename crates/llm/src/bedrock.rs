//! Bedrock's `converse`.

mod answer;
mod frames;
mod request;
mod stream;

pub(crate) use answer::{read_answer, read_usage, reason, write_answer};
pub(crate) use frames::Frames;
pub(crate) use request::{read_request, write_request};
pub(crate) use stream::{Reader, Writer, is_exception, write_exception};
