//! Kafka as a local process.

use std::{fmt::Write, process::Command};

use rustix::process::Signal;

use super::{
    cluster_id,
    jars::{folder, java, java_flags},
};
use crate::testing::{
    error::{Attempted, Result, blocking},
    server::Local,
};

/// Formatting and the broker in one command, so that one guard watches over both, on every start.
const START: &str = r#"
folder=$1 cluster=$2
shift 2
if [ ! -e "$folder/data/meta.properties" ]; then
    "$@" kafka.tools.StorageTool format --cluster-id "$cluster" --config "$folder/server.properties" || exit
fi
exec "$@" kafka.Kafka "$folder/server.properties"
"#;

/// A broker that is ready to be launched.
pub(super) async fn server(properties: &[(String, String)]) -> Result<Local> {
    let mut text = String::new();
    for (name, value) in properties {
        writeln!(text, "{name}={value}").expect("writing to a String does not fail");
    }
    blocking(move || {
        let (java, jars) = (java()?, folder()?);
        let folder = tempfile::Builder::new().prefix("highwater-kafka-").tempdir();
        // From the launch on, the server's guard removes it.
        let folder = folder.attempted(|| "create a temporary folder".to_owned())?.keep();
        writeln!(text, "log.dirs={}", folder.join("data").display())
            .expect("writing to a String does not fail");
        std::fs::write(folder.join("server.properties"), text)?;

        let mut command = Command::new("sh");
        command.args(["-c", START, "kafka"]).arg(&folder).arg(cluster_id());
        command.arg(java).args(java_flags()).arg("-cp").arg(jars.join("*")).current_dir(&folder);
        Ok(Local::new(command, None, folder, Signal::TERM, "KILL"))
    })
    .await
}
