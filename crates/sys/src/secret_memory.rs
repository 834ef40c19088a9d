//! Memory for secrets: in no swap, in no core dump, in no child, and zeros before it is given back.
//!
//! Where the kernel has memfd_secret(2), the pages are not even in the kernel's own map of memory, so that neither
//! another process with ptrace(2) nor a driver that reads too far finds them. Elsewhere they are locked. There is no
//! third kind: where memory cannot be locked, there is none.
//!
//! A child made with fork(2) does not have the memory: what touches it there ends with SIGSEGV. It never works on with
//! the secrets of its parent, and cannot wipe them.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// How a [`Region`] is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// memfd_secret(2): mapped in this process and nowhere else.
    MemfdSecret,
    /// Anonymous memory under mlock(2) and MADV_DONTDUMP: never in swap or in a core dump.
    Locked,
}

/// Pages that hold secrets and that have one owner.
pub struct Region(Mapping);

impl Region {
    /// At least `len` bytes, all zeros: `len` is rounded up to whole pages.
    ///
    /// # Errors
    /// `EINVAL` for no bytes at all and for more than there are addresses. `EAGAIN`, `ENOMEM` or `EPERM` when the
    /// process would have more locked memory than RLIMIT_MEMLOCK lets it have. Otherwise what memfd_secret(2), mmap(2),
    /// madvise(2) and mlock(2) report.
    pub fn new(len: usize) -> io::Result<Self> {
        let len = whole_pages(len).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        match secret_file(len)? {
            Some(file) => Mapping::secret(&file, len).map(Self),
            None => Mapping::locked(len).map(Self),
        }
    }

    /// How this memory is kept.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// As many pieces of `piece_len` bytes as there is room for, each with an owner of its own. The memory is given
    /// back when the last of them is dropped; none for a length of 0.
    #[must_use]
    pub fn split(self, piece_len: usize) -> Vec<Piece> {
        let count = self.0.len().checked_div(piece_len).unwrap_or(0);
        let mapping = Arc::new(self.0);
        let piece = |number| {
            let start = number * piece_len;
            Piece { mapping: Arc::clone(&mapping), range: start..start + piece_len }
        };
        (0..count).map(piece).collect()
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has this many bytes, readable and never unmapped before it is dropped; only this
        // region has it, so that nothing writes while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.0.start(), self.0.len()) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the region is borrowed for writing, so that there is no other borrow.
        unsafe { std::slice::from_raw_parts_mut(self.0.start(), self.0.len()) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.0.len())
            .field("kind", &self.0.kind)
            .finish_non_exhaustive()
    }
}

/// A part of what was a [`Region`]. No two pieces overlap. Dropping one wipes nothing: the last one's drop wipes all.
pub struct Piece {
    mapping: Arc<Mapping>,
    // Within the mapping, and in no other piece.
    range: Range<usize>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `split` made the range: it is within the mapping, which lives as long as this piece, and no other
        // piece or region reaches these bytes.
        unsafe {
            let start = self.mapping.start().add(self.range.start);
            std::slice::from_raw_parts(start, self.range.len())
        }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the piece is borrowed for writing, so that there is no other borrow.
        unsafe {
            let start = self.mapping.start().add(self.range.start);
            std::slice::from_raw_parts_mut(start, self.range.len())
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, kind) = (self.range.len(), self.mapping.kind);
        f.debug_struct("Piece").field("len", &len).field("kind", &kind).finish_non_exhaustive()
    }
}

/// What a region, or all of its pieces, have in common. Its bytes are theirs to read and write.
struct Mapping {
    pages: Pages,
    kind: Kind,
}

impl Mapping {
    fn secret(file: &OwnedFd, len: usize) -> io::Result<Self> {
        let pages = Pages::map(len, libc::MAP_SHARED, file.as_raw_fd())?;
        pages.advise(&[libc::MADV_DONTDUMP, libc::MADV_DONTFORK])?;
        let mut mapping = Self { pages, kind: Kind::MemfdSecret };
        // The kernel gives each page when it is first written; let that be now, and not while a secret is.
        mapping.wipe();
        Ok(mapping)
    }

    fn locked(len: usize) -> io::Result<Self> {
        let pages = Pages::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        pages.advise(&[libc::MADV_DONTDUMP, libc::MADV_DONTFORK])?;
        pages.lock()?;
        Ok(Self { pages, kind: Kind::Locked })
    }

    fn start(&self) -> *mut u8 {
        self.pages.start.as_ptr()
    }

    fn len(&self) -> usize {
        self.pages.len
    }

