//! guard
use crate::error::RunError;
use octant_manifest::GrantPath;
use std::path::Path;
#[derive(Debug)]
pub(crate) struct Guarded;
impl Guarded {
    pub(crate) fn find(_here: &GrantPath, _list: &Path) -> Result<Self, RunError> { Ok(Self) }
    pub(crate) fn paths(&self) -> Vec<(GrantPath, bool)> { vec![] }
    pub(crate) fn release(self) {}
}
