//! What becomes of each record, in each table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{self, Found};
use super::{Preview, RejectedPreview, RowPreview, SinkPreview, trial};
use crate::offsets::{ReadRecord, Sample};
use crate::pipeline::Pipeline;
use crate::pipeline::cell::Cell;
use crate::pipeline::connect::Buffers;
use crate::pipeline::expect::{outcome, shown};
use crate::pipeline::file::Evolve;
use crate::pipeline::handler::{Decoded, push};
use crate::pipeline::map::Outcome;
use crate::pipeline::sink::Sink;
use crate::sink::Made;
use crate::verdict::Class;
use crate::{Batch, HandlerError, HandlerErrorKind, TableSink, Tx};

/// So many rows of a table are shown.
const SHOWN: usize = 3;

type Values = Vec<(String, Option<String>)>;

/// What a record is to a sink.
enum Verdict {
    NotTaken,
    Nothing,
    Row { deletes: bool, row: Row },
    Rejected,
}

enum Row {
    /// As it would be sent.
    Made(Made),
    /// As it comes out of the record: its table is not known.
    Mapped(Values),
}

/// A sink, alone.
struct Alone<'a> {
    sink: &'a Sink,
    writer: TableSink,
    found: Found,
    verdicts: Vec<Verdict>,
}

/// The records that are rejected: their places in the sample, and why.
type Rejected = BTreeMap<usize, String>;

impl Pipeline {
    /// Asks for the schemas of the records, as long as the registry answers.
    pub(super) async fn obtain(&self, sampled: &Sample, preview: &mut Preview) {
        let handler = self.handler();
        for record in &sampled.records {
            if let Err(error) = handler.obtain(&trial::batch(&[record])).await {
                if !preview.problems.iter().any(|problem| problem == error.reason()) {
                    preview.problems.push(error.reason().to_owned());
                }
                if error.kind() == HandlerErrorKind::Retry {
                    break;
                }
            }
        }
    }

    /// # Errors
    /// If Postgres does not answer, or the environment is at fault.
    pub(super) async fn tell(
        &self,
        sampled: &Sample,
        preview: &mut Preview,
        tx: &mut Tx,
    ) -> Result<(), HandlerError> {
        let batches: Vec<Batch> = sampled.records.iter().map(|record| trial::batch(&[record])).collect();
        let mut rejected = Rejected::new();
        let mut sinks = Vec::with_capacity(self.sinks.len());
        for (at, sink) in self.sinks.iter().enumerate() {
            let writer = self.handler_of(vec![at]);
            let found = table::look(sink, &writer, tx).await?;
            let mut alone = Alone { sink, writer, found, verdicts: Vec::with_capacity(batches.len()) };
            for (place, batch) in batches.iter().enumerate() {
                let verdict = alone.verdict(batch).unwrap_or_else(|why| {
                    // Of several sinks the first one's word counts, as with a worker.
                    rejected.entry(place).or_insert(why);
                    Verdict::Rejected
                });
                alone.verdicts.push(verdict);
            }
            sinks.push(alone);
        }
        let fitting = (0..sinks.len()).filter(|at| sinks[*at].found.problem.is_none()).collect();
        let is_tried = self.attempt(fitting, sampled, &mut rejected, &mut preview.problems, tx).await?;
        for alone in sinks {
            let is_made = matches!(alone.sink.job.evolve, Evolve::Create | Evolve::AddColumns);
            if !(is_made && preview.ddl.is_some()) {
                alone.found.problems(&alone.sink.table.name, &mut preview.problems);
            }
            preview.sinks.push(alone.told(sampled, &rejected, is_tried, tx).await?);
        }
        let told = |(place, reason): (usize, String)| {
            let ReadRecord { topic, partition, offset, .. } = &sampled.records[place];
            RejectedPreview { topic: topic.to_string(), partition: *partition, offset: *offset, reason }
        };
        preview.rejected.extend(rejected.into_iter().map(told));
        Ok(())
    }

    /// Tries the rows of the sinks whose tables fit, and undoes it. Whether all were tried.
    async fn attempt(
        &self,
        fitting: Vec<usize>,
        sampled: &Sample,
        rejected: &mut Rejected,
        problems: &mut Vec<String>,
        tx: &mut Tx,
    ) -> Result<bool, HandlerError> {
        if fitting.is_empty() {
            return Ok(false);
        }
        let places: Vec<usize> =
            (0..sampled.records.len()).filter(|place| !rejected.contains_key(place)).collect();
        let records: Vec<&ReadRecord> = places.iter().map(|&place| &sampled.records[place]).collect();
        let before = tx.set_savepoint().await?;
        let tried = trial::attempt(&self.handler_of(fitting), &records, tx).await;
        let is_tried = tried.is_ok();
        match tried {
            Ok(refused) => {
                let refused = refused.into_iter();
                rejected.extend(refused.map(|(at, error)| (places[at], error.reason().to_owned())));
            }
            Err(error) if is_of_the_environment(&error) => return Err(error),
            // What would halt a worker, at once or after some tries.
            Err(error) => problems.push(error.to_string()),
        }
        tx.return_to(&before).await?;
        tx.end_savepoint(before).await?;
        Ok(is_tried)
    }

