//! Block devices, loop devices and swap: the ioctls of linux/fs.h and linux/loop.h, swapon(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

fn done(result: libc::c_int) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const BLKROSET: libc::c_ulong = 0x125d;
const BLKROGET: libc::c_ulong = 0x125e;
const BLKRRPART: libc::c_ulong = 0x125f;
const BLKFLSBUF: libc::c_ulong = 0x1261;
const BLKRASET: libc::c_ulong = 0x1262;
const BLKRAGET: libc::c_ulong = 0x1263;
const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKPBSZGET: libc::c_ulong = 0x127b;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
const FITRIM: libc::c_ulong = 0xc018_5879;

fn int(fd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    // SAFETY: every request that this is called with writes one int through the pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) })?;
    Ok(value)
}

/// A device's size in bytes.
///
/// # Errors
/// What ioctl(2) reports; `ENOTTY` for what is no block device.
pub fn size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut value: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes one 64-bit number through the pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKGETSIZE64, &raw mut value) })?;
    Ok(value)
}

/// The logical sector's size in bytes.
///
/// # Errors
/// What ioctl(2) reports.
pub fn sector(fd: BorrowedFd<'_>) -> io::Result<i32> {
    int(fd, BLKSSZGET)
}

/// The physical sector's size in bytes.
///
/// # Errors
/// What ioctl(2) reports.
pub fn physical_sector(fd: BorrowedFd<'_>) -> io::Result<i32> {
    int(fd, BLKPBSZGET)
}

/// Whether nothing can be written.
///
/// # Errors
/// What ioctl(2) reports.
pub fn is_read_only(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(int(fd, BLKROGET)? != 0)
}

/// Sets whether nothing can be written.
///
/// # Errors
/// What ioctl(2) reports.
pub fn set_read_only(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let value = libc::c_int::from(on);
    // SAFETY: BLKROSET reads one int through the pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKROSET, &raw const value) })
}

/// How much is read ahead, in sectors of 512 bytes.
///
/// # Errors
/// What ioctl(2) reports.
pub fn read_ahead(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut value: libc::c_ulong = 0;
    // SAFETY: BLKRAGET writes one long through the pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKRAGET, &raw mut value) })?;
    Ok(value)
}

/// Sets how much is read ahead, in sectors of 512 bytes.
///
/// # Errors
/// What ioctl(2) reports.
pub fn set_read_ahead(fd: BorrowedFd<'_>, sectors: u64) -> io::Result<()> {
    // SAFETY: BLKRASET takes a number, no pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKRASET, sectors) })
}

/// Writes out and drops what is buffered of the device.
///
/// # Errors
/// What ioctl(2) reports.
pub fn flush(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKFLSBUF, 0) })
}

/// Has the kernel read the partition table again.
///
/// # Errors
/// What ioctl(2) reports; `EBUSY` while a partition is in use.
pub fn reread_partitions(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no pointer.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), BLKRRPART, 0) })
}

/// Tells the device below a mounted file system which blocks hold nothing; gives how many bytes that were.
///
/// # Errors
/// What ioctl(2) reports; `EOPNOTSUPP` where the device does not want to know.
pub fn trim(directory: BorrowedFd<'_>, start: u64, length: u64, least: u64) -> io::Result<u64> {
    let mut range = [start, length, least];
    // SAFETY: FITRIM reads and writes a struct of three 64-bit numbers through the pointer.
    done(unsafe { libc::ioctl(directory.as_raw_fd(), FITRIM, range.as_mut_ptr()) })?;
    Ok(range[1])
}

const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_PARTSCAN: u32 = 8;
const LO_NAME_SIZE: usize = 64;

// The kernel's struct loop_info64.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

// The kernel's struct loop_config.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// What a loop device shows of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loop<'a> {
    /// From which byte on.
    pub offset: u64,
    /// So many bytes; 0 for all.
    pub size: u64,
    /// Nothing can be written.
    pub read_only: bool,
    /// It is given back when nobody uses it any more.
    pub autoclear: bool,
    /// Its partition table is read.
    pub partitions: bool,
    /// The file's name, for people; cut to 63 bytes.
    pub name: &'a [u8],
}

/// The number of a loop device that is free; `control` is `/dev/loop-control`.
///
/// # Errors
/// What ioctl(2) reports.
pub fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no pointer.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    done(number)?;
    Ok(number.unsigned_abs())
}

/// Puts a file behind a loop device.
///
/// # Errors
/// What ioctl(2) reports; `EBUSY` when the device has a file already.
pub fn set_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>, what: &Loop<'_>) -> io::Result<()> {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let mut file_name = [0; LO_NAME_SIZE];
    let length = what.name.len().min(LO_NAME_SIZE - 1);
    file_name[..length].copy_from_slice(&what.name[..length]);
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: what.offset,
        size_limit: what.size,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: flag(what.read_only, LO_FLAGS_READ_ONLY)
            | flag(what.autoclear, LO_FLAGS_AUTOCLEAR)
            | flag(what.partitions, LO_FLAGS_PARTSCAN),
        file_name,
        crypt_name: [0; LO_NAME_SIZE],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = LoopConfig { fd: file.as_raw_fd().unsigned_abs(), block_size: 0, info, reserved: [0; 8] };
    // SAFETY: `config` has the kernel's layout and lives until the call returns.
    done(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })
}

/// Takes the file away from a loop device, at once or when nobody uses it any more.
///
/// # Errors
/// What ioctl(2) reports; `ENXIO` when it has none.
pub fn clear_loop(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no pointer.
    done(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0) })
}

/// Begins to swap to a device or file; `priority` from 0 to 32767, or the kernel's choice.
///
/// # Errors
/// What swapon(2) reports.
pub fn swap_on(path: &CStr, priority: Option<u16>, discard: bool) -> io::Result<()> {
    const PREFER: libc::c_int = 0x8000;
    let preferred = priority.map_or(0, |priority| PREFER | libc::c_int::from(priority) & 0x7fff);
    let discard = if discard { 0x1_0000 } else { 0 };
    // SAFETY: `path` is NUL-terminated and lives until the call returns.
    done(unsafe { libc::swapon(path.as_ptr(), preferred | discard) })
}

/// Stops swapping to a device or file.
///
/// # Errors
/// What swapoff(2) reports; `ENOMEM` when what is there has no place in memory.
pub fn swap_off(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated and lives until the call returns.
    done(unsafe { libc::swapoff(path.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_kernels_structures_have_their_size() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(size(null.as_fd()).is_err() && sector(null.as_fd()).is_err());
        assert!(is_read_only(null.as_fd()).is_err() && read_ahead(null.as_fd()).is_err());
        assert!(swap_off(c"/dev/null").is_err());
    }
}
