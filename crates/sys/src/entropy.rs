//! The kernel's random number generator.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Fills `buffer` from the kernel's generator, without waiting for it to be seeded (GRND_INSECURE): good for jitter
/// and for names, not for keys. Kernels before 5.6, and a failure, are answered with what getrandom(2) reports.
///
/// # Errors
/// What getrandom(2) reports.
pub fn fill_unseeded(buffer: &mut [u8]) -> io::Result<()> {
    fill(buffer, libc::GRND_INSECURE)
}

/// Fills `buffer` from the kernel's generator once it is seeded; `EAGAIN` until then.
///
/// # Errors
/// What getrandom(2) reports.
pub fn fill_seeded(buffer: &mut [u8]) -> io::Result<()> {
    fill(buffer, libc::GRND_NONBLOCK)
}

fn fill(buffer: &mut [u8], flags: libc::c_uint) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        // SAFETY: the pointer and the length are those of `rest`, which is writable.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), flags) };
        done += usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    }
    Ok(())
}

// struct rand_pool_info with a buffer of fixed size.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    bytes: libc::c_int,
    buffer: [u8; SEED_LEN],
}

/// The length of a saved seed in bytes: what the kernel's own pool holds.
pub const SEED_LEN: usize = 32;
// _IOW('R', 3, int[2])
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;

/// Gives the kernel a seed that nobody else has seen and credits it in full.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN in the initial user namespace; otherwise what ioctl(2) reports.
pub fn credit_seed(random: &File, seed: &[u8; SEED_LEN]) -> io::Result<()> {
    let bytes = 32;
    let info = PoolInfo { entropy_bits: bytes * 8, bytes, buffer: *seed };
    // SAFETY: RNDADDENTROPY reads a struct rand_pool_info, which `info` is, with `bytes` bytes behind its head.
    let done = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        fill_unseeded(&mut a).unwrap();
        fill_seeded(&mut b).unwrap();
        assert!(a != [0; 32] && a != b);
    }
}
