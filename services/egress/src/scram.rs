//! Login by a password that is not shown (SCRAM-SHA-256, RFC 5802 and 7677), as PostgreSQL has it: the side that has the
//! password. Pure. The library that there is for it neither bounds the rounds that a server asks for nor wipes the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::borrow::Cow;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The two mechanisms, by their registered names.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Fewer rounds let a server that only says it is one try passwords quickly (RFC 7677 section 4 has them as the least);
/// more are a second of the worker's time, or several.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// How many of them are done at a time: a millisecond or two.
const ROUNDS_A_TURN: u32 = 4096;
/// The longest message of a server, and its longest salt and nonce, in bytes.
const MESSAGE_MAX: usize = 4096;

/// What a login has to do with the TLS around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It is bound to the server's certificate, of which this is the digest (tls-server-end-point, RFC 5929).
    EndPoint(Vec<u8>),
    /// It could be, and the server does not say that it knows how. One that does know then refuses.
    NotOffered,
    /// It cannot be: the certificate's signature names no digest.
    None,
}

impl Binding {
    /// What can be done with this certificate at a server that offers these mechanisms, and by which of them.
    pub(crate) fn choose(offered: &[&str], certificate: Option<&[u8]>) -> Option<(&'static str, Self)> {
        let digest = certificate.and_then(end_point);
        match (digest, offered.contains(&PLUS), offered.contains(&PLAIN)) {
            (Some(digest), true, _) => Some((PLUS, Self::EndPoint(digest))),
            (Some(_), false, true) => Some((PLAIN, Self::NotOffered)),
            (None, _, true) => Some((PLAIN, Self::None)),
            (_, _, false) => None,
        }
    }

    /// The head of the first message, and what is said of the binding in the last.
    fn header(&self) -> &'static [u8] {
        match self {
            Self::EndPoint(_) => b"p=tls-server-end-point,,",
            Self::NotOffered => b"y,,",
            Self::None => b"n,,",
        }
    }

    fn said(&self) -> String {
        let mut bytes = self.header().to_vec();
        if let Self::EndPoint(digest) = self {
            bytes.extend(digest);
        }
        STANDARD.encode(bytes)
    }
}

/// A login that waits for the server's first message.
#[derive(Debug)]
pub(crate) struct Login {
    binding: Binding,
    nonce: String,
}

/// What a server has said to the first message: how the password is to be worked on.
#[derive(Debug)]
pub(crate) struct Challenge {
    binding: Binding,
    first: String,
    said: String,
    nonce: String,
    salt: Vec<u8>,
    rounds: u32,
}

/// The last message, and what the server has to answer to show that it knows the password too.
pub(crate) struct Proof {
    pub(crate) message: Zeroizing<String>,
    signature: Zeroizing<[u8; 32]>,
}

impl Login {
    /// `random` is used for nothing else.
    pub(crate) fn new(binding: Binding, random: &[u8]) -> Self {
        Self { binding, nonce: STANDARD.encode(random) }
    }

    fn bare(&self) -> String {
        // PostgreSQL takes the user from elsewhere.
        format!("n=,r={}", self.nonce)
    }

    /// The first message.
    pub(crate) fn message(&self) -> Vec<u8> {
        [self.binding.header(), self.bare().as_bytes()].concat()
    }

    /// Takes the server's answer to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn challenged(self, said: &[u8]) -> Result<Challenge, &'static str> {
        let text = std::str::from_utf8(said).ok().filter(|text| text.len() <= MESSAGE_MAX);
        let text = text.ok_or("its challenge is no text, or too long")?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let (nonce, salt, rounds) = (part("r="), part("s="), part("i="));
        let (Some(nonce), Some(salt), Some(rounds), None) = (nonce, salt, rounds, parts.next()) else {
            return Err("its challenge is not what RFC 5802 has");
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("its challenge is not for this login");
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or("its salt is none")?;
        let rounds = Some(rounds).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let rounds = rounds.and_then(|text| text.parse().ok()).filter(|rounds| ROUNDS.contains(rounds));
        let rounds =
            rounds.ok_or("it asks for fewer than 4096 or more than 1000000 rounds (scram_iterations)")?;
        let (first, nonce) = (self.bare(), nonce.to_owned());
        Ok(Challenge { binding: self.binding, first, said: text.to_owned(), nonce, salt, rounds })
    }
}

