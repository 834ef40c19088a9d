//! `octant image`: all of it works without a running Octant.

use crate::args::Image as Command;
use crate::deeds;
use crate::error::CliError;
use crate::out::{Out, Table, Ticking};
use octant_api::agents::Deed;
use octant_ids::{Exit, Layout, Sha256};
use octant_oci::{Choice, Image, ImageError, Images, Limits};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// How many digits of a digest a table shows.
const SHORT: usize = 12;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    image: &'a Image,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<bool>,
}

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let images = Images::new(&layout.images());
    match command {
        Command::Import { path, name, reference } => {
            import(layout, &images, path, name.as_deref(), reference.clone(), out)
        }
        Command::List => list(&images.list()?, out),
        Command::Remove { image } => {
            let digest = images.find(image)?.digest;
            let users = users(digest)?;
            if let Some(first) = users.first() {
                return Err(CliError::Refused {
                    what: format!("cannot remove {digest}"),
                    why: format!("it is the root of {} processes, {first} among them", users.len()),
                    exit: Exit::Failed,
                    next: Some("end the agents in it first; `octant agent list` shows every agent".into()),
                });
            }
            let image = images.remove(digest)?;
            deeds::after(layout, Deed::RemoveImage, digest, "", out);
            print(&image, &format!("{} is removed", image.digest), None, out)
        }
        Command::Verify { image } => {
            let found = images.find(image)?;
            let image = {
                let _progress = Ticking::new(out.json, format!("reading {} files", found.record.entries));
                images.verify(found.digest)?
            };
            print(&image, &format!("{} is what was imported", image.digest), None, out)
        }
    }
}

/// The processes that have something of an image in their root: its files would be gone under them.
fn users(digest: Sha256) -> Result<Vec<u32>, CliError> {
    let proc = Path::new("/proc");
    let fail = |source| CliError::Read { path: proc.to_owned(), source };
    let mut users = Vec::new();
    for entry in fs::read_dir(proc).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has ended meanwhile uses nothing; whoever may not look at others may not remove either.
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        if uses(&mounts, digest) {
            users.push(pid);
        }
    }
    users.sort_unstable();
    Ok(users)
}

/// Whether a process with these mounts (proc_pid_mountinfo(5)) has something of the image: the fourth field is the
/// place within the file system that is mounted.
fn uses(mounts: &str, digest: Sha256) -> bool {
    let tree = format!("/{digest}/root/");
    mounts.lines().filter_map(|line| line.split(' ').nth(3)).any(|root| root.contains(&tree))
}

fn import(
    layout: &Layout,
    images: &Images,
    path: &Path,
    name: Option<&str>,
    reference: Option<String>,
    out: &mut Out,
) -> Result<(), CliError> {
    let (json, mut refused) = (out.json, None);
    let mut before = |digest| {
        let done = deeds::before(layout, Deed::ImportImage, digest, &path.display().to_string(), out);
        done.map_err(|error| refused = Some(error)).is_ok()
    };
    let imported = {
        let _progress = Ticking::new(json, format!("importing {}", path.display()));
        let choice = Choice { reference, ..Choice::default() };
        images.import_after(path, &choice, &Limits::DEFAULT, name, &mut before)
    };
    let imported = match (imported, refused) {
        (Err(ImageError::Unrecorded), Some(error)) => return Err(error),
        (imported, _) => imported?,
    };
    let image = &imported.image;
    if image.record.left_out > 0 && !imported.known {
        out.note(&format!("{} device nodes and pipes of the image were left out", image.record.left_out));
    }
    print(image, &image.digest.to_string(), Some(imported.known), out)
}

fn print(image: &Image, text: &str, known: Option<bool>, out: &mut Out) -> Result<(), CliError> {
    if out.json { out.json(&Document { image, known }) } else { out.line(text) }
}

fn list(images: &[Image], out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(&images);
    }
    let mut table = Table::new(&["IMAGE", "PLATFORM", "FILES", "MIB", "NAMES"]);
    for image in images {
        let record = &image.record;
        table.row([
            image.digest.to_string()[..SHORT].to_owned(),
            record.platform.to_string(),
            record.entries.to_string(),
            record.bytes.div_ceil(1 << 20).to_string(),
            image.names.join(" "),
        ]);
    }
    out.table(&table)
}

/// The exit code for what is wrong with an image.
pub(crate) fn exit(error: &ImageError) -> Exit {
    use std::io::ErrorKind;
    match error {
        ImageError::Digest { .. } | ImageError::Size { .. } | ImageError::Changed { .. } => Exit::Unverified,
        ImageError::NotFound(_) => Exit::NotFound,
        ImageError::Which { .. } | ImageError::Reference { .. } | ImageError::Name(_) => Exit::Usage,
        ImageError::Keep { source, .. } | ImageError::Read { source, .. } => match source.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        },
        ImageError::Unrecorded => Exit::Unavailable,
        ImageError::Write { .. } | ImageError::Scan { .. } => Exit::Failed,
        ImageError::Layout(_)
        | ImageError::Missing(_)
        | ImageError::Limit { .. }
        | ImageError::Document { .. }
        | ImageError::Platform { .. }
        | ImageError::Archive { .. }
        | ImageError::Entry { .. }
        | ImageError::Room(_)
        | ImageError::Form { .. } => Exit::Invalid,
    }
}

/// What to do next.
pub(crate) fn next(error: &ImageError) -> Option<String> {
    let text = match error {
        ImageError::NotFound(_) => "`octant image list` shows every image",
        ImageError::Layout(_) => {
            "give a directory or tar file with oci-layout and index.json in it, as `skopeo copy ... oci:DIR` \
             makes it, or what `docker save` writes"
        }
        ImageError::Digest { .. } | ImageError::Size { .. } | ImageError::Missing(_) => {
            "get the image again; nothing of it was imported"
        }
        ImageError::Changed { .. } => "remove it with `octant image rm` and import it again",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_in_use_by_who_has_mounts_of_it() {
        let digest = Sha256([0xa5; 32]);
        let line = |root: &str, at: &str| format!("31 23 0:24 {root} {at} ro,nosuid - ext4 /dev/vda rw\n");
        let usr = format!("/lib/octant/images/{digest}/root/usr");
        assert!(uses(&(line("/", "/") + &line(&usr, "/usr")), digest));
        assert!(!uses(&line(&usr, "/usr"), Sha256::ZERO));
        // What is mounted there is not what is mounted from there.
        assert!(!uses(&line("/", &usr), digest));
        assert!(!uses("", digest));
    }
}
