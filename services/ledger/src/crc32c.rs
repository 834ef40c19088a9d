//! CRC-32C (Castagnoli, RFC 3720 appendix B.4): tells a torn or rotten record from a whole one, cheaply. What
//! protects against intent is the hash chain.

/// The checksum of all parts, one after the other. The library uses the processor's instruction where there is one.
#[must_use]
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| ::crc32c::crc32c_append(crc, part))
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
