//! A login by key at a machine's console: what the machine asks, short enough to be typed on another machine, and what
//! the operator's key answers there.

use crate::dsse::pae;
use crate::keys::{KeyId, SigningKey, TrustedKeys};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signature;
use std::fmt;
use std::str::FromStr;

/// The payload type of a challenge: nothing else that an operator signs can pass for an answer to one.
const LOGIN_TYPE: &str = "application/vnd.octant.login.v1";
const PREFIX: &str = "login1";
/// The longest challenge, in bytes.
pub const CHALLENGE_MAX: usize = 128;
/// So much of the machine's and of the boot's identifier tells an operator which one asks. What keeps an answer from
/// counting elsewhere is the number: each terminal takes answers to its own alone.
const MACHINE_DIGITS: usize = 12;
const BOOT_DIGITS: usize = 8;
const TERMINAL_MAX: usize = 16;
const ACCOUNT_MAX: usize = 16;
/// 64 bits, which is what NIST SP 800-63B asks of a challenge. Longer ones are mistyped more often.
const NONCE_BYTES: usize = 8;

/// What a terminal asks who wants to log in by key: good for this machine, this boot, this terminal, this account, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginChallenge {
    machine: String,
    boot: String,
    terminal: String,
    account: String,
    /// When it was asked, in seconds since 1970 by the machine's clock: for people, who can see that it is theirs.
    time_s: u64,
    nonce: String,
}

/// Where, and for whom, something is asked.
#[derive(Debug, Clone, Copy)]
pub struct LoginPlace<'a> {
    /// The machine's identifier, or nothing where it has none.
    pub machine: &'a str,
    /// The identifier of its boot.
    pub boot: &'a str,
    /// The terminal's name, without `/dev/`.
    pub terminal: &'a str,
    /// The account.
    pub account: &'a str,
}

/// Why a text is no challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no challenge; one is {PREFIX}:MACHINE:BOOT:TERMINAL:ACCOUNT:TIME:NUMBER, as the console shows it after Enter \
     in place of a passphrase"
)]
pub struct ChallengeError;

impl LoginChallenge {
    /// Asks. `nonce` must come from the operating system's random source. `None` where a name cannot stand in a challenge.
    #[must_use]
    pub fn new(place: LoginPlace<'_>, time_s: u64, nonce: [u8; NONCE_BYTES]) -> Option<Self> {
        let short = |id: &str, digits: usize| {
            let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(digits).collect();
            if id.is_empty() { "none".to_owned() } else { id }
        };
        let (machine, boot) = (short(place.machine, MACHINE_DIGITS), short(place.boot, BOOT_DIGITS));
        let (terminal, account) = (place.terminal.to_owned(), place.account.to_owned());
        let nonce = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        // By its own way in, so that whatever can be asked can be answered.
        Self { machine, boot, terminal, account, time_s, nonce }.to_string().parse().ok()
    }

    /// The machine that asks: the beginning of its identifier.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// The terminal that asks.
    #[must_use]
    pub fn terminal(&self) -> &str {
        &self.terminal
    }

    /// The account that would be opened.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// When it was asked, in milliseconds since 1970 by the machine's clock.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.time_s.saturating_mul(1000)
    }

    /// The answer: 86 characters.
    #[must_use]
    pub fn answer(&self, key: &SigningKey) -> String {
        URL_SAFE_NO_PAD.encode(key.sign(&self.message()))
    }

    /// The key that this answer is from, where it is trusted and counts now. Blanks in the answer, as from a terminal that
    /// broke the line, do not matter.
    #[must_use]
    pub fn answered(&self, answer: &str, keys: &TrustedKeys, now_ms: u64) -> Option<KeyId> {
        let answer: String = answer.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes: [u8; 64] = URL_SAFE_NO_PAD.decode(answer).ok()?.try_into().ok()?;
        let (message, signature) = (self.message(), Signature::from_bytes(&bytes));
        let key = keys.keys.iter().find(|key| key.key.verify_strict(&message, &signature).is_ok())?;
        keys.counts(key.id, now_ms).then_some(key.id)
    }

    fn message(&self) -> Vec<u8> {
        pae(LOGIN_TYPE, self.to_string().as_bytes())
    }
}

impl fmt::Display for LoginChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, boot, terminal, account, time_s, nonce } = self;
        write!(f, "{PREFIX}:{machine}:{boot}:{terminal}:{account}:{time_s}:{nonce}")
    }
}

impl FromStr for LoginChallenge {
    type Err = ChallengeError;

