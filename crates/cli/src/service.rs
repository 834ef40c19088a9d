//! Calling a service over its socket.

use crate::error::CliError;
use octant_api::rpc::{Request, StreamRequest};
use octant_ids::Layout;
use octant_wire::WireError;
use octant_wire::blocking::Client;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One service of one instance.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    path: PathBuf,
}

impl Service {
    pub(crate) fn of(layout: &Layout, name: &'static str) -> Self {
        Self { name, path: layout.socket(name) }
    }

    /// The socket of the workstation that this process is in.
    pub(crate) fn of_workstation(layout: &Layout) -> Self {
        Self::at(layout.socket("agent"))
    }

    /// The same, by the socket's path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { name: "agent socket", path }
    }

    /// Its socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One call, on a connection of its own: a command makes few.
    pub(crate) fn call<R: Request>(&self, request: &R) -> Result<R::Reply, CliError> {
        self.connect()?.call(request).map_err(|error| self.failed(error))
    }

    /// The same within so many milliseconds.
    pub(crate) fn call_within<R: Request>(&self, request: &R, ms: u64) -> Result<R::Reply, CliError> {
        self.connect()?.call_within(request, ms).map_err(|error| self.failed(error))
    }

    /// One call with descriptors beside it, and those that come with the answer.
    pub(crate) fn call_with<R: Request>(
        &self,
        request: &R,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(R::Reply, Vec<OwnedFd>), CliError> {
        self.connect()?.call_with(request, fds).map_err(|error| self.failed(error))
    }

    /// An answer that the service cannot have meant.
    pub(crate) fn odd(&self, why: impl Into<String>) -> CliError {
        CliError::Answer { service: self.name.to_owned(), path: self.path.clone(), why: why.into() }
    }

    /// A call that sends items before its answer.
    pub(crate) fn stream<R: StreamRequest>(
        &self,
        request: &R,
        mut each: impl FnMut(R::Item) -> Result<(), CliError>,
    ) -> Result<R::Reply, CliError> {
        let mut stream = self.connect()?.stream(request).map_err(|error| self.failed(error))?;
        for item in &mut stream {
            each(item.map_err(|error| self.failed(error))?)?;
        }
        // The iterator ends with the answer or with an error, which the loop has returned.
        stream.end().ok_or_else(|| self.failed(WireError::Closed { method: R::METHOD.name }))
    }

    fn connect(&self) -> Result<Client, CliError> {
        Client::connect(&self.path).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: WireError) -> CliError {
        match error {
            WireError::Connect { path, source } => {
                CliError::Connect { service: self.name.to_owned(), path, source }
            }
            WireError::Api(error) => CliError::Api(error),
            other => CliError::Wire(other),
        }
    }
}
