//! Kafka's jars, by Maven, and the Java that runs them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::testing::{
    backend::{is_installed, variable},
    cache,
    error::{Attempted, Error, Result},
};

const POM: &str = include_str!("../kafka-pom.xml");

/// The version in the pom: part of the cache's folder name, so that another version gets another folder.
fn version() -> &'static str {
    let rest = POM.split_once("<kafka.version>").map_or("", |(_, rest)| rest);
    rest.split_once('<').map_or("", |(version, _)| version)
}

/// Whether this machine has what a local broker needs, Postgres needing nothing.
pub(in crate::testing) fn usable() -> Result<()> {
    java()?;
    if cached().is_none() && !is_installed("mvn", "--version") {
        return Err(Error::new("Maven (mvn) is not installed, which fetches Kafka's jars"));
    }
    Ok(())
}

fn cached() -> Option<PathBuf> {
    cache::existing(&cache_name())
}

fn cache_name() -> String {
    format!("kafka-{}", version())
}

/// The folder of the jars, fetched on first use. Blocks.
pub(super) fn folder() -> Result<PathBuf> {
    cache::filled(&cache_name(), fetch)
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("highwater: fetching Kafka {} by Maven (50 MB, once) …", version());
    let pom = folder.join("pom.xml");
    std::fs::write(&pom, POM)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "-Dstyle.color=never", "--file"]).arg(&pom);
    maven.arg("dependency:copy-dependencies").arg("-DincludeScope=runtime");
    maven.arg(format!("-DoutputDirectory={}", folder.display()));
    // Progress belongs on standard error: our standard output may be somebody's data.
    maven.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    let status = maven.status().attempted(|| "run mvn; install Maven (apt-get install maven)".to_owned())?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!(
            "Maven could not fetch Kafka's jars ({status}); its output is on standard error"
        )))
    }
}

/// The `java` to use: of `JAVA_HOME`, else the one in the path; 17 or later.
pub(super) fn java() -> Result<PathBuf> {
    let java =
        variable("JAVA_HOME").map_or_else(|| PathBuf::from("java"), |home| Path::new(&home).join("bin/java"));
    let install = "install Java 17 or later (apt-get install default-jre-headless)";
    let output = Command::new(&java)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .attempted(|| format!("run {} -version; {install}", java.display()))?;
    // `openjdk version "17.0.15" 2025-04-15`, on standard error.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let major =
        text.split('"').nth(1).and_then(|version| version.split(['.', '-']).next()?.parse::<u32>().ok());
    match major {
        Some(17..) => Ok(java),
        _ => Err(Error::new(format!("{} is too old ({}); {install}", java.display(), text.trim()))),
    }
}

/// Flags for a JVM that lives for a test: quick to start, small, and logging warnings only.
pub(super) fn java_flags() -> [&'static str; 5] {
    [
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
}
