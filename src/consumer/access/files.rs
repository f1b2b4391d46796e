//! Whether certificates and keys have changed: by what they hold, for the path and the time of change say nothing where a
//! link is swapped, as Kubernetes does with mounted secrets (kubernetes#111947).

use std::path::Path;

use sha2::{Digest as _, Sha256};

pub(super) type Digest = [u8; 32];

/// Of all that these files, and the files of these folders, hold; `None` if there are none. What cannot be read counts as
/// absent: the client says more of it when it is made.
pub(super) fn digest<'a>(paths: impl Iterator<Item = &'a str>) -> Option<Digest> {
    let mut all = Sha256::new();
    let mut any = false;
    for path in paths {
        any = true;
        add(&mut all, Path::new(path));
    }
    any.then(|| all.finalize().into())
}

fn add(all: &mut Sha256, path: &Path) {
    if path.is_dir() {
        let mut entries: Vec<_> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries.iter().filter(|entry| entry.is_file()) {
            add(all, entry);
        }
        return;
    }
    let content = std::fs::read(path).unwrap_or_default();
    all.update(path.as_os_str().as_encoded_bytes());
    all.update(content.len().to_le_bytes());
    all.update(content);
}
