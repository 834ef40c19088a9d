//! Whose the files of a granted tree are, inside: user namespaces that mounts are shown through.

use crate::enforce::{Made, get};
use crate::kernel::{Call, Kernel};
use crate::step::Step;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// How many are kept, a descriptor each: those of the few slots that are used again and again.
const KEPT_MAX: usize = 8;

/// The owner on disk, its group, and whom both are shown as.
type Map = (u32, u32, u32);

/// The namespaces that there are, kept for the next workstation: the three numbers are all that one consists of.
#[derive(Debug, Default)]
pub(crate) struct Owners(RefCell<BTreeMap<Map, Rc<OwnedFd>>>);

impl Owners {
    /// The one for this map.
    pub(crate) fn map<K: Kernel>(&self, kernel: &mut K, uid: u32, gid: u32, to: u32) -> Made<Rc<OwnedFd>> {
        let mut kept = self.0.borrow_mut();
        if let Some(made) = kept.get(&(uid, gid, to)) {
            return Ok(Rc::clone(made));
        }
        let made = Rc::new(get(kernel, Step::Tree, Call::OwnerMap { uid, gid, to })?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((uid, gid, to), Rc::clone(&made));
        Ok(made)
    }
}
