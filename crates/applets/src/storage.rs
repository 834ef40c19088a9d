//! Utilities over file systems and block devices.

mod blocks;
mod loops;
mod mounts;
mod options;
mod roots;
mod signatures;
mod swap;
mod table;
mod verity;

pub(crate) use blocks::{blockdev, fallocate, fstrim, lsblk};
pub(crate) use loops::losetup;
pub(crate) use mounts::{mount, umount};
pub(crate) use roots::{pivot_root, switch_root};
pub(crate) use signatures::{blkid, fsck};
pub(crate) use swap::{mkswap, swapoff, swapon};
pub(crate) use table::{findmnt, mountpoint};
pub(crate) use verity::verity;
