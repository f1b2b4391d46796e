//! Jars, by Maven, and the Java that runs them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::testing::{
    backend::{is_installed, variable},
    cache,
    error::{Attempted, Error, Result},
};

/// Jars that Maven resolves and copies into a folder of the cache, once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jars {
    name: &'static str,
    /// Whose version is part of the folder's name, so that another version gets another folder.
    property: &'static str,
    pom: &'static str,
    /// What to say that is fetched.
    what: &'static str,
    /// What Maven does.
    goal: &'static [&'static str],
}

/// Each jar by itself.
const COPY: &[&str] = &["dependency:copy-dependencies", "-DincludeScope=runtime"];

/// The broker and its tools.
pub(super) const KAFKA: Jars = Jars {
    name: "kafka",
    property: "kafka.version",
    pom: include_str!("../kafka-pom.xml"),
    what: "Kafka's jars (50 MB)",
    goal: COPY,
};
/// Kafka Connect, with Debezium's connectors.
pub(super) const CONNECT: Jars = Jars {
    name: "connect-debezium",
    property: "debezium.version",
    pom: include_str!("../connect-pom.xml"),
    what: "the jars of Kafka Connect and Debezium (60 MB)",
    goal: COPY,
};
/// A schema registry: one archive.
pub(super) const REGISTRY: Jars = Jars {
    name: "registry",
    property: "registry.version",
    pom: include_str!("../registry-pom.xml"),
    what: "Apicurio Registry (110 MB)",
    goal: &["dependency:unpack"],
};

impl Jars {
    fn cache_name(self) -> String {
        let rest = self.pom.split_once(&format!("<{}>", self.property)).map_or("", |(_, rest)| rest);
        let version = rest.split_once('<').map_or("", |(version, _)| version);
        format!("{}-{version}", self.name)
    }

    /// Whether this machine has what runs them. Blocks.
    pub(super) fn check_usable(self) -> Result<()> {
        java()?;
        if cache::existing(&self.cache_name()).is_none() && !is_installed("mvn", "--version") {
            return Err(Error::new(format!("Maven (mvn) is not installed, which fetches {}", self.what)));
        }
        Ok(())
    }

    /// Their folder, filled on first use. Blocks.
    pub(super) fn folder(self) -> Result<PathBuf> {
        cache::filled(&self.cache_name(), |folder| self.fetch(folder))
    }

    fn fetch(self, folder: &Path) -> Result<()> {
        let Self { what, pom: text, goal, .. } = self;
        cache::progress(&format!("fetching {what} by Maven, once …"));
        let pom = folder.join("pom.xml");
        std::fs::write(&pom, text)?;
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "-Dstyle.color=never", "--file"]).arg(&pom);
        maven.args(goal).arg(format!("-DoutputDirectory={}", folder.display()));
        // Progress belongs on standard error: our standard output may be somebody's data.
        maven.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
        let status =
            maven.status().attempted(|| "run mvn; install Maven (apt-get install maven)".to_owned())?;
        if status.success() {
            Ok(())
        } else {
            let said = "its output is on standard error";
            Err(Error::new(format!("Maven could not fetch {what} ({status}); {said}")))
        }
    }
}

/// The `java` to use.
#[derive(Debug, Clone)]
pub(super) struct Java {
    pub(super) program: PathBuf,
    /// As it names itself, such as `17.0.15`.
    pub(super) version: String,
}

/// The `java` of `JAVA_HOME`, else the one in the path; 17 or later. Blocks.
pub(super) fn java() -> Result<Java> {
    static FOUND: OnceLock<Java> = OnceLock::new();
    if let Some(java) = FOUND.get() {
        return Ok(java.clone());
    }
    let program =
        variable("JAVA_HOME").map_or_else(|| PathBuf::from("java"), |home| Path::new(&home).join("bin/java"));
    let install = "install Java 17 or later (apt-get install default-jre-headless)";
    let output = Command::new(&program)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .attempted(|| format!("run {} -version; {install}", program.display()))?;
    // `openjdk version "17.0.15" 2025-04-15`, on standard error.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split('"').nth(1).unwrap_or_default().to_owned();
    match version.split(['.', '-']).next().and_then(|major| major.parse::<u32>().ok()) {
        Some(17..) => Ok(FOUND.get_or_init(|| Java { program, version }).clone()),
        _ => Err(Error::new(format!("{} is too old ({}); {install}", program.display(), text.trim()))),
    }
}

/// Flags of a JVM that lives for a test: quick to start, and small.
pub(super) const SMALL: [&str; 4] =
    ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];

/// Program and flags for a JVM that lives for a test: quick to start, small, and logging warnings only.
pub(super) fn java_command(java: &Java, jars: &Path, class_archive: Option<&Path>) -> Vec<OsString> {
    let mut command = vec![OsString::from(&java.program)];
    command.extend(SMALL.map(OsString::from));
    if let Some(archive) = class_archive {
        let mut flag = OsString::from("-XX:SharedArchiveFile=");
        flag.push(archive);
        command.push(flag);
    }
    command.extend(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"].map(OsString::from));
    command.push(jars.join("*").into());
    command
}
