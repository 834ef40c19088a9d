//! What a list of the utilities says beyond their names: which are other names of one, what own ones are built on, and
//! which options of POSIX are missing. docs/utilities.md is made of it.

/// What there is to say of a utility.
#[derive(Debug)]
pub struct Note {
    /// The utility.
    pub name: &'static str,
    /// The one that it is another name of; such are not counted.
    pub alias_of: Option<&'static str>,
    /// The crates that it is built on, where the code around them is Octant's.
    pub crates: &'static str,
    /// Options of the POSIX utility that are not there.
    pub missing: &'static [&'static str],
    /// Where it differs from what scripts expect.
    pub differs: &'static str,
}

const NONE: Note = Note { name: "", alias_of: None, crates: "", missing: &[], differs: "" };

const fn alias(name: &'static str, of: &'static str) -> Note {
    Note { name, alias_of: Some(of), ..NONE }
}

const fn on(name: &'static str, crates: &'static str, differs: &'static str) -> Note {
    Note { name, crates, differs, ..NONE }
}

const fn lacks(name: &'static str, missing: &'static [&'static str], differs: &'static str) -> Note {
    Note { name, missing, differs, ..NONE }
}

/// Utilities without a note have nothing to say.
#[rustfmt::skip] // one utility a line
pub const NOTES: &[Note] = &[
    alias("[", "test"),
    on("awk", "regex", "loops over an array go through whole numbers by their size first; no `|&`, no functions of gawk's own"),
    alias("bunzip2", "bzip2"),
    alias("bzcat", "bzip2"),
    on("bzip2", "bzip2 (libbz2-rs)", ""),
    on("cmp", "diffutils", ""),
    on("cpio", "", "the newc format alone"),
    on("diff", "imara-diff, diffutils (-y)", "where several scripts are equally short it may find another one"),
    alias("dir", "ls"),
    alias("egrep", "grep"),
    alias("fgrep", "grep"),
    Note { crates: "infer", ..lacks("file", &["-M", "-d", "-m"], "knows some hundred kinds") },
    on("find", "findutils", "arguments must be UTF-8"),
    on("grep", "regex-automata, onig (back references, -P)", "what is no character matches nothing in a UTF-8 locale; ranges are those of the characters' numbers"),
    alias("gunzip", "gzip"),
    on("gzip", "flate2 (zlib-rs)", "no list (-l)"),
    on("less", "regex", "holds what it shows in memory; one file after the other"),
    alias("more", "less"),
    alias("netstat", "ss"),
    alias("ping6", "ping"),
    lacks("pr", &["-i", "-p"], ""),
    lacks("sed", &[], "`-z` has no effect; no `\\U`, `\\L`, `\\b`; `w /dev/stdout` does not write there"),
    on("tar", "tar", "writes GNU's format; no sparse files, no -u, -A, -d; names of at most 1024 bytes and 64 levels are extracted, through no link"),
    lacks("test", &[], "compares texts with `<` and `>` too"),
    on("timeout", "uu_timeout", ""),
    alias("unix2dos", "dos2unix"),
    alias("unxz", "xz"),
    on("unzip", "zip, flate2", "stored and deflated members"),
    alias("unzstd", "zstd"),
    alias("vdir", "ls"),
    on("vi", "regex", "no named registers, no marks, no macros, no options but `number`"),
    lacks("wc", &[], "columns of standard input are seven wide; in the C locale too, words are those of UTF-8"),
    Note { crates: "findutils", ..lacks("xargs", &["-p"], "arguments must be UTF-8; empty lines are left out with `-d '\\n'`") },
    on("xz", "lzma-rust2", "one thread"),
    alias("xzcat", "xz"),
    alias("zcat", "gzip"),
    on("zstd", "ruzstd", "one level of compression, that of zstd -1"),
    alias("zstdcat", "zstd"),
];

/// What there is to say of the utility of this name.
#[must_use]
pub fn of(name: &str) -> &'static Note {
    NOTES.iter().find(|note| note.name == name).unwrap_or(&NONE)
}

/// How many utilities there are, other names left out.
#[must_use]
pub fn count() -> usize {
    crate::APPLETS.iter().filter(|applet| of(applet.name).alias_of.is_none()).count()
}

/// docs/utilities.md.
#[must_use]
pub fn page() -> String {
    let mut page = format!(
        "# Utilities\n\n\
        Made from the table of utilities (`crates/applets/src/table.rs`, `notes.rs`) by `UPDATE=1 cargo test -p\n\
        octant-applets`; a test holds it current. {} utilities, other names of one not counted. Each is reached by its name\n\
        (`/bin/NAME`) or as `octant NAME`. Which options of POSIX are missing was found by trying each of them\n\
        (`crates/octant/tests/posix_options.rs`); behaviour is compared with GNU's in `crates/octant/tests/differential.rs`.\n\n\
        | utility | what it does | crate | options of POSIX that are missing | differences |\n|---|---|---|---|---|\n",
        count()
    );
    for applet in crate::APPLETS {
        let note = of(applet.name);
        if note.alias_of.is_some() {
            continue;
        }
        let crate_name = match applet.entry.split("::").next().map(str::trim) {
            Some("crate") if note.crates.is_empty() => "own",
            Some("crate") | None => note.crates,
            Some(name) => name,
        };
        let missing: Vec<String> = note.missing.iter().map(|option| format!("`{option}`")).collect();
        page.push_str(&format!(
            "| `{}` | {} | {crate_name} | {} | {} |\n",
            applet.name,
            applet.about,
            missing.join(" "),
            note.differs
        ));
    }
    page.push_str("\n## Other names\n\n| name | utility |\n|---|---|\n");
    for applet in crate::APPLETS {
        if let Some(alias_of) = of(applet.name).alias_of {
            page.push_str(&format!("| `{}` | `{alias_of}` |\n", applet.name));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::APPLETS;

    #[test]
    fn notes_are_of_utilities_and_other_names_of_others() {
        let has = |name: &str| APPLETS.iter().any(|applet| applet.name == name);
        for note in NOTES {
            assert!(has(note.name), "{}", note.name);
            assert_eq!(NOTES.iter().filter(|other| other.name == note.name).count(), 1, "{}", note.name);
            if let Some(other) = note.alias_of {
                assert!(
                    has(other) && of(other).alias_of.is_none(),
                    "{} is another name of {other}",
                    note.name
                );
            }
        }
    }

    #[test]
    fn the_page_is_the_current_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/utilities.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, page(), "UPDATE=1 cargo test -p octant-applets rewrites docs/utilities.md");
    }
}
