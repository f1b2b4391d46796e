//! The migrations, in order, embedded in the program.
//!
//! Adding one: a file `migrations/NNNN_name.sql` with unqualified names, an entry here, and grants for new tables in
//! `grants.rs`. A migration that has been released is never edited.

use super::Step;

/// The schema version that this program is written for: that of the last migration.
pub const SCHEMA_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The oldest schema version that this program's worker can still use, so that a new release may run before the
/// migration does. Raise it when the code starts to need a newer table or column.
pub const OLDEST_USABLE_VERSION: i32 = 1;

/// One step from version N-1 to N.
pub(super) struct Migration {
    pub(super) version: i32,
    pub(super) name: &'static str,
    /// The lowest schema version that a program must know to use the tables after this step. A step that only adds
    /// leaves it alone; one that takes something away raises it, and so shuts out the programs that need it.
    pub(super) min_compatible: i32,
    pub(super) sql: &'static str,
}

impl Migration {
    pub(super) fn step(&self) -> Step {
        Step { version: self.version, name: self.name }
    }
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        min_compatible: 1,
        sql: include_str!("../../migrations/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "operator",
        min_compatible: 1,
        sql: include_str!("../../migrations/0002_operator.sql"),
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn versions_count_up_from_one_and_every_file_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> =
            MIGRATIONS.iter().map(|m| format!("{:04}_{}.sql", m.version, m.name)).collect();
        assert_eq!(files, listed);
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
            assert!((1..=version).contains(&migration.min_compatible));
        }
        assert!((1..=SCHEMA_VERSION).contains(&OLDEST_USABLE_VERSION));
    }

    #[test]
    fn no_migration_ends_its_own_transaction() {
        for migration in MIGRATIONS {
            // What stands between `$$` is a function's body.
            for line in migration.sql.split("$$").step_by(2).flat_map(str::lines) {
                let word = line.trim().trim_end_matches(';').to_ascii_uppercase();
                assert!(!matches!(&*word, "BEGIN" | "COMMIT" | "END" | "ROLLBACK"), "{}", migration.name);
            }
        }
    }
}
