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

/// Of a server whose publications have columns and conditions: the first of them that leaves out columns of a table's replica
/// identity, or asks for others, and the table.
const FILTERED: &str = "\
    SELECT p.pubname::pg_catalog.text, c.oid::pg_catalog.regclass::pg_catalog.text \
    FROM pg_catalog.pg_class AS c CROSS JOIN pg_catalog.pg_publication AS p \
    CROSS JOIN LATERAL (SELECT ARRAY(SELECT a.attname FROM pg_catalog.pg_index AS i \
        CROSS JOIN pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) AS k (number) \
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number WHERE i.indrelid = c.oid \
            AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)) AS names) AS identity \
    CROSS JOIN LATERAL (SELECT r.prrelid, r.prqual, r.prattrs FROM ( \
            SELECT c.oid AS oid, 0 AS level UNION ALL SELECT a.relid, a.level \
            FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, level) WHERE p.pubviaroot) AS above \
        JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = above.oid \
        ORDER BY above.level DESC LIMIT 1) AS r \
    WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND c.relkind = 'r' AND c.relpersistence = 'p' \
        AND (p.pubupdate OR p.pubdelete) AND (r.prattrs IS NOT NULL AND (c.relreplident = 'f' \
            OR EXISTS (SELECT FROM pg_catalog.unnest(identity.names) AS n (name) WHERE n.name NOT IN ( \
                SELECT a.attname FROM pg_catalog.unnest(r.prattrs::pg_catalog.int2[]) AS k (number) \
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.prrelid AND a.attnum = k.number))) \
        OR r.prqual IS NOT NULL AND c.relreplident <> 'f' \
            AND EXISTS (SELECT FROM pg_catalog.regexp_matches(r.prqual::pg_catalog.text, ':varattno ([0-9]+)', 'g') AS k (number) \
                JOIN pg_catalog.pg_attribute AS a \
                    ON a.attrelid = r.prrelid AND a.attnum = (k.number)[1]::pg_catalog.int2 \
                WHERE a.attname <> ALL (identity.names))) \
    ORDER BY 1, 2 LIMIT 1";

/// A publication by which an update or deletion fails, and the table whose it would be.
///
/// # Errors
/// As [`Tx::query`].
pub(super) async fn filtered(kin: &Kin, tx: &Tx) -> Result<Option<(String, String)>, HandlerError> {
    if !kin.publishes_schemas() {
        return Ok(None);
    }
    let rows = tx.query(FILTERED, &[&kin.below()]).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}