    /// The handler of some of the sinks.
    fn handler_of(&self, which: Vec<usize>) -> TableSink {
        let sinks = Arc::clone(&self.sinks);
        let tables: Vec<_> = which.iter().map(|&at| sinks[at].table.clone()).collect();
        TableSink::new(tables, move |record, rows| {
            for (place, &at) in which.iter().enumerate().filter(|(_, at)| sinks[**at].takes(record.topic())) {
                push(place, &sinks[at], record, rows)?;
            }
            Ok(())
        })
    }
}

impl Alone<'_> {
    /// What a batch of one record is to the sink, or why it is rejected. What is wrong with the sink itself is noted where
    /// its table is.
    fn verdict(&mut self, batch: &Batch) -> Result<Verdict, String> {
        let sink = self.sink;
        let Some(record) = batch.records().next().filter(|record| sink.takes(record.topic())) else {
            return Ok(Verdict::NotTaken);
        };
        if self.found.problem.is_none() {
            match self.writer.made(batch) {
                Ok(made) => {
                    let row = |made: Made| Verdict::Row { deletes: made.deletes, row: Row::Made(made) };
                    return Ok(made.into_iter().next().map_or(Verdict::Nothing, row));
                }
                Err(error) if error.kind() == HandlerErrorKind::Reject => {
                    return Err(error.reason().to_owned());
                }
                // A fault of the file.
                Err(error) => self.found.problem = Some(error.to_string()),
            }
        }
        let (mut decoded, buffers) = (Decoded::default(), Buffers::default());
        let input = decoded.input(sink, &record).map_err(|error| error.reason().to_owned())?;
        let Some(input) = input else { return Ok(Verdict::Nothing) };
        let mapped = outcome(sink, input, &buffers);
        let mapped = mapped.map_err(|why| format!("table {}: {why}", sink.table.name))?;
        let Some((what, values)) = mapped else { return Ok(Verdict::Nothing) };
        let value = |cell: &Cell<'_>| (!cell.is_null()).then(|| shown(cell));
        let values = values.iter().map(|(name, cell)| ((*name).to_owned(), value(cell))).collect();
        Ok(Verdict::Row { deletes: what == Outcome::Delete, row: Row::Mapped(values) })
    }

    async fn told(
        self,
        sampled: &Sample,
        rejected: &Rejected,
        is_tried: bool,
        tx: &mut Tx,
    ) -> Result<SinkPreview, HandlerError> {
        let Self { sink, writer, found, verdicts } = self;
        let [mut rows, mut deletions, mut stepped_over, mut refused] = [0; 4];
        let mut first = Vec::new();
        for (place, verdict) in verdicts.iter().enumerate() {
            match verdict {
                Verdict::NotTaken => {}
                Verdict::Nothing => stepped_over += 1,
                Verdict::Rejected => refused += 1,
                Verdict::Row { .. } if rejected.contains_key(&place) => refused += 1,
                Verdict::Row { deletes, row } => {
                    if *deletes {
                        deletions += 1
                    } else {
                        rows += 1
                    }
                    if first.len() < SHOWN {
                        let columns = match row {
                            Row::Made(made) => print(&writer, made, tx).await?,
                            Row::Mapped(values) => values.clone(),
                        };
                        let ReadRecord { topic, partition, offset, .. } = &sampled.records[place];
                        let (topic, partition, offset) = (topic.to_string(), *partition, *offset);
                        first.push(RowPreview { topic, partition, offset, deletes: *deletes, columns });
                    }
                }
            }
        }
        Ok(SinkPreview {
            table: sink.table.name.clone(),
            topics: sink.topics.clone(),
            records: rows + deletions + stepped_over + refused,
            rows,
            deletions,
            stepped_over,
            rejected: refused,
            is_there: found.is_there,
            is_tried: is_tried && found.problem.is_none(),
            columns: found.columns,
            shown: first,
        })
    }
}

/// As the server writes it; what it does not take it has refused before.
async fn print(writer: &TableSink, made: &Made, tx: &mut Tx) -> Result<Values, HandlerError> {
    let before = tx.set_savepoint().await?;
    let printed = writer.printed(made, tx).await;
    tx.return_to(&before).await?;
    tx.end_savepoint(before).await?;
    match printed {
        Err(error) if error.sqlstate().is_none() => Err(error),
        printed => Ok(printed.unwrap_or_default()),
    }
}

/// Of no record, nor of the file.
fn is_of_the_environment(error: &HandlerError) -> bool {
    matches!(error.cause().class, Class::Environment | Class::Lost | Class::OwnTimeout)
}
