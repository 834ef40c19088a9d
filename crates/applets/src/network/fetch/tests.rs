//! Against a server on loopback that says what it is told and keeps what it was asked.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// Answers connections one after the other; what each was asked comes out of the channel.
fn server(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut asked, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().unwrap();
                }
                asked.push_str(&line);
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            asked.push_str(&String::from_utf8(body).unwrap());
            sender.send(asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (at, receiver)
}

fn answer(status: &str, heads: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{heads}Connection: close\r\n\r\n{body}", body.len())
}

/// A file in a directory of this test's.
fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("octant-fetch-{}-{name}", std::process::id()))
}

fn call(line: &[&str]) -> Result<i32, Failed> {
    run(["fetch"].iter().chain(line).map(OsString::from).collect())
}

#[test]
fn a_file_is_fetched_and_gone_on_with() {
    let path = place("whole");
    let out = path.to_str().unwrap();
    let (at, asked) = server(vec![
        answer("200 OK", "", "first "),
        answer("206 Partial Content", "Content-Range: bytes 6-11/12\r\n", "second"),
        answer("416 Range Not Satisfiable", "Content-Range: bytes */12\r\n", ""),
        answer("200 OK", "", "everything"),
    ]);
    assert_eq!(call(&["-o", out, "-H", "X-A: 1", &format!("{at}/x?y")]).map_err(|failed| failed.why), Ok(0));
    let first = asked.recv().unwrap();
    assert!(first.starts_with("GET /x?y HTTP/1.1\r\n") && first.contains("x-a: 1\r\n"), "{first}");
    assert!(first.contains(&format!("host: {}\r\n", &at[7..])) && !first.contains("range"), "{first}");
    assert_eq!(call(&["-C", "-", "-o", out, &at]).map_err(|failed| failed.why), Ok(0));
    assert!(asked.recv().unwrap().contains("range: bytes=6-\r\n"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first second");
    assert_eq!(call(&["-C", "-", "-o", out, &at]).map_err(|failed| failed.why), Ok(0), "it has everything");
    assert_eq!(call(&["-C", "-", "-o", out, &at]).unwrap_err().code, NO_RANGE);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first second", "nothing is written over");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_password_does_not_follow_to_another_server_and_a_form_becomes_a_question() {
    let (other, seen) = server(vec![answer("200 OK", "", "")]);
    let (at, asked) = server(vec![answer("302 Found", &format!("Location: {other}/there\r\n"), "")]);
    let path = place("pointed");
    let line = ["-L", "-o", path.to_str().unwrap(), "-u", "me:secret", "-d", "a=b", "-d", "c=d", &at];
    assert_eq!(call(&line).map_err(|failed| failed.why), Ok(0));
    let first = asked.recv().unwrap();
    assert!(first.starts_with("POST / ") && first.ends_with("\r\n\r\na=b&c=d"), "{first}");
    assert!(first.contains("authorization: Basic bWU6c2VjcmV0\r\n"), "{first}");
    let second = seen.recv().unwrap();
    assert!(second.starts_with("GET /there ") && !second.contains("authorization"), "{second}");
    assert!(!second.contains("content-type") && second.ends_with("\r\n\r\n"), "{second}");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn failures_have_curls_codes() {
    let (at, _asked) = server(vec![
        answer("404 Not Found", "", "no"),
        answer("302 Found", "Location: ftp://a/\r\n", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_owned(),
    ]);
    let path = place("failed");
    let out = path.to_str().unwrap();
    assert_eq!(call(&["-f", "-o", out, &at]).unwrap_err().code, HTTP_ERROR);
    assert!(!path.exists(), "nothing is made for an error");
    assert_eq!(call(&["-L", "-o", out, &at]).unwrap_err().code, RECEIVE);
    for _ in 0..2 {
        assert_eq!(call(&["-o", out, &at]).unwrap_err().code, RECEIVE, "an answer that is cut is no answer");
    }
    std::fs::remove_file(&path).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (line, code) in [
        (vec![format!("http://{closed}/")], 7),
        (vec!["ftp://a/".to_owned()], 3),
        (vec!["-C".into(), "-".into(), "http://a/".into()], USAGE),
        (vec!["-X".into(), "A B".into(), "http://a/".into()], USAGE),
        (vec!["-H".into(), "nothing".into(), "http://a/".into()], USAGE),
        (vec!["--cacert".into(), "/dev/null".into(), format!("https://{closed}/")], 7),
    ] {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        assert_eq!(call(&line).unwrap_err().code, code, "{line:?}");
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_not_spoken_to_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        first[0]
    });
    assert_eq!(call(&["-H", "X: secret", &format!("https://{at}/")]).unwrap_err().code, 35);
    assert_eq!(answering.join().unwrap(), 22, "a TLS handshake, nothing else");
}
