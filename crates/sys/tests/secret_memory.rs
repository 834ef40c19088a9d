//! What secret memory leaves and what it is refused: in a process of its own, since both concern all of it.

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, geteuid, setresuid};
use octant_sys::secret_memory::Region;

/// Whether something is mapped at this address.
fn is_mapped(at: *const u8) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let bound = |text| usize::from_str_radix(text, 16).unwrap();
        (bound(start)..bound(end)).contains(&at.addr())
    })
}

/// One test, so that no other one maps or allocates meanwhile.
#[test]
fn it_is_given_back_with_its_last_owner_and_never_given_unlocked() {
    let region = Region::new(8192).unwrap();
    let at = region.as_ptr();
    assert!(is_mapped(at));
    let last = region.split(4096).pop();
    assert!(is_mapped(at), "a piece keeps all of it");
    drop(last);
    assert!(!is_mapped(at));

    setrlimit(Resource::RLIMIT_MEMLOCK, 4096, 4096).unwrap();
    if geteuid().is_root() {
        let nobody = Uid::from_raw(65534);
        setresuid(nobody, nobody, nobody).unwrap();
    }
    let one = Region::new(4096).unwrap();
    let refused = Region::new(4096).unwrap_err();
    let reasons = [libc::EAGAIN, libc::ENOMEM, libc::EPERM];
    assert!(refused.raw_os_error().is_some_and(|errno| reasons.contains(&errno)), "{refused}");
    drop(one);
    Region::new(4096).unwrap();
}
