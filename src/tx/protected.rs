//! What a transaction must still be when it is committed. The guard refuses to send what would change it; what text does
//! not show (a `DO` block, a function, a name passed as a parameter, `UPDATE pg_settings`) is found here, before COMMIT.

use super::Tx;

/// Settings that not even `SET LOCAL` may touch: durability of the commit, what frees a frozen worker's locks, the name by
/// which another worker knows such a backend, how the server reads the text that the guard has read, who we are, and what
/// the next transaction of the session begins as.
pub(super) const SETTINGS: [&str; 14] = [
    "synchronous_commit",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "application_name",
    "client_encoding",
    "standard_conforming_strings",
    "role",
    "session_authorization",
];

/// SQL for the values of them all, a `text[]`. Everything has its schema, for a handler may have a search path of its own.
/// A setting that this server does not have is NULL. To wait for the standby as well is no weaker promise than `on`.
pub(crate) fn values() -> String {
    let value = |name: &&str| {
        let value = format!("pg_catalog.current_setting('{name}', true)");
        match *name {
            "synchronous_commit" => format!("pg_catalog.replace({value}, 'remote_apply', 'on')"),
            _ => value,
        }
    };
    format!("ARRAY[{}]::pg_catalog.text[]", SETTINGS.iter().map(value).collect::<Vec<_>>().join(", "))
}

pub(super) fn is_protected(name: &str) -> bool {
    SETTINGS.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}

/// What a handler has done to the transaction that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tampered {
    /// Ended it: this is another one, or none.
    Ended,
    /// Changed settings; their names.
    Changed(String),
    /// It has done nothing: the server has read its configuration anew meanwhile, and these settings with it.
    Reloaded(String),
}

impl Tx {
    /// The values of the protected settings as they were when the transaction began, for the compare-and-set.
    pub(crate) fn protected(&self) -> &str {
        &self.protected
    }

    /// Looks for what could make a compare-and-set miss that has nothing to do with the claim. `None`: nothing, as far as
    /// the server says.
    ///
    /// # Cancel safety
    /// The question is then still under way: drop the connection.
    pub(crate) async fn tampered(&self) -> Option<Tampered> {
        let sql = format!(
            "SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, \
               s.names, s.reloaded \
             FROM (SELECT pg_catalog.string_agg(s.name, ' and ') AS names, \
                     pg_catalog.bool_and(pg_catalog.starts_with(s.name, 'default_transaction_') \
                                         AND st.source IS DISTINCT FROM 'session') AS reloaded \
                   FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest({}), \
                                   pg_catalog.unnest($2::pg_catalog.text::pg_catalog.text[])) AS s(name, value, was) \
                   LEFT JOIN pg_catalog.pg_settings AS st ON NOT st.name IS DISTINCT FROM s.name \
                   WHERE s.value IS DISTINCT FROM s.was) AS s",
            values()
        );
        let row = self.raw().query_one(&sql, &[&SETTINGS.as_slice(), &self.protected()]).await.ok()?;
        if row.get::<_, Option<&str>>(0) != Some(self.xact_id()) {
            return Some(Tampered::Ended);
        }
        let names = row.get::<_, Option<String>>(1)?;
        // What the worker leaves to the server's configuration, and nobody has set in this session.
        let is_reloaded = row.get::<_, Option<bool>>(2) == Some(true);
        Some(if is_reloaded { Tampered::Reloaded(names) } else { Tampered::Changed(names) })
    }
}
