//! The index that leads to a partition's rows by offset.

/// A scalar subquery: the name of such an index of the table with this oid, or NULL. All four are SQL expressions, the
/// columns' of type text; the topic's may be NULL.
pub(crate) fn leading_index(oid: &str, topic: &str, partition: &str, offset: &str) -> String {
    format!(
        "(SELECT min(i.indexrelid::regclass::text) FROM pg_catalog.pg_index i \
           JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY k.n) AS columns \
             FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE k.n <= i.indnkeyatts) f ON true \
           JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
           JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree' \
         WHERE i.indrelid = {oid} AND i.indisvalid AND i.indpred IS NULL AND 0 <> ALL(i.indkey::int2[]) \
           AND (f.columns[1:2] = ARRAY[{partition}, {offset}] \
             OR f.columns[1:3] = ARRAY[{topic}, {partition}, {offset}] \
             OR f.columns[1:3] = ARRAY[{partition}, {topic}, {offset}]))"
    )
}
