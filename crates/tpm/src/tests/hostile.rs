//! Replies that no TPM gives.

use super::*;
use crate::{Sealed, TpmError};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;
use std::collections::VecDeque;
use std::time::Duration;

/// Gives replies one after the other, whatever is asked; a flush always succeeds.
struct Replies(VecDeque<Vec<u8>>);

impl Replies {
    fn of(replies: impl IntoIterator<Item = Vec<u8>>) -> Tpm<Self> {
        let mut tpm = Tpm::new(Self(replies.into_iter().collect()));
        tpm.fill = counted;
        tpm.first_wait = Duration::ZERO;
        COUNTER.set(1);
        tpm
    }
}

impl Transport for Replies {
    fn exchange(&mut self, command: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        reply.clear();
        if code(command) == 0x165 {
            reply.extend(refusal(0));
            return Ok(());
        }
        let next = self.0.pop_front().ok_or_else(|| io::Error::other("no reply is left"))?;
        reply.extend(next);
        Ok(())
    }
}

/// The replies of a whole seal and unseal, which are the right ones as long as random bytes come from `counted`.
struct Recorded {
    sealed: Sealed,
    seal: Vec<Vec<u8>>,
    unseal: Vec<Vec<u8>>,
    approval: crate::Approval,
    binding: Binding,
}

fn recorded() -> Recorded {
    let swtpm = Swtpm::start().unwrap();
    let (recorder, tape) = Recorder::new(swtpm.connect().unwrap());
    let mut tpm = Tpm::new(recorder);
    tpm.fill = counted;
    let key = crate::ReleaseKey::generate().unwrap();
    let binding = Binding::Released { key: key.public(), pcrs: PcrSet::default(), policy_ref: vault() };
    let taken = || {
        let tape: Vec<_> = tape.lock().unwrap().drain(..).collect();
        tape.into_iter().filter(|(command, _)| code(command) != 0x165).map(|(_, reply)| reply).collect()
    };
    COUNTER.set(1);
    let sealed = tpm.seal(&SECRET, &binding).unwrap();
    let seal = taken();
    let approval = key.approve(sealed.pcrs(), &vault()).unwrap();
    COUNTER.set(1);
    assert_eq!(*tpm.unseal(&sealed, std::slice::from_ref(&approval)).unwrap(), SECRET);
    Recorded { sealed, seal, unseal: taken(), approval, binding }
}

/// The replies with one bit of one byte altered, for every byte.
fn altered(replies: &[Vec<u8>]) -> impl Iterator<Item = (usize, usize, Vec<Vec<u8>>)> + '_ {
    let places =
        replies.iter().enumerate().flat_map(|(number, reply)| (0..reply.len()).map(move |at| (number, at)));
    places.map(|(number, at)| {
        let mut replies = replies.to_vec();
        replies[number][at] ^= 1 << (at % 8);
        (number, at, replies)
    })
}

/// What nobody looks at, like the proof of how a key was made, may differ; nothing but the secret may come out.
#[test]
fn every_byte_of_every_reply_to_an_unseal_may_be_another() {
    let recorded = recorded();
    let approvals = std::slice::from_ref(&recorded.approval);
    assert_eq!(*Replies::of(recorded.unseal.clone()).unseal(&recorded.sealed, approvals).unwrap(), SECRET);
    let mut opened = 0;
    for (number, at, replies) in altered(&recorded.unseal) {
        if let Ok(secret) = Replies::of(replies).unseal(&recorded.sealed, approvals) {
            assert_eq!(*secret, SECRET, "reply {number} byte {at}");
            opened += 1;
        }
    }
    assert!(opened < 250, "{opened} altered replies opened it");
}

#[test]
fn every_byte_of_every_reply_to_a_seal_may_be_another() {
    let recorded = recorded();
    let sealed = Replies::of(recorded.seal.clone()).seal(&SECRET, &recorded.binding).unwrap();
    assert_eq!(sealed, recorded.sealed);
    for (number, at, replies) in altered(&recorded.seal) {
        if let Ok(sealed) = Replies::of(replies).seal(&SECRET, &recorded.binding) {
            assert_eq!(sealed, recorded.sealed, "reply {number} byte {at}");
        }
    }
}

#[test]
fn replies_that_are_cut_off_or_too_long_are_errors() {
    let recorded = recorded();
    let approvals = std::slice::from_ref(&recorded.approval);
    for number in 0..recorded.unseal.len() {
        let whole = &recorded.unseal[number];
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        let longer = [1, 5000].map(|more| [&whole[..], &vec![0; more]].concat());
        for reply in cut.chain(longer) {
            for says_so in [false, true] {
                let mut reply = reply.clone();
                if says_so && reply.len() >= 6 {
                    let len = u32::try_from(reply.len()).unwrap();
                    reply[2..6].copy_from_slice(&len.to_be_bytes());
                }
                let mut replies = recorded.unseal.clone();
                replies[number] = reply.clone();
                let Err(error) = Replies::of(replies).unseal(&recorded.sealed, approvals) else {
                    panic!("reply {number} of {} bytes, {says_so}: {} opens it", whole.len(), reply.len())
                };
                let known = matches!(error, TpmError::Malformed { .. } | TpmError::NotAuthentic(_));
                assert!(known, "reply {number} of {} bytes: {error}", reply.len());
            }
        }
    }
}

