//! The authorities that everybody trusts, as a file for programs: those of Mozilla's list, which are built in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How long a line of base64 is (RFC 7468).
const LINE: usize = 64;

/// A bundle of all of them and this one more.
pub(crate) fn with(authority: &str) -> String {
    let mut bundle = authority.to_owned();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let text = STANDARD.encode(certificate);
        bundle.push_str("-----BEGIN CERTIFICATE-----\n");
        for at in (0..text.len()).step_by(LINE) {
            bundle.push_str(&text[at..text.len().min(at + LINE)]);
            bundle.push('\n');
        }
        bundle.push_str("-----END CERTIFICATE-----\n");
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_has_all_of_them_and_one_more() {
        let bundle = with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let blocks: Vec<&str> = bundle.split_terminator("-----END CERTIFICATE-----\n").collect();
        assert_eq!(blocks.len(), 1 + webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        for (block, der) in blocks[1..].iter().zip(webpki_root_certs::TLS_SERVER_ROOT_CERTS) {
            let text = block.strip_prefix("-----BEGIN CERTIFICATE-----\n").unwrap();
            assert!(text.lines().all(|line| line.len() <= LINE));
            assert_eq!(STANDARD.decode(text.replace('\n', "")).unwrap(), der.as_ref());
        }
    }
}
