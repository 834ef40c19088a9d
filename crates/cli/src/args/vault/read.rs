//! Texts of the command line that are more than a word.

use octant_api::vault::{Subject, SubjectError};
use octant_ids::SecretName;
use std::ffi::OsString;
use std::path::PathBuf;

/// The value of an option whose value can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was left out.
    Usual,
    /// This file.
    File(PathBuf),
}

impl From<OsString> for Place {
    fn from(text: OsString) -> Self {
        if text.is_empty() { Self::Usual } else { Self::File(text.into()) }
    }
}

/// To whom a grant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// As the vault takes it.
    Subject(Subject),
    /// Whoever runs under the manifest that is signed in this file.
    ManifestFile(PathBuf),
}

pub(super) fn to(text: &str) -> Result<To, String> {
    match text.strip_prefix("manifest-file:") {
        Some(path) if !path.is_empty() => Ok(To::ManifestFile(path.into())),
        _ => text.parse().map(To::Subject).map_err(|error: SubjectError| {
            format!("{error}; or manifest-file:PATH, a file that `octant manifest sign` has made")
        }),
    }
}

/// What stands before other texts to make the names of secrets.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let name: Result<SecretName, _> = format!("{text}a").parse();
    name.map(|_| text.to_owned()).map_err(|_| "no secret's name begins so; write it like prod/".to_owned())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label is NAME=TEXT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_can_be_to_the_manifest_in_a_file() {
        assert_eq!(to("manifest-file:a b.json"), Ok(To::ManifestFile("a b.json".into())));
        assert_eq!(to("service:router"), Ok(To::Subject("service:router".parse().unwrap())));
        for bad in ["router", "manifest-file:", "manifest:x.json", ""] {
            assert!(to(bad).unwrap_err().contains("manifest-file:PATH"), "{bad}");
        }
    }

    #[test]
    fn a_prefix_begins_a_name() {
        for good in ["", "prod/", "PROD_"] {
            assert_eq!(prefix(good), Ok(good.to_owned()));
        }
        for bad in ["/", "a b", "prod//", "."] {
            assert!(prefix(bad).unwrap_err().contains("prod/"), "{bad}");
        }
    }

    #[test]
    fn a_label_has_a_name() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("a").is_err() && label("=b").is_err());
    }
}
