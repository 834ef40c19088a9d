//! Who listens to the wires between processor and TPM, and who sits on them.

use super::*;
use crate::object::{coordinates, storage_key_template};
use crate::{Name, TpmError};

/// Whether any eight bytes of the secret are somewhere in these.
fn shows(bytes: &[u8], secret: &[u8]) -> bool {
    secret.windows(8).any(|part| bytes.windows(8).any(|here| here == part))
}

#[test]
fn a_listener_never_sees_the_secret() {
    let swtpm = Swtpm::start().unwrap();
    let (recorder, tape) = Recorder::new(swtpm.connect().unwrap());
    let mut tpm = Tpm::new(recorder);
    let mut secret = [0; 32];
    octant_sys::entropy::fill_seeded(&mut secret).unwrap();
    let key = crate::ReleaseKey::generate().unwrap();
    let released = Binding::Released { key: key.public(), pcrs: PcrSet::default(), policy_ref: vault() };
    for binding in [to_pcrs(), released] {
        let sealed = tpm.seal(&secret, &binding).unwrap();
        let approval = key.approve(sealed.pcrs(), &vault()).unwrap();
        assert_eq!(*tpm.unseal(&sealed, &[approval]).unwrap(), secret);
    }
    let heard = |tape: &Tape| {
        let tape = tape.lock().unwrap();
        assert!(tape.iter().any(|(command, _)| code(command) == 0x15e), "it was unsealed");
        tape.iter().any(|(command, reply)| shows(command, &secret) || shows(reply, &secret))
    };
    assert!(!heard(&tape));
    // The listener hears what is said in the clear.
    tpm.extend(16, &Sha256(secret)).unwrap();
    assert!(heard(&tape));
}

/// Two seals of one secret have nothing in common that a listener could tell that by.
#[test]
fn the_same_secret_is_never_encrypted_the_same_way() {
    let swtpm = Swtpm::start().unwrap();
    let (recorder, tape) = Recorder::new(swtpm.connect().unwrap());
    let mut tpm = Tpm::new(recorder);
    tpm.seal(&SECRET, &to_pcrs()).unwrap();
    tpm.seal(&SECRET, &to_pcrs()).unwrap();
    let tape = tape.lock().unwrap();
    // Behind the header, the handle and the authorization of 77 bytes is the encrypted parameter of 36.
    let sent: Vec<&[u8]> = tape
        .iter()
        .filter(|(c, _)| code(c) == 0x153)
        .map(|(command, _)| &command[10 + 4 + 77..][..38])
        .collect();
    assert!(sent.len() == 2 && sent.iter().all(|parameter| parameter.starts_with(&[0, 36])));
    assert!(!shows(sent[0], &sent[1][2..]));
}

/// Puts a storage key of the interposer's own into the reply of TPM2_CreatePrimary.
fn with_own_key(command: &[u8], reply: &mut [u8]) {
    if code(command) != 0x131 {
        return;
    }
    let own = p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key();
    let (x, y) = coordinates(&own);
    // Header, handle, length of the parameters, length of the public area.
    let point = 10 + 4 + 4 + 2 + storage_key_template().as_slice().len() - 68;
    reply[point + 2..point + 34].copy_from_slice(&x);
    reply[point + 36..point + 68].copy_from_slice(&y);
    let name = Name::of(&reply[20..point + 68]);
    // The name is the last of the parameters, before the five bytes of a password's authorization.
    let end = reply.len() - 5;
    reply[end - Name::LEN..end].copy_from_slice(name.as_bytes());
}

