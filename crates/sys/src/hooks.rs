//! Where the processes of a cgroup may connect to and send to: programs of BPF that the kernel asks at connect(2), sendto(2)
//! and sendmsg(2), before it looks for a way. Written out by hand; no compiler and no library.

use crate::nftables::Way;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_OBJ_GET_INFO_BY_FD and BPF_PROG_QUERY.
const LOAD: libc::c_long = 5;
const ATTACH: libc::c_long = 8;
const INFO: libc::c_long = 15;
const QUERY: libc::c_long = 16;
/// BPF_PROG_TYPE_CGROUP_SOCK_ADDR.
const SOCKET_ADDRESS: u32 = 18;
/// BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_UDP4_SENDMSG, BPF_CGROUP_UDP6_SENDMSG: where the kernel
/// asks, and whether that is about IPv6.
const PLACES: [(u32, bool); 4] = [(10, false), (11, true), (14, false), (15, true)];
/// BPF_F_ALLOW_MULTI: what is attached above goes on being asked too.
const BESIDE_OTHERS: u32 = 2;
/// Of struct bpf_sock_addr: where `user_ip4` and `user_ip6` are.
const IP4: i16 = 4;
const IP6: i16 = 8;

/// An instruction: what, registers, a distance, a number.
type Instruction = u64;

