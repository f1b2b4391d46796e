//! Dead letters for other programs.

use std::ops::ControlFlow;

use serde::Serialize;
use tokio_postgres::Row;

use super::super::Offsets;
use super::show::{CONTENT, MAY_NOT_READ};
use super::{COLUMNS, DeadLetter, DeadLetterFilter, DeadLetterPayload, columns, filter};
use crate::error::{Error, ErrorKind, Result};

/// How many are read at a time, and how many with their content, of which each may be of megabytes.
const PORTION: i64 = 1_000;
const WHOLE_PORTION: i64 = 20;

/// A dead letter as it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportedDeadLetter {
    /// The facts.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Its content, where that was asked for and is not gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<DeadLetterPayload>,
}

impl Offsets {
    /// Hands all that fit to `each`, in the order in which they were first stored, until it has enough; says how many it
    /// has had. With their records' content only with `payload`. What is stored meanwhile may come or not.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn export_dead_letters(
        &mut self,
        filter: &DeadLetterFilter,
        payload: bool,
        each: &mut (dyn FnMut(ExportedDeadLetter) -> ControlFlow<()> + Send),
    ) -> Result<u64> {
        self.reconnect().await?;
        let (mut after, mut count) = (0, 0);
        loop {
            let portion = self.exported_portion(filter, payload, after).await?;
            let Some(last) = portion.last() else { break };
            after = last.letter.id;
            for letter in portion {
                count += 1;
                if each(letter).is_break() {
                    return Ok(count);
                }
            }
        }
        if count == 0 {
            self.check_names(filter).await?;
        }
        Ok(count)
    }

    /// The next ones with a number above `after`; empty: there are no more.
    pub(super) async fn exported_portion(
        &self,
        filter: &DeadLetterFilter,
        payload: bool,
        after: i64,
    ) -> Result<Vec<ExportedDeadLetter>> {
        if payload && !self.may_read_payloads().await? {
            return Err(Error::new(ErrorKind::Privilege, MAY_NOT_READ));
        }
        let (content, payloads, limit) = match payload {
            true => {
                let table = self.schema().qualified("dead_letter_payload");
                (format!(", {CONTENT}"), format!("LEFT JOIN {table} p USING (dead_letter_id)"), WHOLE_PORTION)
            }
            false => (String::new(), String::new(), PORTION),
        };
        let sql = format!(
            "SELECT {}{content} FROM {} d {payloads} WHERE {} AND d.dead_letter_id > ${} ORDER BY d.dead_letter_id LIMIT {limit}",
            columns(self.schema()),
            self.schema().qualified("dead_letter"),
            filter::WHICH,
            filter::VALUES + 1,
        );
        let values = filter.values();
        let mut parameters = values.parameters();
        parameters.push(&after);
        let rows = self.client.query(&sql, &parameters).await;
        let rows = rows.map_err(|source| {
            Error::postgres(format!("read the dead letters of group `{}`", filter.group), source)
        })?;
        let one = |row: &Row| ExportedDeadLetter {
            letter: DeadLetter::of(row),
            payload: if payload { DeadLetterPayload::of(row, COLUMNS) } else { None },
        };
        Ok(rows.iter().map(one).collect())
    }
}
