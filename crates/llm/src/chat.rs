//! `OpenAI`'s chat completions, and what those who are compatible with them say beside it.

mod answer;
mod message;
mod request;
mod stream;

pub(crate) use answer::{paused, read_answer, read_usage, reason, write_answer};
pub(crate) use request::{
    effort_word, ends_with_question, no_arguments, push_result, read_effort, read_request, read_sampling,
    write_request,
};
pub(crate) use stream::{Reader, Writer};
