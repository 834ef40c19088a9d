//! What relocation wrote when the program was loaded, and nobody writes again: vtables, tables of strings, addresses.
//!
//! To the kernel these are pages of the process's own. Each child gets a map of them page by page, and takes it apart again
//! when it executes a program: for this binary 450 pages, a quarter of a millisecond each way. Pages of a file are shared
//! without that, so a process that has many children puts them into one (as Android does for its browsers' libraries).

use crate::clone::threads;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Puts them into a sealed file in memory, at the same addresses and as read-only as before. How many bytes: none where the
/// program has none such, or not in one piece.
///
/// # Errors
/// `EDEADLK` when the process has more than one thread. What memfd_create(2), write(2), fcntl(2) and mmap(2) report.
pub fn share() -> io::Result<usize> {
    if threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let Some(range) = relocated().filter(|range| is_read_only(&maps, range)) else { return Ok(0) };
    let len = range.len();
    // SAFETY: the range is mapped and readable, as the kernel has just said, and nothing writes to it.
    let bytes = unsafe { std::slice::from_raw_parts(range.start as *const u8, len) };
    let file = memfd_create(c"constants", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no pointers.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (start, flags) = (range.start as *mut libc::c_void, libc::MAP_PRIVATE | libc::MAP_FIXED);
    // SAFETY: the same bytes at the same addresses, with no moment between in which this process, which has one thread,
    // could look; references into the range stay valid. The file can neither shrink nor change any more.
    let mapped = unsafe { libc::mmap(start, len, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(len) }
}

/// Where they are, in whole pages, by the program's own headers (PT_GNU_RELRO in elf(5)).
fn relocated() -> Option<Range<usize>> {
    /// # Safety
    /// For dl_iterate_phdr(3) alone, with a `found` that is the one below.
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _: usize,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr(3) gives what describes a loaded object, and hands `found` through, which is ours.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Option<Range<usize>>>()) };
        // SAFETY: the object has this many headers there.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
        *found = relro.and_then(|relro| {
            let start = usize::try_from(info.dlpi_addr + relro.p_vaddr).ok()?;
            Some(start..start + usize::try_from(relro.p_memsz).ok()?)
        });
        1 // The program itself comes first, and is enough.
    }
    let mut found: Option<Range<usize>> = None;
    // SAFETY: the function keeps nothing, and `found` lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
    // SAFETY: no pointers.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    // As the loader rounds when it takes the right to write away.
    let found = found?;
    let range = found.start / page * page..found.end / page * page;
    (!range.is_empty()).then_some(range)
}

/// Whether the range is part of one mapping, private and read-only.
fn is_read_only(maps: &str, range: &Range<usize>) -> bool {
    maps.lines().any(|line| {
        let mut words = line.split(' ');
        let bounds = words.next().and_then(|word| word.split_once('-'));
        let bounds = bounds.map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
        matches!(bounds, Some((Ok(a), Ok(b))) if a <= range.start && range.end <= b)
            && words.next() == Some("r--p")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_where_the_kernel_shows_memory_that_only_can_be_read() {
        let (range, maps) = (relocated().unwrap(), std::fs::read_to_string("/proc/self/maps").unwrap());
        assert!(is_read_only(&maps, &range), "{range:x?} in {maps}");
        assert!(!is_read_only(&maps, &(range.start..usize::MAX)));
        assert!(!is_read_only("", &range));
        // A vtable is among them.
        let object: &dyn std::fmt::Debug = &1;
        // SAFETY: a reference to an object is two pointers.
        let [_, vtable] = unsafe { std::mem::transmute::<&dyn std::fmt::Debug, [usize; 2]>(object) };
        assert!(range.contains(&vtable), "{vtable:x} in {range:x?}");
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness runs each test in a thread of its own.
        assert_eq!(share().unwrap_err().raw_os_error(), Some(libc::EDEADLK));
    }
}
