//! What is on a block device, by its superblock: `blkid` and `fsck`.

use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

const BLKID_HELP: &str = "\
Usage: blkid [-s TAG]... [-o full|value|export|device] [-t TAG=VALUE] [-L LABEL | -U UUID] [-p] [DEVICE...]
Say what is on block devices: ext2/3/4, xfs, btrfs, vfat, exfat, ntfs, f2fs, erofs, squashfs, iso9660, swap, LUKS, LVM, MD,
dm-verity, and partition tables.

  -s    only this tag (TYPE, UUID, LABEL, PTTYPE, BLOCK_SIZE)
  -o    how it is written
  -t    only devices with this;  -L, -U print the device that has it
Exit code 2 when nothing is found.
";

const FSCK_HELP: &str = "\
Usage: fsck [-N] [-t TYPE] DEVICE...
Check file systems by the program for their type (fsck.TYPE), where there is one. Octant has none of its own: the file
systems that it uses repair themselves by their journal when they are mounted, and a damaged disk is checked from another
system.

  -N    say what would be run
";

/// What was found on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Tags in the order in which they are shown.
    pub(super) tags: Vec<(&'static str, String)>,
}

impl Found {
    fn of(kind: &str) -> Self {
        Self { tags: vec![("TYPE", kind.to_owned())] }
    }

    fn with(mut self, tag: &'static str, value: String) -> Self {
        if !value.is_empty() {
            let last = self.tags.len() - 1;
            self.tags.insert(last, (tag, value));
        }
        self
    }

    /// The value of a tag.
    pub(super) fn get(&self, tag: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| *name == tag).map(|(_, value)| value.as_str())
    }
}

/// How much of the start of a device is looked at: the farthest superblock is btrfs's, at 64 KiB.
const START: usize = 68 * 1024;

