//! What a handler is given beside its request.

use crate::frame::{self, Id, REPLY_MAX};
use crate::in_flight::locked;
use crate::outbox::{Gone, Outbox};
use crate::peer::Caller;
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Context, Method};
use serde::Serialize;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// One request being answered: who asks, and what may go back beside the answer.
#[derive(Debug)]
pub struct Call {
    pub(crate) caller: Arc<Caller>,
    pub(crate) method: &'static Method,
    pub(crate) id: Id,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) fds_in: Vec<OwnedFd>,
    pub(crate) fds_out: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Call {
    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The descriptors that came with the request, at most as many as the method declares.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds_in)
    }

    /// Sends a descriptor along with the answer.
    ///
    /// # Errors
    /// [`Code::Internal`] when the method declares fewer.
    pub fn attach(&self, fd: OwnedFd) -> Result<(), ApiError> {
        let mut fds = locked(&self.fds_out);
        if fds.len() == self.method.fds_out {
            return Err(ApiError::new(
                Code::Internal,
                "send a descriptor",
                self.method.name,
                format!("the method declares {}", self.method.fds_out),
                "report it as a fault of Octant",
            ));
        }
        fds.push(fd);
        Ok(())
    }
}

impl Context for Call {
    type Sink<T: Serialize + Send + 'static> = Sink<T>;

    fn sink<T: Serialize + Send + 'static>(&self) -> Sink<T> {
        Sink { outbox: Arc::clone(&self.outbox), id: self.id.clone(), method: self.method, item: PhantomData }
    }
}

/// Where a stream's items go.
#[derive(Debug)]
pub struct Sink<T> {
    outbox: Arc<Outbox>,
    id: Id,
    method: &'static Method,
    item: PhantomData<fn(T)>,
}

impl<T: Serialize> Sink<T> {
    /// Sends one item; waits while the peer is too far behind.
    ///
    /// # Errors
    /// [`Code::Cancelled`] when the peer is gone, [`Code::TooLong`] when the item is longer than an answer
    /// may be.
    pub async fn send(&self, item: &T) -> Result<(), ApiError> {
        let mut line = Vec::with_capacity(256);
        frame::start_item(&mut line, &self.id);
        octant_api::rpc::reply(self.method, item, &mut line)?;
        frame::end_item(&mut line);
        if line.len() > REPLY_MAX {
            return Err(reply_too_long(self.method, line.len()));
        }
        self.outbox.send(&line).await.map_err(|Gone| {
            ApiError::new(Code::Cancelled, "send an item", self.method.name, Gone, "nothing is left to do")
        })
    }
}

pub(crate) fn reply_too_long(method: &Method, len: usize) -> ApiError {
    let why = format!("it has {len} bytes, more than {REPLY_MAX}");
    ApiError::new(Code::TooLong, "answer", method.name, why, "ask for less at once")
}
