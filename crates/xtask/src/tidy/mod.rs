//! `cargo x tidy`: rules that no compiler checks, in a few seconds.
//!
//! Each rule gives findings, one a line, with the file and line where there is one. None of them is a warning:
//! what need not be kept is not a rule.

mod edges;
mod escapes;
mod scan;

use crate::args::Args;
use crate::json::Json;
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use scan::{Source, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A function longer than this is split, or stands in the list of those that were there before.
const MAX_FUNCTION_LINES: usize = 70;
/// A file longer than this is split.
const MAX_FILE_LINES: usize = 900;
const LONG_FUNCTIONS: &str = "crates/xtask/long-functions.txt";
const CODE_MAP: &str = "docs/architecture.md";
/// The one crate with `unsafe` code.
const UNSAFE_CRATE: &str = "crates/sys/";

/// `cargo x tidy`.
pub(crate) fn main(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    const USAGE: &str = "cargo x tidy\n\n\
        Checks: dependencies between crates, where unsafe code is, lengths of functions and files, words,\n\
        the code map in docs/architecture.md, the tests that docs/escapes.md names, module documentation, unused\n\
        dependencies.";
    if args.help(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    args.finish()?;
    println!("{}", check(workspace)?);
    Ok(ExitCode::SUCCESS)
}

/// Checks every rule; gives a line about what was checked.
///
/// # Errors
/// The findings, if there are any, or something that cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Res<String> {
    let metadata = workspace.cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let mut metadata = metadata;
    let metadata = Json::parse(&sh::text(&mut metadata)?)?;
    let crates = edges::crates(&metadata);
    let mut findings = edges::check(&crates);
    findings.extend(edges::unused(&sh::read_text(&workspace.root.join("Cargo.toml"))?, &crates));
    findings.extend(code_map(&sh::read_text(&workspace.root.join(CODE_MAP))?, &places(workspace, &metadata)));
    let files = rust_files(workspace)?;
    let mut long = BTreeMap::new();
    let (mut lines, mut tests) = (0, BTreeSet::new());
    for (name, path) in &files {
        let text = sh::read_text(path)?;
        lines += text.lines().count();
        if name.contains("tests") {
            tests.extend(escapes::names(&text));
        }
        let source = Source::read(&text);
        findings.extend(file_rules(name, &text, &source));
        for function in source.functions().into_iter().filter(|function| function.lines > MAX_FUNCTION_LINES)
        {
            long.insert(format!("{name}::{}", function.name), function.lines);
        }
    }
    findings.extend(escapes::check(&sh::read_text(&workspace.root.join(escapes::PAGE))?, &tests));
    let list = workspace.root.join(LONG_FUNCTIONS);
    findings.extend(ratchet(&sh::read_text(&list)?, &long));
    if findings.is_empty() {
        return Ok(format!("tidy: {} crates, {} files, {lines} lines", crates.len(), files.len()));
    }
    Err(format!(
        "tidy has {} findings:\n{}",
        findings.len(),
        findings.iter().map(|f| format!("  {f}\n")).collect::<String>()
    ))
}

/// The directory of each crate, as the code map names it.
fn places(workspace: &Workspace, metadata: &Json) -> Vec<String> {
    let manifests =
        metadata.get("packages").items().iter().filter_map(|package| package.get("manifest_path").text());
    let dirs = manifests.filter_map(|path| Path::new(path).parent()?.strip_prefix(&workspace.root).ok());
    dirs.map(|dir| dir.to_string_lossy().into_owned()).collect()
}

fn code_map(map: &str, places: &[String]) -> Vec<String> {
    let missing = places.iter().filter(|place| !map.contains(&format!("`{place}`")));
    missing.map(|place| format!("{CODE_MAP}: the code map does not have `{place}`")).collect()
}

/// Every Rust file of the checkout, by its path there, sorted.
fn rust_files(workspace: &Workspace) -> Res<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut left = vec![workspace.root.clone()];
    while let Some(dir) = left.pop() {
        for path in sh::list(&dir)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_symlink()
                || name.starts_with('.')
                || path == workspace.target
                || name == "target"
                || name == "third_party"
            {
                continue;
            }
            if path.is_dir() {
                left.push(path);
            } else if name.ends_with(".rs") {
                let inside =
                    path.strip_prefix(&workspace.root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(inside, path);
            }
        }
    }
    Ok(files)
}

fn file_rules(name: &str, text: &str, source: &Source<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    // A module's tests are described by the module.
    if !text.trim_start().starts_with("//!") && !name.ends_with("/tests.rs") {
        findings.push(format!("{name}:1: begins without a //! line that says what the file is for"));
    }
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        findings.push(format!("{name}: {lines} lines, more than {MAX_FILE_LINES}; split it"));
    }
    for (line, token) in &source.tokens {
        match token {
            Token::Word("unsafe") if !name.starts_with(UNSAFE_CRATE) && !source.is_attribute(*line) => {
                findings.push(format!(
                    "{name}:{line}: unsafe code outside {UNSAFE_CRATE}; put it there behind a safe function"
                ));
            }
            Token::Word(word) | Token::Comment(word) => {
                findings.extend(words(word).map(|w| format!("{name}:{line}: {w}")))
            }
            _ => {}
        }
    }
    findings
}

