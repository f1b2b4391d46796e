//! Kafka as a local process.

use std::{
    ffi::OsString,
    fmt::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use super::{
    cluster_id,
    jars::{self, Java, java, java_command},
    properties,
};
use crate::testing::{
    cache,
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    server::{Local, Server},
};

/// Formatting and the broker in one command, so that one guard watches over both, on every start.
const START: &str = r#"
folder=$1 cluster=$(cat "$1/cluster")
shift
if [ ! -e "$folder/data/meta.properties" ]; then
    "$@" kafka.tools.StorageTool format --cluster-id "$cluster" --config "$folder/server.properties" || exit
fi
exec "$@" kafka.Kafka "$folder/server.properties"
"#;

/// The file in a broker's folder that names the cluster to be formatted.
pub(super) const CLUSTER: &str = "cluster";

/// A broker that is ready to be launched.
pub(super) async fn server(properties: Vec<(String, String)>, cluster: &str) -> Result<Local> {
    let runtime = tokio::runtime::Handle::current();
    let cluster = cluster.to_owned();
    blocking(move || {
        let (java, jars) = (java()?, jars::KAFKA.folder()?);
        let archive = class_archive(&java, &jars, &runtime)?;
        prepared(&properties, &cluster, &java_command(&java, &jars, archive.as_deref()))
    })
    .await
}

fn prepared(properties: &[(String, String)], cluster: &str, java_command: &[OsString]) -> Result<Local> {
    let folder = tempfile::Builder::new().prefix("highwater-kafka-").tempdir();
    // From the launch on, the server's guard removes it.
    let folder = folder.attempted(|| "create a temporary folder".to_owned())?.keep();
    let mut text = format!("log.dirs={}\n", folder.join("data").display());
    for (name, value) in properties {
        writeln!(text, "{name}={value}").expect("writing to a String does not fail");
    }
    std::fs::write(folder.join("server.properties"), text)?;
    std::fs::write(folder.join(CLUSTER), cluster)?;
    let mut command = Command::new("sh");
    command.args(["-c", START, "kafka"]).arg(&folder).args(java_command).current_dir(&folder);
    Ok(Local::new(command, None, folder, Signal::TERM, "KILL"))
}

/// An archive of the broker's classes as this Java has loaded them: it halves the time of every start. Made on first
/// use by a broker that does nothing else; none if that failed. Blocks.
pub(super) fn class_archive(
    java: &Java,
    jars: &Path,
    runtime: &tokio::runtime::Handle,
) -> Result<Option<PathBuf>> {
    const FILE: &str = "broker.jsa";
    let jars_name = jars.file_name().unwrap_or_default().to_string_lossy();
    let folder = cache::filled(&format!("{jars_name}-classes-{}", java.version), |folder| {
        cache::progress("preparing Kafka's classes for quick starts (10 s, once) …");
        if let Err(error) = runtime.block_on(record_classes(java, jars, &folder.join(FILE))) {
            cache::progress(&format!("brokers will start more slowly: {error:?}"));
        }
        Ok(())
    })?;
    Ok(Some(folder.join(FILE)).filter(|archive| archive.is_file()))
}

async fn record_classes(java: &Java, jars: &Path, archive: &Path) -> Result<()> {
    let port = free_port()?;
    let mut record = OsString::from("-XX:ArchiveClassesAtExit=");
    record.push(archive);
    let mut command = java_command(java, jars, None);
    command.insert(1, record);
    let properties = properties(port, free_port()?, "127.0.0.1", &[]);
    let server = Server::Local(prepared(&properties, &cluster_id(), &command)?);
    server.launch().await?;
    let listens = async || Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?);
    server.wait_ready("the broker whose classes are recorded", listens).await?;
    server.stop().await?;
    // The formatting run leaves an archive too, but of its few classes only; the broker's came later.
    if archive.is_file() { Ok(()) } else { Err(Error::new("Java wrote no archive of the broker's classes")) }
}
