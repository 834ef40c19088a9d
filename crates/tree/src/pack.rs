//! Parts of a directory as a stream: one process that may read them writes it, another that may not keeps what it says.
//!
//! `octant-pack 1` and a newline, then one record after the other, each a letter and its fields; a field of text ends with
//! NUL. `d PLACE`, `l PLACE TARGET`, and `f PLACE` (`x` for a program) followed by the file's bytes in pieces: a length in
//! four bytes (little endian) and as many bytes; the length 0 ends the file, the length 2^32-1 says that it could not be
//! read to its end. `! NAME WHY` is what was left out; `+` and eight bytes, how much more was. `.` is the last record.

use crate::dir::{Dir, kind};
use crate::limits::{LINK_BYTES, PATH_BYTES};
use crate::place::Place;
use crate::scan::ScanError;
use crate::store::{Shelf, Store, StoreError};
use crate::tree::{Content, Entry, Tree};
use nix::sys::stat::SFlag;
use octant_ids::Sha256;
use sha2::Digest;
use std::ffi::OsStr;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

const HEAD: &[u8] = b"octant-pack 1\n";
/// The most bytes of one piece of a file.
const PIECE: usize = 64 << 10;
/// Stands for a length: the rest of the file could not be read.
const CUT: u32 = u32::MAX;
/// How many of those that are left out are named; the rest is counted.
pub(crate) const NAMED: u64 = 100;
/// The most bytes of why something was left out.
const WHY_BYTES: usize = 200;

/// What is taken of a directory, and how much at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// These places with all that is below them; `None` for all that is in it.
    pub places: Option<Vec<Place>>,
    /// The most bytes of all files.
    pub bytes: u64,
    /// The most files, directories and links.
    pub entries: u64,
}

/// What was left out, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The first of them: where it is, and the reason.
    pub named: Vec<(String, String)>,
    /// How many more there are.
    pub more: u64,
}

/// Writes what is wished for of a directory. What does not fit, cannot be read or is no part of a tree is named in the
/// stream, and the rest goes on.
///
/// # Errors
/// The stream cannot be written.
pub fn pack(dir: &Dir, wish: &Wish, out: &mut impl Write) -> io::Result<()> {
    let mut pack = Pack { out, bytes: wish.bytes, entries: wish.entries, left_out: 0 };
    pack.out.write_all(HEAD)?;
    match &wish.places {
        None => pack.inside(dir, None)?,
        Some(places) => {
            for place in places {
                pack.wished(dir, place)?;
            }
        }
    }
    pack.end()
}

struct Pack<'a, W> {
    out: &'a mut W,
    /// How much may still come.
    bytes: u64,
    entries: u64,
    left_out: u64,
}

