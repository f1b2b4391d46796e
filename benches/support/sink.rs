//! Highwater with the ready table sink.

use highwater::pipeline::Pipeline;
use highwater::{Handler, HandlerError, Table, TableSink};

use super::Result;
use super::payments::{Form, Payment, avro_schema, protobuf_schema};

const COLUMNS: [&str; 3] = ["merchant_id", "tx_id", "score"];

/// A row per payment, by plain COPY.
pub(crate) fn append() -> impl Handler {
    into(Table::append("scores", COLUMNS))
}

/// As [`append`], by a pipeline's file; a payment's amount is its score, for nothing is computed there. Change events are
/// upserted.
///
/// # Errors
/// When the file is none.
pub(crate) fn pipeline(topic: &str, form: Form) -> Result<impl Handler + use<>> {
    let folder = tempfile::tempdir()?;
    let format = match form {
        Form::Json => "",
        Form::Avro => "value = 'avro'\nschema = { file = 'payment.avsc' }\n",
        Form::Protobuf => "value = 'protobuf'\nschema = { file = 'payment.proto' }\n",
        Form::Debezium => "envelope = 'debezium'\nmode = 'upsert'\n",
    };
    std::fs::write(folder.path().join("payment.avsc"), avro_schema())?;
    std::fs::write(folder.path().join("payment.proto"), protobuf_schema())?;
    let file = format!(
        "[[sink]]\ntopic = '{topic}'\ntable = 'scores'\n{format}columns.merchant_id = 'value.merchant_id'\n\
         columns.tx_id = 'value.tx_id'\ncolumns.score = 'value.amount_cents'\n\
         provenance = {{ partition = 'source_partition', offset = 'source_offset' }}\n"
    );
    Ok(Pipeline::parse(&file, &folder.path().join("bench.toml"))?.handler())
}

/// Of so many records one is rejected.
const POISON_EVERY: u64 = 1_000;

/// Whether the record at this offset of its partition is rejected by [`poisoned`].
pub(crate) fn is_poison(offset: u64) -> bool {
    offset % POISON_EVERY == POISON_EVERY / 2
}

/// As [`append`], but for the records that [are poison](is_poison).
pub(crate) fn poisoned() -> impl Handler {
    let table = Table::append("scores", COLUMNS);
    let table = table.source_partition("source_partition").source_offset("source_offset");
    TableSink::new(table, |record, rows| {
        if u64::try_from(record.offset()).is_ok_and(is_poison) {
            return Err(HandlerError::reject(record, "poison"));
        }
        let payment: Payment<'_> = record.json()?;
        rows.push((payment.merchant_id, payment.tx_id, payment.score()))
    })
}

/// The last payment per key.
pub(crate) fn upsert() -> impl Handler {
    into(Table::upsert("scores", COLUMNS))
}

/// The first payment per key.
pub(crate) fn insert_ignore() -> impl Handler {
    into(Table::insert_ignore("scores", COLUMNS))
}

fn into(table: Table) -> impl Handler {
    let table = table.source_partition("source_partition").source_offset("source_offset");
    TableSink::new(table, |record, rows| {
        let payment: Payment<'_> = record.json()?;
        rows.push((payment.merchant_id, payment.tx_id, payment.score()))
    })
}
