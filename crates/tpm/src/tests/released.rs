//! Sealing to a release key, against an emulated TPM.

use super::*;
use crate::{APPROVALS_MAX, Approval, PcrValues, ReleaseKey, Sealed, TpmError};

fn to_release(key: &ReleaseKey) -> Binding {
    Binding::Released { key: key.public(), pcrs: PcrSet::default(), policy_ref: vault() }
}

/// The values that this TPM would have after extending PCR 11.
fn extended(values: &PcrValues, digest: &Sha256) -> PcrValues {
    use sha2::Digest;
    let next = sha2::Sha256::new().chain_update(values.get(11).unwrap().0).chain_update(digest.0).finalize();
    PcrValues::new(values.iter().map(|(n, v)| (n, if n == 11 { Sha256(next.into()) } else { v }))).unwrap()
}

/// The approval with one bit of its signature altered.
fn tampered(approval: &Approval) -> Approval {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let mut value = serde_json::to_value(approval).unwrap();
    let mut bytes = BASE64_STANDARD.decode(value["signature"].as_str().unwrap()).unwrap();
    bytes[40] ^= 1;
    value["signature"] = BASE64_STANDARD.encode(bytes).into();
    serde_json::from_value(value).unwrap()
}

#[test]
fn an_approved_system_opens_it_and_no_other() {
    let (_swtpm, mut tpm) = machine();
    let (key, other) = (ReleaseKey::generate().unwrap(), ReleaseKey::generate().unwrap());
    let sealed = tpm.seal(&SECRET, &to_release(&key)).unwrap();
    let now = tpm.read_pcrs(&PcrSet::default()).unwrap();
    let good = key.approve(&now, &vault()).unwrap();
    assert_eq!(*tpm.unseal(&sealed, std::slice::from_ref(&good)).unwrap(), SECRET);
    let error = tpm.unseal(&sealed, &[]).unwrap_err();
    assert!(matches!(error, TpmError::NoApproval { given: 0, .. }), "{error}");
    assert!(error.to_string().contains("(no PCR changed since"), "{error}");

    let next = extended(&now, &digest(9));
    let for_next = key.approve(&next, &vault()).unwrap();
    let error = tpm.unseal(&sealed, std::slice::from_ref(&for_next)).unwrap_err();
    assert!(matches!(error, TpmError::NoApproval { given: 1, .. }), "{error}");
    let of_other = other.approve(&now, &vault()).unwrap();
    let for_else = key.approve(&now, &PolicyRef::new(b"other").unwrap()).unwrap();
    for bad in [&of_other, &for_else, &tampered(&good)] {
        let error = tpm.unseal(&sealed, &[bad.clone(), for_next.clone()]).unwrap_err();
        assert!(matches!(error, TpmError::ApprovalSignature), "{error}");
    }
    // One that is of no use does not keep one that is from being found.
    assert_eq!(*tpm.unseal(&sealed, &[of_other, for_next.clone(), good.clone()]).unwrap(), SECRET);

    // The update: what was sealed before it opens after it, with the approval that comes with it alone.
    tpm.extend(11, &digest(9)).unwrap();
    assert_eq!(*tpm.unseal(&sealed, &[for_next]).unwrap(), SECRET);
    let error = tpm.unseal(&sealed, &[good]).unwrap_err();
    assert!(error.to_string().contains("PCR 11 changed since"), "{error}");
}

/// The signature is checked before the TPM is asked; so that the TPM checks it too is shown without that check.
#[test]
fn the_tpm_itself_takes_no_other_keys_approval() {
    let (_swtpm, mut tpm) = machine();
    let (key, other) = (ReleaseKey::generate().unwrap(), ReleaseKey::generate().unwrap());
    let sealed = tpm.seal(&SECRET, &to_release(&key)).unwrap();
    let now = tpm.read_pcrs(&PcrSet::default()).unwrap();
    let attempt = |tpm: &mut Tpm<Socket>, approval: &Approval, signer: &ReleaseKey| {
        tpm.scope(|tpm| {
            let storage_key = tpm.create_storage_key()?;
            let object = tpm.load(&storage_key, sealed.private.as_slice(), sealed.public.as_slice())?;
            let mut session = tpm.start_session(crate::commands::Kind::Policy, &storage_key)?;
            tpm.policy_pcr(&session, &now)?;
            tpm.policy_authorize(&session, approval, &signer.public(), &vault())?;
            tpm.unseal_loaded(&object, &mut session)
        })
    };
    let good = key.approve(&now, &vault()).unwrap();
    assert_eq!(*attempt(&mut tpm, &good, &key).unwrap(), SECRET);
    let forged = other.approve(&now, &vault()).unwrap();
    let error = attempt(&mut tpm, &forged, &key).unwrap_err();
    assert!(matches!(error, TpmError::Refused { code, .. } if code.base() == 0x9b), "{error}");
    let error = attempt(&mut tpm, &forged, &other).unwrap_err();
    assert!(matches!(error, TpmError::PolicyRefused(_)), "{error}");
    let next = key.approve(&extended(&now, &digest(1)), &vault()).unwrap();
    let error = attempt(&mut tpm, &next, &key).unwrap_err();
    assert!(matches!(error, TpmError::Refused { .. }), "{error}");
}

#[test]
fn an_approval_may_be_about_more_registers_and_not_about_fewer() {
    let (_swtpm, mut tpm) = machine();
    let key = ReleaseKey::generate().unwrap();
    let sealed = tpm.seal(&SECRET, &to_release(&key)).unwrap();
    let of = |tpm: &mut Tpm<Socket>, numbers: &[u8]| {
        let set = PcrSet::new(numbers.iter().copied()).unwrap();
        let values = tpm.read_pcrs(&set).unwrap();
        key.approve(&values, &vault()).unwrap()
    };
    let (fewer, more) = (of(&mut tpm, &[7]), of(&mut tpm, &[0, 4, 7, 11]));
    let error = tpm.unseal(&sealed, std::slice::from_ref(&fewer)).unwrap_err();
    assert!(matches!(error, TpmError::NoApproval { given: 1, .. }), "{error}");
    assert_eq!(*tpm.unseal(&sealed, &[fewer, more]).unwrap(), SECRET);
}

#[test]
fn it_is_data_and_back_and_bound_to_its_key() {
    let (_swtpm, mut tpm) = machine();
    let (key, other) = (ReleaseKey::generate().unwrap(), ReleaseKey::generate().unwrap());
    let sealed = tpm.seal(&SECRET, &to_release(&key)).unwrap();
    let text = serde_json::to_string(&sealed).unwrap();
    assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
    let with_other = text.replace(&key.public().to_string(), &other.public().to_string());
    assert!(serde_json::from_str::<Sealed>(&with_other).unwrap_err().to_string().contains("does not belong"));
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("release");
    assert!(serde_json::from_value::<Sealed>(value).unwrap_err().to_string().contains("does not belong"));
}

#[test]
fn there_is_a_limit_of_approvals() {
    let (_swtpm, mut tpm) = machine();
    let key = ReleaseKey::generate().unwrap();
    let sealed = tpm.seal(&SECRET, &to_release(&key)).unwrap();
    let approval = key.approve(sealed.pcrs(), &vault()).unwrap();
    let many = vec![approval; APPROVALS_MAX + 1];
    let error = tpm.unseal(&sealed, &many).unwrap_err();
    assert!(matches!(error, TpmError::TooManyApprovals(65)), "{error}");
}
