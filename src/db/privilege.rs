//! What a role must be granted, where the server has refused it something: as SQL that can be typed.

use std::time::Duration;

use tokio_postgres::error::DbError as ServerError;

use super::{Db, Lease};
use crate::telling;

/// How long the look-up may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What the server has refused, by its own message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused<'a> {
    /// A table, a view or the like.
    Relation(&'a str),
    /// A schema, a sequence or a function.
    Other { right: &'static str, kind: &'static str, name: &'a str },
}

impl Db {
    /// What would end a refusal (42501), in words with the statement that grants it. Where the server's message cannot be
    /// read (another language, or words of a function), it says where to look.
    pub(crate) async fn way_to(&self, error: &ServerError) -> String {
        let known = match telling::message(error).and_then(refused) {
            Some(refused) => tokio::time::timeout(LIMIT, self.grant(refused)).await.ok().flatten(),
            None => None,
        };
        known.unwrap_or_else(|| {
            "grant the worker's role what it lacks; `highwater doctor` lists its rights to Highwater's tables, and to those \
             that its handlers have named"
                .to_owned()
        })
    }

    async fn grant(&self, refused: Refused<'_>) -> Option<String> {
        let client = self.control().await.ok()?;
        match refused {
            Refused::Relation(name) => self.grant_of_relation(&client, name).await,
            Refused::Other { right, kind, name } => {
                let row = client.query_one("SELECT pg_catalog.quote_ident(current_user)", &[]).await.ok()?;
                let role: &str = row.get(0);
                Some(format!("`GRANT {right} ON {kind} {name} TO {role}`"))
            }
        }
    }

    async fn grant_of_relation(&self, client: &Lease, name: &str) -> Option<String> {
        // The message has the bare name. The one that is meant is rather one that can be seen, and one that lacks a right.
        let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname::text, \
                     pg_catalog.quote_ident(current_user), pg_catalog.array_to_string(lacking.rights, ', ') \
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   CROSS JOIN LATERAL (SELECT ARRAY( \
                     SELECT p.name FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p(name) \
                     WHERE NOT pg_catalog.has_table_privilege(c.oid, p.name)) AS rights) lacking \
                   WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND lacking.rights <> '{}' \
                   ORDER BY pg_catalog.pg_table_is_visible(c.oid) DESC, 1 LIMIT 1";
        let row = client.query_opt(sql, &[&name]).await.ok()??;
        let (table, schema, role): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        if schema == self.schema.as_str() {
            return Some(format!("`highwater migrate --print-grants --role {role}` prints what it needs"));
        }
        let lacking: &str = row.get(3);
        let which = if lacking.contains(',') { "what the statement needs of: " } else { "" };
        Some(format!("{which}`GRANT {lacking} ON {table} TO {role}`"))
    }
}

/// Read from the server's English; anything else gives `None`.
fn refused(message: &str) -> Option<Refused<'_>> {
    const RELATIONS: [&str; 4] = ["table ", "view ", "materialized view ", "foreign table "];
    const OTHERS: [(&str, &str, &str); 4] = [
        ("schema ", "USAGE", "SCHEMA"),
        ("sequence ", "USAGE", "SEQUENCE"),
        ("function ", "EXECUTE", "FUNCTION"),
        ("procedure ", "EXECUTE", "PROCEDURE"),
    ];
    let what = message.strip_prefix("permission denied for ")?;
    if let Some(name) = RELATIONS.iter().find_map(|kind| what.strip_prefix(kind)) {
        return Some(Refused::Relation(name));
    }
    OTHERS.iter().find_map(|&(prefix, right, kind)| {
        Some(Refused::Other { right, kind, name: what.strip_prefix(prefix)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_read_from_the_servers_words() {
        assert_eq!(refused("permission denied for table sink"), Some(Refused::Relation("sink")));
        assert_eq!(refused("permission denied for view a b"), Some(Refused::Relation("a b")));
        assert!(matches!(
            refused("permission denied for schema s"),
            Some(Refused::Other { right: "USAGE", kind: "SCHEMA", name: "s" })
        ));
        for other in ["keine Berechtigung für Tabelle sink", "must be owner of table sink", ""] {
            assert_eq!(refused(other), None, "{other}");
        }
    }
}
