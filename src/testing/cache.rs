//! Where downloads are kept, and the lock under which they are made.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::error::{Attempted, Error, Result};

/// The cache folder: `HIGHWATER_CACHE`, else `/var/cache/highwater` as root, else the user's cache folder.
///
/// Never inside the build folder: `cargo clean` must not cost a download. Never below `/root`: the unprivileged
/// Postgres server reads its programs from here.
fn folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("HIGHWATER_CACHE") {
        return Ok(folder);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/highwater"));
    }
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("highwater"))
        .ok_or_else(|| Error::new("find the cache folder: set HIGHWATER_CACHE or HOME"))
}

/// The folder `name` of the cache, filled by `fill` if it is not there yet.
///
/// `fill` works in a folder beside it that takes the name only when it is complete. A lock file lets one process (and
/// one thread of it) fill while the others wait. Blocks.
pub(super) fn filled(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = folder()?;
    let target = cache.join(name);
    if target.is_dir() {
        return Ok(target);
    }
    readable_folder(&cache)?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock =
        File::create(&lock_path).attempted(|| format!("create the lock file {}", lock_path.display()))?;
    if lock.try_lock().is_err() {
        progress(&format!("waiting for another process that fills {}", target.display()));
        lock.lock().attempted(|| format!("lock {}", lock_path.display()))?;
    }
    if target.is_dir() {
        return Ok(target);
    }
    let partial = cache.join(format!("{name}.partial"));
    let _ = fs::remove_dir_all(&partial);
    readable_folder(&partial)?;
    fill(&partial)?;
    fs::rename(&partial, &target)
        .attempted(|| format!("move {} to {}", partial.display(), target.display()))?;
    Ok(target)
}

/// Says what takes long. Not by `eprintln`, which a test that passes keeps to itself.
pub(super) fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "highwater: {what}");
}

/// Makes a folder that everybody may read, whatever the umask is.
fn readable_folder(folder: &Path) -> Result<()> {
    let attempt =
        || format!("create the cache folder {}, or set HIGHWATER_CACHE to another", folder.display());
    if !folder.is_dir() {
        fs::create_dir_all(folder).attempted(attempt)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755)).attempted(attempt)?;
    }
    Ok(())
}

/// The folder `name` of the cache, if it is filled.
pub(super) fn existing(name: &str) -> Option<PathBuf> {
    folder().ok().map(|cache| cache.join(name)).filter(|target| target.is_dir())
}
