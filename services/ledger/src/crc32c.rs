//! CRC-32C (Castagnoli, RFC 3720 appendix B.4): tells a torn or rotten record from a whole one, cheaply. What
//! protects against intent is the hash chain.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: the remainder of byte `b` followed by `k` zero bytes, so that eight bytes go in one step.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "byte < 256; try_from is not const")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

fn look(table: usize, word: u32, shift: u32) -> u32 {
    TABLES[table][(word >> shift & 0xff) as usize]
}

/// The checksum of all parts, one after the other.
#[must_use]
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for part in parts {
        let (eights, rest) = part.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in eights {
            let low = crc ^ u32::from_le_bytes([*a, *b, *c, *d]);
            let high = u32::from_le_bytes([*e, *f, *g, *h]);
            crc = look(7, low, 0) ^ look(6, low, 8) ^ look(5, low, 16) ^ look(4, low, 24);
            crc ^= look(3, high, 0) ^ look(2, high, 8) ^ look(1, high, 16) ^ look(0, high, 24);
        }
        for byte in rest {
            crc = crc >> 8 ^ look(0, crc ^ u32::from(*byte), 0);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_come_out() {
        // RFC 3720, B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&rising]), 0x46dd_794e);
        for cut in 0..32 {
            assert_eq!(crc32c(&[&rising[..cut], &rising[cut..]]), 0x46dd_794e);
        }
    }
}