#[test]
fn an_interposer_with_a_storage_key_of_its_own_is_noticed() {
    let (swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    let mut tpm =
        Tpm::new(Interposer { inner: swtpm.connect().unwrap(), before: passes_on, after: with_own_key });
    let error = tpm.unseal(&sealed, &[]).unwrap_err();
    assert!(matches!(error, TpmError::OtherTpm { .. }), "{error}");
    // One who has the right public key and not the private one cannot answer under the session.
    let mut altered = sealed.clone();
    altered.storage_key = tpm.storage_key_name().unwrap();
    assert_ne!(altered.storage_key, sealed.storage_key);
    let error = tpm.unseal(&altered, &[]).unwrap_err();
    assert!(matches!(error, TpmError::NotAuthentic(_)), "{error}");
    let error = tpm.expecting(*sealed.storage_key_name()).seal(&SECRET, &to_pcrs()).unwrap_err();
    assert!(matches!(error, TpmError::OtherTpm { .. }), "{error}");
}

/// Says that every PCR is zero.
fn lies_about_pcrs(command: &[u8], reply: &mut [u8]) {
    if code(command) == 0x17e {
        // Behind the header, perhaps a length, the counter, the selection and the count come the values.
        let sessions = reply.starts_with(&tag::SESSIONS.to_be_bytes());
        let first = 10 + if sessions { 4 } else { 0 } + 4 + 10 + 4 + 2;
        reply[first..first + 32].fill(0);
    }
}

/// Otherwise it could have the secret sealed to a system of its choice.
#[test]
fn an_interposer_cannot_choose_what_is_sealed_to() {
    let (swtpm, mut tpm) = machine();
    tpm.extend(7, &digest(1)).unwrap();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    let mut tpm =
        Tpm::new(Interposer { inner: swtpm.connect().unwrap(), before: passes_on, after: lies_about_pcrs });
    assert_eq!(
        tpm.read_pcrs(&PcrSet::default()).unwrap().get(7),
        Some(digest(0)),
        "this one is told without proof"
    );
    let error = tpm.seal(&SECRET, &to_pcrs()).unwrap_err();
    assert!(matches!(error, TpmError::NotAuthentic(_)), "{error}");
    // A lie when it is opened opens nothing.
    let error = tpm.unseal(&sealed, &[]).unwrap_err();
    assert!(matches!(&error, TpmError::PcrsDiffer(pcrs) if pcrs.0 == [7]), "{error}");
}

#[test]
fn an_altered_reply_under_a_session_is_noticed() {
    fn last_byte(command: &[u8], reply: &mut [u8]) {
        if matches!(code(command), 0x153 | 0x15e) && reply.len() > 60 {
            *reply.last_mut().unwrap() ^= 1;
        }
    }
    fn parameter(command: &[u8], reply: &mut [u8]) {
        if matches!(code(command), 0x153 | 0x15e) && reply.len() > 60 {
            reply[20] ^= 1;
        }
    }
    let (swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    for after in [last_byte as fn(&[u8], &mut [u8]), parameter] {
        let mut tpm = Tpm::new(Interposer { inner: swtpm.connect().unwrap(), before: passes_on, after });
        let error = tpm.seal(&SECRET, &to_pcrs()).unwrap_err();
        assert!(matches!(error, TpmError::NotAuthentic(_)), "{error}");
        let error = tpm.unseal(&sealed, &[]).unwrap_err();
        assert!(matches!(error, TpmError::NotAuthentic(_)), "{error}");
    }
}

/// Every byte of every command of an unseal, altered on its way: the TPM gives no secret for it, and no other one.
#[test]
fn an_altered_command_opens_nothing() {
    let (swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    let mut socket = Some(swtpm.connect().unwrap());
    // The commands are: storage key, load, session, read PCRs, policy, unseal. What is flushed afterwards is left alone.
    for (number, every) in [(0x157, 23), (0x176, 11), (0x17e, 1), (0x17f, 3), (0x15e, 5)] {
        for at in (10..).step_by(every) {
            let mut done = false;
            let before = |command: &mut Vec<u8>| {
                if code(command) == number && at < command.len() {
                    command[at] ^= 1;
                    done = true;
                }
                Passed::On
            };
            let mut tpm = Tpm::new(Interposer { inner: socket.take().unwrap(), before, after: |_, _| {} });
            let result = tpm.unseal(&sealed, &[]);
            let mut inner = tpm.into_transport().inner;
            assert_eq!(left(&mut inner), 0, "{number:#x} byte {at}");
            socket = Some(inner);
            if !done {
                break;
            }
            // What is not covered by anything, and changes nothing, may still open it; nothing else may come out.
            if let Ok(secret) = result {
                assert_eq!(*secret, SECRET, "{number:#x} byte {at}");
            }
        }
    }
}
