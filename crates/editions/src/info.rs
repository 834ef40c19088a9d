//! What there is to know of an edition: a word and its value a line, which PID 1 can read.

/// The file. It is written last, so that an edition that has it is whole.
pub const INFO: &str = "info";

/// What there is to know of an edition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its serial number.
    pub serial: u64,
    /// The SHA-256 of the signed text, in hexadecimal digits.
    pub digest: String,
    /// Where it came from.
    pub source: String,
    /// Who signed it.
    pub operator: String,
    /// With which key: its identifier.
    pub key: String,
    /// Why that key counted: `trusted`, `named` (on the kernel command line), or `first-use`.
    pub trust: String,
    /// When it was accepted, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Info {
    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { serial, digest, source, operator, key, trust, at_ms } = self;
        // A value ends at its line's end.
        let source: String = source.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!(
            "serial {serial}\ndigest {digest}\nsource {source}\noperator {operator}\nkey {key}\ntrust {trust}\nat_ms {at_ms}\n"
        )
    }

    /// Reads the file's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value = |word: &str| text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        Some(Self {
            serial: value("serial")?.parse().ok()?,
            digest: value("digest")?.to_owned(),
            source: value("source")?.to_owned(),
            operator: value("operator")?.to_owned(),
            key: value("key")?.to_owned(),
            trust: value("trust")?.to_owned(),
            at_ms: value("at_ms")?.parse().ok()?,
        })
    }

    /// The words for the record and the console.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { serial, digest, source, operator, trust, .. } = self;
        format!("serial {serial}, sha256 {digest}, signed by {operator} ({trust}), from {source}")
    }
}
