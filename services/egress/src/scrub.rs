//! How secrets are taken out of what comes back. Pure.

use aho_corasick::packed::Searcher;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hyper::body::Bytes;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// So much of what may be the begin of a secret is not held back for ever.
const LITTLE: usize = 4;
/// What stands in place of each byte of a secret in an answer, so that nothing changes its length.
const MASK: u8 = b'*';

/// The forms in which a host may give back a secret that it was sent.
fn forms(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![Zeroizing::new(secret.to_vec())];
    // So large from the begin that no copy is left behind by growing.
    let room = || String::with_capacity(3 * secret.len());
    let (mut low, mut high, mut percent, mut all) = (room(), room(), room(), room());
    // With the digits of escapes in lower case, and letters as they are.
    let mut lower = room();
    for &byte in secret {
        // Writing into a string does not fail.
        let _ = write!(low, "{byte:02x}");
        let _ = write!(high, "{byte:02X}");
        let _ = write!(all, "%{byte:02X}");
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            percent.push(char::from(byte));
            lower.push(char::from(byte));
        } else {
            let _ = write!(percent, "%{byte:02X}");
            let _ = write!(lower, "%{byte:02x}");
        }
    }
    for lower in [&percent, &all].map(|text| text.to_ascii_lowercase()) {
        forms.push(Zeroizing::new(lower.into_bytes()));
    }
    if let Ok(json) = serde_json::to_string(&String::from_utf8_lossy(secret)).map(Zeroizing::new) {
        forms.push(Zeroizing::new(json.trim_matches('"').as_bytes().to_vec()));
    }
    forms.extend([low, high, percent, lower, all].map(|text| Zeroizing::new(text.into_bytes())));
    // In base64 the same bytes look otherwise by how many others stand before them; what depends on their neighbours is
    // left out.
    for before in 0..3 {
        let bytes = Zeroizing::new([&[0_u8; 2][..before], secret].concat());
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&*bytes), URL_SAFE_NO_PAD.encode(&*bytes)].map(Zeroizing::new) {
            forms.push(Zeroizing::new(text.as_bytes()[first..end].to_vec()));
        }
    }
    forms.sort_by(|one, other| one.as_slice().cmp(other.as_slice()));
    forms.dedup();
    forms
}

/// One secret, as it is looked for.
struct Forms {
    all: Vec<Zeroizing<Vec<u8>>>,
    /// How long the longest is.
    longest: usize,
    /// Looks for all of them in one pass; none where the processor has no instructions for it. What it keeps of them is left in
    /// the worker's memory, as other parts of a request are.
    searcher: Option<Searcher>,
    /// The bytes that one of them begins with.
    first: Vec<u8>,
}

impl Forms {
    fn of(secret: &[u8]) -> Self {
        let all = forms(secret);
        let longest = all.iter().map(|form| form.len()).max().unwrap_or(0);
        let mut first: Vec<u8> = all.iter().filter_map(|form| form.first().copied()).collect();
        first.dedup();
        Self { longest, searcher: Searcher::new(all.iter().map(|form| form.as_slice())), first, all }
    }

    /// Where the next of them begins.
    fn next(&self, raw: &[u8], from: usize) -> Option<usize> {
        match &self.searcher {
            Some(searcher) => searcher.find_in(raw, (from..raw.len()).into()).map(|found| found.start()),
            None => (from..raw.len()).find(|at| {
                let rest = &raw[*at..];
                self.first.contains(&rest[0]) && self.all.iter().any(|form| rest.starts_with(form))
            }),
        }
    }

    /// From where on it may be the begin of one of them that goes on in the next piece.
    fn begin(&self, raw: &[u8]) -> usize {
        let first = (raw.len() + 1).saturating_sub(self.longest);
        let begins = |at: &usize| {
            let rest = &raw[*at..];
            self.first.contains(&rest[0]) && self.all.iter().any(|form| form.starts_with(rest))
        };
        (first..raw.len()).find(begins).unwrap_or(raw.len())
    }

    fn mask(&self, raw: &[u8], shown: &mut [u8]) {
        let mut from = 0;
        while let Some(at) = self.next(raw, from) {
            for form in self.all.iter().filter(|form| raw[at..].starts_with(form)) {
                shown[at..at + form.len()].fill(MASK);
            }
            from = at + 1;
        }
    }
}

