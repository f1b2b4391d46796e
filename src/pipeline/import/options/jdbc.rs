//! What the three JDBC sinks read.

use super::Fate::{ByHand, NotNeeded, Only, Refused, Taken};
use super::{AIVEN, CONFLUENT, DEBEZIUM, EVERY, Entry, NOT_DEBEZIUM, RETRIED, entry};

const PASSWORD: &str = "the password is not copied: give the address in HIGHWATER_POSTGRES_URL, or the password by \
                        `postgres_password_file` or `postgres_password_command`";
const POOL: &str = "each of the `lanes` has its connection";
const COPY: &str =
    "rows are always written by COPY, in batches that find their size (`batch_target_records`)";
const OTHER_SERVER: &str = "it is about another database";
const ZONE: &str = "times without a zone are not shifted yet: only UTC can be taken over";
const NAMING: &str = "names are not made by rules yet: leave it out, import, and write the names into `table` and \
                      `columns`";

pub(in super::super) const JDBC: &[Entry] = &[
    // Where to.
    entry("connection.url", EVERY, Taken("`postgres_url`, without a password")),
    entry("connection.user", NOT_DEBEZIUM, Taken("`postgres_url`")),
    entry("connection.username", DEBEZIUM, Taken("`postgres_url`")),
    entry("connection.password", EVERY, ByHand(PASSWORD)),
    entry("connection.attempts", CONFLUENT, NotNeeded(RETRIED)),
    entry("connection.backoff.ms", CONFLUENT, NotNeeded(RETRIED)),
    entry(
        "jdbc.credentials.provider.class",
        CONFLUENT,
        Only(
            &["io.confluent.connect.jdbc.util.DefaultJdbcCredentialsProvider"],
            "classes are not run: leave it out, and give the password by `postgres_password_command`",
        ),
    ),
    entry("jdbc.credentials.provider.*", CONFLUENT, ByHand("is not copied: see `postgres_password_command`")),
    entry("connection.provider", DEBEZIUM, NotNeeded(POOL)),
    entry("connection.pool.min_size", DEBEZIUM, NotNeeded(POOL)),
    entry("connection.pool.max_size", DEBEZIUM, NotNeeded(POOL)),
    entry("connection.pool.acquire_increment", DEBEZIUM, NotNeeded(POOL)),
    entry("connection.pool.timeout", DEBEZIUM, NotNeeded(POOL)),
    entry("connection.restart.on.errors", DEBEZIUM, NotNeeded(RETRIED)),
    entry("hibernate.c3p0.*", DEBEZIUM, NotNeeded(POOL)),
    entry(
        "hibernate.*",
        DEBEZIUM,
        Refused(
            "there is no Hibernate that could read it: remove it, after you have \
                                            seen to what it was for",
        ),
    ),
    entry(
        "dialect.name",
        NOT_DEBEZIUM,
        Only(
            &["PostgreSqlDatabaseDialect"],
            "only PostgreSQL is written: leave it out if that is what it is",
        ),
    ),
    // Which table.
    entry("table.name.format", EVERY, Taken("`table`; `${topic}` where one topic is read")),
    entry("table.name.normalize", AIVEN, Taken("`table`")),
    entry("topics.to.tables.mapping", AIVEN, Taken("`table`, where all topics go to one")),
    entry("collection.name.format", DEBEZIUM, Taken("`table`; `${topic}` where one topic is read")),
    entry(
        "collection.table.format",
        DEBEZIUM,
        Refused(
            "names from the source's schema and table are not supported \
                                                        yet: leave it out, and write `table`",
        ),
    ),
    entry(
        "collection.naming.strategy",
        DEBEZIUM,
        Only(
            &[
                "io.debezium.sink.naming.DefaultCollectionNamingStrategy",
                "io.debezium.connector.jdbc.naming.DefaultTableNamingStrategy",
            ],
            NAMING,
        ),
    ),
    entry(
        "table.naming.strategy",
        DEBEZIUM,
        Only(&["io.debezium.connector.jdbc.naming.DefaultTableNamingStrategy"], NAMING),
    ),
    entry("collection.naming.*", DEBEZIUM, Refused(NAMING)),
    entry(
        "quote.sql.identifiers",
        CONFLUENT,
        Taken(
            "names are always quoted; with `never` they are written in \
                                                     lower case, as the server has read them",
        ),
    ),
    entry("sql.quote.identifiers", AIVEN, Taken("the same, with `false`")),
    entry("quote.identifiers", DEBEZIUM, Taken("the same, with `false` (Debezium's default)")),
    entry("table.types", CONFLUENT, NotNeeded("any table is written that takes COPY, partitioned ones too")),
    entry(
        "auto.create",
        NOT_DEBEZIUM,
        Taken(
            "`evolve = \"create\"`; a column of a table that is to be made needs its `type` in the file, unless the values' schema has it",
        ),
    ),
    entry(
        "auto.evolve",
        NOT_DEBEZIUM,
        Taken(
            "`evolve = \"add_columns\"`, which also makes the table; a column that is to be added needs its `type` in the \
             file, unless the values' schema has it",
        ),
    ),
    entry(
        "schema.evolution",
        DEBEZIUM,
        Taken(
            "`evolve`: `none` is `none`, `validate-only` is `validate`, `basic` is `add_columns`; a column that is to be \
             added needs its `type` in the file, unless the values' schema has it; where names are folded, `basic` is \
             `validate` if columns are left out",
        ),
    ),
    // How rows get into it.
    entry(
        "insert.mode",
        EVERY,
        Taken("`mode`: `insert` is `append`, `upsert` is `upsert`, `update` is `update`"),
    ),
    entry("pk.mode", NOT_DEBEZIUM, Taken("`key`, `key_format`; with `kafka`, `provenance`")),
    entry("pk.fields", NOT_DEBEZIUM, Taken("`key`")),
    entry(
        "primary.key.mode",
        DEBEZIUM,
        Taken(
            "`key`, `key_format`; with `kafka`, `provenance`; `record_header` is \
                                               refused",
        ),
    ),
    entry("primary.key.fields", DEBEZIUM, Taken("`key`")),
    entry("delete.enabled", EVERY, Taken("`deletes`")),
    entry(
        "truncate.enabled",
        DEBEZIUM,
        Only(&["false"], "a record never empties a table here: set it to `false`; it is an operator's task"),
    ),
    entry("batch.size", EVERY, NotNeeded(COPY)),
    entry(
        "use.reduction.buffer",
        DEBEZIUM,
        NotNeeded("in `upsert` the last row of each key is always the one written"),
    ),
    entry("dialect.postgres.unnest.insert.enabled", DEBEZIUM, NotNeeded(COPY)),
    entry("max.retries", NOT_DEBEZIUM, NotNeeded(RETRIED)),
    entry("retry.backoff.ms", NOT_DEBEZIUM, NotNeeded(RETRIED)),
    entry("flush.max.retries", DEBEZIUM, NotNeeded(RETRIED)),
    entry("flush.retry.delay.ms", DEBEZIUM, NotNeeded(RETRIED)),
    // Which columns, and what is in them.
    entry("fields.whitelist", NOT_DEBEZIUM, Taken("`columns`")),
    entry("field.include.list", DEBEZIUM, Taken("`columns`")),
    entry(
        "field.exclude.list",
        DEBEZIUM,
        ByHand("only what `columns` names is written: leave these fields out there"),
    ),
    entry(
        "column.naming.strategy",
        DEBEZIUM,
        Only(
            &[
                "io.debezium.connector.jdbc.naming.DefaultColumnNamingStrategy",
                "io.debezium.sink.naming.DefaultColumnNamingStrategy",
            ],
            NAMING,
        ),
    ),
    entry("column.naming.*", DEBEZIUM, Refused(NAMING)),
    entry(
        "string.output.value.column.name",
        CONFLUENT,
        Taken("`columns.NAME = \"value\"`, with `value = \"string\"`"),
    ),
    entry("timestamp.fields.list", CONFLUENT, Taken("`unit` of these columns")),
    entry("timestamp.precision.mode", CONFLUENT, Taken("`unit = \"us\"` or `\"ns\"`")),
    entry(
        "replace.null.with.default",
        CONFLUENT,
        ByHand(
            "null stays null here, whatever the default in the record's schema is (Connect's own default is to \
                replace it): give the column a NOT NULL if a null must not get in",
        ),
    ),
    entry("db.timezone", NOT_DEBEZIUM, Only(&["UTC", "Etc/UTC", "GMT", "Z"], ZONE)),
    entry("date.timezone", CONFLUENT, NotNeeded("a date has no zone")),
    entry(
        "date.calendar.system",
        CONFLUENT,
        NotNeeded(
            "dates are those of the proleptic Gregorian calendar, as in Postgres: `LEGACY` differs before 1582",
        ),
    ),
    entry("use.time.zone", DEBEZIUM, Only(&["UTC", "Etc/UTC", "GMT", "Z"], ZONE)),
    entry("database.time_zone", DEBEZIUM, Only(&["UTC", "Etc/UTC", "GMT", "Z"], ZONE)),
    entry(
        "dialect.postgres.postgis.schema",
        DEBEZIUM,
        Only(&["public"], "geometry is not written yet: leave it out, and such columns too"),
    ),
    entry(
        "cloud.events.schema.name.pattern",
        DEBEZIUM,
        Refused(
            "CloudEvents are not read yet: leave it out if the \
                                                                 topics have none",
        ),
    ),
    entry("dialect.sqlserver.identity.insert", DEBEZIUM, NotNeeded(OTHER_SERVER)),
    entry("mssql.use.merge.holdlock", CONFLUENT, NotNeeded(OTHER_SERVER)),
    entry("trim.sensitive.log", CONFLUENT, NotNeeded("values are never logged")),
];
