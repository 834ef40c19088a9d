//! Running other programs, files with paths in their errors, and progress on the terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What every step gives: a value, or a sentence that says what failed, where, and what to do next.
pub(crate) type Res<T = ()> = Result<T, String>;

/// A command as it would be typed, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        let word = word.to_string_lossy();
        let plain =
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "'\"$;&|<>*".contains(c));
        text += &if plain { format!(" {word}") } else { format!(" '{word}'") };
    }
    text
}

/// Runs `command` with this terminal and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Res {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", shown(command))) }
}

/// Runs `command` and gives what it wrote to standard output; what it wrote to standard error is in the error.
pub(crate) fn output(command: &mut Command) -> Res<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let both = [output.stdout, output.stderr].concat();
    Err(format!("`{}` failed: {}\n{}", shown(command), output.status, tail(&both, 30)))
}

/// [`output`] as text.
pub(crate) fn text(command: &mut Command) -> Res<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).map_err(|_| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// The last `lines` lines, indented.
pub(crate) fn tail(bytes: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|line| format!("    {line}\n")).collect()
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` could not be started: {error}", shown(command))
}

/// Where `program` is on PATH or among the system's administration programs.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

pub(crate) fn read(path: &Path) -> Res<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

pub(crate) fn read_text(path: &Path) -> Res<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Res {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

pub(crate) fn make_dir(path: &Path) -> Res {
    fs::create_dir_all(path).map_err(|error| format!("cannot make directory {}: {error}", path.display()))
}

/// Removes a file or a tree; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Res {
    let gone =
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces `to` by `from` in one step, so that a reader or an interruption never meets half a file.
pub(crate) fn rename(from: &Path, to: &Path) -> Res {
    fs::rename(from, to)
        .map_err(|error| format!("cannot move {} to {}: {error}", from.display(), to.display()))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Res {
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

/// The entries of a directory, sorted by name, so that no result depends on the file system's order.
pub(crate) fn list(dir: &Path) -> Res<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| format!("cannot list {}: {error}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| format!("cannot list {}: {error}", dir.display()))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The SHA-256 of a file as 64 hexadecimal digits, by coreutils' `sha256sum`.
pub(crate) fn sha256(path: &Path) -> Res<String> {
    let line = text(Command::new("sha256sum").arg("--").arg(path))?;
    let digest: String = line.chars().take_while(char::is_ascii_hexdigit).collect();
    if digest.len() == 64 {
        Ok(digest)
    } else {
        Err(format!("sha256sum gave no digest of {}: {line}", path.display()))
    }
}

/// Now, for durations that are shown or that limit how long something may take.
#[expect(clippy::disallowed_methods, reason = "xtask depends on no crate and is not simulated")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A duration for people.
pub(crate) fn human(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=99 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// A number of bytes for people.
pub(crate) fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// Numbered steps with what remains: `[3/6] building the binary (about 6 min the first time)`.
pub(crate) struct Steps {
    total: usize,
    done: usize,
    started: Instant,
    step_started: Instant,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, started: now(), step_started: now() }
    }

    /// Ends the step before and begins the next.
    pub(crate) fn next(&mut self, what: &str) {
        self.end_step();
        self.done += 1;
        println!("[{}/{}] {what}", self.done, self.total);
        self.step_started = now();
    }

    /// Ends the last step; gives the time of all of them.
    pub(crate) fn finish(mut self) -> String {
        self.end_step();
        debug_assert_eq!(self.done, self.total, "the number of steps that was announced");
        human(self.started.elapsed())
    }

    fn end_step(&mut self) {
        let took = self.step_started.elapsed();
        // A step that was only a look at what is there already is not worth a line.
        if self.done > 0 && took > Duration::from_millis(500) {
            println!("      {}", human(took));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_says_what_was_run_and_what_it_wrote() {
        let error =
            output(Command::new("sh").args(["-c", "echo to-out; echo to-err >&2; exit 3"])).unwrap_err();
        for part in ["sh -c", "3", "to-out", "to-err"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let error = run(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(error.contains("/nonexistent/program") && error.contains("could not be started"), "{error}");
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(human(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(human(Duration::from_secs(42)), "42 s");
        assert_eq!(human(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(
            (human_bytes(999), human_bytes(26_431), human_bytes(26_431_000)),
            ("999 B".into(), "26 kB".into(), "26.4 MB".into())
        );
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        assert_eq!(tail(b"a\nb\nc\n", 2), "    b\n    c\n");
    }
}
