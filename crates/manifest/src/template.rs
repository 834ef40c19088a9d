//! What `manifest new` writes.

/// A manifest that grants a shell, three utilities and a scratch directory, with every domain shown.
///
/// The names go in as they are; [`crate::Draft::parse`] says when one of them cannot stand there.
#[must_use]
pub fn template(name: &str, role: &str, operator: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    include_str!("template.toml")
        .replace("@NAME@", &quoted(name))
        .replace("@ROLE@", &quoted(role))
        .replace("@OPERATOR@", &quoted(operator))
}
