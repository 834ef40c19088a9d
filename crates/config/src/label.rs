//! Which file system a disk has, and its label: of the three that a config disk may have.

/// How much of a disk's beginning is looked at.
pub(crate) const START: usize = 40 << 10;

/// Type, as mount(2) calls it, and label.
pub(crate) fn of(start: &[u8]) -> Option<(&'static str, String)> {
    let has = |from: usize, magic: &[u8]| start.get(from..from + magic.len()) == Some(magic);
    let text = |from: usize, length: usize| {
        let raw = start.get(from..from + length).unwrap_or_default();
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        String::from_utf8_lossy(&raw[..end]).trim_end().to_owned()
    };
    if has(1080, &[0x53, 0xef]) {
        return Some(("ext4", text(1024 + 120, 16)));
    }
    if has(32_769, b"CD001") {
        return Some(("iso9660", text(32_768 + 40, 32)));
    }
    if has(510, &[0x55, 0xaa]) && has(82, b"FAT32   ") {
        return Some(("vfat", text(71, 11)));
    }
    if has(510, &[0x55, 0xaa]) && (has(54, b"FAT12   ") || has(54, b"FAT16   ")) {
        return Some(("vfat", text(43, 11)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_where_each_file_system_has_them() {
        let disk = |parts: &[(usize, &[u8])]| {
            let mut start = vec![0; START];
            parts.iter().for_each(|(at, bytes)| start[*at..at + bytes.len()].copy_from_slice(bytes));
            start
        };
        let label = |parts: &[(usize, &[u8])]| of(&disk(parts));
        assert_eq!(
            label(&[(1080, &[0x53, 0xef]), (1144, b"OCTANT-CFG")]),
            Some(("ext4", "OCTANT-CFG".into()))
        );
        assert_eq!(label(&[(32_769, b"CD001"), (32_808, b"CFG   ")]), Some(("iso9660", "CFG".into())));
        let fat: [(usize, &[u8]); 3] = [(510, &[0x55, 0xaa]), (54, b"FAT16   "), (43, b"OCTANT-CFG ")];
        assert_eq!(label(&fat), Some(("vfat", "OCTANT-CFG".into())));
        assert_eq!(label(&[]), None);
        assert_eq!(of(&[0; 100]), None);
    }
}
