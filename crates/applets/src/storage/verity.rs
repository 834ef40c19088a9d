//! `verity`: hash trees over block devices, dm-verity's format 1 (the kernel's verity.rst), as veritysetup writes it.

use crate::options::{Options, Stop, failed, parse, run};
use crate::output::print;
use sha2::{Digest, Sha256, Sha512};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const HELP: &str = "\
Usage: verity verify DATA HASHES ROOT_HASH [--hash-offset BYTES]
       verity format DATA HASHES [--salt HEX] [--uuid UUID] [--hash sha256|sha512] [--data-block-size N] [--hash-block-size N]
       verity dump HASHES [--hash-offset BYTES]
Check a device against its hash tree and root hash, make a hash tree, or show what one says of itself (dm-verity, format 1,
as veritysetup has it). To use one is the kernel's: its dm-verity checks each block when it is read.
";

const TABLE: &str = "|hash-offset= |salt= s= |uuid= |hash= h= |data-block-size= |hash-block-size=";

pub(crate) fn verity(arguments: Vec<OsString>) -> i32 {
    run("verity", || {
        let options = Options::read("verity", HELP, TABLE, &arguments)?;
        let words = options.words();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["verify", data, hashes, root] => verify(&options, data, hashes, root),
            ["format", data, hashes] => format(&options, data, hashes),
            ["dump", hashes] => dump(&options, hashes),
            _ => {
                Err(Stop::new(1, "verify, format or dump and their files; verity --help lists what there is"))
            }
        }
    })
}

/// The superblock, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Super {
    uuid: [u8; 16],
    algorithm: Algorithm,
    data_block: usize,
    hash_block: usize,
    data_blocks: u64,
    salt: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

const SUPER_LEN: usize = 512;
const SALT_MAX: usize = 256;
/// No tree of blocks that hold eight hashes or more is higher.
const LEVELS_MAX: usize = 22;

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The salt comes first (format 1).
    fn hash(self, salt: &[u8], block: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::new().chain_update(salt).chain_update(block).finalize().to_vec(),
            Self::Sha512 => Sha512::new().chain_update(salt).chain_update(block).finalize().to_vec(),
        }
    }
}

