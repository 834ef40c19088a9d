//! Logins that are bound, and the many that are not.

use crate::{Answer, Binding, Fingerprint, HostKey, Login, Question, SshError, Writer};
use crate::{ed25519_key, ed25519_signature};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

const HOSTS: &str = include_str!("../testdata/hosts.txt");
const HOSTBOUND: &[u8] = b"publickey-hostbound-v00@openssh.com";

struct Host(SigningKey);

impl Host {
    fn key(&self) -> Vec<u8> {
        ed25519_key(self.0.verifying_key().as_bytes())
    }

    fn sign(&self, session: &[u8]) -> Vec<u8> {
        ed25519_signature(&self.0.sign(session).to_bytes())
    }
}

fn host(seed: u8) -> Host {
    Host(SigningKey::from_bytes(&[seed; 32]))
}

/// What a client signs, by its parts.
struct Asked<'a> {
    session: &'a [u8],
    number: u8,
    service: &'a [u8],
    method: &'a [u8],
    signed: u8,
    algorithm: &'a [u8],
    host: Option<&'a [u8]>,
}

impl Asked<'_> {
    fn bytes(&self) -> Vec<u8> {
        let writer = Writer::default()
            .string(self.session)
            .byte(self.number)
            .string(b"git")
            .string(self.service)
            .string(self.method)
            .byte(self.signed)
            .string(self.algorithm)
            .string(&ed25519_key(&[9; 32]));
        match self.host {
            Some(host) => writer.string(host).done(),
            None => writer.done(),
        }
    }
}

const SESSION: [u8; 32] = [5; 32];

fn login<'a>() -> Asked<'a> {
    Asked {
        session: &SESSION,
        number: 50,
        service: b"ssh-connection",
        method: b"publickey",
        signed: 1,
        algorithm: b"ssh-ed25519",
        host: None,
    }
}

#[test]
fn a_login_is_given_for_the_session_that_the_host_signed() {
    let host = host(1);
    let (key, signature) = (host.key(), host.sign(&SESSION));
    let binding = Binding { host_key: &key, session: &SESSION, signature: &signature, forwarded: false };
    let hostbound = Asked { method: HOSTBOUND, host: Some(&key), ..login() };
    for asked in [login(), hostbound] {
        let data = asked.bytes();
        let (login, of) = Login::bound(&data, &binding).unwrap();
        assert_eq!((login.user, login.key), ("git", ed25519_key(&[9; 32]).as_slice()));
        assert_eq!(of.fingerprint(), HostKey::parse(&key).unwrap().fingerprint());
    }
}

#[test]
fn nothing_else_is_given() {
    let (one, two) = (host(1), host(2));
    let (key, signature, other) = (one.key(), one.sign(&SESSION), two.key());
    let binding = Binding { host_key: &key, session: &SESSION, signature: &signature, forwarded: false };
    let refused = |asked: &Asked<'_>, binding: &Binding<'_>| {
        Login::bound(&asked.bytes(), binding).map(|_| ()).unwrap_err()
    };
    let elsewhere = two.sign(&SESSION);
    assert_eq!(refused(&login(), &Binding { signature: &elsewhere, ..binding }), SshError::Signature);
    assert_eq!(refused(&login(), &Binding { host_key: &other, ..binding }), SshError::Signature);
    assert_eq!(refused(&login(), &Binding { forwarded: true, ..binding }), SshError::Forwarded);
    assert_eq!(refused(&login(), &Binding { session: &[], ..binding }), SshError::Session(0));
    // The host signed another session than the one that the login is for.
    assert_eq!(refused(&Asked { session: &[6; 32], ..login() }, &binding), SshError::OtherSession);
    let named = Asked { method: HOSTBOUND, host: Some(&other), ..login() };
    assert_eq!(refused(&named, &binding), SshError::OtherHost);
    for bad in [
        Asked { number: 51, ..login() },
        Asked { service: b"ssh-userauth", ..login() },
        Asked { method: b"password", ..login() },
        Asked { signed: 0, ..login() },
        Asked { algorithm: b"ssh-rsa", ..login() },
    ] {
        assert_eq!(refused(&bad, &binding), SshError::NoLogin);
    }
    assert_eq!(
        refused(&Asked { host: Some(&key), ..login() }, &binding),
        SshError::Long("what is to be signed")
    );
    assert_eq!(
        refused(&Asked { method: HOSTBOUND, ..login() }, &binding),
        SshError::Short("what is to be signed")
    );
    for text in [&b"SSHSIG\0\0\0\x03git"[..], b"", b"\xff\xff\xff\xff"] {
        assert_eq!(Login::bound(text, &binding).map(|_| ()).unwrap_err(), SshError::NoLogin);
    }
}

