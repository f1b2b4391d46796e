//! What a sink makes of records, for whoever only wants to see it.

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::TableSink;
use super::buffer::{fields, row_bytes};
use super::each::Raw;
use super::stage;
use super::tail::Deed;
use crate::{Batch, HandlerError, Tx};

/// A row as it would be sent, or the key of one that would be deleted.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) deletes: bool,
    /// By the columns that are written; of a deletion, NULL where they are not of the key.
    fields: Vec<Option<Bytes>>,
}

impl TableSink {
    /// Reads the catalogue.
    ///
    /// # Errors
    /// Why its tables cannot take what the sink writes.
    pub(crate) async fn look(&self, tx: &Tx) -> Result<(), HandlerError> {
        self.read(tx).await.map(drop)
    }

    /// What the records would become in the sink's first table. To be asked after [`look`](Self::look).
    ///
    /// # Errors
    /// As the worker's: the first record's that is rejected.
    pub(crate) fn made(&self, batch: &Batch) -> Result<Vec<Made>, HandlerError> {
        let Some(plan) = self.known() else { return Err(HandlerError::fatal("the catalogue was not read")) };
        let prepared = self.encode(&plan, batch)?;
        let (Some(table), Some(encoded)) = (plan.tables.first(), prepared.encoded.first()) else {
            return Ok(Vec::new());
        };
        let made = encoded.rows.iter().map(|row| {
            let bytes = row_bytes(&encoded.segments, row);
            let fields = fields(bytes).take(table.columns.len());
            Made {
                deletes: table.tail.deed(bytes) == Deed::Delete,
                fields: fields.map(|field| field.map(Bytes::copy_from_slice)).collect(),
            }
        });
        Ok(made.collect())
    }

    /// A row's columns and values, as the server writes them.
    ///
    /// # Errors
    /// The server's, if it does not take a value.
    pub(crate) async fn printed(
        &self,
        made: &Made,
        tx: &Tx,
    ) -> Result<Vec<(String, Option<String>)>, HandlerError> {
        let plan = self.known();
        let Some(table) = plan.as_ref().and_then(|plan| plan.tables.first()) else { return Ok(Vec::new()) };
        let told: Vec<usize> =
            (0..table.columns.len()).filter(|at| !made.deletes || table.key.contains(at)).collect();
        let parameter = |(at, number): (&usize, usize)| {
            let column = &table.columns[*at];
            let sent = if column.is_read_by_the_server() { "text" } else { &column.sql_type };
            format!("({})::text", stage::value(column, &format!("${number}::{sent}")))
        };
        let parameters: Vec<String> = told.iter().zip(1..).map(parameter).collect();
        let values: Vec<Raw<'_>> = told.iter().map(|&at| Raw(made.fields[at].as_deref())).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let row = tx.raw().query_one(&format!("SELECT {}", parameters.join(", ")), &values).await?;
        let names = told.iter().map(|&at| table.columns[at].name.clone());
        Ok(names.enumerate().map(|(place, name)| (name, row.get(place))).collect())
    }
}
