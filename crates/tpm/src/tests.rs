use crate::swtpm::Swtpm;
use crate::*;

#[test]
fn what_is_sealed_is_unsealed() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::new(swtpm.connect().unwrap());
    let sealed = tpm.seal(&[7; 32], &Binding::Pcrs(PcrSet::default())).unwrap();
    assert_eq!(*tpm.unseal(&sealed, &[]).unwrap(), [7; 32]);
}