impl Super {
    fn read(bytes: &[u8; SUPER_LEN]) -> Result<Self, String> {
        let u32_at = |from: usize| {
            u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
        };
        if bytes[..8] != *b"verity\0\0" {
            return Err("no verity superblock; a tree without one cannot be checked".into());
        }
        if (u32_at(8), u32_at(12)) != (1, 1) {
            return Err(format!(
                "version {} and type {} of the tree; only version 1 and type 1 are known",
                u32_at(8),
                u32_at(12)
            ));
        }
        let name = bytes[32..64].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let algorithm = Algorithm::of(&name)
            .ok_or_else(|| format!("hash algorithm {name:?}; sha256 and sha512 are known"))?;
        let block = |from: usize| {
            Some(u32_at(from) as usize).filter(|size| size.is_power_of_two() && (512..=65_536).contains(size))
        };
        let (Some(data_block), Some(hash_block)) = (block(64), block(68)) else {
            return Err("block sizes that are not possible".into());
        };
        let mut count = [0; 8];
        count.copy_from_slice(&bytes[72..80]);
        let salt_len = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_len > SALT_MAX {
            return Err("a salt that is too long".into());
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        let salt = bytes[88..88 + salt_len].to_vec();
        Ok(Self { uuid, algorithm, data_block, hash_block, data_blocks: u64::from_le_bytes(count), salt })
    }

    fn write(&self) -> [u8; SUPER_LEN] {
        let mut out = [0; SUPER_LEN];
        out[..8].copy_from_slice(b"verity\0\0");
        out[8..12].copy_from_slice(&1_u32.to_le_bytes());
        out[12..16].copy_from_slice(&1_u32.to_le_bytes());
        out[16..32].copy_from_slice(&self.uuid);
        out[32..32 + self.algorithm.name().len()].copy_from_slice(self.algorithm.name().as_bytes());
        let small = |number: usize| u32::try_from(number).unwrap_or(0).to_le_bytes();
        out[64..68].copy_from_slice(&small(self.data_block));
        out[68..72].copy_from_slice(&small(self.hash_block));
        out[72..80].copy_from_slice(&self.data_blocks.to_le_bytes());
        out[80..82].copy_from_slice(&u16::try_from(self.salt.len()).unwrap_or(0).to_le_bytes());
        out[88..88 + self.salt.len()].copy_from_slice(&self.salt);
        out
    }

    /// How many blocks each level of the tree has, the lowest first.
    fn levels(&self) -> Vec<u64> {
        let in_block = (self.hash_block / self.algorithm.length()) as u64;
        let mut levels = Vec::new();
        let mut below = self.data_blocks;
        while below > 1 && levels.len() < LEVELS_MAX {
            below = below.div_ceil(in_block);
            levels.push(below);
        }
        levels
    }

    /// Where the tree begins: behind the block with the superblock.
    fn tree(&self, offset: u64) -> u64 {
        offset.next_multiple_of(self.hash_block as u64) + self.hash_block as u64
    }

    /// Where a level begins; the highest comes first.
    fn level_at(&self, offset: u64, level: usize) -> u64 {
        let above: u64 = self.levels()[level + 1..].iter().sum();
        self.tree(offset) + above * self.hash_block as u64
    }
}

/// The hashes of the blocks of a reader, and what comes of them, block by block: `take` gets each one's number and hash.
fn each_block(
    from: &mut impl Read,
    size: usize,
    count: u64,
    of: &Super,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut block = vec![0; size];
    for number in 0..count {
        from.read_exact(&mut block).map_err(failed(format_args!("block {number}")))?;
        take(number, &of.algorithm.hash(&of.salt, &block))?;
    }
    Ok(())
}

fn open(path: &str) -> Result<File, Stop> {
    File::open(path).map_err(failed(path))
}

fn read_super(options: &Options, path: &str) -> Result<(File, Super, u64), Stop> {
    let offset: u64 = options.parsed("hash-offset")?.unwrap_or(0);
    let mut file = open(path)?;
    let mut bytes = [0; SUPER_LEN];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed(path))?;
    let found = Super::read(&bytes).map_err(|why| Stop::new(1, format!("{path}: {why}")))?;
    Ok((file, found, offset))
}

fn verify(options: &Options, data: &str, hashes: &str, root: &str) -> Result<i32, Stop> {
    let (mut tree, of, offset) = read_super(options, hashes)?;
    let root = unhex(root).filter(|root| root.len() == of.algorithm.length());
    let root = root.ok_or_else(|| {
        Stop::new(1, format!("the root hash must have {} hexadecimal digits", 2 * of.algorithm.length()))
    })?;
    let mut data_file = open(data)?;
    let length = data_file.seek(SeekFrom::End(0)).map_err(failed(data))?;
    if of.data_blocks == 0
        || of.data_blocks.checked_mul(of.data_block as u64).is_none_or(|needed| needed > length)
    {
        return Err(Stop::new(
            1,
            format!(
                "{data}: {} blocks of {} bytes belong to the tree, and it has {length} bytes",
                of.data_blocks, of.data_block
            ),
        ));
    }
    // From the top down, so that nothing is believed that the root hash does not stand for.
    let levels = of.levels();
    for level in (0..levels.len()).rev() {
        let name = format!("{hashes}: level {level} of the tree");
        let count = levels[level];
        let expected = match level + 1 == levels.len() {
            true => Expected::Root(&root),
            false => Expected::above(&of, hashes, of.level_at(offset, level + 1))?,
        };
        tree.seek(SeekFrom::Start(of.level_at(offset, level))).map_err(failed(hashes))?;
        check(&mut io::BufReader::with_capacity(1 << 20, &tree), of.hash_block, count, &of, expected, &name)?;
    }
    data_file.seek(SeekFrom::Start(0)).map_err(failed(data))?;
    let expected = if levels.is_empty() {
        Expected::Root(&root)
    } else {
        Expected::above(&of, hashes, of.level_at(offset, 0))?
    };
    check(
        &mut io::BufReader::with_capacity(1 << 20, &data_file),
        of.data_block,
        of.data_blocks,
        &of,
        expected,
        data,
    )?;
    Ok(print("verity", &format!("{data}: {} blocks are what the root hash stands for\n", of.data_blocks)))
}