impl<W: Write> Pack<'_, W> {
    fn end(&mut self) -> io::Result<()> {
        let more = self.left_out.saturating_sub(NAMED);
        self.out.write_all(b"+")?;
        self.out.write_all(&more.to_le_bytes())?;
        self.out.write_all(b".")?;
        self.out.flush()
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0])
    }

    fn leave_out(&mut self, name: &str, why: &dyn std::fmt::Display) -> io::Result<()> {
        self.left_out += 1;
        if self.left_out > NAMED {
            return Ok(());
        }
        self.out.write_all(b"!")?;
        self.field(clean(name, PATH_BYTES).as_bytes())?;
        self.field(clean(&why.to_string(), WHY_BYTES).as_bytes())
    }

    /// A place of the wish: what lies above it can be anything.
    fn wished(&mut self, dir: &Dir, place: &Place) -> io::Result<()> {
        let shown = place.to_string();
        let name = match Place::parse(place.name()) {
            Ok(name) => name,
            Err(error) => return self.leave_out(&shown, &error),
        };
        match place.parent().map(|parent| dir.directory(&parent)).transpose() {
            Ok(above) => self.entry(above.as_ref().unwrap_or(dir), &name, place),
            Err(error) => self.leave_out(&shown, &error),
        }
    }

    /// Everything in a directory, as deep as [`Place`] allows.
    fn inside(&mut self, dir: &Dir, at: Option<&Place>) -> io::Result<()> {
        let names = match dir.names() {
            Ok(names) => names,
            Err(error) => return self.leave_out(&at.map_or_else(|| ".".into(), ToString::to_string), &error),
        };
        for name in names {
            let place = Place::parse(name.as_bytes());
            let place =
                place.and_then(|name| Ok((at.map_or_else(|| Ok(name.clone()), |at| at.join(&name))?, name)));
            match place {
                Ok((place, name)) => self.entry(dir, &name, &place)?,
                Err(error) => self.leave_out(&name.to_string_lossy(), &error)?,
            }
        }
        Ok(())
    }

    /// What has this name in an open directory, which is `place` in the whole.
    fn entry(&mut self, dir: &Dir, name: &Place, place: &Place) -> io::Result<()> {
        let shown = place.to_string();
        let stat = match dir.stat(OsStr::from_bytes(name.name())) {
            Ok(stat) => stat,
            Err(error) => return self.leave_out(&shown, &error),
        };
        if self.entries == 0 {
            return self.leave_out(&shown, &"there are more files, directories and links than are kept");
        }
        match kind(&stat) {
            SFlag::S_IFDIR => match dir.directory(name) {
                Ok(below) => {
                    self.entries -= 1;
                    self.out.write_all(b"d")?;
                    self.field(place.as_bytes())?;
                    self.inside(&below, Some(place))
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EXDEV) => {
                    self.leave_out(&shown, &"something else is mounted there")
                }
                Err(error) => self.leave_out(&shown, &error),
            },
            SFlag::S_IFREG => self.file(dir, name, place),
            SFlag::S_IFLNK => match dir.link(OsStr::from_bytes(name.name())) {
                Ok(to) if to.len() > LINK_BYTES => self.leave_out(&shown, &"the link says too much"),
                Ok(to) => {
                    self.entries -= 1;
                    self.out.write_all(b"l")?;
                    self.field(place.as_bytes())?;
                    self.field(&to)
                }
                Err(error) => self.leave_out(&shown, &error),
            },
            _ => self.leave_out(&shown, &"it is no file, directory or link"),
        }
    }

    fn file(&mut self, dir: &Dir, name: &Place, place: &Place) -> io::Result<()> {
        let shown = place.to_string();
        let opened = dir.file(name).and_then(|file| Ok((file.metadata()?, file)));
        let (about, mut file) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.leave_out(&shown, &error),
        };
        if about.len() > self.bytes {
            let why = format!("it has {} bytes, and {} are left for what is kept", about.len(), self.bytes);
            return self.leave_out(&shown, &why);
        }
        self.entries -= 1;
        self.out.write_all(if about.permissions().mode() & 0o111 == 0 { b"f" } else { b"x" })?;
        self.field(place.as_bytes())?;
        let (mut piece, mut left) = (vec![0; PIECE], about.len());
        loop {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let count = match file.read(&mut piece[..most]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.out.write_all(&CUT.to_le_bytes())?;
                    return self.leave_out(&shown, &error);
                }
            };
            let len = u32::try_from(count).map_err(io::Error::other)?;
            self.out.write_all(&len.to_le_bytes())?;
            if count == 0 {
                self.bytes -= about.len() - left;
                return Ok(());
            }
            self.out.write_all(&piece[..count])?;
            left -= count as u64;
        }
    }
}

/// A text that can stand in a field and in a message.
fn clean(text: &str, most: usize) -> String {
    let mut clean = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if clean.len() + c.len_utf8() > most {
            break;
        }
        clean.push(c);
    }
    clean
}

impl Shelf {
    /// Writes a tree and its files as a stream. A file that is damaged is named as left out.
    ///
    /// # Errors
    /// [`StoreError`]: the tree is not there or damaged, or the stream cannot be written.
    pub fn pack(&self, digest: Sha256, out: &mut impl Write) -> Result<(), StoreError> {
        let tree = self.tree(digest)?;
        let mut pack = Pack { out, bytes: u64::MAX, entries: u64::MAX, left_out: 0 };
        self.records(&tree, &mut pack).map_err(|_| StoreError::Stream("nobody takes it any more"))
    }

