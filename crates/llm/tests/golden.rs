//! The table of golden conversations: what providers and programs say, by hand from the formats that they publish, and
//! what it is as events and in every other dialect. `UPDATE=1` writes the `.out` files anew.

use octant_llm::{Dialect, Event, Kind, Request, estimate};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const NAMES: [(&str, Dialect); 7] = [
    ("chat", Dialect::Chat),
    ("responses", Dialect::Responses),
    ("anthropic", Dialect::Anthropic),
    ("ollama-generate", Dialect::OllamaGenerate),
    ("ollama", Dialect::OllamaChat),
    ("gemini", Dialect::Gemini),
    ("bedrock", Dialect::Bedrock),
];

fn dialect(name: &str) -> Dialect {
    NAMES.iter().find(|(begin, _)| name.starts_with(begin)).expect("begins with a dialect").1
}

/// Every file of the table, with what `say` makes of it held against what stands there.
fn table(folder: &str, least: usize, say: impl Fn(&str, &[u8]) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "in"));
    files.sort();
    assert!(files.len() >= least, "only {} files in {}", files.len(), folder.display());
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let said = say(name, &fs::read(&path).unwrap());
        let golden = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &said).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(said == expected, "{} is now:\n{said}", golden.display());
    }
}

/// Frames of an event stream, from lines of a name and a payload; an exception's name begins with `!`.
fn framed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let (name, payload) = line.split_once('\t').unwrap();
        let (header, sort, name) = match name.strip_prefix('!') {
            Some(name) => (":exception-type", "exception", name),
            None => (":event-type", "event", name),
        };
        let mut headers = Vec::new();
        for (header, value) in
            [(header, name), (":content-type", "application/json"), (":message-type", sort)]
        {
            headers.push(u8::try_from(header.len()).unwrap());
            headers.extend_from_slice(header.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let mut frame = Vec::new();
        let length = 12 + headers.len() + payload.len() + 4;
        frame.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        frame.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&crc(&frame).to_be_bytes());
        frame.extend_from_slice(&headers);
        frame.extend_from_slice(payload.as_bytes());
        frame.extend_from_slice(&crc(&frame).to_be_bytes());
        out.extend_from_slice(&frame);
    }
    out
}

/// CRC-32 (IEEE 802.3), bit by bit: another way than that of the crate.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn heard(dialect: Dialect, bytes: &[u8], size: usize) -> Vec<Event> {
    let mut decoder = dialect.decoder();
    let mut events: Vec<Event> = bytes.chunks(size).flat_map(|piece| decoder.push(piece)).collect();
    events.extend(decoder.end());
    events
}

#[test]
fn streams() {
    table("streams", 25, |name, bytes| {
        let dialect = dialect(name);
        let bytes = if dialect == Dialect::Bedrock { framed(bytes) } else { bytes.to_vec() };
        let events = heard(dialect, &bytes, bytes.len());
        assert_eq!(heard(dialect, &bytes, 1), events, "{name} byte for byte");
        let mut out = String::from("# events\n");
        for event in &events {
            writeln!(out, "{event:?}").unwrap();
        }
        let request = Request { stream: true, stream_usage: true, ..Request::default() };
        for (name, to) in NAMES {
            let mut encoder = to.encoder(&request);
            let mut bytes = Vec::new();
            events.iter().for_each(|event| encoder.event(event, &mut bytes));
            assert!(encoder.ended());
            if to != Dialect::Bedrock {
                writeln!(out, "\n# {name}\n{}", String::from_utf8(bytes).unwrap().trim_end()).unwrap();
            }
        }
        out
    });
}

#[test]
fn requests() {
    table("requests", 12, |name, bytes| {
        let mut out = String::new();
        let request = match dialect(name).read_request(bytes) {
            Ok(request) => request,
            Err(failure) => return format!("refused: {failure}\n"),
        };
        writeln!(out, "# estimate\n{}", estimate(&request)).unwrap();
        for (name, to) in NAMES {
            writeln!(out, "\n# {name}").unwrap();
            match to.write_request(&request) {
                Ok(body) => {
                    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    assert!(value.is_object());
                    writeln!(out, "{}", String::from_utf8(body).unwrap()).unwrap();
                }
                Err(failure) => {
                    assert!(failure.field.is_some() && failure.kind == Kind::Untranslatable, "{failure:?}");
                    writeln!(out, "refused: {failure}").unwrap();
                }
            }
        }
        out
    });
}

#[test]
fn answers() {
    table("answers", 6, |name, bytes| {
        let events = match dialect(name).read_answer(bytes) {
            Ok(events) => events,
            Err(failure) => return format!("failed: {failure:?}\n"),
        };
        let mut out = String::from("# events\n");
        for event in &events {
            writeln!(out, "{event:?}").unwrap();
        }
        for (name, to) in NAMES {
            let said = match to.write_answer(&Request::default(), &events) {
                Ok(body) => String::from_utf8(body).unwrap(),
                Err(failure) => format!("failed: {failure}"),
            };
            writeln!(out, "\n# {name}\n{said}").unwrap();
        }
        out
    });
}

/// A status, headers and a body, as HTTP has them; then what it is, and how each dialect says it.
#[test]
fn failures() {
    table("failures", 12, |name, bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().parse().unwrap();
        let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        let failure = dialect(name).read_failure(status, &headers, body.trim_end().as_bytes());
        let mut out = format!("{failure:?}\n");
        for (name, to) in NAMES {
            let (status, body) = to.write_failure(&failure);
            writeln!(out, "{name} {status} {}", String::from_utf8(body).unwrap()).unwrap();
        }
        out
    });
}