/// What the hash of a block has to be.
enum Expected<'a> {
    /// This, for the only block.
    Root(&'a [u8]),
    /// What stands in the level above, from this place of the file on.
    Level { file: io::BufReader<File>, left: usize, in_block: usize },
}

impl Expected<'_> {
    fn above(of: &Super, path: &str, at: u64) -> Result<Self, Stop> {
        let mut file = open(path)?;
        file.seek(SeekFrom::Start(at)).map_err(failed(path))?;
        let in_block = of.hash_block / of.algorithm.length();
        Ok(Self::Level { file: io::BufReader::with_capacity(1 << 16, file), left: in_block, in_block })
    }

    fn next(&mut self, of: &Super) -> io::Result<Vec<u8>> {
        match self {
            Self::Root(root) => Ok(root.to_vec()),
            Self::Level { file, left, in_block } => {
                let mut hash = vec![0; of.algorithm.length()];
                file.read_exact(&mut hash)?;
                *left -= 1;
                if *left == 0 {
                    *left = *in_block;
                    let over = of.hash_block - *in_block * of.algorithm.length();
                    file.seek_relative(i64::try_from(over).map_err(io::Error::other)?)?;
                }
                Ok(hash)
            }
        }
    }
}

fn check(
    from: &mut impl Read,
    size: usize,
    count: u64,
    of: &Super,
    mut expected: Expected<'_>,
    name: &str,
) -> Result<(), Stop> {
    each_block(from, size, count, of, |number, hash| {
        if expected.next(of).map_err(failed(name))? == hash {
            return Ok(());
        }
        let text = format!(
            "{name}: block {number} is not what the root hash stands for; it was changed or is damaged"
        );
        Err(Stop::new(1, text))
    })
}

fn format(options: &Options, data: &str, hashes: &str) -> Result<i32, Stop> {
    let (mut uuid, mut salt) = ([0; 16], vec![0; 32]);
    match options.text("uuid") {
        Some(text) => {
            uuid = crate::system::parse_uuid(&text)
                .ok_or_else(|| Stop::new(1, format!("{text:?} is no UUID")))?
        }
        None => crate::system::random_uuid(&mut uuid)?,
    }
    match options.text("salt").or_else(|| options.text("s")).as_deref() {
        None => octant_sys::entropy::fill_seeded(&mut salt).map_err(failed("a random salt"))?,
        Some("-") => salt.clear(),
        Some(text) => {
            salt = unhex(text)
                .filter(|salt| salt.len() <= SALT_MAX)
                .ok_or_else(|| Stop::new(1, "the salt must be hexadecimal, at most 256 bytes"))?
        }
    }
    let name = options.text("hash").or_else(|| options.text("h")).unwrap_or_else(|| "sha256".into());
    let algorithm =
        Algorithm::of(&name).ok_or_else(|| Stop::new(1, format!("{name:?}: sha256 or sha512")))?;
    let block = |key: &str| -> Result<usize, Stop> {
        let size = options.text(key).map_or(Ok(4096), |text| parse(&text))?;
        let possible = usize::is_power_of_two(size) && (512..=65_536).contains(&size);
        if possible {
            Ok(size)
        } else {
            Err(Stop::new(1, format!("--{key}: a power of two from 512 to 65536")))
        }
    };
    let (data_block, hash_block) = (block("data-block-size")?, block("hash-block-size")?);
    let mut data_file = open(data)?;
    let length = data_file
        .seek(SeekFrom::End(0))
        .and_then(|length| data_file.seek(SeekFrom::Start(0)).map(|_| length))
        .map_err(failed(data))?;
    let of = Super { uuid, algorithm, data_block, hash_block, data_blocks: length / data_block as u64, salt };
    if of.data_blocks == 0 {
        return Err(Stop::new(1, format!("{data}: it has less than one block")));
    }
    let root = make_tree(&of, &data_file, Path::new(hashes))?;
    Ok(print("verity", &(described(&of) + &format!("Root hash:      \t{}\n", hex(&root)))))
}