/// Words that stand for a thing that has another name here (docs/glossary.md). This file may name them.
fn words(text: &str) -> impl Iterator<Item = String> {
    const INSTEAD: [(&str, &str); 2] = [("sand\u{62}ox", "workstation"), ("j\u{61}il", "workstation")];
    // The name of a product, which the bench measures beside ours.
    const NAMES: [&str; 2] = ["sand\u{62}ox-runtime", "sand\u{62}ox_runtime"];
    let low = NAMES.iter().fold(text.to_lowercase(), |text, name| text.replace(name, ""));
    INSTEAD
        .into_iter()
        .filter(move |(word, _)| low.contains(word))
        .map(|(word, say)| format!("says {word}; here it is called {say}"))
}

/// The list of long functions may only shrink: each finding says which way it is wrong.
fn ratchet(list: &str, long: &BTreeMap<String, usize>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut listed = BTreeMap::new();
    for line in list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line
            .rsplit_once(' ')
            .and_then(|(name, lines)| Some((name.trim().to_owned(), lines.parse::<usize>().ok()?)))
        {
            Some((name, lines)) => drop(listed.insert(name, lines)),
            None => findings.push(format!("{LONG_FUNCTIONS}: {line:?} is not `path::function lines`")),
        }
    }
    for (name, lines) in long {
        match listed.get(name) {
            None => findings.push(format!("{name}: {lines} lines, more than {MAX_FUNCTION_LINES}; split it")),
            Some(before) if lines > before => {
                findings.push(format!("{name}: {lines} lines, and it had {before}; it may only shrink"))
            }
            Some(before) if lines < before => findings
                .push(format!("{LONG_FUNCTIONS}: {name} has shrunk to {lines} lines; write that number")),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !long.contains_key(*name));
    findings
        .extend(gone.map(|name| format!("{LONG_FUNCTIONS}: {name} is not long any more; remove its line")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, text: &str) -> Vec<String> {
        file_rules(name, text, &Source::read(text))
    }

    #[test]
    fn unsafe_code_is_found_and_its_mention_is_not() {
        // Written so that a plain search for it in the sources finds what is code.
        let word = "uns\u{61}fe";
        let text = format!(
            "//! A.\n#![forbid({word}_code)]\n// {word} here\nconst A: &str = \"{word} {{\";\nfn a() {{ {word} {{ b() }} }}\n"
        );
        let text = text.as_str();
        assert_eq!(rules("crates/wire/src/a.rs", text).len(), 1);
        assert!(rules("crates/wire/src/a.rs", text)[0].starts_with("crates/wire/src/a.rs:5:"));
        assert_eq!(rules("crates/sys/src/a.rs", text), Vec::<String>::new());
        let attribute = format!("//! A.\n#[{word}(no_mangle)]\nfn a() {{}}\n");
        assert_eq!(rules("crates/wire/src/a.rs", &attribute), Vec::<String>::new());
    }

    #[test]
    fn words_are_found_in_names_and_comments_but_not_in_texts() {
        let bad = "sand\u{62}ox";
        assert_eq!(rules("a.rs", &format!("//! A.\nfn make_{bad}() {{}}\n")).len(), 1);
        assert_eq!(rules("a.rs", &format!("//! A.\n/* the {bad} */\n")).len(), 1);
        assert_eq!(rules("a.rs", &format!("//! A.\nconst A: &str = \"{bad}\";\n")).len(), 0);
    }

    #[test]
    fn a_file_says_what_it_is_for_and_is_not_endless() {
        assert!(rules("a.rs", "fn a() {}\n")[0].contains("//!"));
        assert!(rules("a.rs", &format!("//! A.\n{}", "\n".repeat(MAX_FILE_LINES)))[0].contains("split"));
    }

    #[test]
    fn the_list_of_long_functions_only_shrinks() {
        let long = |lines| BTreeMap::from([("a.rs::f".to_owned(), lines)]);
        assert!(ratchet("", &long(71))[0].contains("split"));
        assert_eq!(ratchet("# why\na.rs::f 80\n", &long(80)), Vec::<String>::new());
        assert!(ratchet("a.rs::f 80\n", &long(81))[0].contains("only shrink"));
        assert!(ratchet("a.rs::f 80\n", &long(75))[0].contains("write that number"));
        assert!(ratchet("a.rs::f 80\n", &BTreeMap::new())[0].contains("remove its line"));
        assert!(ratchet("nonsense\n", &BTreeMap::new())[0].contains("nonsense"));
    }

    #[test]
    fn a_crate_that_is_not_on_the_map_is_found() {
        let places = ["crates/ids".to_owned(), "init".to_owned()];
        assert_eq!(code_map("| `crates/ids` | |\n| `init` |", &places), Vec::<String>::new());
        assert_eq!(code_map("| `crates/ids` |", &places).len(), 1);
    }
}
