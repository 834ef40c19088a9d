//! Nothing stays in the TPM, which without a resource manager has three places for objects.

use super::*;
use crate::{ReleaseKey, TpmError};

#[test]
fn fifty_seals_and_unseals_leave_nothing() {
    let (swtpm, mut tpm) = machine();
    let key = ReleaseKey::generate().unwrap();
    let released = Binding::Released { key: key.public(), pcrs: PcrSet::default(), policy_ref: vault() };
    for round in 0..50 {
        let binding = if round % 2 == 0 { to_pcrs() } else { released.clone() };
        let sealed = tpm.seal(&SECRET, &binding).unwrap();
        let approval = key.approve(sealed.pcrs(), &vault()).unwrap();
        assert_eq!(*tpm.unseal(&sealed, std::slice::from_ref(&approval)).unwrap(), SECRET);
        tpm.extend(11, &digest(1)).unwrap();
        tpm.unseal(&sealed, &[approval]).unwrap_err();
        tpm.storage_key_name().unwrap();
    }
    drop(tpm);
    assert_eq!(left(&mut swtpm.connect().unwrap()), 0);
}

/// Every command in turn is refused by somebody in the TPM's place: what the commands before it made is flushed.
#[test]
fn whatever_is_refused_nothing_is_left() {
    let (swtpm, mut tpm) = machine();
    let key = ReleaseKey::generate().unwrap();
    let binding = Binding::Released { key: key.public(), pcrs: PcrSet::default(), policy_ref: vault() };
    let sealed = tpm.seal(&SECRET, &binding).unwrap();
    let approval = key.approve(sealed.pcrs(), &vault()).unwrap();
    drop(tpm);
    let mut socket = Some(swtpm.connect().unwrap());
    for sealing in [true, false] {
        let mut refused_all = false;
        for refused in 0.. {
            let mut sent = 0;
            let before = |command: &mut Vec<u8>| {
                if code(command) == 0x165 {
                    return Passed::On;
                }
                sent += 1;
                if sent == refused + 1 { Passed::Answered(refusal(0x120)) } else { Passed::On }
            };
            let mut tpm = Tpm::new(Interposer { inner: socket.take().unwrap(), before, after: |_, _| {} });
            let result = if sealing {
                tpm.seal(&SECRET, &binding).map(drop)
            } else {
                tpm.unseal(&sealed, std::slice::from_ref(&approval)).map(drop)
            };
            let mut inner = tpm.into_transport().inner;
            assert_eq!(left(&mut inner), 0, "command {refused} refused");
            socket = Some(inner);
            match result {
                Err(TpmError::Refused { code, .. }) => assert_eq!(code.base(), 0x120),
                Err(other) => panic!("{other}"),
                Ok(()) => {
                    assert!(refused >= 4, "there are that many commands");
                    refused_all = true;
                    break;
                }
            }
        }
        assert!(refused_all);
    }
}

#[test]
fn a_flush_that_fails_is_said() {
    let (swtpm, tpm) = machine();
    drop(tpm);
    let before = |command: &mut Vec<u8>| {
        if code(command) == 0x165 { Passed::Answered(refusal(0x1c4)) } else { Passed::On }
    };
    let mut tpm = Tpm::new(Interposer { inner: swtpm.connect().unwrap(), before, after: |_, _| {} });
    let error = tpm.storage_key_name().unwrap_err();
    assert!(error.to_string().starts_with("TPM2_FlushContext: the TPM refuses (0x1c4"), "{error}");
}
