//! Requests that are signed: an upstream that makes out by itself whether the signature is right, by what came over the wire.

use super::{KEY, PLENTY, Script, Upstream, World, json, outcome};
use hmac::{Hmac, Mac};
use serde_json::json as value;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// The key in the vault, by its parts.
pub(super) const ID: &str = "AKIDEXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(super) const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN/+=";

const ANSWER: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hello"}]}},"stopReason":"end_turn","usage":{"inputTokens":9,"outputTokens":3,"totalTokens":12},"metrics":{"latencyMs":5}}"#;
const ASKED: &str = r#"{"model":"p-a/m.a-v1:0","messages":[{"role":"user","content":"Hi – you"}]}"#;

/// A deployment on loopback whose requests are signed, with this key.
fn deployment(at: SocketAddr, key: &str) -> String {
    format!(
        "[[provider]]\nname = \"p-a\"\nbase = \"http://{at}/gate\"\ndialect = \"bedrock\"\nauth = \"sigv4\"\nheaders = {{ x-amzn-trace = \"a  b\" }}\n\
         [[deployment]]\nname = \"a\"\nprovider = \"p-a\"\nmodel = \"m.a-v1:0\"\nkey = \"{key}\"\nvalues = {{ region = \"eu-central-1\" }}\n\
         window = 100000\nmax_output = 1000\nprice = {{ input = 1000000, output = 2000000 }}\n\
         can = [\"answers\", \"streaming\", \"tools\"]\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether a request, as it came, is signed with this secret; AWS's documents in the words of this test.
fn is_signed(asked: &str, secret: &str) -> bool {
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let path = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let of = |name: &str| headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| *value);
    let said = of("authorization");
    let field = |name: &str| said.split_once(name).unwrap().1.split(',').next().unwrap();
    let (credential, names, signature) = (field("Credential="), field("SignedHeaders="), field("Signature="));
    let own = |name: &&str| *name == "host" || *name == "content-type" || name.starts_with("x-amz");
    let due = headers
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(own)
        .all(|name| names.split(';').any(|n| n == name));
    let spaced = |value: &str| value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", spaced(of(name)))).collect();
    // Every `%` of the path that is sent is one to encode; nothing else in it is.
    let request = format!(
        "POST\n{}\n\n{lines}\n{names}\n{}",
        path.replace('%', "%25"),
        hex(&Sha256::digest(body.as_bytes()))
    );
    let scope = credential.strip_prefix(ID).unwrap().strip_prefix('/').unwrap();
    let at = of("x-amz-date");
    assert_eq!(scope, format!("{}/eu-central-1/bedrock/aws4_request", &at[..8]));
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, step| mac(&key, step));
    due && hex(&mac(&key, &text)) == signature
}

/// The checksum of frames (CRC-32, IEEE 802.3), bit by bit.
fn crc32(bytes: &[u8]) -> [u8; 4] {
    let step = |sum: u32, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg());
    let sum = bytes.iter().fold(!0_u32, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step));
    (!sum).to_be_bytes()
}

/// An event as a frame of `application/vnd.amazon.eventstream`.
fn frame(kind: &str, payload: &str) -> Vec<u8> {
    let mut names = Vec::new();
    for (name, said) in
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
    {
        names.push(u8::try_from(name.len()).unwrap());
        names.extend(name.as_bytes());
        names.push(7);
        names.extend(u16::try_from(said.len()).unwrap().to_be_bytes());
        names.extend(said.as_bytes());
    }
    let four = |count: usize| u32::try_from(count).unwrap().to_be_bytes();
    let mut frame = [four(names.len() + payload.len() + 16), four(names.len())].concat();
    frame.extend(crc32(&frame));
    frame.extend([&names, payload.as_bytes()].concat());
    frame.extend(crc32(&frame));
    frame
}

fn stream() -> Script {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nConnection: close\r\n\r\n";
    let frames = [
        frame("messageStart", r#"{"role":"assistant"}"#),
        frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"Hello"}}"#),
        frame("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        frame("messageStop", r#"{"stopReason":"end_turn"}"#),
        frame(
            "metadata",
            r#"{"usage":{"inputTokens":9,"outputTokens":3,"totalTokens":12},"metrics":{"latencyMs":5}}"#,
        ),
    ]
    .concat();
    // Cut where no frame ends.
    let (one, two) = frames.split_at(frames.len() / 2);
    vec![head.into(), one.to_vec(), two.to_vec()]
}