    fn from_str(text: &str) -> Result<Self, ChallengeError> {
        if text.len() > CHALLENGE_MAX {
            return Err(ChallengeError);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [PREFIX, machine, boot, terminal, account, time, nonce] = parts[..] else {
            return Err(ChallengeError);
        };
        let word = |text: &str, max: usize, more: &[u8]| {
            (1..=max).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        let good = word(machine, MACHINE_DIGITS, b"")
            && word(boot, BOOT_DIGITS, b"")
            && word(terminal, TERMINAL_MAX, b"/")
            && word(account, ACCOUNT_MAX, b"-")
            && nonce.len() == 2 * NONCE_BYTES
            && nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let time_s: u64 = time.parse().map_err(|_| ChallengeError)?;
        // One text for each challenge, or what is signed and what was shown could differ.
        if !good || time_s.to_string() != time {
            return Err(ChallengeError);
        }
        let [machine, boot, terminal, account, nonce] =
            [machine, boot, terminal, account, nonce].map(str::to_owned);
        Ok(Self { machine, boot, terminal, account, time_s, nonce })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: LoginPlace<'static> = LoginPlace {
        machine: "0123456789abcdef0123",
        boot: "fedcba98-7654",
        terminal: "ttyS0",
        account: "ada",
    };

    fn asked(place: LoginPlace<'_>) -> LoginChallenge {
        LoginChallenge::new(place, 1_764_000_000, [7; NONCE_BYTES]).unwrap()
    }

    fn keys(more: &[(&str, String)]) -> (SigningKey, TrustedKeys) {
        let key = SigningKey::from_seed([7; 32]);
        let mut files = vec![("ada.pub".to_owned(), key.public_file("ada", "developer"))];
        files.extend(more.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        (key, TrustedKeys::from_files(&files).unwrap())
    }

    #[test]
    fn a_trusted_key_answers_what_this_terminal_asked_and_nothing_else() {
        let (key, trusted) = keys(&[]);
        let here = asked(PLACE);
        let typed: LoginChallenge = here.to_string().parse().unwrap();
        assert_eq!(
            (typed.machine(), typed.terminal(), typed.account(), typed.time_ms()),
            ("0123456789ab", "ttyS0", "ada", 1_764_000_000_000)
        );
        assert!(here.to_string().len() <= 80, "a line of a terminal");
        let answer = typed.answer(&key);
        assert_eq!(answer.len(), 86);
        let broken = format!("{} \n{}", &answer[..40], &answer[40..]);
        assert_eq!(here.answered(&broken, &trusted, 0), Some(key.id()));
        let others = [
            asked(LoginPlace { machine: "other", ..PLACE }),
            asked(LoginPlace { boot: "0", ..PLACE }),
            asked(LoginPlace { terminal: "tty1", ..PLACE }),
            asked(LoginPlace { account: "bob", ..PLACE }),
            LoginChallenge { time_s: 1, ..here.clone() },
            LoginChallenge { nonce: "0".repeat(16), ..here.clone() },
        ];
        assert!(others.iter().all(|other| other.answered(&answer, &trusted, 0).is_none()));
        let forged = SigningKey::from_seed([8; 32]);
        for wrong in ["", &answer[..85], &"A".repeat(86), &format!("{answer}A"), &here.answer(&forged)] {
            assert_eq!(here.answered(wrong, &trusted, 0), None, "{wrong}");
        }
    }

    #[test]
    fn what_else_the_key_has_signed_is_no_answer() {
        let (key, trusted) = keys(&[]);
        let here = asked(PLACE);
        for message in [here.to_string().into_bytes(), pae("text/plain", here.to_string().as_bytes())] {
            let other = URL_SAFE_NO_PAD.encode(key.sign(&message));
            assert_eq!(here.answered(&other, &trusted, 0), None);
        }
    }

    #[test]
    fn keys_that_do_not_count_open_nothing() {
        let here = asked(PLACE);
        let key = keys(&[]).0;
        let answer = here.answer(&key);
        let revoked = keys(&[("revoked", format!("{} lost\n", key.id()))]).1;
        assert_eq!(here.answered(&answer, &revoked, 0), None);
        assert_eq!(here.answered(&answer, &TrustedKeys::default(), 0), None);
        let until = format!("{} until=2025-01-01T00:00:00Z\n", key.public_file("ada", "admin").trim_end());
        let ending = TrustedKeys::from_files(&[("ada.pub".into(), until)]).unwrap();
        assert!(here.answered(&answer, &ending, 0).is_some());
        assert_eq!(here.answered(&answer, &ending, 1_764_000_000_000), None);
    }

    #[test]
    fn what_is_no_challenge_is_not_signed() {
        let good = asked(PLACE).to_string();
        assert!(good.parse::<LoginChallenge>().is_ok());
        let wrong = [
            String::new(),
            good.replace("login1", "login2"),
            good.replace("ttyS0", "tty S0"),
            good.replace(":ada:", ":a.a:"),
            good.replace(":1764000000:", ":01764000000:"),
            format!("{good}0"),
            format!("{good}:x"),
            "x".repeat(1000),
        ];
        assert!(wrong.iter().all(|text| text.parse::<LoginChallenge>().is_err()), "{wrong:?}");
        let odd = |place| LoginChallenge::new(place, 1, [0; NONCE_BYTES]);
        assert_eq!(odd(LoginPlace { terminal: "a:b", ..PLACE }), None);
        assert_eq!(odd(LoginPlace { account: "", ..PLACE }), None);
        assert_eq!(odd(LoginPlace { machine: "", ..PLACE }).unwrap().machine(), "none");
        assert_eq!(odd(LoginPlace { terminal: "pts/3", ..PLACE }).unwrap().terminal(), "pts/3");
    }
}
