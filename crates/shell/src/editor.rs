//! Commands from a terminal: a small line editor with history and completion.
//!
//! brush comes with reedline, which asks the terminal where its cursor is and gives up without an answer: not for
//! a serial console that a program may be reading. This one only writes.

use crate::complete::{Completion, choose, table};
use crate::history::History;
use crate::input::complete;
use crate::line::{COLUMNS, Decoder, Key, Line, Place};
use crate::session::{Input, Read};
use crate::{Complete, Extensions, Failure};
use brush_core::Shell;
use brush_core::terminal::{AutoModeGuard, Settings};
use nix::errno::Errno;
use std::io::{self, Write};
use std::path::PathBuf;

/// The name of the operator's command line.
const OPERATOR: &str = "octant";

/// The editor and what was typed before.
#[derive(Debug)]
pub(crate) struct Editor {
    history: History,
    decoder: Decoder,
    complete: Complete,
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
        let typed = command.trim_end();
        self.history.add(typed);
        // For the builtin `history`; the list in the editor is what counts.
        shell.add_to_history(typed).map_err(Failure::Run)?;
        Ok(Read::Command(command))
    }
}

impl Editor {
    pub(crate) fn new(shell: &Shell<Extensions>, complete: Complete) -> Self {
        let file = shell.env_str("HISTFILE").filter(|file| !file.is_empty());
        let file = file.map(|file| PathBuf::from(file.as_ref()));
        Self { history: History::open(file), decoder: Decoder::default(), complete }
    }

    async fn edit_line(&mut self, shell: &mut Shell<Extensions>, prompt: &str) -> io::Result<Ended> {
        let mut line = Line::at(Place::behind(width(prompt), columns()));
        // One behind the last: the line that is being typed, kept while one looks at older ones.
        let (mut place, mut draft) = (self.history.commands().len(), String::new());
        draw(prompt)?;
        loop {
            let Some(byte) = read_byte()? else { return Ok(Ended::Eof) };
            let Some(key) = self.decoder.take(byte) else { continue };
            match key {
                Key::Enter => {
                    draw(&line.edit(Key::End))?;
                    draw("\n")?;
                    return Ok(Ended::Line(line.text()));
                }
                Key::Interrupt => {
                    draw(&line.edit(Key::End))?;
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
                    if place == self.history.commands().len() {
                        draft = line.text();
                    }
                    place -= 1;
                    draw(&line.set(&self.history.commands()[place]))?;
                }
                Key::Down if place < self.history.commands().len() => {
                    place += 1;
                    draw(&line.set(self.history.commands().get(place).unwrap_or(&draft)))?;
                }
                Key::Tab => self.complete_word(shell, prompt, &mut line).await?,
                other => draw(&line.edit(other))?,
            }
        }
    }

    async fn complete_word(
        &self,
        shell: &mut Shell<Extensions>,
        prompt: &str,
        line: &mut Line,
    ) -> io::Result<()> {
        let (text, cursor) = (line.text(), line.cursor_bytes());
        let directory = shell.working_dir().to_path_buf();
        let (at, delete, candidates, files) = match operators_words(&text[..cursor]) {
            Some((words, at)) => {
                let found = tokio::task::block_in_place(|| (self.complete)(&words, &text[at..cursor]));
                (at, cursor - at, found, false)
            }
            None => match shell.complete(&text, cursor).await {
                Ok(found) => (
                    found.insertion_index,
                    found.delete_count,
                    found.candidates.into_iter().collect(),
                    found.options.treat_as_filenames,
                ),
                // A completion that fails is one that finds nothing.
                Err(_) => return draw("\x07"),
            },
        };
        let word = text.get(at..at + delete).unwrap_or_default();
        match choose(word, candidates, files, &directory) {
            Completion::Nothing => draw("\x07"),
            Completion::Insert(text) => draw(&line.complete(at, delete, &text)),
            Completion::Show(candidates) => {
                draw(&line.edit(Key::End))?;
                redraw(&format!("\n{}\n", table(&candidates, columns())), prompt, line)
            }
        }
    }
}

/// The words behind `octant` in the last command of a text and where the word that is begun is, if that is the
/// operator's command line.
fn operators_words(text: &str) -> Option<(Vec<String>, usize)> {
    let start = text.rfind([';', '|', '&', '(', '`']).map_or(0, |at| at + 1);
    let at = text.rfind([' ', '\t']).map_or(0, |at| at + 1).max(start);
    let mut words = text[start..at].split_whitespace();
    (words.next()? == OPERATOR).then(|| (words.map(str::to_owned).collect(), at))
}

/// The prompt where none is set, with colours for a terminal that has them.
pub(crate) fn prompt() -> &'static str {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let plain =
        has("NO_COLOR") || std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if plain { r"\h:\w\$ " } else { r"\[\e[32m\]\h\[\e[0m\]:\[\e[34m\]\w\[\e[0m\]\$ " }
}

/// How wide the terminal is; a serial line does not say.
fn columns() -> usize {
    let size = terminal_size::terminal_size_of(io::stderr());
    size.map_or(COLUMNS, |(width, _)| usize::from(width.0)).max(2)
}

/// How many columns the last line of a prompt takes: colours take none.
fn width(prompt: &str) -> usize {
    let line = prompt.rsplit('\n').next().unwrap_or_default();
    let (mut columns, mut in_sequence) = (0, false);
    for c in line.chars() {
        match c {
            '\x1b' => in_sequence = true,
            _ if in_sequence => in_sequence = !c.is_ascii_alphabetic(),
            c if c.is_control() => {}
            _ => columns += 1,
        }
    }
    columns
}

/// Writes something, then the prompt and the line again with the cursor in its place.
fn redraw(before: &str, prompt: &str, line: &Line) -> io::Result<()> {
    draw(&format!("{before}{prompt}{}", line.draw_again()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room() {
        assert_eq!(width("a:b$ "), 5);
        assert_eq!(width("\x1b[32mhost\x1b[0m:\x1b[34m~\x1b[0m$ "), 8);
        assert_eq!(width("two\nlines> "), 7);
    }

    #[test]
    fn the_operators_command_line_is_seen_in_any_command() {
        let words =
            |text: &str| operators_words(text).map(|(words, at)| (words.join(" "), text[at..].to_owned()));
        assert_eq!(words("octant agent sh"), Some(("agent".into(), "sh".into())));
        assert_eq!(words("cd /; octant "), Some((String::new(), String::new())));
        assert_eq!(words("true && octant status|octant lo"), Some((String::new(), "lo".into())));
        for text in ["octant", "ls octant", "x=1 ls", ""] {
            assert_eq!(words(text), None, "{text}");
        }
    }
}
