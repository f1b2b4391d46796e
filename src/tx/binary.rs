//! Rows of `COPY … FROM STDIN (FORMAT binary)`, in large messages.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::CopyInSink;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, WrongType};

use super::Tx;
use super::sorted::Sorted;
use crate::HandlerError;

/// One message to the server. Each costs two wake-ups, of the connection's task and of the writer: with messages of
/// 4 KiB, as tokio-postgres makes them, that is more than encoding the rows.
const MESSAGE_BYTES: usize = 128 * 1024;
/// Signature, no flags, no extension (PostgreSQL documentation, COPY, "Binary Format").
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The server takes no message of 1 GiB, and ends the session over one; a row shares its message with smaller ones.
pub(crate) const MAX_ROW_BYTES: usize = (1 << 30) - (1 << 20);
/// No more rows.
pub(crate) const TRAILER: &[u8] = b"\xff\xff";

/// Writes the rows of a binary `COPY`; made by [`Tx::copy_in_binary`].
///
/// While there is one, nothing else can be sent in the transaction. Dropped before it is [finished](Self::finish) it
/// aborts the `COPY`, and so the transaction, or the savepoint around it.
#[must_use = "rows are written once it is finished"]
pub struct BinaryCopy<'t> {
    tx: PhantomData<&'t mut Tx>,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    types: Vec<Type>,
    fields: i16,
    message: BytesMut,
    /// Rows that wait for the end, to be sent in the order of some columns.
    sorted: Option<Sorted>,
    /// Set while a message is on its way. If it is found set, that message was dropped, and its rows with it.
    sending: bool,
}

impl Tx {
    /// Begins a `COPY … FROM STDIN (FORMAT binary)`, the fastest way to write many rows; `types` are the columns' own,
    /// in the order of the statement's columns.
    ///
    /// As [`copy_in`](Self::copy_in) with tokio-postgres' `BinaryCopyInWriter` around its sink, but the rows go to the
    /// server in fewer and larger messages.
    ///
    /// ```
    /// use highwater::tokio_postgres::types::Type;
    /// use highwater::{Batch, HandlerError, Tx};
    ///
    /// # #[expect(dead_code)]
    /// async fn write(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    ///     let copy = "COPY event (source_offset, body) FROM STDIN (FORMAT binary)";
    ///     let mut rows = tx.copy_in_binary(copy, &[Type::INT8, Type::BYTEA]).await?;
    ///     for record in batch {
    ///         rows.write(&[&record.offset(), &record.value()]).await?;
    ///     }
    ///     rows.finish().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`copy_in`](Self::copy_in); [fatal](HandlerError::fatal) if there are more than 32,767 types.
    ///
    /// # Cancel safety
    /// As [`copy_in`](Self::copy_in).
    pub async fn copy_in_binary(
        &mut self,
        sql: &str,
        types: &[Type],
    ) -> Result<BinaryCopy<'_>, HandlerError> {
        let fields = i16::try_from(types.len())
            .map_err(|_| HandlerError::fatal("a COPY was given more columns than a row can have"))?;
        let sink = Box::pin(self.copy_in(sql).await?);
        let mut message = BytesMut::with_capacity(MESSAGE_BYTES + MESSAGE_BYTES / 16);
        message.put_slice(HEADER);
        Ok(BinaryCopy {
            tx: PhantomData,
            sink,
            types: types.to_vec(),
            fields,
            message,
            sorted: None,
            sending: false,
        })
    }
}