    fn records<W: Write>(&self, tree: &Tree, pack: &mut Pack<'_, W>) -> io::Result<()> {
        pack.out.write_all(HEAD)?;
        for (place, entry) in tree {
            let letter: &[u8] = match entry {
                Entry::Directory => b"d",
                Entry::Link(_) => b"l",
                Entry::File(content) => {
                    if content.exec {
                        b"x"
                    } else {
                        b"f"
                    }
                }
            };
            pack.out.write_all(letter)?;
            pack.field(place.as_bytes())?;
            match entry {
                Entry::Directory => {}
                Entry::Link(to) => pack.field(to)?,
                Entry::File(content) => {
                    let mut failed = None;
                    let read = self.get(content, &mut |bytes| {
                        let len = u32::try_from(bytes.len()).unwrap_or(CUT).to_le_bytes();
                        let done = pack.out.write_all(&len).and_then(|()| pack.out.write_all(bytes));
                        done.map_err(|error| {
                            failed = Some(error);
                            StoreError::Stream("nobody takes it any more")
                        })
                    });
                    match (failed, read) {
                        (Some(error), _) => return Err(error),
                        (None, Ok(())) => pack.out.write_all(&0_u32.to_le_bytes())?,
                        (None, Err(error)) => {
                            pack.out.write_all(&CUT.to_le_bytes())?;
                            pack.leave_out(&place.to_string(), &error)?;
                        }
                    }
                }
            }
        }
        pack.end()
    }
}

impl Store {
    /// Keeps what a stream says, within the wish's limits, and puts its tree.
    ///
    /// # Errors
    /// [`StoreError`]; no tree has been put then.
    pub fn unpack(&self, from: &mut impl BufRead, wish: &Wish) -> Result<(Tree, LeftOut), StoreError> {
        let (tree, left_out) = self.receive(from, wish)?;
        self.put_tree(&tree)?;
        Ok((tree, left_out))
    }

    /// The same without the last step, [`Store::put_tree`]: nobody can use the tree before that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receive(&self, from: &mut impl BufRead, wish: &Wish) -> Result<(Tree, LeftOut), StoreError> {
        receive(from, wish, &mut &*self)
    }
}

impl Dir {
    /// Writes what a stream says into an empty directory, within the wish's limits. What could not be read to its end on
    /// the other side is there in part, and no part of the tree that is given back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unpack(&self, from: &mut impl BufRead, wish: &Wish) -> Result<(Tree, LeftOut), StoreError> {
        receive(from, wish, &mut &*self)
    }
}

/// The tree that a stream is of, without its files.
///
/// # Errors
/// [`StoreError`].
pub fn list(from: &mut impl BufRead, wish: &Wish) -> Result<(Tree, LeftOut), StoreError> {
    receive(from, wish, &mut Nowhere)
}

/// Where the entries of a stream go.
trait Sink {
    fn directory(&mut self, place: &Place) -> Result<(), StoreError>;
    fn link(&mut self, place: &Place, to: &[u8]) -> Result<(), StoreError>;
    /// At most so many bytes of a file; its digest and length.
    fn file(
        &mut self,
        place: &Place,
        exec: bool,
        from: &mut impl Read,
        most: u64,
    ) -> Result<(Sha256, u64), StoreError>;
}

impl Sink for &Store {
    fn directory(&mut self, _: &Place) -> Result<(), StoreError> {
        Ok(())
    }

    fn link(&mut self, _: &Place, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn file(
        &mut self,
        _: &Place,
        _: bool,
        from: &mut impl Read,
        most: u64,
    ) -> Result<(Sha256, u64), StoreError> {
        self.put(from, most)
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &Place) -> Result<(), StoreError> {
        Ok(())
    }

    fn link(&mut self, _: &Place, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        _: bool,
        from: &mut impl Read,
        most: u64,
    ) -> Result<(Sha256, u64), StoreError> {
        let read = crate::hash(from).map_err(|source| StoreError::Write { place: place.clone(), source })?;
        if read.1 > most { Err(StoreError::Bytes(most)) } else { Ok(read) }
    }
}

impl Sink for &Dir {
    fn directory(&mut self, place: &Place) -> Result<(), StoreError> {
        self.make_directory(place).map_err(|source| StoreError::Write { place: place.clone(), source })
    }

    fn link(&mut self, place: &Place, to: &[u8]) -> Result<(), StoreError> {
        self.make_link(place, to).map_err(|source| StoreError::Write { place: place.clone(), source })
    }

