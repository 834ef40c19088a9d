//! Archives that the kernel unpacks over an image.

/// A writer of the "newc" format (initramfs buffer format, Documentation/driver-api/early-userspace).
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// A directory; the one above it must be there.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    /// A file.
    ///
    /// # Panics
    /// When it is longer than the format can say.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let length = |n: usize| u32::try_from(n).unwrap_or_else(|_| panic!("{name} is too large for cpio"));
        let fields =
            [self.inode, mode, 0, 0, 1, 0, length(content.len()), 0, 0, 0, 0, length(name.len() + 1), 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive, with its end marked.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// The archive without one of its files.
///
/// # Panics
/// When it is no archive of this format, or the file is not in it.
#[must_use]
pub fn without(archive: &[u8], file: &str) -> Vec<u8> {
    let (mut out, mut rest, mut found) = (Vec::new(), archive, false);
    loop {
        let number = |at: usize| {
            let digits = std::str::from_utf8(&rest[at..at + 8]).unwrap_or_default();
            usize::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("not an archive: {e}"))
        };
        // The length of the content and that of the name, behind a header of 110 bytes.
        let (content, name) = (number(54), number(94));
        let text = &rest[110..110 + name - 1];
        let end = (110 + name).next_multiple_of(4) + content.next_multiple_of(4);
        if text == file.as_bytes() {
            found = true;
        } else {
            out.extend(&rest[..end]);
        }
        if text == b"TRAILER!!!" {
            assert!(found, "{file} is not in the archive");
            return out;
        }
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_out_and_the_others_stay_as_they_are() {
        let archive = |names: &[&str]| {
            let mut archive = Cpio::default();
            names.iter().for_each(|name| archive.file(name, 0o644, name.as_bytes()));
            archive.finish()
        };
        let less = without(&archive(&["a", "bcd", "efghi"]), "bcd");
        let names = |bytes: &[u8]| bytes.windows(6).filter(|part| part == b"070701").count();
        assert_eq!(names(&less), 3);
        assert!(!less.windows(3).any(|part| part == b"bcd"));
        assert_eq!(without(&archive(&["a"]), "a").len(), without(&archive(&["b"]), "b").len());
    }
}
