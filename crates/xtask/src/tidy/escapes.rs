//! Each historic escape in docs/escapes.md is covered by tests that are there.

use std::collections::BTreeSet;

/// The page, below the checkout.
pub(super) const PAGE: &str = "docs/escapes.md";

/// The names of tests in one source: its functions, and the attempts of the probe, which are texts.
pub(super) fn names(text: &str) -> BTreeSet<String> {
    let function = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        Some(name.split(['(', '<']).next()?.to_owned())
    };
    let attempt = |line: &str| Some(line.trim_start().strip_prefix("(\"")?.split('"').next()?.to_owned());
    text.lines().filter_map(|line| function(line).or_else(|| attempt(line))).collect()
}

/// What is wrong with the page: rows without a test, tests that are none.
pub(super) fn check(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| ")).skip(1);
    for (number, line) in rows {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        // Between two backticks is every second part.
        let named: Vec<&str> =
            cells.last().map(|cell| cell.split('`').skip(1).step_by(2).collect()).unwrap_or_default();
        let at = format!("{PAGE}:{}", number + 1);
        if named.is_empty() {
            findings.push(format!("{at}: an escape without a test"));
        }
        for name in named.into_iter().filter(|name| !tests.contains(*name)) {
            findings.push(format!("{at}: there is no test `{name}`"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_test_and_a_test_that_is_none_are_found() {
        let source = "pub(crate) fn a_wall_holds() {\n    fn inner<T>(x: T) {}\n    (\"sockets are denied\", sockets),\n";
        let tests = names(source);
        let page =
            |cell: &str| format!("# T\n| escape | how | tests |\n|---|---|---|\n| a `b` | c | {cell} |\n");
        let of = |cell: &str| check(&page(cell), &tests);
        assert!(of("`a_wall_holds`, `sockets are denied`").is_empty());
        assert_eq!(of("`a_wall_held`"), ["docs/escapes.md:4: there is no test `a_wall_held`"]);
        assert_eq!(of("none"), ["docs/escapes.md:4: an escape without a test"]);
    }
}