    fn file(
        &mut self,
        place: &Place,
        exec: bool,
        from: &mut impl Read,
        most: u64,
    ) -> Result<(Sha256, u64), StoreError> {
        let failed = |source| StoreError::Write { place: place.clone(), source };
        let mut file = self.make_file(place, exec).map_err(failed)?;
        let (mut hasher, mut size, mut piece) = (sha2::Sha256::new(), 0, vec![0; PIECE]);
        loop {
            match from.read(&mut piece).map_err(failed)? {
                0 => return Ok((Sha256(hasher.finalize().into()), size)),
                count => {
                    size += count as u64;
                    if size > most {
                        return Err(StoreError::Bytes(most));
                    }
                    hasher.update(&piece[..count]);
                    file.write_all(&piece[..count]).map_err(failed)?;
                }
            }
        }
    }
}

fn receive<R: BufRead>(
    from: &mut R,
    wish: &Wish,
    sink: &mut impl Sink,
) -> Result<(Tree, LeftOut), StoreError> {
    let mut head = [0; HEAD.len()];
    read(from, &mut head)?;
    if head != HEAD {
        return Err(StoreError::Stream("it does not start as one does"));
    }
    let (mut tree, mut left_out, mut bytes) = (Tree::default(), LeftOut::default(), wish.bytes);
    // Those that are made above what was named come on top.
    let most = wish.entries.saturating_add(wish.places.as_ref().map_or(0, |all| above(all)));
    loop {
        match byte(from)? {
            b'd' => {
                let place = place(from)?;
                sink.directory(&place)?;
                put(&mut tree, place, Entry::Directory)?;
            }
            b'l' => {
                let (place, to) = (place(from)?, text(from, LINK_BYTES)?);
                if to.is_empty() {
                    return Err(StoreError::Stream("a link that says nothing"));
                }
                sink.link(&place, &to)?;
                put(&mut tree, place, Entry::Link(to))?;
            }
            letter @ (b'f' | b'x') => {
                let (place, exec) = (place(from)?, letter == b'x');
                let mut pieces = Pieces { from: &mut *from, left: 0, ended: None };
                let kept = sink.file(&place, exec, &mut pieces, bytes);
                if pieces.ended != Some(CUT) {
                    let (sha256, size) = kept?;
                    bytes -= size;
                    put(&mut tree, place, Entry::File(Content { sha256, size, exec }))?;
                }
            }
            b'!' if left_out.named.len() as u64 == NAMED => {
                return Err(StoreError::Stream("it names too many that were left out"));
            }
            b'!' => {
                let (name, why) = (text(from, PATH_BYTES)?, text(from, WHY_BYTES)?);
                let shown = |text: Vec<u8>| clean(&String::from_utf8_lossy(&text), PATH_BYTES);
                left_out.named.push((shown(name), shown(why)));
            }
            b'+' => {
                let mut more = [0; 8];
                read(from, &mut more)?;
                left_out.more = u64::from_le_bytes(more);
            }
            b'.' => return Ok((tree, left_out)),
            _ => return Err(StoreError::Stream("a record of no kind")),
        }
        if tree.len() as u64 > most {
            return Err(StoreError::Stream("it has more entries than were wished for"));
        }
    }
}

fn above(places: &[Place]) -> u64 {
    places.iter().map(|place| place.as_bytes().iter().filter(|b| **b == b'/').count() as u64).sum()
}

/// The pieces of one file, as a reader that ends with them.
struct Pieces<'a, R> {
    from: &'a mut R,
    /// Of the piece that is being read.
    left: usize,
    /// The length that ended it.
    ended: Option<u32>,
}

impl<R: Read> Read for Pieces<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended == Some(0) {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            match u32::from_le_bytes(length) {
                end @ (0 | CUT) => {
                    self.ended = Some(end);
                    let cut =
                        || io::Error::new(io::ErrorKind::UnexpectedEof, "it could not be read to its end");
                    return if end == 0 { Ok(0) } else { Err(cut()) };
                }
                length => {
                    let fits = usize::try_from(length).ok().filter(|length| *length <= PIECE);
                    self.left = fits.ok_or_else(|| io::Error::other("a piece that is too long"))?;
                }
            }
        }
        let most = self.left.min(buffer.len());
        let count = self.from.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