    /// Zeros, written so that no compiler leaves it out because nobody reads them.
    fn wipe(&mut self) {
        let start = self.start().cast::<u64>();
        for word in 0..self.len() / size_of::<u64>() {
            // SAFETY: pages are aligned and a multiple of eight bytes long; nobody else has this mapping.
            unsafe { start.add(word).write_volatile(0) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Pages of this process, unmapped when they are dropped.
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is a range of addresses of the process, which mean the same in every thread, and munmap(2) may be called
// from any.
unsafe impl Send for Pages {}
// SAFETY: a shared reference to it reads and writes nothing; a region's or a piece's bytes follow Rust's borrows.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(len: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so that the kernel chooses one where nothing is.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start: start.cast(), len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn advise(&self, advices: &[libc::c_int]) -> io::Result<()> {
        for advice in advices {
            // SAFETY: the range is this mapping. The advices given here are about dumps and children, not content.
            if unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, *advice) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping.
        let done = unsafe { libc::mlock(self.start.as_ptr().cast(), self.len) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and what borrowed from it is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A file of secret memory with this length; `None` where the kernel has none, or a filter of system calls refuses it.
fn secret_file(len: usize) -> io::Result<Option<OwnedFd>> {
    // SAFETY: no pointers.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let Ok(number @ 0..) = i32::try_from(number) else {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM) => Ok(None),
            _ => Err(error),
        };
    };
    // SAFETY: memfd_secret has just made this descriptor; nothing else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    let len = i64::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    nix::unistd::ftruncate(&file, len)?;
    Ok(Some(file))
}

fn whole_pages(len: usize) -> Option<usize> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    let len = len.checked_next_multiple_of(usize::try_from(page).ok()?)?;
    // What has no address is no memory (and mmap(2) refuses none at all).
    (len > 0 && isize::try_from(len).is_ok()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of /proc/self/maps and the flags in /proc/self/smaps of the mapping that has this address.
    fn seen_by_the_kernel(at: *const u8) -> (String, String) {
        let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let bounds = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let mut lines = all.lines();
        let line = lines.find(|line| bounds(line).is_some_and(|range| range.contains(&at.addr()))).unwrap();
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        (line.to_owned(), format!("{flags} "))
    }

    /// Of each kind that this kernel has.
    fn regions() -> Vec<Region> {
        let secret = secret_file(4096).unwrap().map(|file| Mapping::secret(&file, 4096).unwrap());
        secret.into_iter().chain([Mapping::locked(4096).unwrap()]).map(Region).collect()
    }

    #[test]
    fn a_region_is_zeros_keeps_what_is_written_and_is_in_no_dump_no_swap_and_no_child() {
        for mut region in regions() {
            assert!(region.len() == 4096 && region.iter().all(|byte| *byte == 0));
            region.copy_from_slice(&[0x5a; 4096]);
            assert!(region.iter().all(|byte| *byte == 0x5a));
            let (line, flags) = seen_by_the_kernel(region.as_ptr());
            for wanted in [" dd ", " dc ", " lo "] {
                assert!(flags.contains(wanted), "{wanted:?} of {:?} in {flags:?}", region.kind());
            }
            assert_eq!(line.contains("secretmem"), region.kind() == Kind::MemfdSecret, "{line}");
        }
    }

    #[test]
    fn the_kind_is_the_best_that_there_is() {
        let wanted = if secret_file(4096).unwrap().is_some() { Kind::MemfdSecret } else { Kind::Locked };
        assert_eq!(Region::new(1).unwrap().kind(), wanted);
    }

    #[test]
    fn a_length_is_rounded_up_and_impossible_ones_are_refused() {
        for (asked, got) in [(1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(Region::new(asked).unwrap().len(), got, "{asked}");
        }
        for asked in [0, usize::MAX, usize::MAX - 4095, isize::MAX.unsigned_abs()] {
            assert_eq!(Region::new(asked).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{asked}");
        }
    }

    #[test]
    fn two_regions_and_two_pieces_have_no_byte_in_common() {
        for (mut a, mut b) in regions().into_iter().zip(regions()) {
            a.fill(1);
            b.fill(2);
            assert!(a.iter().all(|byte| *byte == 1) && b.iter().all(|byte| *byte == 2));
            let mut pieces = a.split(1000);
            assert_eq!(pieces.len(), 4);
            for (piece, number) in pieces.iter_mut().zip(10..) {
                piece.fill(number);
            }
            let mut threads = Vec::new();
            for (piece, number) in pieces.into_iter().zip(10..) {
                threads.push(std::thread::spawn(move || {
                    piece.len() == 1000 && piece.iter().all(|b| *b == number)
                }));
            }
            assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        }
        assert!(
            Region::new(1).unwrap().split(0).is_empty() && Region::new(1).unwrap().split(4097).is_empty()
        );
    }

    #[test]
    fn wiping_leaves_zeros() {
        for mut region in regions() {
            region.fill(7);
            region.0.wipe();
            assert!(region.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn nothing_of_the_content_is_shown() {
        for mut region in regions() {
            region.fill(173);
            let shown = format!("{region:?} {:?}", region.kind());
            assert!(shown.contains("4096") && !shown.contains("173"), "{shown}");
            let shown = format!("{:?}", region.split(32));
            assert!(shown.contains("32") && !shown.contains("173"), "{shown}");
        }
    }
}
