//! The table of a benchmark's end, and the lines that others read.

use crate::contender::{Contender, Measured};
use crate::support::stats::{median, thousands};
use crate::support::{Result, plot as drawing};
use crate::watched::Watched;

/// Prints medians, then the ratios.
pub(crate) fn print(contenders: &[Contender], measured: &[Vec<Measured>]) {
    println!("\nmedians; CPU in µs per record, start-up included\n");
    println!(
        "| contender | records/s | ÷ bare | client CPU | Postgres CPU | broker CPU | WAL bytes/record | records/commit | start-up |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let of = |wanted: Contender| {
        contenders.iter().position(|contender| *contender == wanted).map(|index| &measured[index])
    };
    for (contender, runs) in contenders.iter().zip(measured) {
        let figure = |figure: fn(&Measured) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        let ratio = of(Contender::Bare).map_or("–".to_owned(), |bare| format!("{:.2}", ratio(runs, bare)));
        let batch: Option<Vec<f64>> = runs.iter().map(|run| run.batch).collect();
        let batch = batch.map_or("–".to_owned(), |batch| thousands(median(&batch)));
        println!(
            "| {} | {} | {ratio} | {:.2} | {:.2} | {:.2} | {:.0} | {batch} | {:.2} s |",
            contender.name(),
            thousands(figure(|run| run.rate)),
            figure(|run| run.client),
            figure(|run| run.postgres),
            figure(|run| run.broker),
            figure(|run| run.wal),
            figure(|run| run.startup.as_secs_f64()),
        );
    }
    println!();
    let lines = [
        ("ceiling_ratio sorted", Contender::Sorted, Contender::Bare),
        ("ceiling_ratio append", Contender::Append, Contender::Bare),
        ("ceiling_ratio handler", Contender::Handler, Contender::Bare),
        ("ceiling_ratio unsorted", Contender::Unsorted, Contender::Bare),
        ("ceiling_ratio insert_ignore", Contender::InsertIgnore, Contender::Merge),
        ("ceiling_ratio upsert", Contender::Upsert, Contender::Merge),
        ("typed_ratio pipeline", Contender::Pipeline, Contender::Append),
        ("typed_ratio avro", Contender::Avro, Contender::Append),
        ("typed_ratio protobuf", Contender::Protobuf, Contender::Append),
        ("typed_ratio debezium", Contender::Debezium, Contender::Upsert),
        ("clean_ratio poison", Contender::Poison, Contender::Append),
        ("textbook_speedup append", Contender::Append, Contender::Textbook),
        ("overhead_ratio scraped", Contender::Watched(Watched::Scraped), Contender::Watched(Watched::No)),
        ("overhead_ratio traced", Contender::Watched(Watched::Traced), Contender::Watched(Watched::No)),
        (
            "overhead_ratio all_traced",
            Contender::Watched(Watched::AllTraced),
            Contender::Watched(Watched::No),
        ),
    ];
    for (line, of_this, to_that) in lines {
        if let (Some(this), Some(that)) = (of(of_this), of(to_that)) {
            println!("{line} {:.3}", ratio(this, that));
        }
    }
}

/// Draws the rates.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn plot(contenders: &[Contender], measured: &[Vec<Measured>]) -> Result {
    let rate = |runs: &Vec<Measured>| median(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let bars: Vec<_> = contenders
        .iter()
        .zip(measured)
        .map(|(contender, runs)| (contender.name().to_owned(), rate(runs)))
        .collect();
    drawing::save("throughput", &drawing::bars("From Kafka to Postgres", "records a second, median", &bars))
}

/// The median of the ratios within each round.
fn ratio(these: &[Measured], those: &[Measured]) -> f64 {
    median(&these.iter().zip(those).map(|(this, that)| this.rate / that.rate).collect::<Vec<_>>())
}