fn put(tree: &mut Tree, place: Place, entry: Entry<Content>) -> Result<(), StoreError> {
    Ok(tree.put(place, entry).map_err(ScanError::from)?)
}

fn cut(_: io::Error) -> StoreError {
    StoreError::Stream("it ends before its last record")
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), StoreError> {
    from.read_exact(buffer).map_err(cut)
}

fn byte(from: &mut impl Read) -> Result<u8, StoreError> {
    let mut one = [0];
    read(from, &mut one)?;
    Ok(one[0])
}

fn text(from: &mut impl BufRead, most: usize) -> Result<Vec<u8>, StoreError> {
    let mut text = Vec::new();
    from.take(most as u64 + 1).read_until(0, &mut text).map_err(cut)?;
    match text.pop() {
        Some(0) => Ok(text),
        _ => Err(StoreError::Stream("a text that does not end in time")),
    }
}

fn place(from: &mut impl BufRead) -> Result<Place, StoreError> {
    Place::parse(&text(from, PATH_BYTES)?).map_err(|_| StoreError::Stream("a place that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Temp(PathBuf);

    impl Temp {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("octant-pack-{}-{number}", std::process::id()));
            fs::create_dir_all(dir.join("work/out/deep")).unwrap();
            fs::write(dir.join("work/out/a"), "aaaa").unwrap();
            fs::write(dir.join("work/out/deep/large"), vec![7; 3 * PIECE + 1]).unwrap();
            fs::write(dir.join("work/out/run"), "#!").unwrap();
            fs::set_permissions(dir.join("work/out/run"), fs::Permissions::from_mode(0o755)).unwrap();
            symlink("/etc/shadow", dir.join("work/out/link")).unwrap();
            fs::write(dir.join("work/private"), "private").unwrap();
            symlink("private", dir.join("work/alias")).unwrap();
            symlink("out", dir.join("work/way")).unwrap();
            nix::unistd::mkfifo(&dir.join("work/out/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            Self(dir)
        }

        fn stream(&self, wish: &Wish) -> Vec<u8> {
            let mut out = Vec::new();
            pack(&Dir::open(&self.0.join("work")).unwrap(), wish, &mut out).unwrap();
            out
        }

        fn store(&self) -> Store {
            Store::open(&self.0.join("store")).unwrap()
        }

        fn kept(&self, wish: &Wish) -> (Vec<String>, LeftOut) {
            let (tree, left_out) = self.store().unpack(&mut self.stream(wish).as_slice(), wish).unwrap();
            (tree.iter().map(|(place, _)| place.to_string()).collect(), left_out)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn wish(places: &[&str]) -> Wish {
        let places = places.iter().map(|place| Place::parse(place.as_bytes()).unwrap()).collect();
        Wish { places: Some(places), bytes: 1 << 20, entries: 100 }
    }

    #[test]
    fn the_whole_is_the_tree_that_a_scan_finds() {
        let temp = Temp::new();
        let all = Wish { places: None, bytes: 1 << 20, entries: 100 };
        let (tree, left_out) = temp.store().unpack(&mut temp.stream(&all).as_slice(), &all).unwrap();
        let work = Dir::open(&temp.0.join("work")).unwrap();
        assert_eq!(work.scan(&mut |file| crate::hash(file)).unwrap().0, tree);
        assert_eq!(left_out.named.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["out/pipe"]);
        fs::create_dir(temp.0.join("again")).unwrap();
        let again = Dir::open(&temp.0.join("again")).unwrap();
        temp.store().shelf().restore(&tree, &again).unwrap();
        assert_eq!(again.scan(&mut |file| crate::hash(file)).unwrap().0, tree);
    }

    #[test]
    fn a_tree_that_is_kept_is_given_on_as_a_stream_and_damage_is_named() {
        let temp = Temp::new();
        let (all, store) = (Wish { places: None, bytes: 1 << 20, entries: 100 }, temp.store());
        let (tree, _) = store.unpack(&mut temp.stream(&all).as_slice(), &all).unwrap();
        let given = |wish: &Wish, name: &str| {
            let mut stream = Vec::new();
            store.shelf().pack(tree.digest(), &mut stream).unwrap();
            fs::create_dir(temp.0.join(name)).unwrap();
            Dir::open(&temp.0.join(name)).unwrap().unpack(&mut stream.as_slice(), wish)
        };
        assert_eq!(given(&all, "one").unwrap(), (tree.clone(), LeftOut::default()));
        let one = Dir::open(&temp.0.join("one")).unwrap();
        assert_eq!(one.scan(&mut |file| crate::hash(file)).unwrap().0, tree);
        assert!(matches!(given(&Wish { bytes: 9, ..all.clone() }, "two"), Err(StoreError::Bytes(_))));
        let name = crate::hash(&mut &b"aaaa"[..]).unwrap().0.to_string();
        fs::write(temp.0.join("store/objects").join(&name[..2]).join(&name), "aaab").unwrap();
        let (part, left_out) = given(&all, "three").unwrap();
        assert_eq!((part.len() + 1, left_out.named[0].0.as_str()), (tree.len(), "out/a"));
        assert!(store.shelf().pack(Sha256::ZERO, &mut Vec::new()).is_err());
    }

    #[test]
    fn what_is_wished_for_is_taken_and_no_link_is_followed() {
        let temp = Temp::new();
        let (kept, left_out) = temp.kept(&wish(&["out/deep", "alias", "way/a", "none", "private/x"]));
        assert_eq!(kept, ["alias", "out", "out/deep", "out/deep/large"]);
        let left: Vec<&str> = left_out.named.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(left, ["way/a", "none", "private/x"]);
    }

    #[test]
    fn what_does_not_fit_is_named_and_the_rest_is_kept() {
        let temp = Temp::new();
        let (kept, left_out) = temp.kept(&Wish { bytes: 10, ..wish(&["out", "private"]) });
        assert_eq!(kept, ["out", "out/a", "out/deep", "out/link", "out/run"]);
        let left: Vec<&str> = left_out.named.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(left, ["out/deep/large", "out/pipe", "private"]);
        let (kept, left_out) = temp.kept(&Wish { entries: 2, ..wish(&["out"]) });
        assert_eq!((kept.len(), left_out.named.len(), left_out.more), (2, 4, 0));
        for number in 0..150 {
            fs::write(temp.0.join(format!("work/out/n{number}")), "").unwrap();
        }
        let (kept, left_out) = temp.kept(&Wish { entries: 2, ..wish(&["out"]) });
        assert_eq!((kept.len(), left_out.named.len(), left_out.more), (2, 100, 54));
    }

    #[test]
    fn a_stream_that_ends_early_or_says_too_much_keeps_no_tree() {
        let temp = Temp::new();
        let (wish, store) = (wish(&["out"]), temp.store());
        let stream = temp.stream(&wish);
        for end in (0..200).chain([stream.len() - 1]) {
            assert!(store.unpack(&mut &stream[..end], &wish).is_err(), "{end}");
        }
        for less in [Wish { bytes: 5, ..wish.clone() }, Wish { entries: 2, ..wish.clone() }] {
            assert!(store.unpack(&mut stream.as_slice(), &less).is_err());
        }
        assert!(store.trees().unwrap().is_empty());
        let mut cut = HEAD.to_vec();
        cut.extend(b"fhalf\0\x02\0\0\0ab\xff\xff\xff\xff!half\0I/O error\0.");
        let (tree, left_out) = store.unpack(&mut cut.as_slice(), &wish).unwrap();
        assert!(tree.is_empty() && left_out.named.len() == 1);
    }

    proptest! {
        // Each has a store on disk.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_stream_panics_or_leads_out_of_the_tree(records in "([dlfx!]([a-c./]{1,4}|\\.\\.)\0([ab]{0,2}\0)?){0,6}\\.") {
            let temp = Temp::new();
            let stream = [HEAD, records.as_bytes()].concat();
            if let Ok((tree, _)) = temp.store().unpack(&mut stream.as_slice(), &wish(&["a"])) {
                // Only the whole name leads up: `a..` is a name as any other.
                prop_assert!(tree.iter().all(|(place, _)| place.to_string().split('/').all(|name| name != "..")));
            }
        }
    }
}
