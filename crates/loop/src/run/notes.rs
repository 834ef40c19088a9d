//! What a loop puts on record: each step by digests, never its contents. What there is no room for yet waits for the next.

use crate::socket::Socket;
use octant_api::agent::NOTE_MAX;
use std::thread;
use std::time::Duration;

/// The most that waits, in bytes; what is more is counted.
const WAITING_MAX: usize = 64 << 10;
/// How often it is tried at the end.
const TRIES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Notes {
    lines: Vec<String>,
    bytes: usize,
    lost: u64,
}

impl Notes {
    pub(super) fn add(&mut self, line: String) {
        if self.bytes + line.len() > WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push(line);
    }

    /// The next note, and of how many lines it is.
    fn next(&self) -> Option<(String, usize)> {
        let mut text = String::from("loop: ");
        if self.lost > 0 {
            text += &format!("{} lines are lost; ", self.lost);
        }
        let mut count = 0;
        for line in &self.lines {
            if count > 0 && text.len() + line.len() + 2 > NOTE_MAX {
                break;
            }
            if count > 0 {
                text += "; ";
            }
            text += crate::text::head(line, NOTE_MAX / 2);
            count += 1;
        }
        (count > 0).then_some((text, count))
    }

    /// Puts what waits on record, as far as there is room.
    pub(super) fn send(&mut self, socket: Option<&mut Socket>) {
        let Some(socket) = socket else { return };
        while let Some((text, count)) = self.next() {
            // Where the service is away it is tried again with the next step.
            if !socket.note(&text).unwrap_or(false) {
                return;
            }
            self.lost = 0;
            self.bytes -= self.lines.drain(..count).map(|line| line.len() + 1).sum::<usize>();
        }
    }

    /// The same for everything, which can take some time.
    pub(super) fn send_all(&mut self, mut socket: Option<&mut Socket>) {
        for _ in 0..TRIES {
            self.send(socket.as_deref_mut());
            if self.lines.is_empty() || socket.is_none() {
                return;
            }
            thread::sleep(BETWEEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_to_their_bounds() {
        let mut notes = Notes::default();
        (0..1000).for_each(|n| notes.add(format!("{n}: {}", "x".repeat(200))));
        assert!(notes.bytes <= WAITING_MAX && notes.lost > 0);
        let (text, count) = notes.next().unwrap();
        assert!(text.len() <= NOTE_MAX && count > 10, "{}", text.len());
        assert!(text.contains("lines are lost"));
        notes = Notes::default();
        notes.add("y".repeat(9000));
        assert!(notes.next().unwrap().0.len() <= NOTE_MAX);
    }
}
