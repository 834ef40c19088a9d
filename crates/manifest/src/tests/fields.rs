//! The table of fields says what the reader reads; the schema and the manual are made of it.

use crate::{Draft, FIELDS, Problem, json_schema, manual};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)
}

/// The file must say this; `UPDATE=1` writes it.
fn golden(file: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(docs(file), text).unwrap();
    }
    let kept = fs::read_to_string(docs(file)).unwrap_or_default();
    assert!(kept == text, "docs/{file} differs; UPDATE=1 cargo test -p octant-manifest rewrites it");
}

#[test]
fn the_table_has_every_field_of_the_reader_and_no_other() {
    let sections: BTreeSet<&str> = FIELDS.iter().map(|field| field.parts().0).collect();
    let known = |text: &str, field: &str| -> BTreeSet<String> {
        let errors = Draft::parse(text.as_bytes()).unwrap_err();
        let found = errors.iter().find(|error| error.field == field).unwrap_or_else(|| panic!("{errors}"));
        let Problem::UnknownField { known, .. } = &found.problem else { panic!("{found}") };
        known.iter().cloned().collect()
    };
    let mut top = known("manifest = 1\n[zzzzzzzz]", "zzzzzzzz");
    assert!(top.remove("manifest"));
    assert_eq!(top, sections.iter().map(|s| (*s).to_owned()).collect());
    for section in sections {
        let read = known(&format!("manifest = 1\n[{section}]\nzzzzzzzz = 1"), &format!("{section}.zzzzzzzz"));
        let table =
            FIELDS.iter().filter(|f| f.parts().0 == section).map(|f| f.parts().1.to_owned()).collect();
        assert_eq!(read, table, "{section}");
    }
}

#[test]
fn what_the_table_calls_necessary_is() {
    for field in FIELDS {
        let (section, name) = field.parts();
        let text = format!("manifest = 1\n[{section}]");
        let errors = Draft::parse(text.as_bytes()).unwrap_err();
        let missing = errors
            .iter()
            .any(|e| e.field == format!("{section}.{name}") && matches!(e.problem, Problem::Missing(_)));
        assert_eq!(missing, field.absent.is_none(), "{}", field.name);
    }
}

#[test]
fn the_schema_and_the_manual_are_the_golden_ones() {
    golden("manifest.schema.json", &format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap()));
    let page = fs::read_to_string(docs("manifest.md")).unwrap();
    let (start, end) = ("<!-- fields -->\n", "<!-- end of fields -->");
    let (before, rest) = page.split_once(start).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    golden("manifest.md", &format!("{before}{start}{}\n{end}{after}", manual()));
}