impl BinaryCopy<'_> {
    /// Has the rows sent in the order of these columns, given by their positions from 0: those of the table's largest
    /// index, if its keys come in no order. Neighbours in the index are then inserted one after the other, which takes the
    /// server up to a third less time. Equal keys go in any order.
    ///
    /// Rows are held until [`finish`](Self::finish), so errors of the server come there; a line that it names is that of
    /// the sorted rows.
    ///
    /// # Errors
    /// [Fatal](HandlerError::fatal) if there is no such column, or a row was written already.
    pub fn sorted_by(mut self, columns: &[usize]) -> Result<Self, HandlerError> {
        if self.message.len() != HEADER.len() {
            return Err(HandlerError::fatal("rows of a COPY are to be sorted, and some were sent already"));
        }
        let sorted = Sorted::new(columns, &self.types);
        self.sorted = Some(sorted.ok_or_else(|| {
            HandlerError::fatal(format!(
                "rows of a COPY are to be sorted by columns {columns:?}, counted from 0, and there are {}",
                self.types.len()
            ))
        })?);
        // It is sent when the rows are.
        self.message.clear();
        Ok(self)
    }

    /// Adds a row: one value per column.
    ///
    /// # Errors
    /// [Fatal](HandlerError::fatal) if there are more or fewer values than columns, or a Rust type does not go into its
    /// column's; a rejection that names no record if a value cannot be written as its SQL type. Nothing of the row is
    /// sent then, and others may follow. Errors of the server may come with any later row, or with
    /// [`finish`](Self::finish).
    ///
    /// # Cancel safety
    /// A dropped future may have lost this row and others: [`finish`](Self::finish), if not an earlier call, is a
    /// [fatal](HandlerError::fatal) error then.
    #[inline]
    pub async fn write(&mut self, row: &[&(dyn ToSql + Sync)]) -> Result<(), HandlerError> {
        let start = self.message.len();
        if let Err(error) = self.encode(row) {
            self.message.truncate(start);
            return Err(error);
        }
        if let Some(sorted) = &mut self.sorted {
            let held = sorted.take(start, &mut self.message);
            return held.ok_or_else(|| HandlerError::fatal("too many rows for a COPY that is to be sorted"));
        }
        if self.message.len() >= MESSAGE_BYTES { self.send().await } else { Ok(()) }
    }

    fn encode(&mut self, row: &[&(dyn ToSql + Sync)]) -> Result<(), HandlerError> {
        if row.len() != self.types.len() {
            let (values, columns) = (row.len(), self.types.len());
            return Err(HandlerError::fatal(format!(
                "a row of {values} values for a COPY of {columns} columns"
            )));
        }
        let message = &mut self.message;
        let row_start = message.len();
        message.put_i16(self.fields);
        for (column, (value, ty)) in row.iter().zip(&self.types).enumerate() {
            let start = message.len();
            message.put_i32(-1);
            match value.to_sql_checked(ty, message) {
                Ok(IsNull::Yes) => message.truncate(start + 4),
                Ok(IsNull::No) => {
                    // Too long a row is refused below.
                    let length = i32::try_from(message.len() - start - 4).unwrap_or(i32::MAX);
                    message[start..start + 4].copy_from_slice(&length.to_be_bytes());
                }
                // The text of a wrong type names two types, and no data.
                Err(error) if error.is::<WrongType>() => {
                    return Err(HandlerError::fatal(format!("column {} of a COPY: {error}", column + 1)));
                }
                Err(error) => {
                    let what = format!("a value for column {} of a COPY does not fit {ty}", column + 1);
                    return Err(HandlerError::reject_unnamed(what).with_source(error));
                }
            }
        }
        if message.len() - row_start > MAX_ROW_BYTES {
            return Err(HandlerError::reject_unnamed("a row of 1 GiB is too large for a COPY"));
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), HandlerError> {
        if std::mem::replace(&mut self.sending, true) {
            return Err(HandlerError::fatal("rows of a COPY were lost: the future of a write was dropped"));
        }
        let full = self.message.split().freeze();
        if self.sorted.is_none() {
            self.message.reserve(MESSAGE_BYTES + MESSAGE_BYTES / 16);
        }
        let sent = self.sink.as_mut().send(full).await;
        self.sending = false;
        Ok(sent?)
    }

    /// Ends the `COPY`; gives the number of rows.
    ///
    /// # Errors
    /// As [`Tx::query`]: those of the server, about any row; [fatal](HandlerError::fatal) if it finds that rows have
    /// another number of columns.
    ///
    /// # Cancel safety
    /// A dropped future leaves open whether the rows are written; the transaction can go on if it ended the `COPY`, and
    /// is aborted else.
    pub async fn finish(mut self) -> Result<u64, HandlerError> {
        if let Some(sorted) = self.sorted.take() {
            let last = std::mem::replace(&mut self.message, BytesMut::from(HEADER));
            for rows in sorted.messages(last, MESSAGE_BYTES) {
                self.send().await?;
                self.message = BytesMut::from(rows);
            }
        }
        self.message.put_slice(TRAILER);
        self.send().await?;
        self.sink.as_mut().finish().await.map_err(|error| {
            // Elsewhere such a file is a record's fault; here it is written by this very type.
            if error.code() == Some(&SqlState::BAD_COPY_FILE_FORMAT) {
                let why = "the types that a COPY was given are more or fewer than its columns";
                return HandlerError::fatal(why).with_source(error);
            }
            HandlerError::from(error)
        })
    }
}

/// Does nothing itself, but with it the transaction stays borrowed for as long as the `COPY` may be open.
impl Drop for BinaryCopy<'_> {
    fn drop(&mut self) {}
}

impl fmt::Debug for BinaryCopy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryCopy").field("types", &self.types).finish_non_exhaustive()
    }
}
