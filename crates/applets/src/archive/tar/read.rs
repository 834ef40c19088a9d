//! From the bytes of an archive to its members.

use super::options::Options;
use crate::archive::extract::{Kind, Member, shown};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::unistd::{Gid, Group, Uid, User};
use octant_archive::{Extended, ExtendedError};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};

/// Tar's unit.
pub(super) const BLOCK: u64 = 512;

/// A member, with what only tar says of it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) member: Member,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
}

/// What gets every member, and its bytes.
pub(super) type Visit<'v> = dyn FnMut(Item, &mut dyn Read) -> io::Result<()> + 'v;

/// Goes through every member, to the end of the source. Where the archive's end is.
pub(super) fn walk(mut source: impl Read, visit: &mut Visit<'_>) -> io::Result<u64> {
    let mut extended = Extended::default();
    let mut at = 0;
    while let Some(header) = next_header(&mut source, at)? {
        let here = |why: &str| io::Error::new(ErrorKind::InvalidData, format!("at byte {at}: {why}"));
        let plain_size = header.entry_size().map_err(|_| here("a size that is no number"))?;
        let kind = header.entry_type().as_byte();
        let size = if Extended::is(kind) { plain_size } else { extended.size.unwrap_or(plain_size) };
        let padded = size.checked_next_multiple_of(BLOCK).ok_or_else(|| here("a size beyond all numbers"))?;
        let mut rest = (&mut source).take(padded);
        if Extended::is(kind) {
            extended.read(kind, size, &mut (&mut rest).take(size)).map_err(|error| match error {
                ExtendedError::Io(error) => error,
                ExtendedError::Wrong(why) => here(&format!("an extended header {why}")),
            })?;
        } else if let Some(item) = item(&header, std::mem::take(&mut extended), size).map_err(here)? {
            visit(item, &mut (&mut rest).take(size))?;
        } else {
            let kind = char::from(kind).escape_default();
            return Err(here(&format!("a member of kind '{kind}', which is not read")));
        }
        io::copy(&mut rest, &mut io::sink())?;
        if rest.limit() > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        at += BLOCK + padded;
    }
    // What is packed has its checksum at its end; what comes through a pipe has a writer who would be killed.
    io::copy(&mut source, &mut io::sink())?;
    Ok(at)
}

/// The header at `at`; `None` at the end.
fn next_header(source: &mut impl Read, at: u64) -> io::Result<Option<tar::Header>> {
    let mut header = tar::Header::new_old();
    let bytes = header.as_mut_bytes();
    let mut have = 0;
    while have < bytes.len() {
        match source.read(&mut bytes[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if bytes.iter().all(|&b| b == 0) {
        return Ok(None);
    }
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
    if header.cksum().ok() == Some(sum) {
        return Ok(Some(header));
    }
    let what = if at == 0 { "this is no tar archive" } else { "the archive is damaged" };
    Err(io::Error::new(
        ErrorKind::InvalidData,
        format!("at byte {at}: {what}: a header with a wrong checksum"),
    ))
}

/// What a header says; `None` where its kind is not known.
fn item(header: &tar::Header, extended: Extended, size: u64) -> Result<Option<Item>, &'static str> {
    let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = extended.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
    let device = |block| -> Result<Kind, &'static str> {
        let number = |found: io::Result<Option<u32>>| found.ok().flatten().ok_or("a device without numbers");
        Ok(Kind::Device {
            block,
            major: number(header.device_major())?,
            minor: number(header.device_minor())?,
        })
    };
    let kind = match header.entry_type().as_byte() {
        // Before POSIX, a slash at the end was all that told a directory.
        b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
        b'0' | b'7' | 0 => Kind::File,
        b'1' => Kind::Hardlink(link.ok_or("a link to nothing")?),
        b'2' => Kind::Symlink(link.ok_or("a link to nothing")?),
        b'3' => device(false)?,
        b'4' => device(true)?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Ok(None),
    };
    let id = |said: Option<u64>, plain: io::Result<u64>| {
        let id = said.map_or(plain, Ok).map_err(|_| "an owner that is no number")?;
        u32::try_from(id).map_err(|_| "an owner whose number is too large")
    };
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        // Times before 1970 are the upper half of the numbers.
        None => header.mtime().map_err(|_| "a time that is no number")?.cast_signed(),
    };
    let member = Member {
        name,
        kind,
        mode: header.mode().map_err(|_| "permissions that are no number")?,
        mtime,
        owner: (id(extended.user, header.uid())?, id(extended.group, header.gid())?),
        size,
    };
    let text = |name: Option<&[u8]>| name.unwrap_or_default().to_vec();
    let (user, group) = (text(header.username_bytes()), text(header.groupname_bytes()));
    Ok(Some(Item { member, user, group }))
}