impl Challenge {
    /// Shows that this side knows the password: working on it takes turns with the worker's other connections.
    pub(crate) async fn prove(&self, password: &[u8]) -> Proof {
        let mut rounds = Rounds::new(&prepared(password), &self.salt, self.rounds);
        while !rounds.turn() {
            tokio::task::yield_now().await;
        }
        self.proof(&rounds.all)
    }

    /// The same with the password as it is after its rounds.
    pub(crate) fn proof(&self, salted: &[u8; 32]) -> Proof {
        let client_key = mac(salted, &[b"Client Key"]);
        let bare = format!("c={},r={}", self.binding.said(), self.nonce);
        let signed: [&[u8]; 5] = [self.first.as_bytes(), b",", self.said.as_bytes(), b",", bare.as_bytes()];
        let stored = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(*client_key)));
        let mut proof = mac(&*stored, &signed);
        proof.iter_mut().zip(client_key.iter()).for_each(|(byte, key)| *byte ^= key);
        let message = Zeroizing::new(format!("{bare},p={}", STANDARD.encode(*proof)));
        Proof { message, signature: mac(&*mac(salted, &[b"Server Key"]), &signed) }
    }
}

impl Proof {
    /// Whether the server has shown that it knows the password.
    ///
    /// # Errors
    /// That it has not.
    pub(crate) fn answered(&self, said: &[u8]) -> Result<(), &'static str> {
        let said = said.strip_prefix(b"v=").and_then(|said| STANDARD.decode(said).ok());
        let same = said.is_some_and(|said| bool::from(said.ct_eq(&*self.signature)));
        same.then_some(())
            .ok_or("it did not show that it knows the password itself: it may be another server")
    }
}

/// A password as it is compared: prepared where that is possible, as PostgreSQL does it, and as it is elsewhere.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(match text {
        Some(Cow::Owned(text)) => text.into_bytes(),
        Some(Cow::Borrowed(text)) => text.as_bytes().to_vec(),
        None => password.to_vec(),
    })
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key).expect("a key of any length")
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    round(&keyed(key), parts)
}

/// The password after so many rounds (PBKDF2 with one block).
struct Rounds {
    keyed: Hmac<Sha256>,
    last: Zeroizing<[u8; 32]>,
    all: Zeroizing<[u8; 32]>,
    left: u32,
}

impl Rounds {
    fn new(password: &[u8], salt: &[u8], rounds: u32) -> Self {
        let keyed = keyed(password);
        let last = round(&keyed, &[salt, &1_u32.to_be_bytes()]);
        Self { keyed, all: last.clone(), last, left: rounds.saturating_sub(1) }
    }

    /// Goes so many rounds on as others can wait for; whether it is through.
    fn turn(&mut self) -> bool {
        let now = self.left.min(ROUNDS_A_TURN);
        for _ in 0..now {
            self.last = round(&self.keyed, &[&*self.last]);
            self.all.iter_mut().zip(self.last.iter()).for_each(|(byte, other)| *byte ^= other);
        }
        self.left -= now;
        self.left == 0
    }
}

fn round(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The digest of a certificate by which a login is bound to it: that of its signature, and SHA-256 where it is MD5 or SHA-1
/// (RFC 5929 section 4.1). A signature that names none (Ed25519, RSA-PSS with its parameters) gives none.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const SIGNED_WITH: [(&[u8], u16); 9] = [
        // 1.2.840.113549.1.1: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", 256),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", 256),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", 256),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", 384),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", 512),
        // 1.2.840.10045.4: ECDSA with SHA-1, SHA-256, SHA-384, SHA-512.
        (b"\x2a\x86\x48\xce\x3d\x04\x01", 256),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", 256),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", 384),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", 512),
    ];
    // Certificate ::= SEQUENCE { what is signed SEQUENCE, AlgorithmIdentifier SEQUENCE { OID, ... }, ... }
    let (body, _) = der(0x30, certificate)?;
    let (_, rest) = der(0x30, body)?;
    let (algorithm, _) = der(0x30, rest)?;
    let (oid, _) = der(0x06, algorithm)?;
    let (_, bits) = SIGNED_WITH.iter().find(|(known, _)| *known == oid)?;
    Some(match bits {
        384 => Sha384::digest(certificate).to_vec(),
        512 => Sha512::digest(certificate).to_vec(),
        _ => Sha256::digest(certificate).to_vec(),
    })
}

