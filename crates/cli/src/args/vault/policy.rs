//! Release keys and approvals, on the command line.

use clap::{Args, Subcommand};
use octant_ids::Sha256;
use std::path::PathBuf;

pub(super) const POLICY: &str = "\
A TPM slot that was made with --release-key opens on every system whose measurements this key has approved. The vault \
reads approvals from <etc>/vault/approvals.json. They are no secret, but stay valid as long as the key is used. The \
private key belongs where releases are made, never on a machine that boots them.

Example:
  octant vault policy keygen --into /media/usb";

const APPROVE: &str = "\
Name every PCR that the slot is bound to, with the value that it has once the system has started (systemd-measure, or \
tpm2_pcrread on a machine that runs it). Approvals are printed unless -o or --into says where they go.

Example:
  octant vault policy approve --key release.key --into approvals.json \\
    --pcr 7=65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e234eb3068 \\
    --pcr 11=c9f9ffb2f5ba4ff4df3a5d8e7b2ebeb8b0a1a9c5fbd1a0d1dd6fbb8c84ddf5d5";

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Make a release key: release.key (keep it secret) and release.pub
    #[command(after_help = "Example:\n  octant vault policy keygen --into /media/usb")]
    Keygen {
        /// The directory for both files, which must not be there yet
        #[arg(long, value_name = "DIR", default_value = ".")]
        into: PathBuf,
    },
    /// Approve the PCR values of a system, so that it can open the vault
    #[command(after_help = APPROVE)]
    Approve(Approve),
    /// Show a list of approvals: for which PCRs, and whether a release key has signed them for the vault
    #[command(after_help = "Example:\n  octant vault policy show --key release.pub")]
    Show {
        /// The list [default: <etc>/vault/approvals.json]
        file: Option<PathBuf>,
        /// The public release key (PEM)
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The private release key (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// A PCR's number and its value in the SHA-256 bank; may be given again
    #[arg(long, value_name = "N=HEX", required = true, value_parser = pcr)]
    pub(crate) pcr: Vec<(u8, Sha256)>,
    /// Write the approval into a new file
    #[arg(short, long, alias = "out", value_name = "FILE", conflicts_with = "into")]
    pub(crate) output: Option<PathBuf>,
    /// Add the approval to the list in a file, which is made when it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) into: Option<PathBuf>,
}

/// The digits as any tool prints them: upper case, and with 0x before them.
fn pcr(text: &str) -> Result<(u8, Sha256), String> {
    let found = text.split_once('=').and_then(|(number, value)| {
        let value = value.strip_prefix("0x").unwrap_or(value).to_ascii_lowercase();
        let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
        (number <= octant_tpm::PCR_MAX).then_some((number, value.parse().ok()?))
    });
    found.ok_or_else(|| {
        format!("write N=HEX, a PCR's number (0 to {}) and its 64 hexadecimal digits", octant_tpm::PCR_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_tools_print_it() {
        let value = Sha256([0xab; 32]);
        for text in [format!("11={value}"), format!("11=0x{}", value.to_string().to_uppercase())] {
            assert_eq!(pcr(&text), Ok((11, value)), "{text}");
        }
        let digits = value.to_string();
        for bad in [
            "",
            "7",
            "7=",
            "7=00",
            &format!("={digits}"),
            &format!("24={digits}"),
            &format!("+7={digits}"),
            &format!("7={digits}0"),
            &format!("7=0x0x{digits}"),
            &format!("7:{digits}"),
        ] {
            assert!(pcr(bad).unwrap_err().contains("N=HEX"), "{bad}");
        }
    }
}