/// Users and groups of this machine by their names, each looked up once; and how a member is listed.
#[derive(Default)]
pub(super) struct Names {
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
    zone: Option<TimeZone>,
}

impl Names {
    /// Whose a member becomes: who has the name here, or the number where nobody has.
    pub(super) fn numbers(&mut self, item: &Item) -> (u32, u32) {
        let user = self.users.entry(item.user.clone()).or_insert_with_key(|name| {
            let found = User::from_name(std::str::from_utf8(name).ok()?).ok()??;
            Some(found.uid.as_raw())
        });
        let group = self.groups.entry(item.group.clone()).or_insert_with_key(|name| {
            let found = Group::from_name(std::str::from_utf8(name).ok()?).ok()??;
            Some(found.gid.as_raw())
        });
        (user.unwrap_or(item.member.owner.0), group.unwrap_or(item.member.owner.1))
    }

    /// A member as `tar -tv` lists it.
    pub(super) fn long(&mut self, item: &Item, options: &Options, width: &mut usize) -> String {
        let member = &item.member;
        let name = |text: &[u8], number: u32| {
            if text.is_empty() || options.numeric_owner { number.to_string() } else { shown(text) }
        };
        let owner = format!("{}/{}", name(&item.user, member.owner.0), name(&item.group, member.owner.1));
        let size = match &member.kind {
            Kind::Device { major, minor, .. } => format!("{major},{minor}"),
            Kind::File => member.size.to_string(),
            _ => "0".into(),
        };
        *width = (*width).max(owner.len() + 1 + size.len());
        let room = *width - owner.len() - 1;
        let link = match &member.kind {
            Kind::Symlink(to) => format!(" -> {}", shown(to)),
            Kind::Hardlink(to) => format!(" link to {}", shown(to)),
            _ => String::new(),
        };
        let mode = permissions(member);
        let time = self.time(member.mtime);
        format!("{mode} {owner} {size:>room$} {time} {}{link}", shown(&member.name))
    }

    fn time(&mut self, seconds: i64) -> String {
        let zone = self.zone.get_or_insert_with(TimeZone::system);
        match Timestamp::from_second(seconds) {
            Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string(),
            Err(_) => seconds.to_string(),
        }
    }
}

fn permissions(member: &Member) -> String {
    let kind = match member.kind {
        Kind::Directory => 'd',
        Kind::File => '-',
        Kind::Symlink(_) => 'l',
        Kind::Hardlink(_) => 'h',
        Kind::Fifo => 'p',
        Kind::Device { block: true, .. } => 'b',
        Kind::Device { block: false, .. } => 'c',
    };
    let mut text = String::from(kind);
    for (shift, special, marks) in [(6, 0o4000, ('s', 'S')), (3, 0o2000, ('s', 'S')), (0, 0o1000, ('t', 'T'))]
    {
        let bits = member.mode >> shift;
        text.push(if bits & 4 > 0 { 'r' } else { '-' });
        text.push(if bits & 2 > 0 { 'w' } else { '-' });
        text.push(match (member.mode & special > 0, bits & 1 > 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => marks.0,
            (true, false) => marks.1,
        });
    }
    text
}

/// The name of a user, where there is one.
pub(super) fn user_name(id: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name)
}

/// The name of a group, where there is one.
pub(super) fn group_name(id: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name)
}
