//! Why a service does not run.

use crate::profile::ProfileError;
use octant_api::boot::BootConfigError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A step of [`Service::open`](crate::Service::open) that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} ({place}): {why}")]
pub struct StartError {
    /// What was being done.
    pub step: &'static str,
    /// With what: a path, a descriptor's name, a service.
    pub place: String,
    /// Why it failed.
    pub why: String,
}

impl StartError {
    /// An error of its three parts.
    #[must_use]
    pub fn new(step: &'static str, place: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { step, place: place.to_string(), why: why.to_string() }
    }
}

/// Why [`Service::serve`](crate::Service::serve) ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {why}")]
pub struct ServeError {
    /// What was being done.
    pub step: &'static str,
    /// Why it failed.
    pub why: String,
}

impl ServeError {
    /// An error of its two parts.
    #[must_use]
    pub fn new(step: &'static str, why: impl fmt::Display) -> Self {
        Self { step, why: why.to_string() }
    }
}

/// Why a service's process ends.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A variable of the environment that PID 1 sets is missing or makes no sense.
    #[error("{name} is not set as PID 1 sets it ({value:?}); services are started by PID 1, see `octant up`")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// An inherited descriptor cannot be taken.
    #[error("inherited descriptor {number} ({name}): {source}")]
    Descriptor {
        /// Its number.
        number: i32,
        /// Its name.
        name: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A descriptor that every service needs was not inherited.
    #[error("no descriptor named {0:?} was inherited; services are started by PID 1, see `octant up`")]
    NoDescriptor(&'static str),
    /// The `config` descriptor cannot be read.
    #[error("read the config descriptor: {0}")]
    ReadConfig(io::Error),
    /// What it holds is not valid.
    #[error(transparent)]
    Boot(#[from] BootConfigError),
    /// What it needs beside itself could not be made.
    #[error("{service}: make the process beside it: {source}")]
    Helper {
        /// The service.
        service: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The service's own table of octant.toml is not valid.
    #[error("[{service}] of octant.toml: {source}; correct it and restart the service")]
    Config {
        /// The service.
        service: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The service's profile, which is part of this program, is not valid.
    #[error("profile of {service}: {source}; report it as a fault of Octant")]
    Profile {
        /// The service.
        service: &'static str,
        /// What is wrong.
        source: ProfileError,
    },
    /// A layer of confinement cannot be put in place, so the service does not start.
    #[error("layer {layer} cannot be put in place: {why}; see `octant doctor`")]
    Layer {
        /// `no_new_privs`, `landlock`, `seccomp`.
        layer: &'static str,
        /// Why.
        why: String,
    },
    /// A path that the profile grants cannot be opened.
    #[error("layer landlock: the granted path {}: {why}; PID 1 makes it before the service starts", path.display())]
    GrantedPath {
        /// The path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The runtime cannot be made.
    #[error("make the runtime: {0}")]
    Runtime(io::Error),
    /// The listening socket cannot be used.
    #[error("listen on the inherited socket: {0}")]
    Listen(io::Error),
    /// The service could not make itself ready.
    #[error("open {service}: {source}")]
    Open {
        /// The service.
        service: &'static str,
        /// What failed.
        source: StartError,
    },
    /// The service ended by itself.
    #[error("{service} ended: {source}")]
    Serve {
        /// The service.
        service: &'static str,
        /// What failed.
        source: ServeError,
    },
    /// Serving ended without an error although nobody asked for it.
    #[error("{service} stopped serving although nobody asked it to")]
    Stopped {
        /// The service.
        service: &'static str,
    },
}
