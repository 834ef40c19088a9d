//! The shell alone, for the tests of this crate: it has no utilities of its own, and
//! an operator's command line of three words.

fn main() -> std::process::ExitCode {
    octant_shell::main(std::env::args_os().collect(), ["octant"].into_iter(), complete).into()
}

fn complete(words: &[String], word: &str) -> Vec<String> {
    let all: &[&str] = if words.is_empty() { &["agent", "agents", "status"] } else { &["agent-7k"] };
    all.iter().filter(|text| text.starts_with(word)).map(ToString::to_string).collect()
}
