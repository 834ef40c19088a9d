//! JSON written in the order it is said, on one line whatever is put into it.

use std::fmt::Display;

/// An object that is being written; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

/// A list that is being written; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct List<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

/// Writes a string.
fn string(out: &mut Vec<u8>, text: &str) {
    // Into memory nothing can fail, and a string is always JSON.
    let _written = serde_json::to_writer(out, text);
}

/// Writes JSON text. A line break in it can only stand between its tokens; it would end the line of a stream.
fn raw(out: &mut Vec<u8>, json: &str) {
    out.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

fn comma(out: &mut Vec<u8>, empty: &mut bool) {
    if !std::mem::take(empty) {
        out.push(b',');
    }
}

impl<'a> Object<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        comma(self.out, &mut self.empty);
        string(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        string(self.name(name), text);
    }

    /// A number, `true`, `false` or `null`.
    pub(crate) fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name).extend_from_slice(value.to_string().as_bytes());
    }

    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(name, value);
        }
    }

    pub(crate) fn maybe_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(crate) fn null(&mut self, name: &str) {
        self.raw(name, "null");
    }

    /// JSON text.
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        raw(self.name(name), json);
    }

    pub(crate) fn object(&mut self, name: &str) -> Object<'_> {
        Object::new(self.name(name))
    }

    pub(crate) fn list(&mut self, name: &str) -> List<'_> {
        List::new(self.name(name))
    }

    /// A list of strings, if there are any.
    pub(crate) fn texts(&mut self, name: &str, texts: &[String]) {
        if !texts.is_empty() {
            let mut list = self.list(name);
            texts.iter().for_each(|text| list.text(text));
        }
    }
}

impl<'a> List<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, empty: true }
    }

    fn next(&mut self) -> &mut Vec<u8> {
        comma(self.out, &mut self.empty);
        self.out
    }

    pub(crate) fn text(&mut self, text: &str) {
        string(self.next(), text);
    }

    pub(crate) fn raw(&mut self, json: &str) {
        raw(self.next(), json);
    }

    pub(crate) fn object(&mut self) -> Object<'_> {
        Object::new(self.next())
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push(b'}');
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        self.out.push(b']');
    }
}