#[test]
fn hosts_keys_and_signatures_of_every_kind_are_those_of_other_programs() {
    let message: Vec<u8> = (0..32).collect();
    let mut kinds = 0;
    for line in HOSTS.lines().filter(|line| !line.starts_with('#')) {
        let [algorithm, fingerprint, key, signature] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let [key, signature] = [key, signature].map(|text| STANDARD.decode(text).unwrap());
        let key = HostKey::parse(&key).unwrap();
        assert_eq!(key.fingerprint().to_string(), fingerprint);
        assert_eq!(fingerprint.parse(), Ok(key.fingerprint()));
        if algorithm == "ssh-rsa" {
            assert_eq!(key.verify(&message, &signature), Err(SshError::Algorithm), "SHA-1 is broken");
            continue;
        }
        assert_eq!(key.verify(&message, &signature), Ok(()), "{algorithm}");
        assert_eq!(key.verify(&message[1..], &signature), Err(SshError::Signature), "{algorithm}");
        kinds += 1;
    }
    assert_eq!(kinds, 3);
}

#[test]
fn fingerprints_have_one_form() {
    for bad in ["", "SHA256:", "MD5:00", "SHA256:AAAA", "sha256:II89XAYBZc6bTX4f3LFTMNuPCHTb1fJJ3Xvd6n563FY"]
    {
        assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
    }
}

#[test]
fn messages_are_those_of_the_protocol() {
    let bind = Writer::default()
        .byte(27)
        .string(b"session-bind@openssh.com")
        .string(b"key")
        .string(b"session")
        .string(b"signature")
        .byte(1);
    assert!(matches!(
        Question::parse(&bind.done()),
        Ok(Question::Bind(Binding {
            host_key: b"key",
            session: b"session",
            signature: b"signature",
            forwarded: true
        }))
    ));
    assert!(matches!(Question::parse(&[11]), Ok(Question::Identities)));
    let sign = Writer::default().byte(13).string(b"key").string(b"data").number(4);
    assert!(matches!(Question::parse(&sign.done()), Ok(Question::Sign { key: b"key", data: b"data" })));
    assert!(matches!(Question::parse(&[17, 1, 2]), Ok(Question::Other(17))));
    assert!(matches!(
        Question::parse(&Writer::default().byte(27).string(b"query").done()),
        Ok(Question::Extension)
    ));
    assert!(Question::parse(&[]).is_err() && Question::parse(&[11, 0]).is_err());
    let one = [(b"key".to_vec(), "prod/deploy".to_owned())];
    assert_eq!(
        Answer::Identities(&one).frame(),
        b"\0\0\0\x1b\x0c\0\0\0\x01\0\0\0\x03key\0\0\0\x0bprod/deploy"
    );
    assert_eq!(Answer::Signature(b"s").frame(), b"\0\0\0\x06\x0e\0\0\0\x01s");
    assert_eq!(Answer::Success.frame(), b"\0\0\0\x01\x06");
    assert_eq!(Answer::Failure.frame(), b"\0\0\0\x01\x05");
    assert_eq!(Answer::NoExtension.frame(), b"\0\0\0\x01\x1c");
}

proptest! {
    #[test]
    fn no_bytes_are_a_login_by_chance(data: Vec<u8>, key: Vec<u8>, session: Vec<u8>, signature: Vec<u8>) {
        let binding =
            Binding { host_key: &key, session: &session, signature: &signature, forwarded: false };
        prop_assert!(Login::bound(&data, &binding).is_err());
        let _message = Question::parse(&data);
    }

    #[test]
    fn no_change_of_a_login_is_one_for_another_session(at in 0_usize..4096, bit in 0_u8..8) {
        let host = host(1);
        let (key, signature) = (host.key(), host.sign(&SESSION));
        let binding = Binding { host_key: &key, session: &SESSION, signature: &signature, forwarded: false };
        let mut data = login().bytes();
        let at = at % data.len();
        data[at] ^= 1 << bit;
        // What is left to change is the user's name and the client's key, which who asks compares.
        if let Ok((login, _)) = Login::bound(&data, &binding) {
            prop_assert!(login.user != "git" || login.key != ed25519_key(&[9; 32]));
        }
    }
}