#[tokio::test]
async fn a_request_is_signed_and_the_key_does_not_travel() {
    let upstream = Upstream::new(vec![json("200 OK", ANSWER), stream()]).await;
    let world = World::new(&deployment(upstream.at, "test/aws"), &["p-a/*"], PLENTY).await;
    let (status, _, answer) = world.ask("/v1/chat/completions", ASKED).await;
    assert!(status == 200 && answer.contains("Hello"), "{status} {answer}");
    let asked = upstream.last();
    assert!(asked.starts_with("POST /gate/model/m.a-v1%3A0/converse HTTP/1.1\r\n"), "{asked}");
    assert!(is_signed(&asked, SECRET), "{asked}");
    assert!(
        asked.contains(&format!("x-amz-security-token: {TOKEN}\r\n")) && !asked.contains(SECRET),
        "{asked}"
    );
    // The test can fail: another key, path, body or header is not what was signed.
    assert!(!is_signed(&asked, &SECRET.replace('w', "v")));
    for (from, to) in
        [("/converse", "/x"), ("Hi", "Ho"), ("x-amzn-trace: a", "x-amzn-trace: b"), ("date: ", "date: 1")]
    {
        let changed = asked.replacen(from, to, 1);
        assert!(
            changed != asked && !std::panic::catch_unwind(|| is_signed(&changed, SECRET)).unwrap_or(false)
        );
    }
    let streamed = ASKED.replacen('{', r#"{"stream":true,"#, 1);
    let (status, head, answer) = world.ask("/v1/chat/completions", &streamed).await;
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
    assert!(status == 200 && answer.contains("Hello") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
    assert!(upstream.last().contains("/converse-stream HTTP/1.1") && is_signed(&upstream.last(), SECRET));
    let lines = world.lines(4).await;
    let done = outcome(&lines);
    assert_eq!((&done["done"], &done["usage"]["output"]), (&value!(true), &value!(3)));
    let all = format!("{lines:?} {:?} {}", world.router, world.router.metrics.text());
    assert!([SECRET, TOKEN].iter().all(|secret| !all.contains(secret)), "{all}");
}

#[tokio::test]
async fn what_an_upstream_says_of_a_signature_has_no_token_and_the_key_is_out() {
    let reflected =
        format!(r#"{{"message":"The Canonical String should have been x-amz-security-token:{TOKEN}"}}"#);
    let script = json("403 Forbidden\r\nx-amzn-ErrorType: InvalidSignatureException:http://x", &reflected);
    let upstream = Upstream::new(vec![script]).await;
    let world = World::new(&deployment(upstream.at, "test/aws"), &["p-a/*"], PLENTY).await;
    // The second time nobody is left to ask.
    for wanted in [401, 503] {
        let (status, _, answer) = world.ask("/v1/chat/completions", ASKED).await;
        assert_eq!(status, wanted, "{answer}");
        assert!(!answer.contains(TOKEN), "{answer}");
        assert!(wanted == 503 || answer.contains("x-amz-security-token:[key]"), "{answer}");
    }
    assert_eq!(upstream.asked.lock().unwrap().len(), 1, "until an operator has looked");
    assert!(!format!("{:?}", world.lines(2).await).contains(TOKEN));
}

#[tokio::test]
async fn a_secret_that_is_no_key_of_aws_signs_nothing_and_is_not_shown() {
    let upstream = Upstream::new(vec![json("200 OK", ANSWER)]).await;
    let world = World::new(&deployment(upstream.at, "test/key"), &["p-a/*"], PLENTY).await;
    let (status, _, answer) = world.ask("/v1/chat/completions", ASKED).await;
    assert_eq!(status, 401, "{answer}");
    for word in ["test/key", "ACCESS-KEY-ID:SECRET", "AccessKeyId", "octant vault rotate"] {
        assert!(answer.contains(word), "{answer}");
    }
    assert!(!answer.contains(KEY) && !format!("{:?}", world.lines(2).await).contains(KEY), "{answer}");
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_key_of_bedrock_s_own_is_shown_and_nothing_is_signed() {
    let upstream = Upstream::new(vec![json("200 OK", ANSWER), stream()]).await;
    let file =
        deployment(upstream.at, "test/key").replace("sigv4", "bearer").replace("/gate\"", "/{region}\"");
    let world = World::new(&file, &["p-a/*"], PLENTY).await;
    for (path, body) in
        [("/converse", ASKED.to_owned()), ("/converse-stream", ASKED.replacen('{', r#"{"stream":true,"#, 1))]
    {
        let (status, _, answer) = world.ask("/v1/chat/completions", &body).await;
        assert!(status == 200 && answer.contains("Hello"), "{status} {answer}");
        let asked = upstream.last();
        assert!(
            asked.starts_with(&format!("POST /eu-central-1/model/m.a-v1%3A0{path} HTTP/1.1\r\n")),
            "{asked}"
        );
        assert!(
            asked.contains(&format!("authorization: Bearer {KEY}\r\n")) && !asked.contains("x-amz-date"),
            "{asked}"
        );
    }
    assert!(!format!("{:?}", world.lines(4).await).contains(KEY));
}