/// What is on a device or in a file.
pub(super) fn probe(path: &Path) -> io::Result<Option<Found>> {
    let mut file = File::open(path)?;
    let mut start = Vec::with_capacity(START);
    file.by_ref().take(START as u64).read_to_end(&mut start)?;
    // MD's version 1.0 is at the end; all others are at the start.
    let length = file.seek(SeekFrom::End(0))?;
    Ok(superblock(&start, length))
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes.get(from..from + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn has(bytes: &[u8], from: usize, magic: &[u8]) -> bool {
    bytes.get(from..from + magic.len()) == Some(magic)
}

fn le16(bytes: &[u8], from: usize) -> u16 {
    u16::from_le_bytes(at(bytes, from))
}

fn le32(bytes: &[u8], from: usize) -> u32 {
    u32::from_le_bytes(at(bytes, from))
}

fn uuid(bytes: &[u8], from: usize) -> String {
    let raw: [u8; 16] = at(bytes, from);
    if raw == [0; 16] { String::new() } else { crate::system::uuid_text(&raw) }
}

/// Text that is padded with zeros or spaces.
fn text(bytes: &[u8], from: usize, length: usize) -> String {
    let raw = bytes.get(from..from + length).unwrap_or_default();
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    String::from_utf8_lossy(&raw[..end]).trim_end().chars().filter(|c| !c.is_control()).collect()
}

fn superblock(b: &[u8], length: u64) -> Option<Found> {
    containers(b)
        .or_else(|| disk_file_systems(b))
        .or_else(|| foreign_file_systems(b))
        .or_else(|| partitions(b, length))
}

fn containers(b: &[u8]) -> Option<Found> {
    if has(b, 0, b"LUKS\xba\xbe") {
        let label = if b.get(7) == Some(&2) { text(b, 24, 48) } else { String::new() };
        return Some(Found::of("crypto_LUKS").with("UUID", text(b, 168, 40)).with("LABEL", label));
    }
    if has(b, 0, b"verity\0\0") {
        return Some(Found::of("DM_verity_hash").with("UUID", uuid(b, 16)));
    }
    if has(b, 512, b"LABELONE") && has(b, 536, b"LVM2 001") {
        let id = text(b, 544, 32);
        let cuts = [0, 6, 10, 14, 18, 22, 26, 32];
        let parts: Vec<&str> = cuts.windows(2).filter_map(|cut| id.get(cut[0]..cut[1])).collect();
        return Some(Found::of("LVM2_member").with("UUID", parts.join("-")));
    }
    for from in [0, 4096] {
        if le32(b, from) == 0xa92b_4efc {
            return Some(
                Found::of("linux_raid_member")
                    .with("UUID", uuid(b, from + 16))
                    .with("LABEL", text(b, from + 32, 32)),
            );
        }
    }
    // The last ten bytes of the first page, whatever a page is.
    for page in [4096_usize, 8192, 16384, 65536] {
        if has(b, page - 10, b"SWAPSPACE2") {
            return Some(Found::of("swap").with("LABEL", text(b, 1052, 16)).with("UUID", uuid(b, 1036)));
        }
    }
    None
}

fn disk_file_systems(b: &[u8]) -> Option<Found> {
    if le16(b, 1080) == 0xef53 {
        let (compatible, incompatible, read_only) =
            (le32(b, 1024 + 92), le32(b, 1024 + 96), le32(b, 1024 + 100));
        // A journal makes it ext3; what ext3 does not know makes it ext4; 8 is a journal that stands alone.
        let kind = if incompatible & 0x8 != 0 {
            "jbd"
        } else if incompatible & !0x16 != 0 || read_only & !0x7 != 0 {
            "ext4"
        } else if compatible & 0x4 != 0 {
            "ext3"
        } else {
            "ext2"
        };
        let size = 1024_u64.checked_shl(le32(b, 1024 + 24)).unwrap_or(0);
        return Some(
            Found::of(kind)
                .with("LABEL", text(b, 1024 + 120, 16))
                .with("UUID", uuid(b, 1024 + 104))
                .with("BLOCK_SIZE", size.to_string()),
        );
    }
    if has(b, 0, b"XFSB") {
        let size = u16::from_be_bytes(at(b, 102));
        return Some(
            Found::of("xfs")
                .with("LABEL", text(b, 108, 12))
                .with("UUID", uuid(b, 32))
                .with("BLOCK_SIZE", size.to_string()),
        );
    }
    if has(b, 65_536 + 64, b"_BHRfS_M") {
        let size = le32(b, 65_536 + 144);
        return Some(
            Found::of("btrfs")
                .with("LABEL", text(b, 65_536 + 299, 256))
                .with("UUID", uuid(b, 65_536 + 32))
                .with("BLOCK_SIZE", size.to_string()),
        );
    }
    if le32(b, 1024) == 0xe0f5_e1e2 {
        let size = 1_u64.checked_shl(u32::from(*b.get(1024 + 12).unwrap_or(&0))).unwrap_or(0);
        return Some(
            Found::of("erofs")
                .with("LABEL", text(b, 1024 + 64, 16))
                .with("UUID", uuid(b, 1024 + 48))
                .with("BLOCK_SIZE", size.to_string()),
        );
    }
    if has(b, 0, b"hsqs") {
        return Some(Found::of("squashfs").with("BLOCK_SIZE", le32(b, 12).to_string()));
    }
    if le32(b, 1024) == 0xf2f5_2010 {
        let name: Vec<u16> = (0..512).map(|n| le16(b, 1024 + 124 + 2 * n)).take_while(|c| *c != 0).collect();
        return Some(
            Found::of("f2fs")
                .with("LABEL", String::from_utf16_lossy(&name))
                .with("UUID", uuid(b, 1024 + 108)),
        );
    }
    None
}

fn foreign_file_systems(b: &[u8]) -> Option<Found> {
    if has(b, 32_769, b"CD001") {
        let stamp = text(b, 32_768 + 813, 16);
        let cuts = [0, 4, 6, 8, 10, 12, 14, 16];
        let parts: Vec<&str> = cuts.windows(2).filter_map(|cut| stamp.get(cut[0]..cut[1])).collect();
        return Some(
            Found::of("iso9660")
                .with("UUID", parts.join("-"))
                .with("LABEL", text(b, 32_768 + 40, 32))
                .with("BLOCK_SIZE", "2048".into()),
        );
    }
    if has(b, 3, b"EXFAT   ") {
        let id = le32(b, 100);
        return Some(Found::of("exfat").with("UUID", format!("{:04X}-{:04X}", id >> 16, id & 0xffff)));
    }
    if has(b, 3, b"NTFS    ") {
        return Some(Found::of("ntfs").with("UUID", format!("{:016X}", u64::from_le_bytes(at(b, 72)))));
    }
    // FAT has no magic of its own but these texts, and its sectors' size must make sense.
    let sector = le16(b, 11);
    if [512, 1024, 2048, 4096].contains(&sector) && has(b, 510, &[0x55, 0xaa]) {
        let from = if has(b, 82, b"FAT32   ") {
            67
        } else if has(b, 54, b"FAT12   ") || has(b, 54, b"FAT16   ") || has(b, 54, b"FAT     ") {
            39
        } else {
            return None;
        };
        let id = le32(b, from);
        let label = Some(text(b, from + 4, 11)).filter(|label| label != "NO NAME").unwrap_or_default();
        let id = format!("{:04X}-{:04X}", id >> 16, id & 0xffff);
        return Some(
            Found::of("vfat").with("LABEL", label).with("UUID", id).with("BLOCK_SIZE", sector.to_string()),
        );
    }
    None
}

fn partitions(b: &[u8], length: u64) -> Option<Found> {
    for sector in [512_usize, 4096] {
        if has(b, sector, b"EFI PART") && length > 0 {
            let mut id: [u8; 16] = at(b, sector + 56);
            // The first three parts of a GUID are little endian.
            id[..4].reverse();
            id[4..6].reverse();
            id[6..8].reverse();
            let tags = vec![("PTUUID", crate::system::uuid_text(&id)), ("PTTYPE", "gpt".into())];
            return Some(Found { tags });
        }
    }
    let entries = (0..4).map(|n| 446 + 16 * n);
    // Each entry's flag is 0 or 0x80, and one of them has a type: not any boot sector is a table.
    let plausible = entries.clone().all(|from| matches!(b.get(from), Some(0 | 0x80)));
    let any = entries.into_iter().any(|from| b.get(from + 4).is_some_and(|kind| *kind != 0));
    if has(b, 510, &[0x55, 0xaa]) && plausible && any {
        return Some(Found {
            tags: vec![("PTUUID", format!("{:08x}", le32(b, 440))), ("PTTYPE", "dos".into())],
        });
    }
    None
}

/// The file system on a device, for mount(2).
pub(super) fn kind_of(path: &Path) -> Result<String, Stop> {
    let found = probe(path).map_err(failed(path.display()))?;
    let kind = found.as_ref().and_then(|found| found.get("TYPE")).map(str::to_owned);
    kind.ok_or_else(|| {
        Stop::new(
            32,
            format!("{}: no file system that is known by its content; give -t TYPE", path.display()),
        )
    })
}

/// The device that `UUID=...` or `LABEL=...` names; none for what is not written so.
pub(super) fn find_by_tag(word: &str) -> Option<Result<String, Stop>> {
    let (tag, value) = word.split_once('=')?;
    let tag = ["UUID", "LABEL", "PARTUUID", "PARTLABEL"].into_iter().find(|known| *known == tag)?;
    let value = value.trim_matches('"');
    let found = devices().into_iter().find(|device| match tag {
        "PARTUUID" | "PARTLABEL" => {
            part_fact(device, if tag == "PARTUUID" { "PARTUUID" } else { "PARTNAME" }).as_deref()
                == Some(value)
        }
        _ => probe(device).ok().flatten().is_some_and(|found| found.get(tag) == Some(value)),
    });
    let found = found.map(|device| device.display().to_string());
    Some(found.ok_or_else(|| Stop::new(1, format!("no device has {word}; blkid lists them"))))
}

/// What the kernel says of a partition.
fn part_fact(device: &Path, key: &str) -> Option<String> {
    let name = device.file_name()?;
    let text = fs::read_to_string(Path::new("/sys/class/block").join(name).join("uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

/// Every block device with something on it.
pub(super) fn devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let has_size = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("size")).is_ok_and(|size| size.trim() != "0")
    };
    let mut found: Vec<PathBuf> =
        entries.filter(has_size).map(|entry| Path::new("/dev").join(entry.file_name())).collect();
    found.sort();
    found
}

pub(crate) fn blkid(arguments: Vec<OsString>) -> i32 {
    run("blkid", || {
        let options = Options::read(
            "blkid",
            BLKID_HELP,
            "s|match-tag= o|output= t|match-token= L|label= U|uuid= p|probe c= g i w= l",
            &arguments,
        )?;
        let tag = |key: &str, name: &str| options.text(key).map(|value| format!("{name}={value}"));
        let token = options.text("t").or_else(|| tag("L", "LABEL")).or_else(|| tag("U", "UUID"));
        let format = match options.has("L") || options.has("U") {
            true => "device".into(),
            false => options.text("o").unwrap_or_else(|| "full".into()),
        };
        let named = !options.rest.is_empty();
        let devices: Vec<PathBuf> =
            if named { options.rest.iter().map(PathBuf::from).collect() } else { devices() };
        let only: Vec<String> = options.all("s").collect();
        let mut text = String::new();
        for device in devices {
            let found = match probe(&device) {
                Ok(found) => found,
                // Without a name what cannot be read is passed over: an empty drive, a device of others.
                Err(_) if !named => None,
                Err(error) => return Err(Stop { code: 2, ..failed(device.display())(error) }),
            };
            let mut found = found.unwrap_or_default();
            for key in ["PARTUUID", "PARTNAME"] {
                let tag = if key == "PARTNAME" { "PARTLABEL" } else { key };
                if let Some(value) = part_fact(&device, key) {
                    found.tags.push((tag, value));
                }
            }
            let matches = token
                .as_ref()
                .is_none_or(|token| found.tags.iter().any(|(tag, value)| *token == format!("{tag}={value}")));
            if !found.tags.is_empty() && matches {
                text.push_str(&shown(&device, &found, &format, &only)?);
            }
        }
        if text.is_empty() {
            return Ok(2);
        }
        Ok(print("blkid", &text))
    })
}

fn shown(device: &Path, found: &Found, format: &str, only: &[String]) -> Result<String, Stop> {
    let tags = found.tags.iter().filter(|(tag, _)| only.is_empty() || only.iter().any(|name| name == tag));
    let text = match format {
        "device" => format!("{}\n", device.display()),
        "value" => tags.map(|(_, value)| format!("{value}\n")).collect(),
        "export" => {
            let tags: String =
                tags.map(|(tag, value)| format!("{tag}={}\n", value.replace(' ', "\\ "))).collect();
            format!("DEVNAME={}\n{tags}", device.display())
        }
        "full" => {
            let tags: Vec<String> =
                tags.map(|(tag, value)| format!("{tag}=\"{}\"", value.replace('"', "\\\""))).collect();
            if tags.is_empty() {
                String::new()
            } else {
                format!("{}: {}\n", device.display(), tags.join(" "))
            }
        }
        other => return Err(Stop::new(2, format!("{other:?}: full, value, export or device"))),
    };
    Ok(text)
}

/// fsck(8): an operational error, and a wrong command line.
const OPERATIONAL: i32 = 8;

pub(crate) fn fsck(arguments: Vec<OsString>) -> i32 {
    run("fsck", || {
        let table = "N t= A C? M P R V a f n p y r s T";
        let options = Options::read("fsck", FSCK_HELP, table, &arguments)
            .map_err(|stop| Stop { code: stop.code * 16, ..stop })?;
        if options.rest.is_empty() {
            return Err(Stop::new(16, "no device given"));
        }
        let mut code = 0;
        for device in &options.rest {
            let kind = match options.text("t") {
                Some(kind) => kind,
                None => kind_of(Path::new(device)).map_err(|stop| Stop { code: OPERATIONAL, ..stop })?,
            };
            let program = format!("fsck.{kind}");
            let passed: Vec<&str> =
                ["a", "f", "n", "p", "y"].into_iter().filter(|key| options.has(key)).collect();
            let passed: Vec<String> = passed.iter().map(|key| format!("-{key}")).collect();
            if options.has("N") {
                print("fsck", &format!("{program} {} {}\n", passed.join(" "), device.display()));
                continue;
            }
            match Command::new(&program).args(&passed).arg(device).status() {
                Ok(status) => code |= status.code().unwrap_or(OPERATIONAL),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Stop::new(OPERATIONAL, no_checker(device, &kind)));
                }
                Err(error) => return Err(Stop { code: OPERATIONAL, ..failed(&program)(error) }),
            }
        }
        Ok(code)
    })
}