/// Writes superblock and tree; gives the root hash.
fn make_tree(of: &Super, data: &File, path: &Path) -> Result<Vec<u8>, Stop> {
    let at = || failed(path.display().to_string());
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(at())?;
    let mut first = vec![0; of.hash_block];
    first[..SUPER_LEN].copy_from_slice(&of.write());
    file.write_all(&first).map_err(at())?;
    let levels = of.levels();
    let mut root = Vec::new();
    // From the bottom up: each level is read again to make the one above.
    for level in 0..=levels.len() {
        let (size, count) = match level {
            0 => (of.data_block, of.data_blocks),
            level => (of.hash_block, levels[level - 1]),
        };
        let mut below = match level {
            0 => data.try_clone(),
            _ => File::open(path)
                .and_then(|mut file| file.seek(SeekFrom::Start(of.level_at(0, level - 1))).map(|_| file)),
        }
        .map(|file| io::BufReader::with_capacity(1 << 20, file))
        .map_err(at())?;
        if level == levels.len() {
            each_block(&mut below, size, count, of, |_, hash| {
                root = hash.to_vec();
                Ok(())
            })?;
            break;
        }
        file.seek(SeekFrom::Start(of.level_at(0, level))).map_err(at())?;
        let mut out = BufWriter::new(&file);
        let in_block = (of.hash_block / of.algorithm.length()) as u64;
        let padding = vec![0; of.hash_block];
        each_block(&mut below, size, count, of, |number, hash| {
            out.write_all(hash).map_err(at())?;
            let used = usize::try_from(number % in_block + 1).unwrap_or(0) * hash.len();
            let full = (number + 1) % in_block == 0 || number + 1 == count;
            out.write_all(if full { &padding[used..] } else { &[] }).map_err(at())
        })?;
        out.flush().map_err(at())?;
    }
    file.sync_all().map_err(at())?;
    Ok(root)
}

fn dump(options: &Options, hashes: &str) -> Result<i32, Stop> {
    let (_, of, _) = read_super(options, hashes)?;
    Ok(print("verity", &described(&of)))
}

