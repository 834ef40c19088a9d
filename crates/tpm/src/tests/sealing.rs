//! Sealing to PCRs, against an emulated TPM.

use super::*;
use crate::{Device, PcrValues, Sealed, TpmError, pcr_policy};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

#[test]
fn what_is_sealed_is_unsealed_also_after_a_restart() {
    let (mut swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
    assert_eq!(*sealed.storage_key_name(), tpm.storage_key_name().unwrap());
    let text = serde_json::to_string(&sealed).unwrap();
    assert!(text.len() < 1500, "{} bytes", text.len());
    let again: Sealed = serde_json::from_str(&text).unwrap();
    assert_eq!(again, sealed);
    swtpm.restart().unwrap();
    let mut tpm = Tpm::new(swtpm.connect().unwrap());
    assert_eq!(*tpm.unseal(&again, &[]).unwrap(), SECRET);
}

#[test]
fn a_bound_pcr_that_changed_is_named_and_another_one_does_not_matter() {
    let (_swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    tpm.extend(4, &digest(1)).unwrap();
    tpm.extend(23, &digest(1)).unwrap();
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
    tpm.extend(11, &digest(1)).unwrap();
    let error = tpm.unseal(&sealed, &[]).unwrap_err();
    assert!(matches!(&error, TpmError::PcrsDiffer(pcrs) if pcrs.0 == [11]), "{error}");
    assert!(error.to_string().starts_with("PCR 11 changed since"), "{error}");
    tpm.extend(7, &digest(1)).unwrap();
    let error = tpm.unseal(&sealed, &[]).unwrap_err();
    assert!(error.to_string().starts_with("PCRs 7, 11 changed since"), "{error}");
}

#[test]
fn pcrs_are_read_and_extended_as_the_specification_says() {
    use sha2::Digest;
    let (_swtpm, mut tpm) = machine();
    // More than one reply has; 17 to 22 begin with ones on a PC, and only 16 and 23 may be reset.
    let all = PcrSet::new(0..24).unwrap();
    let before = tpm.read_pcrs(&all).unwrap();
    assert_eq!((before.set(), before.get(0), before.get(17)), (all, Some(digest(0)), Some(digest(0xff))));
    tpm.extend(23, &digest(5)).unwrap();
    let after = tpm.read_pcrs(&all).unwrap();
    assert_eq!(before.differing(&after), [23]);
    let want: [u8; 32] = sha2::Sha256::digest([[0; 32], [5; 32]].concat()).into();
    assert_eq!(after.get(23), Some(Sha256(want)));
    assert!(matches!(tpm.extend(24, &digest(5)), Err(TpmError::NoSuchPcr(pcrs)) if pcrs.0 == [24]));
    let sealed = tpm.seal(&SECRET, &Binding::Pcrs(all)).unwrap();
    assert_eq!(*sealed.pcrs(), after);
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
}

/// The TPM computes a policy's digest by itself in a trial session (TPM2_PolicyGetDigest).
#[test]
fn the_policy_is_what_the_tpm_computes() {
    let (swtpm, mut tpm) = machine();
    tpm.extend(11, &digest(3)).unwrap();
    let values = tpm.read_pcrs(&PcrSet::new([0, 7, 11, 16]).unwrap()).unwrap();
    drop(tpm);
    let mut socket = swtpm.connect().unwrap();
    let start = Writer::new().sized(&[1; 16]).sized(&[]).u8(3).u16(crate::codes::alg::NULL).u16(0x000b);
    let (refused, reply) = raw(&mut socket, 0x176, &[permanent::NULL; 2], false, start.as_slice());
    assert_eq!(refused, 0);
    let trial = Reader::new(&reply).u32().unwrap();
    let pcrs = values.set().put(Writer::new().sized(&[]));
    assert_eq!(raw(&mut socket, 0x17f, &[trial], false, pcrs.as_slice()).0, 0);
    let (refused, reply) = raw(&mut socket, 0x189, &[trial], false, &[]);
    assert_eq!((refused, Reader::new(&reply).sized(32).unwrap()), (0, &pcr_policy(&values).0[..]));
}

#[test]
fn another_tpm_refuses_and_says_so() {
    let (_one, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    let (_other, mut other) = machine();
    let found_there = other.storage_key_name().unwrap();
    let error = other.unseal(&sealed, &[]).unwrap_err();
    assert!(
        matches!(error, TpmError::OtherTpm { expected, found }
            if expected == *sealed.storage_key_name() && found == found_there),
        "{error}"
    );
    // A thief who has the other machine's name written into it gets no further.
    let mut stolen = sealed;
    stolen.storage_key = found_there;
    let error = other.unseal(&stolen, &[]).unwrap_err();
    assert!(matches!(error, TpmError::Damaged(code) if code.base() == 0x9f), "{error}");
}

#[test]
fn a_cleared_tpm_is_another_one() {
    let (swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    let mut socket = swtpm.connect().unwrap();
    assert_eq!(raw(&mut socket, 0x126, &[LOCKOUT], true, &[]).0, 0);
    let error = Tpm::new(socket).unseal(&sealed, &[]).unwrap_err();
    assert!(matches!(error, TpmError::OtherTpm { .. }), "{error}");
}

#[test]
fn a_tpm_that_is_not_the_expected_one_is_given_no_secret() {
    let (_one, mut tpm) = machine();
    let (other, _) = machine();
    let expected = tpm.storage_key_name().unwrap();
    let mut tpm = tpm.expecting(expected);
    tpm.seal(&SECRET, &to_pcrs()).unwrap();
    let (recorder, tape) = Recorder::new(other.connect().unwrap());
    let error = Tpm::new(recorder).expecting(expected).seal(&SECRET, &to_pcrs()).unwrap_err();
    assert!(matches!(error, TpmError::OtherTpm { .. }), "{error}");
    let commands: Vec<u32> = tape.lock().unwrap().iter().map(|(command, _)| code(command)).collect();
    assert_eq!(commands, [0x131, 0x165], "only the storage key was made, and flushed");
}

#[test]
fn no_byte_of_a_sealed_secret_can_be_altered() {
    let (_swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    let (public, private) = (sealed.public.as_slice().to_vec(), sealed.private.as_slice().to_vec());
    for at in 0..public.len() + private.len() {
        let (mut public, mut private) = (public.clone(), private.clone());
        match at.checked_sub(public.len()) {
            None => public[at] ^= 0x20,
            Some(at) => private[at] ^= 0x20,
        }
        let mut altered = sealed.clone();
        altered.public = crate::text::Bytes::new(&public).unwrap();
        altered.private = crate::text::Bytes::new(&private).unwrap();
        let error = tpm.unseal(&altered, &[]).unwrap_err();
        assert!(matches!(error, TpmError::Damaged(_)), "byte {at}: {error}");
        // Most of the public area is known beforehand, so that reading it already refuses.
        let read = serde_json::from_str::<Sealed>(&serde_json::to_string(&altered).unwrap());
        assert_eq!(read.is_err(), at < public.len() - 32, "byte {at}");
    }
    for cut in [&private[..0], &private[..private.len() - 1], &[&private[..], &[0]].concat(), &[0xff; 1024]] {
        let mut altered = sealed.clone();
        altered.private = crate::text::Bytes::new(cut).unwrap();
        let error = tpm.unseal(&altered, &[]).unwrap_err();
        assert!(matches!(error, TpmError::Damaged(_)), "{} bytes: {error}", cut.len());
    }
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
}

#[test]
fn a_sealed_secret_as_data_is_consistent_or_refused() {
    let (_swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    let text = serde_json::to_string(&sealed).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = value.clone();
        change(&mut value);
        serde_json::from_value::<Sealed>(value).unwrap_err().to_string()
    };
    assert!(refused(&|v| v["version"] = 2.into()).contains("version 2"));
    assert!(refused(&|v| v["more"] = 2.into()).contains("unknown field"));
    assert!(refused(&|v| v["pcrs"] = serde_json::json!({"7": "00".repeat(32)})).contains("does not belong"));
    assert!(refused(&|v| v["private"] = "A".repeat(2000).into()).contains("more than 1024 bytes"));
    assert!(refused(&|v| v["public"] = "A".repeat(2000).into()).contains("more than 256 bytes"));
    assert!(refused(&|v| v["storage_key"] = "00".into()).contains("000b"));
    let key = crate::ReleaseKey::generate().unwrap().public().to_string();
    assert!(
        refused(&|v| v["release"] = serde_json::json!({"key": key, "policy_ref": ""}))
            .contains("does not belong")
    );
}

#[test]
fn a_tpm_without_the_bank_is_told_apart() {
    let (mut swtpm, tpm) = machine();
    drop(tpm);
    let mut socket = swtpm.connect().unwrap();
    // TPM2_PCR_Allocate: SHA-1 alone.
    let banks = [0, 0, 0, 2, 0, 4, 3, 0xff, 0xff, 0xff, 0, 0x0b, 3, 0, 0, 0];
    assert_eq!(raw(&mut socket, 0x12b, &[PLATFORM], true, &banks).0, 0);
    drop(socket);
    swtpm.restart().unwrap();
    let mut tpm = Tpm::new(swtpm.connect().unwrap());
    for error in [tpm.read_pcrs(&PcrSet::default()).unwrap_err(), tpm.seal(&SECRET, &to_pcrs()).unwrap_err()]
    {
        assert!(matches!(error, TpmError::NoSha256Bank), "{error}");
    }
}

#[test]
fn an_owner_with_a_password_is_told_apart() {
    let (swtpm, tpm) = machine();
    drop(tpm);
    let mut socket = swtpm.connect().unwrap();
    let password = Writer::new().sized(b"password");
    assert_eq!(raw(&mut socket, 0x129, &[permanent::OWNER], true, password.as_slice()).0, 0);
    let error = Tpm::new(socket).seal(&SECRET, &to_pcrs()).unwrap_err();
    assert!(matches!(error, TpmError::OwnerPassword), "{error}");
}

/// Neither the storage key nor what is sealed takes part in the lockout, so nobody locks a machine by guessing.
#[test]
fn a_lockout_locks_nothing_that_is_sealed() {
    let (swtpm, mut tpm) = machine();
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    drop(tpm);
    let mut socket = swtpm.connect().unwrap();
    // TPM2_DictionaryAttackParameters: locked out from the first try on.
    let parameters = [0_u32, 1000, 1000].map(u32::to_be_bytes).concat();
    assert_eq!(raw(&mut socket, 0x13a, &[LOCKOUT], true, &parameters).0, 0);
    let mut tpm = Tpm::new(socket);
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
    tpm.seal(&SECRET, &to_pcrs()).unwrap();
}

#[test]
fn a_tpm_describes_itself() {
    let (_swtpm, mut tpm) = machine();
    let described = tpm.describe().unwrap();
    assert_eq!(
        (described.manufacturer.as_str(), described.vendor.starts_with("SW")),
        ("IBM", true),
        "{described:?}"
    );
    assert_eq!(described.firmware.split('.').count(), 4);
    assert!(described.revision.starts_with("1."), "{described:?}");
}

#[test]
fn a_silent_device_is_an_error_and_is_asked_nothing_more() {
    let (ours, _silent) = UnixStream::pair().unwrap();
    let device = Device::with_deadline(File::from(OwnedFd::from(ours)), Duration::from_millis(100)).unwrap();
    let mut tpm = Tpm::new(device);
    let error = tpm.seal(&SECRET, &to_pcrs()).unwrap_err();
    assert!(error.to_string().contains("does not answer: no reply within 100 ms"), "{error}");
    let error = tpm.describe().unwrap_err();
    assert!(matches!(error, TpmError::GivenUp(_)), "{error}");
}

/// The socket of the emulator gives a whole reply to one read, as the kernel's device does.
#[test]
fn a_device_is_sealed_with_like_a_stream() {
    let swtpm = Swtpm::start().unwrap();
    let device = File::from(OwnedFd::from(UnixStream::connect(swtpm.socket()).unwrap()));
    let mut tpm = Tpm::new(Device::new(device).unwrap());
    let sealed = tpm.seal(&SECRET, &to_pcrs()).unwrap();
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), SECRET);
}

#[test]
fn values_of_pcrs_are_never_none() {
    assert!(PcrValues::new([]).is_err());
}
