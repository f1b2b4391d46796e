//! Updates and deletions that a publication sends need a replica identity, of the table in which the row lies.

use super::mark::Kin;
use crate::{HandlerError, Tx};

/// `$1`: a table and what is below it. A partition is published with the tables, and with the schemas of the tables, that
/// it is a partition of.
macro_rules! nameless {
    ($schemas:literal) => {
        concat!(
            "SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c \
            WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND c.relkind = 'r' AND c.relpersistence = 'p' \
                AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS ( \
                        SELECT FROM pg_catalog.pg_index AS i \
                        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate) \
                    OR c.relreplident = 'i' AND NOT EXISTS ( \
                        SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident)) \
                AND EXISTS (SELECT FROM pg_catalog.pg_publication AS p \
                    WHERE (p.pubupdate OR p.pubdelete) AND (p.puballtables OR EXISTS ( \
                        SELECT FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid \
                            OR r.prrelid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) AS a)))",
            $schemas,
            ")) ORDER BY 1 LIMIT 1"
        )
    };
}

const NAMELESS: &str = nameless!(
    " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace AS s \
        JOIN pg_catalog.pg_class AS x ON x.relnamespace = s.pnnspid WHERE s.pnpubid = p.oid AND (x.oid = c.oid \
            OR x.oid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) AS a)))"
);
const NAMELESS_14: &str = nameless!("");

/// The first table that is published so, and has no replica identity.
///
/// # Errors
/// As [`Tx::query`].
pub(super) async fn nameless(kin: &Kin, tx: &Tx) -> Result<Option<String>, HandlerError> {
    let sql = if kin.publishes_schemas() { NAMELESS } else { NAMELESS_14 };
    let rows = tx.query(sql, &[&kin.below()]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
