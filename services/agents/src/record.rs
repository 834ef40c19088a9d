//! The text of the kernel's audit records.

/// One record: when it was made, and what it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// In milliseconds since 1970.
    pub(crate) ms: u64,
    fields: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a record's text; none when it is not as this build knows it.
    ///
    /// `audit(1700000000.123:45): name=value name="text" name=68657820 …`. The kernel writes a text with a quote, a space or
    /// anything unprintable in hexadecimal, so that no text can look like a field.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end_matches(['\0', '\n']);
        let (stamp, fields) = text.strip_prefix("audit(")?.split_once("): ")?;
        let (seconds, rest) = stamp.split_once('.')?;
        let millis = rest.split_once(':')?.0;
        let ms = seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis.parse().ok()?)?;
        Some(Self { ms, fields })
    }

    /// A field as it stands there.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        self.fields
            .split(' ')
            .find_map(|field| field.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
    }

    /// A field that has a text of somebody's choice.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let said = self.field(name)?;
        if let Some(plain) = said.strip_prefix('"') {
            return plain.strip_suffix('"').map(str::to_owned);
        }
        let digits: Option<Vec<u8>> = said
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        Some(String::from_utf8_lossy(&digits?).into_owned())
    }
}
