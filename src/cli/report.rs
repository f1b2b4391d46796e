//! `highwater report`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use highwater::report::{Part, ReportOptions, collect};
use highwater::{Error, ErrorKind, Result};
use serde::Serialize;

use super::operator::{OperatorArguments, json, usage};
use super::progress::Spinner;

const AFTER_HELP: &str = "\
In it: status, describe, the doctor's findings, events, plans, orders, the ledger of claims, workers,
errors of now, settings and versions, the server's settings, our sessions and locks, Kafka's view.
Not in it: secrets, keys, values and headers of records, claim tokens, texts of statements. MANIFEST
lists what there is. What could not be read, for want of a right or of an answer, is a file that
says why: it works with few rights.

Examples:
  highwater report --output report.tar.gz
  highwater report --group fraud-rules-v2 --output report.tar.gz
  tar -xzOf report.tar.gz report/MANIFEST";

/// Write one archive for a bug report: no secrets, no payloads, as much as this role may read
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group; may be repeated [default: all of this database]
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,

    /// Where to: a new file, NAME.tar.gz; only you may read it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Also what people and handlers have written in their own words: it may quote records
    #[arg(long)]
    with_texts: bool,

    /// How many rows of a table at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    rows: i64,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    file: String,
    bytes: u64,
    parts: &'a [Part],
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let path = &arguments.output;
    let named = path.to_string_lossy();
    if !named.ends_with(".tar.gz") && !named.ends_with(".tgz") {
        return Err(usage(format!("the archive is a .tar.gz: call it {named}.tar.gz")));
    }
    let config = arguments.operator.layer()?.finish_doctor()?;
    let options = ReportOptions::default()
        .groups(arguments.groups.clone())
        .with_texts(arguments.with_texts)
        .rows(arguments.rows.max(1));
    // As far as it can be asked; the report itself comes also where nothing answers.
    if let Ok(mut offsets) = arguments.operator.connect().await {
        for group in &arguments.groups {
            match offsets.events(group, 1).await {
                Err(error) if error.kind() == ErrorKind::Configuration => return Err(error),
                _ => {}
            }
        }
    }
    // First, so that nobody waits for what cannot be written.
    let mut file = create(path).map_err(|source| {
        usage(format!("could not create {named}: choose a name that is not taken, in a folder of yours"))
            .with_source(source)
    })?;
    let parts = {
        let _spinner = Spinner::new("collecting");
        collect(&config, &options).await
    };
    let failed = |source: io::Error| {
        Error::new(ErrorKind::Internal, format!("could not write {named}")).with_source(source)
    };
    write(&mut file, &parts).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if arguments.operator.json {
        return json(&Answer { file: named.into_owned(), bytes, parts: &parts });
    }
    let unread: Vec<&str> = parts.iter().filter(|part| part.unread).map(|part| part.name.as_str()).collect();
    let mut text = format!("wrote {named}: {} files, {} KiB\n", parts.len(), bytes.div_ceil(1024));
    if !unread.is_empty() {
        text += &format!("not all could be read; these say why: {}\n", unread.join(", "));
    }
    text += &format!("look into it before you send it: tar -xzOf {named} report/MANIFEST\n");
    Ok(text)
}

/// For this person alone.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write(file: &mut File, parts: &[Part]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("report/{}", part.name), part.content.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}
