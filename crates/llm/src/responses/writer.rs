//! Writes streams of responses. The dialect says everything twice, in pieces and when it is done, and so keeps it.

use super::answer::{Head, State, write_content_part, write_item};
use crate::answer::Draft;
use crate::framing::write_sse;
use crate::json::Object;
use crate::{Delta, Event, Failure, Part, Request};

/// Writes one.
#[derive(Debug)]
pub(crate) struct Writer {
    head: Head,
    draft: Draft,
    number: u64,
}

impl Writer {
    pub(crate) fn new(request: &Request) -> Self {
        Self { head: Head::new(request), draft: Draft::default(), number: 0 }
    }

    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.draft.event(event)?;
        match event {
            Event::Started { id, model } => {
                self.head.start(id, model);
                self.whole(out, "response.created", State::Running)?;
                self.whole(out, "response.in_progress", State::Running)?;
            }
            Event::BlockStarted { index, .. } => self.begin(*index, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStopped { index } => self.stop(*index, out),
            Event::Usage(_) | Event::Failed(_) => {}
            Event::Finished { reason, .. } => {
                let (status, _) = super::answer::word(*reason, self.draft.parts())?;
                let usage = self.draft.usage();
                self.whole(out, &format!("response.{status}"), State::Ended(*reason, &usage))?;
            }
        }
        Ok(())
    }

    pub(crate) fn failure(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        // A failure has no reason that the dialect could lack a word for.
        let _written = self.whole(out, "response.failed", State::Failed(failure));
    }

    fn say(&mut self, out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut data = Vec::with_capacity(256);
        {
            let mut object = Object::new(&mut data);
            object.text("type", name);
            object.plain("sequence_number", self.number);
            fill(&mut object);
        }
        self.number += 1;
        write_sse(out, Some(name), &data);
    }

    fn whole(&mut self, out: &mut Vec<u8>, name: &str, state: State<'_>) -> Result<(), Failure> {
        let head = self.head.clone();
        let parts = match state {
            State::Running => Vec::new(),
            State::Ended(..) | State::Failed(_) => self.draft.parts().to_vec(),
        };
        let mut written = Ok(());
        self.say(out, name, |object| written = head.write(object.object("response"), state, &parts));
        written
    }

    /// The item of a block, as far as it has come.
    fn item(&self, index: u32) -> Option<(String, Part)> {
        let part = self.draft.part(index)?.clone();
        Some((self.head.item_id(usize::try_from(index).ok()?, &part), part))
    }

    fn begin(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some((id, part)) = self.item(index) else { return };
        self.say(out, "response.output_item.added", |object| {
            object.plain("output_index", index);
            write_item(object.object("item"), &id, &part, false);
        });
        match part {
            Part::Text(_) | Part::Refusal(_) => self.say(out, "response.content_part.added", |object| {
                place(object, index, &id, "content_index");
                write_content_part(object.object("part"), &part);
            }),
            Part::Reasoning { .. } => self.say(out, "response.reasoning_summary_part.added", |object| {
                place(object, index, &id, "summary_index");
                summary(object, "");
            }),
            _ => {}
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Vec<u8>) {
        let Some(id) = self.item_id(index) else { return };
        let (name, number) = match delta {
            Delta::Text(_) => ("response.output_text.delta", "content_index"),
            Delta::Refusal(_) => ("response.refusal.delta", "content_index"),
            Delta::Reasoning(_) => ("response.reasoning_summary_text.delta", "summary_index"),
            Delta::Arguments(_) => ("response.function_call_arguments.delta", ""),
            // The item says it when it is done.
            Delta::Signature(_) => return,
        };
        self.say(out, name, |object| {
            place(object, index, &id, number);
            object.text("delta", delta.text());
            if matches!(delta, Delta::Text(_)) {
                drop(object.list("logprobs"));
            }
        });
    }

    /// The identifier of a block's item, without a copy of what it holds.
    fn item_id(&self, index: u32) -> Option<String> {
        let part = self.draft.part(index)?;
        Some(self.head.item_id(usize::try_from(index).ok()?, part))
    }

    fn stop(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some((id, part)) = self.item(index) else { return };
        match &part {
            Part::Text(text) | Part::Refusal(text) => {
                let (name, field) = match part {
                    Part::Refusal(_) => ("response.refusal.done", "refusal"),
                    _ => ("response.output_text.done", "text"),
                };
                self.say(out, name, |object| {
                    place(object, index, &id, "content_index");
                    object.text(field, text);
                    if field == "text" {
                        drop(object.list("logprobs"));
                    }
                });
                self.say(out, "response.content_part.done", |object| {
                    place(object, index, &id, "content_index");
                    write_content_part(object.object("part"), &part);
                });
            }
            Part::Reasoning { text, .. } => {
                self.say(out, "response.reasoning_summary_text.done", |object| {
                    place(object, index, &id, "summary_index");
                    object.text("text", text);
                });
                self.say(out, "response.reasoning_summary_part.done", |object| {
                    place(object, index, &id, "summary_index");
                    summary(object, text);
                });
            }
            Part::ToolCall { arguments, name, .. } => {
                self.say(out, "response.function_call_arguments.done", |object| {
                    place(object, index, &id, "");
                    object.text("name", name);
                    object.text("arguments", if arguments.is_empty() { "{}" } else { arguments });
                });
            }
            _ => {}
        }
        self.say(out, "response.output_item.done", |object| {
            object.plain("output_index", index);
            write_item(object.object("item"), &id, &part, true);
        });
    }
}

fn place(object: &mut Object<'_>, index: u32, id: &str, number: &str) {
    object.text("item_id", id);
    object.plain("output_index", index);
    if !number.is_empty() {
        object.plain(number, 0);
    }
}

fn summary(object: &mut Object<'_>, text: &str) {
    let mut part = object.object("part");
    part.text("type", "summary_text");
    part.text("text", text);
}