/// The contents of what stands first, which has this tag, and what follows it.
fn der(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        0x80.. => return None,
        short => (usize::from(*short), rest),
    };
    (*first == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// As [`Login::new`], with a nonce that is written down.
    fn login(nonce: &str) -> Login {
        Login { binding: Binding::None, nonce: nonce.to_owned() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_example_of_the_standard() {
        // RFC 7677 section 3, whose first message has a user; PostgreSQL's has none.
        let mut challenge = login("rOprNGfwEbeRWgbNEkqO").challenged(SAID.as_bytes()).unwrap();
        challenge.first = "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned();
        let proof = challenge.prove(b"pencil").await;
        assert_eq!(
            *proof.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(proof.answered(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        for bad in ["", "v=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=AAAA", "e=other-error"] {
            assert!(proof.answered(bad.as_bytes()).is_err(), "{bad}");
        }
        let other = challenge.prove(b"pencils").await;
        assert!(other.answered(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn many_rounds_keep_nobody_waiting() {
        const TURNS: u32 = 5;
        let said = SAID.replace("4096", &(TURNS * ROUNDS_A_TURN + 1).to_string());
        let challenge = login("rOprNGfwEbeRWgbNEkqO").challenged(said.as_bytes()).unwrap();
        let mut others = 0;
        let busy = async {
            loop {
                others += 1;
                tokio::task::yield_now().await;
            }
        };
        let turns = tokio::select! {
            biased;
            proof = challenge.prove(b"pencil") => proof,
            () = busy => unreachable!(),
        };
        assert!(others >= TURNS - 1 && !turns.message.is_empty(), "others had {others} turns");
    }

    #[test]
    fn a_challenge_is_for_this_login_and_within_its_bounds() {
        let of = |said: &str| login("rOprNGfwEbeRWgbNEkqO").challenged(said.as_bytes()).map(drop);
        assert_eq!(of(SAID), Ok(()));
        assert_eq!(of(&SAID.replace("4096", "1000000")), Ok(()));
        for (from, to) in [
            ("4096", "4095"),
            ("4096", "1000001"),
            ("4096", "99999999999999999999"),
            ("4096", "+4096"),
            ("4096", "4096,x=y"),
            ("r=rO", "r=xO"),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "?"),
            ("r=", "m=ext,r="),
            ("hv", &"h".repeat(MESSAGE_MAX)),
        ] {
            assert!(SAID.contains(from) && of(&SAID.replace(from, to)).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn the_strongest_that_both_know_is_chosen() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made =
            rcgen::CertificateParams::new(vec!["a.example.org".into()]).unwrap().self_signed(&key).unwrap();
        let certificate = made.der().as_ref();
        let digest = Sha256::digest(certificate).to_vec();
        let of = |offered: &[&str], certificate| Binding::choose(offered, certificate);
        assert_eq!(of(&[PLUS, PLAIN], Some(certificate)), Some((PLUS, Binding::EndPoint(digest))));
        assert_eq!(of(&[PLAIN], Some(certificate)), Some((PLAIN, Binding::NotOffered)));
        assert_eq!(of(&[PLUS, PLAIN], None), Some((PLAIN, Binding::None)));
        assert_eq!(of(&["OAUTHBEARER"], Some(certificate)), None);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let made =
            rcgen::CertificateParams::new(vec!["a.example.org".into()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(of(&[PLUS, PLAIN], Some(made.der())), Some((PLAIN, Binding::None)));
        for cut in 0..certificate.len().min(64) {
            assert_eq!(end_point(&certificate[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_password_is_prepared_where_it_can_be() {
        assert_eq!(*prepared("I\u{ad}X".as_bytes()), b"IX");
        assert_eq!(*prepared("\u{2168}".as_bytes()), b"IX");
        assert_eq!(*prepared(b"\x07"), b"\x07");
        assert_eq!(*prepared(b"\xff\xfe"), b"\xff\xfe");
    }
}
