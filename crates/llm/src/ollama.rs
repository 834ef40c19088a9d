//! Ollama's chat and generate.

mod answer;
mod request;

pub(crate) use answer::{Reader, Writer, write_answer};
pub(crate) use request::{read_chat, read_generate, write_chat, write_generate};
