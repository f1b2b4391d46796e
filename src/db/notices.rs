//! Driving a connection. The driver's own way logs the text of every notice at INFO, and a `RAISE NOTICE` in a trigger may
//! quote the row that it is about.

use std::future::poll_fn;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, Connection, Error};

/// Until the connection ends. Notices are logged by severity and SQLSTATE.
pub(super) async fn drive<S, T>(connection: &mut Connection<S, T>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message? {
            let (severity, sqlstate) = (notice.severity(), notice.code().code());
            tracing::debug!(severity, sqlstate, "Postgres sent a notice");
        }
    }
    Ok(())
}
