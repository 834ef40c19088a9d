//! What is added to files, as it comes.

use super::part::{Failure, copy};
use super::{Follow, Output, Request, open, shown};
use crate::options::because;
use crate::output::complain;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The files that are followed.
pub(super) struct Follower<'a> {
    request: &'a Request,
    files: Vec<Followed>,
}

struct Followed {
    name: OsString,
    file: Option<File>,
    /// Which file it is.
    identity: (u64, u64),
}

impl<'a> Follower<'a> {
    pub(super) fn new(request: &'a Request) -> Self {
        Self { request, files: Vec::new() }
    }

    /// Adds a file that was printed, or one that could not be opened. A pipe at standard input is not followed.
    pub(super) fn add(&mut self, name: &OsStr, file: Option<File>) {
        let data = file.as_ref().and_then(|file| file.metadata().ok());
        let pipe = data.as_ref().is_some_and(|data| data.file_type().is_fifo());
        if (file.is_none() && !self.request.retry) || (name == "-" && pipe) {
            return;
        }
        let identity = data.map_or((0, 0), |data| (data.dev(), data.ino()));
        self.files.push(Followed { name: name.to_owned(), file, identity });
    }

    /// Goes on until the reader of the output or the process is gone; false when there is no file any more.
    pub(super) fn run(&mut self, out: &mut Output) -> io::Result<bool> {
        // A pipe that was all there is at standard input has been read.
        if self.files.is_empty() {
            return Ok(self.request.files.iter().any(|name| name == "-"));
        }
        loop {
            // First whether it has ended: what it wrote before is read after.
            let ended = self.request.process.is_some_and(|process| {
                nix::sys::signal::kill(process, None) == Err(nix::errno::Errno::ESRCH)
            });
            for followed in &mut self.files {
                if self.request.follow == Some(Follow::Name) && followed.name != "-" {
                    // What the old file has comes before the new one.
                    followed.read(out)?;
                    followed.look();
                }
                followed.read(out)?;
            }
            self.files.retain(|followed| followed.file.is_some() || self.request.retry);
            if self.files.is_empty() {
                return Ok(false);
            }
            if ended || self.reader_is_gone(out)? {
                return Ok(true);
            }
        }
    }

    /// Waits for as long as nothing is looked at, or until nobody reads the output any more.
    fn reader_is_gone(&self, out: &Output) -> io::Result<bool> {
        let milliseconds = i32::try_from(self.request.interval.as_millis()).unwrap_or(i32::MAX);
        let mut output = [PollFd::new(out.file.as_fd(), PollFlags::empty())];
        match poll(&mut output, PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Followed {
    /// Looks which file has the name now.
    fn look(&mut self) {
        let name = shown(&self.name);
        match std::fs::metadata(&self.name) {
            Ok(data) if self.file.is_some() && (data.dev(), data.ino()) == self.identity => {}
            Ok(data) => match open(&self.name) {
                Ok(file) => {
                    let what = if self.file.is_some() { "been replaced" } else { "appeared" };
                    complain("tail", &format_args!("'{name}' has {what};  following new file"));
                    self.file = Some(file);
                    self.identity = (data.dev(), data.ino());
                }
                Err(error) => self.lose(&error),
            },
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &io::Error) {
        if self.file.take().is_some() {
            let what = format!("'{}' has become inaccessible", shown(&self.name));
            complain("tail", &because(what, error));
        }
    }

    /// Prints what is new.
    fn read(&mut self, out: &mut Output) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let read = file.metadata().and_then(|data| {
            if !data.is_file() {
                return Ok(Some(false));
            }
            let at = file.stream_position()?;
            if data.len() < at {
                complain("tail", &format_args!("{}: file truncated", shown(&self.name)));
                file.seek(SeekFrom::Start(0))?;
            }
            Ok((data.len() != at).then_some(true))
        });
        let copied = match read {
            Ok(None) => return Ok(()),
            Ok(Some(regular)) => {
                if regular {
                    out.header(&self.name)?;
                }
                copy(file, &mut out.file)
            }
            Err(error) => Err(Failure::Read(error)),
        };
        match copied {
            Err(Failure::Write(error)) => return Err(error),
            Err(Failure::Read(error)) => {
                complain("tail", &because(shown(&self.name), &error));
                self.file = None;
            }
            Ok(()) => {}
        }
        Ok(())
    }
}