/// In the words of veritysetup, which scripts take apart.
fn described(of: &Super) -> String {
    let salt = if of.salt.is_empty() { "-".into() } else { hex(&of.salt) };
    format!(
        "UUID:            \t{}\nHash type:       \t1\nData blocks:     \t{}\nData block size: \t{}\nHash block size: \t{}\nHash algorithm:  \t{}\nSalt:            \t{salt}\n",
        crate::system::uuid_text(&of.uuid),
        of.data_blocks,
        of.data_block,
        of.hash_block,
        of.algorithm.name()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("octant-verity-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn at(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn call(line: &[&str]) -> (i32, String) {
        let line: Vec<OsString> = ["verity"].iter().chain(line).map(OsString::from).collect();
        let options = Options::read("verity", HELP, TABLE, &line).unwrap();
        let words = options.words();
        let done = match words[0].as_str() {
            "verify" => verify(&options, &words[1], &words[2], &words[3]),
            _ => format(&options, &words[1], &words[2]),
        };
        done.map_or_else(|stop| (stop.code, stop.text), |code| (code, String::new()))
    }

    /// The root hashes are what veritysetup 2.6.1 gives for the same data, salt and sizes.
    #[test]
    fn the_tree_is_veritysetups() {
        let scratch = Scratch::new("same");
        let (data, hashes) = (scratch.at("data"), scratch.at("hashes"));
        let mut bytes = vec![b'o'; 1_000_000];
        bytes.resize(1_003_520, 0);
        fs::write(&data, &bytes).unwrap();
        for (blocks, sizes, root) in VERITYSETUP {
            fs::write(&data, &bytes[..*blocks * sizes.0]).unwrap();
            let size = |name: &str, size: usize| format!("--{name}-block-size={size}");
            let line =
                ["format", &data, &hashes, "--salt=0011aabb", &size("data", sizes.0), &size("hash", sizes.1)];
            assert_eq!(call(&line).0, 0);
            assert_eq!(call(&["verify", &data, &hashes, root]), (0, String::new()), "{blocks} {sizes:?}");
            fs::remove_file(&hashes).unwrap();
        }
    }

    const VERITYSETUP: &[(usize, (usize, usize), &str)] = &[
        (1, (4096, 4096), "79e3edaba7fd1627ef7d2de7c1c41ed2881ffb4d64f5e350b6e91f0d116862de"),
        (2, (4096, 4096), "a8023565d4f0aba416c44898bc82533b2f4cf3d634e7d6419ba736e7de18d131"),
        (128, (4096, 4096), "2f27b05570468d2afbaa4574b7596b42e6533654030c8575b8a1b81e0a1508d3"),
        (129, (4096, 4096), "4860b63b77be5fc2aa21f0943791b14a1129b07bd5a884bf6026e15c6e5315c8"),
        (245, (4096, 4096), "52b43af70c95b8a532b82db0ceca76ece351a6d084bb050ac1fd8a272f59a722"),
        (980, (1024, 512), "017513d9074ed6c8c9c4e078d7aa1948140e1c1b0d90b23ccabb32e2c2f3e855"),
    ];

    #[test]
    fn every_changed_bit_is_found() {
        let scratch = Scratch::new("changed");
        let (data, hashes) = (scratch.at("data"), scratch.at("hashes"));
        fs::write(&data, vec![7; 300 * 512]).unwrap();
        let of = Super {
            uuid: [1; 16],
            algorithm: Algorithm::Sha256,
            data_block: 512,
            hash_block: 512,
            data_blocks: 300,
            salt: vec![1],
        };
        let root = hex(&make_tree(&of, &File::open(&data).unwrap(), Path::new(&hashes)).unwrap());
        assert_eq!(of.levels(), [19, 2, 1]);
        assert_eq!(call(&["verify", &data, &hashes, &root]).0, 0);
        let length = fs::metadata(&hashes).unwrap().len();
        assert_eq!(length, 512 * 23);
        for (file, at) in [
            (&data, 0),
            (&data, 153_599),
            (&hashes, 512),
            (&hashes, 1024),
            (&hashes, 2048),
            (&hashes, length - 1),
        ] {
            let mut bytes = fs::read(file).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1;
            fs::write(file, &bytes).unwrap();
            let (code, why) = call(&["verify", &data, &hashes, &root]);
            assert!(code == 1 && why.contains("not what the root hash stands for"), "{file} {at}: {why}");
            bytes[usize::try_from(at).unwrap()] ^= 1;
            fs::write(file, &bytes).unwrap();
        }
        let wrong = format!("{}0", &root[..63]);
        assert!(root.ends_with('0') || call(&["verify", &data, &hashes, &wrong]).0 == 1);
        assert_eq!(call(&["verify", &data, &hashes, "00"]).0, 1);
        fs::write(&data, vec![7; 299 * 512]).unwrap();
        assert!(call(&["verify", &data, &hashes, &root]).1.contains("belong to the tree"));
    }

    #[test]
    fn a_superblock_is_read_back_and_a_strange_one_refused() {
        let of = Super {
            uuid: [9; 16],
            algorithm: Algorithm::Sha512,
            data_block: 1024,
            hash_block: 4096,
            data_blocks: 5,
            salt: vec![1, 2],
        };
        let bytes = of.write();
        assert_eq!(Super::read(&bytes), Ok(of));
        for (at, value) in [(0, b'x'), (8, 2), (12, 0), (32, b'x'), (64, 1), (81, 2)] {
            let mut strange = bytes;
            strange[at] = value;
            assert!(Super::read(&strange).is_err(), "{at}");
        }
        assert_eq!(
            (unhex("0aFF"), unhex("0"), unhex("zz"), unhex("ä")),
            (Some(vec![10, 255]), None, None, None)
        );
    }
}
