use super::*;

const HEADERS: usize = 0x400;

/// An EFI program with one section, and room in its header up to [`HEADERS`].
fn program() -> Vec<u8> {
    let mut bytes = vec![0_u8; HEADERS];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"MZ");
    put(0x3c, &[0x80]);
    put(0x80, b"PE\0\0\x64\x86\x01");
    put(0x94, &0xf0_u16.to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes());
    put(0x98 + 32, &4096_u32.to_le_bytes());
    put(0x98 + 36, &512_u32.to_le_bytes());
    put(0x98 + 60, &u32::try_from(HEADERS).unwrap().to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    let head = 0x98 + 0xf0;
    put(head, b".sbat");
    put(head + 8, &5_u32.to_le_bytes());
    put(head + 12, &0x1000_u32.to_le_bytes());
    put(head + 16, &512_u32.to_le_bytes());
    put(head + 20, &u32::try_from(HEADERS).unwrap().to_le_bytes());
    bytes.extend(b"sbat1");
    bytes.resize(HEADERS + 512, 0);
    bytes
}

fn parts<'a>(stub: &'a [u8], kernel: &'a [u8]) -> Parts<'a> {
    Parts { stub, os_release: "ID=octant\n", command_line: "quiet a=b", kernel, initrd: &[7; 5000] }
}

#[test]
fn the_parts_come_out_as_they_went_in_and_in_the_stubs_order() {
    let stub = program();
    let image = pack(&parts(&stub, &stub)).unwrap();
    let found = measured(&image).unwrap();
    let expected: [(&CStr, &[u8]); 5] = [
        (c".linux", &stub),
        (c".osrel", b"ID=octant\n"),
        (c".cmdline", b"quiet a=b"),
        (c".initrd", &[7; 5000]),
        (c".sbat", b"sbat1"),
    ];
    assert_eq!(found, expected);
    assert_eq!(image, pack(&parts(&stub, &stub)).unwrap(), "the same parts give the same bytes");
}

#[test]
fn sections_stand_apart_in_memory_and_the_header_covers_them() {
    let stub = program();
    let image = pack(&parts(&stub, &stub)).unwrap();
    let field = |at: usize| u64::from(u32::from_le_bytes(image[at..at + 4].try_into().unwrap()));
    let mut end = 0;
    for index in 0..5 {
        let head = 0x98 + 0xf0 + index * 40;
        let (length, address) = (field(head + 8), field(head + 12));
        assert_eq!(address % PAGE, 0);
        assert!(address >= end, "section {index} begins at {address:#x}, before {end:#x}");
        assert!(field(head + 16) >= length, "a section is whole in the file");
        assert_eq!(field(head + 20) % 512, 0);
        end = address + length;
    }
    assert_eq!(field(0x98 + 56), end.next_multiple_of(PAGE));
    assert_eq!(image[0x86], 5, "the number of sections");
}

#[test]
fn what_cannot_boot_is_refused_with_its_reason() {
    let stub = program();
    let packed = pack(&parts(&stub, &stub)).unwrap();
    assert_eq!(pack(&parts(&packed, &stub)), Err(UkiError::Taken(".osrel".into())));
    assert_eq!(pack(&parts(&stub, b"\x7fELF")), Err(UkiError::NotEfi { part: "kernel" }));
    let mut signed = program();
    signed[0x98 + 112 + 32] = 1;
    assert_eq!(pack(&parts(&signed, &stub)), Err(UkiError::Signed));
    let mut full = program();
    full[0x98 + 60..0x98 + 62].copy_from_slice(&0x1c0_u16.to_le_bytes());
    assert_eq!(pack(&parts(&full, &stub)), Err(UkiError::NoRoom));
    for bad in ['\n', '\0', 'é'] {
        let line = format!("quiet{bad}");
        let refused = pack(&Parts { command_line: &line, ..parts(&stub, &stub) });
        assert_eq!(refused, Err(UkiError::CommandLine(bad)));
    }
}

#[test]
fn a_file_cut_or_changed_anywhere_is_an_error_or_another_image_but_never_a_panic() {
    let stub = program();
    let image = pack(&parts(&stub, &stub)).unwrap();
    for end in 0..image.len() {
        assert!(measured(&image[..end]).is_err() || end > image.len() - 512, "cut at {end}");
    }
    for at in 0..HEADERS {
        for value in [0, 0x7f, 0xff] {
            let mut changed = stub.clone();
            changed[at] = value;
            let _any = pack(&parts(&changed, &stub));
            let _any = measured(&changed);
        }
    }
}