/// A reply with this code to the first command of an unseal.
fn refused_with(sealed: &Sealed, code: u32, times: usize) -> TpmError {
    Replies::of(vec![refusal(code); times]).unseal(sealed, &[]).unwrap_err()
}

#[test]
fn what_the_tpm_says_of_itself_is_told_apart() {
    let sealed = recorded().sealed;
    assert!(matches!(refused_with(&sealed, 0x921, 1), TpmError::Lockout(_)));
    assert!(matches!(refused_with(&sealed, 0x101, 1), TpmError::FailureMode(_)));
    assert!(matches!(refused_with(&sealed, 0x100, 1), TpmError::NotStarted(_)));
    // As the kernel says that there is no such command.
    let error = refused_with(&sealed, 0xb_0143, 1);
    assert!(error.to_string().contains("the TPM does not have this command"), "{error}");
    for busy in [0x922, 0x908, 0x90a, 0x920] {
        let error = refused_with(&sealed, busy, 9);
        assert!(matches!(error, TpmError::Busy { tries: 9, code, .. } if code.0 == busy), "{error}");
    }
}

#[test]
fn a_busy_tpm_is_asked_again() {
    let recorded = recorded();
    let mut replies = recorded.unseal.clone();
    for at in [0, 3, 5] {
        replies.insert(at, refusal(0x922));
    }
    let secret =
        Replies::of(replies).unseal(&recorded.sealed, std::slice::from_ref(&recorded.approval)).unwrap();
    assert_eq!(*secret, SECRET);
}

/// TPM 1.2 answers what it does not know with a tag of its own.
#[test]
fn a_tpm_1_2_is_not_taken_for_one() {
    let reply = vec![0x00, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0x1e];
    let error = Replies::of([reply]).describe().unwrap_err();
    assert!(error.to_string().contains("something that is not a TPM 2.0 answers"), "{error}");
}

/// A reply with a good header, or with none.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let headed = (any::<bool>(), prop_oneof![4 => Just(0), 1 => any::<u32>()], vec(any::<u8>(), 0..300));
    let headed = headed.prop_map(|(sessions, code, body)| {
        let kind = if sessions { tag::SESSIONS } else { tag::NO_SESSIONS };
        let len = u32::try_from(HEADER + body.len()).unwrap();
        Writer::new().u16(kind).u32(len).u32(code).raw(&body).finish().unwrap().to_vec()
    });
    prop_oneof![4 => headed, 1 => vec(any::<u8>(), 0..60)]
}

/// What a listener has recorded, with some bytes in it replaced, perhaps at the end of a reply.
fn spliced(recorded: &Recorded, at: Index, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut replies = recorded.unseal.clone();
    let mut at = at.index(replies.iter().map(Vec::len).sum());
    for reply in &mut replies {
        if at < reply.len() {
            let end = reply.len().min(at + bytes.len());
            reply.splice(at..end, bytes.iter().copied());
            let len = u32::try_from(reply.len()).unwrap();
            reply[2..6].copy_from_slice(&len.to_be_bytes());
            break;
        }
        at -= reply.len();
    }
    replies
}

thread_local! {
    static RECORDED: Recorded = recorded();
}

proptest! {
    #[test]
    fn a_damaged_sealed_secret_is_refused_or_whole(at in any::<Index>(), bytes in vec(any::<u8>(), 0..6), cut in 0..6_usize) {
        RECORDED.with(|recorded| {
            let mut text = serde_json::to_vec(&recorded.sealed).unwrap();
            let at = at.index(text.len());
            let end = text.len().min(at + cut);
            text.splice(at..end, bytes.iter().copied());
            if let Ok(sealed) = serde_json::from_slice::<Sealed>(&text) {
                let again = serde_json::to_vec(&sealed).unwrap();
                assert_eq!(serde_json::from_slice::<Sealed>(&again).unwrap(), sealed);
                let mut tpm = Replies::of(recorded.unseal.clone());
                if let Ok(secret) = tpm.unseal(&sealed, std::slice::from_ref(&recorded.approval)) {
                    assert_eq!(*secret, SECRET);
                }
            }
        });
    }

    #[test]
    fn garbage_is_no_key(replies in vec(reply(), 0..6)) {
        Replies::of(replies.clone()).seal(&SECRET, &to_pcrs()).unwrap_err();
        Replies::of(replies).storage_key_name().unwrap_err();
    }

    #[test]
    fn garbage_is_refused_or_read_within_limits(replies in vec(reply(), 0..6)) {
        if let Ok(described) = Replies::of(replies.clone()).describe() {
            assert!(described.vendor.len() <= 16 && described.manufacturer.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
        }
        if let Ok(values) = Replies::of(replies).read_pcrs(&PcrSet::default()) {
            assert_eq!(values.set(), PcrSet::default());
        }
    }

    #[test]
    fn garbage_within_a_recorded_unseal_opens_nothing(bytes in vec(any::<u8>(), 1..40), at in any::<Index>()) {
        RECORDED.with(|recorded| {
            let mut tpm = Replies::of(spliced(recorded, at, &bytes));
            if let Ok(secret) = tpm.unseal(&recorded.sealed, std::slice::from_ref(&recorded.approval)) {
                assert_eq!(*secret, SECRET);
            }
        });
    }
}