fn instruction(what: u8, to: u8, from: u8, distance: i16, number: u32) -> Instruction {
    let mut bytes = [what, to | (from << 4), 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&distance.to_ne_bytes());
    bytes[4..].copy_from_slice(&number.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// `r2 = *(u32 *)(r1 + at)`, `w2 &= number`, `if w2 != number goto distance`, `r0 = number`, `exit`.
fn load(at: i16) -> Instruction {
    instruction(0x61, 2, 1, at, 0)
}

fn and(number: u32) -> Instruction {
    instruction(0x54, 2, 0, 0, number)
}

fn unless_equal(number: u32, distance: i16) -> Instruction {
    instruction(0x56, 2, 0, distance, number)
}

fn answer(number: u32) -> [Instruction; 2] {
    [instruction(0xb7, 0, 0, 0, number), instruction(0x95, 0, 0, 0, 0)]
}

/// What the kernel is to be asked: 1 for an address of these ways, 0 for any other.
fn program(ways: &[Way], six: bool) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (octets, bits) in ways.iter().filter_map(|way| octets_of(*way, six)) {
        let words: Vec<(u32, u32)> = words_of(&octets, bits);
        for (at, (word, mask)) in words.iter().enumerate() {
            // Over what is left of this way, and its answer.
            let left = i16::try_from(3 * (words.len() - at - 1) + 2).unwrap_or(i16::MAX);
            let place = if six { IP6 } else { IP4 } + 4 * i16::try_from(at).unwrap_or_default();
            program.extend([load(place), and(*mask), unless_equal(*word, left)]);
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

/// An address of the kind that is asked about: to a socket of IPv6, one of IPv4 is `::ffff:a.b.c.d`.
fn octets_of((address, bits): Way, six: bool) -> Option<(Vec<u8>, u8)> {
    match (address, six) {
        (IpAddr::V4(v4), false) => Some((v4.octets().to_vec(), bits)),
        (IpAddr::V4(v4), true) => Some((v4.to_ipv6_mapped().octets().to_vec(), bits.saturating_add(96))),
        (IpAddr::V6(v6), true) => Some((v6.octets().to_vec(), bits)),
        (IpAddr::V6(_), false) => None,
    }
}

/// The words of an address as they lie in memory, and which of their bits count; those that count nothing are left out.
fn words_of(octets: &[u8], bits: u8) -> Vec<(u32, u32)> {
    let mask = |at: usize| {
        let left = usize::from(bits).saturating_sub(8 * at);
        if left >= 8 { u8::MAX } else { !(u8::MAX >> left) }
    };
    let masks: Vec<u8> = (0..octets.len()).map(mask).collect();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let pairs =
        octets.chunks(4).zip(masks.chunks(4)).map(|(octets, mask)| (word(octets) & word(mask), word(mask)));
    pairs.filter(|(_, mask)| *mask != 0).collect()
}

/// The programs, one for each place where the kernel asks.
#[derive(Debug)]
pub struct Hooks([OwnedFd; 4]);

impl Hooks {
    /// Loads them: allowed is what these ways lead to.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN over the machine, `ENOSYS` or `EINVAL` on a kernel without them.
    pub fn load(ways: &[Way]) -> io::Result<Self> {
        let [one, two, three, four] = PLACES.map(|(place, six)| load_program(&program(ways, six), place));
        Ok(Self([one?, two?, three?, four?]))
    }

    /// Has a cgroup's processes asked about, from now until the cgroup is gone.
    ///
    /// # Errors
    /// What bpf(2) reports.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> io::Result<()> {
        for ((place, _), program) in PLACES.iter().zip(&self.0) {
            attach(cgroup, program.as_fd(), *place)?;
        }
        Ok(())
    }

    /// Whether they are asked, by the kernel's own word.
    ///
    /// # Errors
    /// What bpf(2) reports.
    pub fn are_attached(&self, cgroup: BorrowedFd<'_>) -> io::Result<bool> {
        for ((place, _), program) in PLACES.iter().zip(&self.0) {
            if !attached(cgroup, *place)?.contains(&id_of(program.as_fd())?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

// The parts of union bpf_attr, as far as they are used; the kernel takes what is not given as zeros.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    place: u32,
}

#[repr(C)]
struct AttachAttr {
    target: i32,
    program: i32,
    place: u32,
    flags: u32,
}

#[repr(C)]
struct InfoAttr {
    program: i32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct QueryAttr {
    target: i32,
    place: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    let size = size_of::<T>();
    // SAFETY: `attr` is a prefix of union bpf_attr for this command, `size` its length; what it points to lives in the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

fn load_program(program: &[Instruction], place: u32) -> io::Result<OwnedFd> {
    let license = b"Apache-2.0\0";
    let mut attr = LoadAttr {
        kind: SOCKET_ADDRESS,
        count: u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        instructions: address(program),
        license: address(license),
        log: [0; 2],
        log_buffer: 0,
        kernel: 0,
        flags: 0,
        name: *b"octant_hook\0\0\0\0\0",
        interface: 0,
        place,
    };
    let fd = bpf(LOAD, &mut attr)?;
    // SAFETY: the call returned a new descriptor, closed at execve, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, place: u32) -> io::Result<()> {
    let (target, program) = (cgroup.as_raw_fd(), program.as_raw_fd());
    bpf(ATTACH, &mut AttachAttr { target, program, place, flags: BESIDE_OTHERS }).map(drop)
}

/// The kernel's number of a program.
fn id_of(program: BorrowedFd<'_>) -> io::Result<u32> {
    // The begin of struct bpf_prog_info: type and number.
    let mut info = [0_u32; 2];
    let info_at = info.as_mut_ptr() as u64;
    bpf(INFO, &mut InfoAttr { program: program.as_raw_fd(), length: 8, info: info_at })?;
    Ok(info[1])
}

/// The numbers of what is asked at a place of a cgroup itself.
fn attached(cgroup: BorrowedFd<'_>, place: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut attr = QueryAttr {
        target: cgroup.as_raw_fd(),
        place,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        padding: 0,
    };
    bpf(QUERY, &mut attr)?;
    let count = usize::try_from(attr.count).unwrap_or_default();
    Ok(ids.iter().take(count).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &str) -> Way {
        let (address, bits) = text.split_once('/').unwrap();
        (address.parse().unwrap(), bits.parse().unwrap())
    }

    /// What a program answers for an address: a machine of as many instructions as it needs.
    fn asked(program: &[Instruction], to: &str) -> u32 {
        let octets = match to.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let base = if octets.len() == 4 { IP4 } else { IP6 };
        let (mut at, mut two, mut zero) = (0_usize, 0_u32, 0_u32);
        loop {
            let bytes = program[at].to_ne_bytes();
            let distance = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let number = u32::from_ne_bytes(bytes[4..].try_into().unwrap());
            at += 1;
            match bytes[0] {
                0x61 => {
                    let from = usize::try_from(distance - base).unwrap();
                    two = u32::from_ne_bytes(octets[from..from + 4].try_into().unwrap());
                }
                0x54 => two &= number,
                0x56 if two != number => at += usize::try_from(distance).unwrap(),
                0x56 => {}
                0xb7 => zero = number,
                0x95 => return zero,
                other => panic!("{other:x}"),
            }
        }
    }

    #[test]
    fn a_program_allows_its_ways_and_nothing_else() {
        let ways =
            ["127.0.0.0/8", "198.18.0.0/15", "::1/128", "fd4f:6374:616e:7400::/64", "0.0.0.0/32"].map(way);
        let (four, six) = (program(&ways, false), program(&ways, true));
        for good in ["127.0.0.53", "127.255.255.255", "198.18.0.1", "198.19.255.255", "0.0.0.0"] {
            assert_eq!((asked(&four, good), asked(&six, &format!("::ffff:{good}"))), (1, 1), "{good}");
        }
        for bad in ["192.0.2.1", "198.20.0.1", "198.17.255.255", "126.0.0.1", "169.254.169.254", "0.0.0.1"] {
            assert_eq!((asked(&four, bad), asked(&six, &format!("::ffff:{bad}"))), (0, 0), "{bad}");
        }
        for (to, allowed) in [
            ("::1", 1),
            ("fd4f:6374:616e:7400::5", 1),
            ("fd4f:6374:616e:7400:ffff::5", 1),
            ("fd4f:6374:616e:7401::5", 0),
            ("::2", 0),
            ("::", 0),
            ("2001:db8::1", 0),
            ("::127.0.0.1", 0),
        ] {
            assert_eq!(asked(&six, to), allowed, "{to}");
        }
        assert_eq!(asked(&program(&[], false), "127.0.0.1"), 0);
        assert_eq!(asked(&program(&[way("0.0.0.0/0")], false), "192.0.2.1"), 1);
    }
}