/// Takes secrets out of what comes back, however it is cut into pieces.
#[derive(Default)]
pub(crate) struct Scrub {
    forms: Vec<Forms>,
    /// What came and may be the begin of a secret.
    raw: Zeroizing<Vec<u8>>,
    /// The same, without what was found.
    shown: Zeroizing<Vec<u8>>,
    /// How much of it has gone on already.
    released: usize,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("secrets", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Scrub {
    /// Looks for this secret too.
    pub(crate) fn add(&mut self, secret: &[u8]) {
        self.forms.push(Forms::of(secret));
    }

    fn mask(&self, raw: &[u8], shown: &mut [u8]) {
        self.forms.iter().for_each(|forms| forms.mask(raw, shown));
    }

    fn begin(&self, raw: &[u8]) -> usize {
        self.forms.iter().map(|forms| forms.begin(raw)).min().unwrap_or(raw.len())
    }

    /// Without any of them.
    pub(crate) fn whole(&self, text: &[u8]) -> Vec<u8> {
        let mut shown = text.to_vec();
        self.mask(text, &mut shown);
        shown
    }

    /// Takes the next piece, and gives what can go on: all but what may be the begin of a secret.
    pub(crate) fn push(&mut self, mut piece: Bytes) -> Bytes {
        // Nothing before it, and none of them in it: nearly always, and then it goes on as it is.
        if self.raw.is_empty() && self.forms.iter().all(|forms| forms.next(&piece, 0).is_none()) {
            let held = piece.split_off(self.begin(&piece));
            self.raw.extend_from_slice(&held);
            self.shown.extend_from_slice(&held);
            return piece;
        }
        self.raw.extend_from_slice(&piece);
        self.shown.extend_from_slice(&piece);
        let mut shown = std::mem::take(&mut self.shown);
        self.mask(&self.raw, &mut shown);
        let keep = self.begin(&self.raw);
        let goes = shown[self.released.min(keep)..keep].to_vec();
        self.released = self.released.saturating_sub(keep);
        self.raw = Zeroizing::new(self.raw[keep..].to_vec());
        self.shown = Zeroizing::new(shown[keep..].to_vec());
        goes.into()
    }

    /// Whether what is held back is so little that it hardly is the begin of a secret.
    pub(crate) fn holds_little(&self) -> bool {
        let seen = self.shown.iter().filter(|byte| **byte != MASK).count();
        self.released < self.shown.len() && seen <= LITTLE
    }

    /// What is held back, for a reader that would wait for ever: what follows it is still looked at together with it.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        let goes = self.shown[self.released..].to_vec();
        self.released = self.shown.len();
        goes
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let goes = self.release();
        *self = Self { forms: std::mem::take(&mut self.forms), ..Self::default() };
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "ghp_S3cr+et/\"value\\";

    fn scrubbed(text: &[u8], cuts: usize) -> Vec<u8> {
        let mut scrub = Scrub::default();
        scrub.add(SECRET.as_bytes());
        let mut out = Vec::new();
        for piece in text.chunks(cuts) {
            out.extend(scrub.push(Bytes::copy_from_slice(piece)));
        }
        out.extend(scrub.end());
        out
    }

    #[test]
    fn every_form_is_found_however_it_is_cut() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let texts = [
            SECRET.to_owned(),
            hex.to_uppercase(),
            hex,
            "ghp_S3cr%2Bet%2F%22value%5C".to_owned(),
            serde_json::to_string(SECRET).unwrap(),
        ];
        for text in texts {
            let whole = format!("before {text} after");
            for cuts in 1..whole.len() {
                let out = scrubbed(whole.as_bytes(), cuts);
                let out = String::from_utf8(out).unwrap();
                assert_eq!(out.len(), whole.len());
                let left = out.trim_start_matches("before ").trim_end_matches(" after").trim_matches('"');
                assert!(left.bytes().all(|byte| byte == MASK), "{cuts}: {out}");
            }
        }
        for user in ["u:", "us:", "use:"] {
            let text = STANDARD_NO_PAD.encode(format!("{user}{SECRET} and more"));
            let out = String::from_utf8(scrubbed(text.as_bytes(), 5)).unwrap();
            assert!(out.matches('*').count() + 2 >= SECRET.len() * 8 / 6, "{out}");
        }
    }

    #[test]
    fn without_the_instructions_for_it_the_same_is_found() {
        let text = format!("a {SECRET} {SECRET}{SECRET} b");
        let mut scrub = Scrub::default();
        scrub.add(SECRET.as_bytes());
        let quick = scrub.whole(text.as_bytes());
        assert!(scrub.forms[0].searcher.take().is_some() && !quick.windows(4).any(|part| part == b"ghp_"));
        assert_eq!(scrub.whole(text.as_bytes()), quick);
    }

    #[test]
    fn what_is_released_early_is_hardly_anything() {
        let mut scrub = Scrub::default();
        scrub.add(SECRET.as_bytes());
        let (text, mut out) = (format!("say g{SECRET}g"), Vec::new());
        for byte in text.bytes() {
            out.extend(scrub.push(Bytes::copy_from_slice(&[byte])));
            if scrub.holds_little() {
                out.extend(scrub.release());
            }
        }
        out.extend(scrub.end());
        let out = String::from_utf8(out).unwrap();
        let masked = "*".repeat(SECRET.len() - LITTLE);
        assert_eq!(out, format!("say g{}{masked}g", &SECRET[..LITTLE]));
    }

    proptest! {
        #[test]
        fn what_is_no_secret_goes_through_as_it_is(text in "[a-z_S3%]{0,200}", cuts in 1_usize..20) {
            prop_assert_eq!(scrubbed(text.as_bytes(), cuts), text.as_bytes());
        }

        #[test]
        fn pieces_and_the_whole_are_the_same(text in "(ghp_|S3cr\\+et/|\"value|\\\\|x){0,40}", cuts in 1_usize..30) {
            let mut scrub = Scrub::default();
            scrub.add(SECRET.as_bytes());
            prop_assert_eq!(scrubbed(text.as_bytes(), cuts), scrub.whole(text.as_bytes()));
        }
    }
}
