//! Commands from a terminal: a small line editor with history and completion.
//!
//! brush comes with reedline, which asks the terminal where its cursor is and gives up without an answer: not for
//! a serial console that a program may be reading. This one only writes.

use crate::complete::{Completion, choose};
use crate::input::complete;
use crate::line::{Decoder, Key, Line};
use crate::session::{Input, Read};
use crate::{Extensions, Failure};
use brush_core::Shell;
use brush_core::terminal::{AutoModeGuard, Settings};
use nix::errno::Errno;
use std::io::{self, Write};

/// How many commands are remembered.
const HISTORY_MAX: usize = 500;

/// The editor and what was typed before.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    history: Vec<String>,
    decoder: Decoder,
}

/// How the reading of one line ended.
enum Ended {
    Line(String),
    Interrupted,
    Eof,
}

impl Input for Editor {
    async fn read(&mut self, shell: &mut Shell<Extensions>) -> Result<Read, Failure> {
        let prompt = shell.compose_prompt().await.map_err(Failure::Run)?;
        let continuation = shell.compose_continuation_prompt().await.map_err(Failure::Run)?;
        // The mode is put back when the guard is dropped, before the command runs.
        let guard = AutoModeGuard::new(io::stdin().into()).map_err(Failure::Run)?;
        let raw = Settings::builder()
            .echo_input(false)
            .line_input(false)
            .interrupt_signals(false)
            .output_nl_as_nlcr(true)
            .build();
        guard.apply_settings(&raw).map_err(Failure::Run)?;
        let mut command = String::new();
        let mut ask = prompt.as_str();
        loop {
            match self.edit_line(shell, ask).await.map_err(Failure::Input)? {
                Ended::Line(line) => command.push_str(&line),
                Ended::Interrupted => return Ok(Read::Interrupted),
                Ended::Eof if command.is_empty() => return Ok(Read::End),
                Ended::Eof => break,
            }
            command.push('\n');
            if complete(shell, &command) {
                break;
            }
            ask = &continuation;
        }
        self.remember(command.trim_end());
        Ok(Read::Command(command))
    }
}

impl Editor {
    fn remember(&mut self, command: &str) {
        if command.is_empty() || self.history.last().is_some_and(|last| last == command) {
            return;
        }
        if self.history.len() == HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(command.to_owned());
    }

    async fn edit_line(&mut self, shell: &mut Shell<Extensions>, prompt: &str) -> io::Result<Ended> {
        let mut line = Line::default();
        // One behind the last: the line that is being typed, kept while one looks at older ones.
        let (mut place, mut draft) = (self.history.len(), String::new());
        draw(prompt)?;
        loop {
            let Some(byte) = read_byte()? else { return Ok(Ended::Eof) };
            let Some(key) = self.decoder.take(byte) else { continue };
            match key {
                Key::Enter => {
                    draw("\n")?;
                    return Ok(Ended::Line(line.text()));
                }
                Key::Interrupt => {
                    draw("^C\n")?;
                    return Ok(Ended::Interrupted);
                }
                Key::Eof if line.is_empty() => {
                    draw("\n")?;
                    return Ok(Ended::Eof);
                }
                Key::Eof => draw(&line.edit(Key::Delete))?,
                Key::Clear => redraw("\x1b[H\x1b[2J", prompt, &line)?,
                Key::Up if place > 0 => {
                    if place == self.history.len() {
                        draft = line.text();
                    }
                    place -= 1;
                    draw(&line.set(&self.history[place]))?;
                }
                Key::Down if place < self.history.len() => {
                    place += 1;
                    draw(&line.set(self.history.get(place).unwrap_or(&draft)))?;
                }
                Key::Tab => complete_word(shell, prompt, &mut line).await?,
                other => draw(&line.edit(other))?,
            }
        }
    }
}

async fn complete_word(shell: &mut Shell<Extensions>, prompt: &str, line: &mut Line) -> io::Result<()> {
    let (text, cursor) = (line.text(), line.cursor_bytes());
    let directory = shell.working_dir().to_path_buf();
    let found = shell.complete(&text, cursor).await;
    // A completion that fails is one that finds nothing.
    let Ok(found) = found else { return draw("\x07") };
    let (at, delete) = (found.insertion_index, found.delete_count);
    let word = text.get(at..at + delete).unwrap_or_default();
    match choose(word, found.candidates, found.options.treat_as_filenames, &directory) {
        Completion::Nothing => draw("\x07"),
        Completion::Insert(text) => draw(&line.complete(at, delete, &text)),
        Completion::Show(candidates) => redraw(&format!("\n{}\n", candidates.join("  ")), prompt, line),
    }
}

/// Writes something, then the prompt and the line again with the cursor in its place.
fn redraw(before: &str, prompt: &str, line: &Line) -> io::Result<()> {
    let text = line.text();
    let back = text.get(line.cursor_bytes()..).map_or(0, |tail| tail.chars().count());
    draw(&format!("{before}{prompt}{text}{}", "\x08".repeat(back)))
}

/// Prompt and echo go to standard error, as POSIX says of the prompt.
fn draw(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

/// The next byte, or none at the end. One at a time: what was typed ahead may be meant for the next program.
fn read_byte() -> io::Result<Option<u8>> {
    let mut byte = [0_u8; 1];
    loop {
        match nix::unistd::read(io::stdin(), &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(Errno::EINTR) => {}
            // The line was hung up.
            Err(Errno::EIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