fn no_checker(device: &OsStr, kind: &str) -> String {
    let next = match kind {
        "ext3" | "ext4" | "xfs" | "f2fs" | "btrfs" => {
            "mounting it replays its journal; check the disk from another system if dmesg reports damage"
        }
        "erofs" | "squashfs" | "iso9660" => "it is read-only: verity checks it where it has a hash tree",
        _ => "check the disk from another system",
    };
    format!("{}: {kind}: there is no fsck.{kind} here, so nothing was checked; {next}", device.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; START];
        for (from, part) in parts {
            bytes[*from..from + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn tags(parts: &[(usize, &[u8])]) -> String {
        let found = superblock(&device(parts), 1 << 20).unwrap_or_default();
        found.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect::<Vec<_>>().join(" ")
    }

    const ID: &[u8] = &[0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn superblocks_are_known() {
        let id = "12345678-9abc-def0-0102-030405060708";
        assert_eq!(
            tags(&[
                (1080, &[0x53, 0xef]),
                (1024 + 24, &[2]),
                (1024 + 96, &[0x40]),
                (1024 + 104, ID),
                (1024 + 120, b"data")
            ]),
            format!("LABEL=data UUID={id} BLOCK_SIZE=4096 TYPE=ext4")
        );
        assert_eq!(tags(&[(1080, &[0x53, 0xef]), (1024 + 92, &[4])]), "BLOCK_SIZE=1024 TYPE=ext3");
        assert_eq!(
            tags(&[(0, b"XFSB"), (32, ID), (102, &[2, 0])]),
            format!("UUID={id} BLOCK_SIZE=512 TYPE=xfs")
        );
        assert_eq!(
            tags(&[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1036, &[12]), (1024 + 48, ID)]),
            format!("UUID={id} BLOCK_SIZE=4096 TYPE=erofs")
        );
        assert_eq!(tags(&[(4086, b"SWAPSPACE2"), (1036, ID)]), format!("UUID={id} TYPE=swap"));
        assert_eq!(tags(&[(0, b"LUKS\xba\xbe\0\x02"), (168, b"a-b")]), "UUID=a-b TYPE=crypto_LUKS");
        assert_eq!(
            tags(&[(65_600, b"_BHRfS_M"), (65_568, ID), (65_680, &[0, 16])]),
            format!("UUID={id} BLOCK_SIZE=4096 TYPE=btrfs")
        );
        assert_eq!(tags(&[(0, b"hsqs"), (14, &[2])]), "BLOCK_SIZE=131072 TYPE=squashfs");
        assert_eq!(tags(&[(0, b"verity\0\0"), (16, ID)]), format!("UUID={id} TYPE=DM_verity_hash"));
        let fat: &[(usize, &[u8])] = &[
            (11, &[0, 2]),
            (510, &[0x55, 0xaa]),
            (82, b"FAT32   "),
            (67, &[0x78, 0x56, 0x34, 0x12]),
            (71, b"EFI        "),
        ];
        assert_eq!(tags(fat), "LABEL=EFI UUID=1234-5678 BLOCK_SIZE=512 TYPE=vfat");
        assert_eq!(
            tags(&[(32_769, b"CD001"), (32_808, b"CDROM "), (33_581, b"2024010203040500")]),
            "UUID=2024-01-02-03-04-05-00 LABEL=CDROM BLOCK_SIZE=2048 TYPE=iso9660"
        );
    }

    #[test]
    fn partition_tables_are_known_and_nothing_else_is() {
        assert_eq!(
            tags(&[(512, b"EFI PART"), (568, ID), (510, &[0x55, 0xaa])]),
            "PTUUID=78563412-bc9a-f0de-0102-030405060708 PTTYPE=gpt"
        );
        assert_eq!(
            tags(&[(440, &[0x78, 0x56, 0x34, 0x12]), (450, &[0x83]), (510, &[0x55, 0xaa])]),
            "PTUUID=12345678 PTTYPE=dos"
        );
        assert_eq!(tags(&[(446, &[0x33]), (450, &[0x83]), (510, &[0x55, 0xaa])]), "");
        assert_eq!(superblock(&[], 0), None);
        assert_eq!(superblock(&[0xff; 600], 600), None);
    }
}
