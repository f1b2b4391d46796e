//! What may be done to a batch's rows without anybody being able to tell it from one record after the other. Pure: from
//! what the catalogue says to a way.
//!
//! The result of a batch, or the record at which it fails, must be that of its records one by one, in their order: how
//! batches are cut is chance. Three things are faster and are done only where nobody can tell: rows are sorted by their
//! key, only the last write per key is carried out, and deletions go first. Whoever could tell is in the catalogue: a
//! trigger, another unique index, a foreign key with its actions, a constraint on a value that is overwritten. Such
//! rows are written by a statement each, in the order of the records.
//!
//! Where a batch fails nothing needs to be told: the worker tries smaller ones, down to one record.

use super::catalog::facts::{Constraint, ConstraintKind, Facts};
use super::catalog::relatives::Relatives;
use super::table::Mode;

/// The largest row that a B-tree has room for, a third of a page; of the other indexes none has less.
const MOST_OF_INDEX: usize = 2_704;
/// What a value takes beside its bytes: its length, and where it begins; a row, beside its values.
const BESIDE_VALUE: usize = 12;
const BESIDE_ROW: usize = 16;
/// What is no longer than this fits into most indexes, with its neighbours, also where it is stored wider than it is sent.
const LONG: usize = 256;

/// Above which length of a value an index with so many `columns` may have no room for a row.
fn long_from(columns: usize) -> usize {
    let each = (MOST_OF_INDEX - BESIDE_ROW).checked_div(columns).unwrap_or(LONG);
    each.saturating_sub(BESIDE_VALUE).min(LONG)
}

/// In place of the names in `SET CONSTRAINTS`.
pub(crate) const ALL: &str = "ALL";

/// The order in which rows of one statement go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// By the key: neighbours in the index, and all workers lock in one order.
    #[default]
    Key,
    /// As the records come.
    Records,
}

/// How careful a table wants to be written. Texts say why, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Care {
    pub(crate) order: Order,
    /// Why it is not the key's order.
    pub(crate) order_why: Option<String>,
    /// Every row by a statement of its own.
    pub(crate) always: Option<String>,
    /// So are the rows of a batch that writes a key twice.
    pub(crate) repeated: Option<String>,
    /// So are those of a batch that deletes.
    pub(crate) deletions: Option<String>,
    /// So are those of a batch that deletes a key which it has written: the key itself may have been refused.
    pub(crate) refused: Option<String>,
    /// So are those of a batch in which one of these columns (positions) is other in a write that is overwritten.
    pub(crate) watched: Vec<usize>,
    /// The same, where the value that is overwritten may be too long for an index.
    pub(crate) long: Vec<usize>,
    /// The same of the key's, where a key that was written is deleted.
    pub(crate) long_key: Vec<usize>,
    /// Constraints that wait for COMMIT, for `SET CONSTRAINTS`; or [`ALL`], where not all can be named.
    pub(crate) deferred: Vec<String>,
    /// With [`ALL`]: constraints that could wait and do not, which are not to begin with it.
    pub(crate) immediate: Vec<String>,
    /// How long a value in an index may be, in bytes, if `long` says something of it: its neighbours need room, too.
    pub(crate) long_from: usize,
}

/// What a sink means to write into a table.
pub(crate) struct Intent<'a> {
    /// The table's own object id.
    pub(crate) relation: u32,
    pub(crate) mode: Mode,
    pub(crate) names: &'a [&'a str],
    /// The name of the index by which an upsert finds rows.
    pub(crate) key_index: Option<&'a str>,
    pub(crate) key: &'a [usize],
    /// Of each column: equal values have equal bytes.
    pub(crate) exact: &'a [bool],
    /// Whether the column at a position is of a domain, which may refuse the NULL that a deletion leaves there.
    pub(crate) is_domain: &'a dyn Fn(usize) -> bool,
    /// Whether equal keys can be told here.
    pub(crate) key_is_comparable: bool,
    /// Whether the server makes the values of the column at a position from text, only when they are written.
    pub(crate) is_input: &'a dyn Fn(usize) -> bool,
    /// Whether values of the column at a position may be too long for an index.
    pub(crate) is_long: &'a dyn Fn(usize) -> bool,
}

impl Intent<'_> {
    fn position(&self, column: &str) -> Option<usize> {
        self.names.iter().position(|name| *name == column)
    }

    fn positions(&self, columns: &[String]) -> Vec<usize> {
        columns.iter().filter_map(|column| self.position(column)).collect()
    }

    fn writes_all(&self, columns: &[String]) -> bool {
        !columns.is_empty() && columns.iter().all(|column| self.position(column).is_some())
    }
}

impl Care {
    pub(crate) fn new(intent: &Intent<'_>, facts: &Facts) -> Self {
        let mut care = match intent.mode {
            Mode::Append | Mode::InsertIgnore => Self::of_inserts(intent, facts),
            Mode::Upsert | Mode::Update => Self::of_upserts(intent, facts),
        };
        let own = |one: &&Constraint| {
            let ours = one.kind == ConstraintKind::ForeignKey && one.ours;
            ours && (one.target == intent.relation || facts.kin.contains(&one.target))
        };
        if let Some(own) = facts.constraints.iter().find(own) {
            care.always.get_or_insert_with(|| {
                format!("foreign key {} refers to the table itself, or to a relative", own.name)
            });
        }
        if let Some(one) = facts.lookers.first() {
            care.always.get_or_insert_with(|| {
                format!(
                    "check {} calls {}, which is not declared IMMUTABLE: it may look at other rows",
                    one.check, one.function
                )
            });
        }
        // An update inserts nothing, and so takes no defaults.
        let is_taken = |column: &str| intent.mode != Mode::Update && intent.position(column).is_none();
        if let Some(one) = facts.looking_defaults.iter().find(|one| is_taken(&one.column)) {
            care.always.get_or_insert_with(|| {
                format!(
                    "the default of column {} calls {}, which is not declared IMMUTABLE: it may look at other rows",
                    one.column, one.function
                )
            });
        }
        (care.deferred, care.immediate) = Self::waiting(intent, facts);
        care.set_key_apart(intent);
        if !intent.key_is_comparable && (care.repeated.is_some() || !care.watched.is_empty()) {
            let why = care.repeated.clone().unwrap_or_else(|| {
                let columns: Vec<&str> = care.watched.iter().map(|&at| intent.names[at]).collect();
                format!("values of {} are looked at before they are overwritten", columns.join(", "))
            });
            let why = format!("{why}, and only the server can tell which keys are equal");
            care.always.get_or_insert(why);
        }
        care
    }

    /// Of a table with a version; `told`: here, which of two rows is newer.
    pub(crate) fn of_version(&mut self, name: &str, told: bool) {
        if !told {
            self.always.get_or_insert_with(|| format!("only the server can tell which {name} is newer"));
        }
        // What a row was is forgotten with it, and what comes after the deletion may be older.
        self.deletions.get_or_insert_with(|| format!("whether {name} is newer depends on what was deleted"));
    }

    /// Constraints that wait for COMMIT; and, where not all of these can be named, those that could and do not.
    fn waiting(intent: &Intent<'_>, facts: &Facts) -> (Vec<String>, Vec<String>) {
        let waiting: Vec<&Constraint> = facts.constraints.iter().filter(|one| one.deferred).collect();
        let reaches_heirs = intent.mode.is_keyed() && facts.relatives.heirs_wait;
        if !reaches_heirs && !waiting.iter().any(|one| one.hidden) {
            return (waiting.into_iter().map(|one| one.sql_name.clone()).collect(), Vec::new());
        }
        let is_immediate = |one: &&Constraint| {
            let is_named = waiting.iter().any(|other| other.sql_name == one.sql_name);
            one.deferrable && !one.deferred && !one.hidden && !is_named
        };
        let own = facts.constraints.iter().filter(is_immediate).map(|one| one.sql_name.clone());
        let immediate = own.chain(facts.relatives.heirs_immediate.iter().cloned()).collect();
        (vec![ALL.to_owned()], immediate)
    }

    /// The key is the same in all writes that are compared, unless it can be spelled in several ways. A deletion is no
    /// write: of a key that was written before, nobody asks whether it may be.
    fn set_key_apart(&mut self, intent: &Intent<'_>) {
        let is_same = |at: &usize| intent.key.contains(at) && intent.exact[*at];
        if let Some(at) = self.watched.iter().find(|at| is_same(at)) {
            let why = format!("a constraint looks at column {} of the key", intent.names[*at]);
            self.refused.get_or_insert(why);
        }
        // A key that is spelled in several ways is as long in each of them, or nearly.
        self.long_key = self.long.iter().copied().filter(|at| intent.key.contains(at)).collect();
        for columns in [&mut self.watched, &mut self.long, &mut self.long_key] {
            columns.sort_unstable();
            columns.dedup();
        }
        self.watched.retain(|at| !is_same(at));
        self.long.retain(|at| !is_same(at));
        if !intent.key_is_comparable
            && let Some(why) = &self.refused
        {
            let why = format!("{why}, and only the server can tell which keys are equal");
            self.deletions.get_or_insert(why);
        }
    }

    fn of_inserts(intent: &Intent<'_>, facts: &Facts) -> Self {
        let mut care = Self::default();
        let unsorted = |care: &mut Self, why: String| {
            care.order = Order::Records;
            care.order_why.get_or_insert(why);
        };
        for trigger in facts.triggers.iter().filter(|trigger| trigger.fires_on_insert()) {
            if trigger.is_before_row() {
                unsorted(&mut care, format!("trigger {} sees the rows before it", trigger.name));
            } else {
                care.always
                    .get_or_insert(format!("trigger {} sees what a statement leaves behind", trigger.name));
            }
        }
        if let Some(column) = facts.numbered.iter().find(|column| intent.position(column).is_none()) {
            unsorted(&mut care, format!("the default of column {column} follows the order of the rows"));
        }
        care
    }

    fn of_upserts(intent: &Intent<'_>, facts: &Facts) -> Self {
        let mut care = Self::default();
        if let Some(trigger) = facts.triggers.first() {
            care.always.get_or_insert(format!("trigger {} sees every write", trigger.name));
        }
        care.of_relatives(intent, &facts.relatives);
        // An update inserts nothing, and so takes no defaults.
        let numbered = facts.numbered.iter().filter(|_| intent.mode == Mode::Upsert);
        if let Some(column) = numbered.into_iter().find(|column| intent.position(column).is_none()) {
            care.order = Order::Records;
            let why = format!("the default of column {column} follows the order of the rows");
            care.repeated.get_or_insert_with(|| why.clone());
            care.order_why.get_or_insert(why);
        }
        care.watched.extend((0..intent.names.len()).filter(|&at| (intent.is_input)(at)));
        if let Some(at) =
            (0..intent.names.len()).find(|at| !intent.key.contains(at) && (intent.is_domain)(*at))
        {
            let why =
                format!("the domain of column {} may refuse what a deletion leaves out", intent.names[at]);
            care.deletions.get_or_insert(why);
        }
        if facts.generated {
            care.repeated.get_or_insert_with(|| "a generated column is computed of every write".to_owned());
        }
        for index in &facts.indexes {
            if index.computes {
                care.repeated
                    .get_or_insert_with(|| format!("index {} computes something of every write", index.name));
            }
            if index.refuses && Some(index.name.as_str()) != intent.key_index {
                let why = format!("index {} is unique, too", index.name);
                if !index.immediate {
                    care.always.get_or_insert_with(|| format!("{why}, and waits for a statement's end"));
                }
                care.order = Order::Records;
                care.order_why.get_or_insert_with(|| why.clone());
                care.repeated.get_or_insert_with(|| why.clone());
                care.deletions.get_or_insert(why);
            }
            let stored = [intent.positions(&index.columns), intent.positions(&index.covered)].concat();
            care.long.extend(stored.into_iter().filter(|&at| (intent.is_long)(at)));
        }
        if !care.long.is_empty() {
            let widest = facts.indexes.iter().map(|index| index.columns.len() + index.covered.len()).max();
            care.long_from = long_from(widest.unwrap_or_default());
        }
        for one in &facts.constraints {
            match one.kind {
                ConstraintKind::Check if intent.writes_all(&one.columns) => {
                    care.watched.extend(intent.positions(&one.columns));
                }
                ConstraintKind::Check => {
                    care.repeated.get_or_insert_with(|| format!("check {} looks at every write", one.name));
                }
                ConstraintKind::ForeignKey => care.of_foreign_key(intent, one),
                ConstraintKind::Index | ConstraintKind::Trigger => {}
            }
        }
        if intent.mode == Mode::Update && care.order == Order::Records {
            // `UPDATE … FROM` has no order.
            care.always = care.always.or_else(|| care.order_why.clone());
        }
        care
    }

    fn of_relatives(&mut self, intent: &Intent<'_>, relatives: &Relatives) {
        if let Some(heir) = relatives.heirs.first() {
            self.always.get_or_insert_with(|| format!("what {heir} inherits is updated and deleted, too"));
        }
        let divided_by = &relatives.divided_by;
        if intent.writes_all(divided_by) {
            // Equal keys belong to one partition, however they are spelled.
            let (key, others): (Vec<usize>, Vec<usize>) =
                intent.positions(divided_by).into_iter().partition(|at| intent.key.contains(at));
            self.watched.extend(others);
            if !key.is_empty() {
                self.refused.get_or_insert_with(|| "there may be no partition for it".to_owned());
            }
        } else if !divided_by.is_empty() {
            let why = "it is a partition, by what is not written, or computed".to_owned();
            self.repeated.get_or_insert(why);
        }
        if intent.writes_all(&relatives.not_null) {
            self.watched.extend(intent.positions(&relatives.not_null));
        } else if let Some(column) = relatives.not_null.first() {
            self.repeated.get_or_insert_with(|| format!("column {column} is NOT NULL in a partition"));
        }
    }

    fn of_foreign_key(&mut self, intent: &Intent<'_>, key: &Constraint) {
        if key.ours {
            self.watched.extend(intent.positions(&key.columns));
        }
        if key.incoming {
            let why = format!("foreign key {} refers to it", key.name);
            let is_key = |column: &String| intent.position(column).is_some_and(|at| intent.key.contains(&at));
            if !key.target_columns.iter().all(is_key) {
                // What one record takes away another may give again before the statement ends.
                self.always.get_or_insert_with(|| format!("{why}, and not to its key"));
            } else if intent.positions(&key.target_columns).iter().any(|&at| !intent.exact[at]) {
                // A key that is written in another spelling is another to those who restrict or follow an update.
                self.repeated
                    .get_or_insert_with(|| format!("{why}, whose equal keys may be spelled in several ways"));
            }
            self.deletions.get_or_insert(why);
        }
    }

    /// The way in words, if it is not the plain one; `names`: of the columns that are written.
    pub(crate) fn describe(&self, names: &[&str]) -> Option<String> {
        if let Some(why) = &self.always {
            return Some(format!("a statement for each row: {why}"));
        }
        let mut ways = Vec::new();
        if let Some(why) = &self.order_why {
            ways.push(format!("rows in the order of the records: {why}"));
        }
        if let Some(why) = &self.repeated {
            ways.push(format!("a statement for each row in batches that write a key twice: {why}"));
        }
        if !self.watched.is_empty() {
            let columns: Vec<&str> = self.watched.iter().map(|&at| names[at]).collect();
            ways.push(format!(
                "a statement for each row in batches that overwrite {}: constraints, or the type, look at it",
                columns.join(", ")
            ));
        }
        if let Some(why) = &self.refused {
            ways.push(format!(
                "a statement for each row in batches that write a key and then delete it: {why}"
            ));
        }
        if let Some(why) = &self.deletions {
            ways.push(format!("a statement for each row in batches that delete: {why}"));
        }
        (!ways.is_empty()).then(|| ways.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::facts::{Index, Trigger};
    use super::super::catalog::lookers::{Looker, LookingDefault};
    use super::*;

    fn intent(mode: Mode) -> Intent<'static> {
        Intent {
            relation: 1,
            mode,
            names: &["id", "email", "parent"],
            key_index: Some("t_pkey"),
            key: &[0],
            exact: &[true; 3],
            is_domain: &|_| false,
            key_is_comparable: true,
            is_input: &|_| false,
            is_long: &|at| at == 1,
        }
    }

    fn index(name: &str, columns: &[&str]) -> Index {
        Index {
            name: name.to_owned(),
            refuses: true,
            unique: true,
            immediate: true,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            ..Index::default()
        }
    }

    fn constraint(kind: ConstraintKind, columns: &[&str]) -> Constraint {
        Constraint {
            name: "c".to_owned(),
            kind,
            deferrable: false,
            deferred: false,
            ours: true,
            incoming: false,
            target: 0,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            target_columns: Vec::new(),
            sql_name: "public.c".to_owned(),
            has_namesake: false,
            hidden: false,
        }
    }

    fn trigger(bits: i32) -> Trigger {
        Trigger { name: "g".to_owned(), bits }
    }

    #[test]
    fn a_plain_table_is_written_the_fast_way() {
        for mode in [Mode::Append, Mode::InsertIgnore, Mode::Upsert] {
            let facts = Facts { indexes: vec![index("t_pkey", &["id"])], ..Facts::default() };
            let care = Care::new(&intent(mode), &facts);
            assert_eq!(care, Care::default());
            assert_eq!(care.describe(&[]), None);
        }
    }

    #[test]
    fn triggers_see_rows_in_their_order() {
        let of = |mode, bits| {
            let facts = Facts { triggers: vec![trigger(bits)], ..Facts::default() };
            Care::new(&intent(mode), &facts)
        };
        let before_insert = of(Mode::Append, 1 | 2 | 4);
        assert_eq!((before_insert.order, before_insert.always), (Order::Records, None));
        assert!(of(Mode::Append, 1 | 4).always.is_some(), "after each row is after the statement");
        assert!(of(Mode::InsertIgnore, 2 | 4).always.is_some(), "one call a statement");
        assert_eq!(of(Mode::Append, 1 | 8), Care::default(), "nothing is deleted");
        assert!(of(Mode::Upsert, 1 | 2 | 8).always.is_some());
    }

    #[test]
    fn a_second_unique_index_takes_upserts_in_their_order() {
        let facts = Facts {
            indexes: vec![index("t_pkey", &["id"]), index("t_email_key", &["email"])],
            ..Facts::default()
        };
        assert_eq!(
            Care::new(&intent(Mode::Append), &facts),
            Care::default(),
            "what is there in the end is all there is"
        );
        let care = Care::new(&intent(Mode::Upsert), &facts);
        assert_eq!((care.order, care.always.as_ref()), (Order::Records, None));
        assert!(care.repeated.is_some() && care.deletions.is_some());
        let inexact = Intent { key_is_comparable: false, ..intent(Mode::Upsert) };
        assert!(Care::new(&inexact, &facts).always.is_some());
        assert!(Care::new(&intent(Mode::Update), &facts).always.is_some(), "its statement has no order");
    }

    #[test]
    fn a_value_that_is_overwritten_was_checked_all_the_same() {
        use ConstraintKind::{Check, ForeignKey};
        let of = |one: Constraint| {
            let facts = Facts { constraints: vec![one], ..Facts::default() };
            Care::new(&intent(Mode::Upsert), &facts)
        };
        assert_eq!(of(constraint(Check, &["email"])).watched, [1]);
        let care = of(constraint(Check, &["id"]));
        assert_eq!(care.watched, [0_usize; 0], "the key is the same");
        assert!(care.refused.is_some() && care.deletions.is_none(), "but in a deletion, which is no write");
        assert!(of(constraint(Check, &["id", ""])).repeated.is_some(), "it looks at the whole row");
        assert!(of(constraint(Check, &["email", "unwritten"])).repeated.is_some());
        assert_eq!(of(constraint(ForeignKey, &["parent"])).watched, [2]);
        let incoming = Constraint {
            ours: false,
            incoming: true,
            target: 1,
            target_columns: vec!["id".to_owned()],
            ..constraint(ForeignKey, &[])
        };
        let care = of(incoming.clone());
        assert!(care.deletions.is_some() && care.repeated.is_none());
        let facts = Facts { constraints: vec![incoming.clone()], ..Facts::default() };
        let spelled = Intent { exact: &[false, true, true], ..intent(Mode::Upsert) };
        let care = Care::new(&spelled, &facts);
        assert!(care.repeated.is_some() && care.always.is_none(), "1 and 1.0 are one key, and an update");
        let care = Care::new(&Intent { key_is_comparable: false, ..spelled }, &facts);
        assert!(care.always.is_some(), "nor can it be told here which keys are equal");
        assert!(of(Constraint { target_columns: vec!["email".to_owned()], ..incoming }).always.is_some());
        let itself = Constraint { target: 1, incoming: true, ..constraint(ForeignKey, &["parent"]) };
        assert!(of(itself).always.is_some());
    }

    #[test]
    fn relatives_are_asked_too() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |mode, relatives| {
            let facts = Facts { relatives, ..Facts::default() };
            Care::new(&intent(mode), &facts)
        };
        let divided =
            |by: &[&str]| of(Mode::Upsert, Relatives { divided_by: names(by), ..Relatives::default() });
        let by_key = divided(&["id"]);
        assert!(by_key.refused.is_some() && by_key.deletions.is_none() && by_key.watched.is_empty());
        assert_eq!(divided(&["email", "id"]).watched, [1]);
        assert!(divided(&["", "id"]).repeated.is_some(), "by an expression");
        let filled = Relatives { not_null: names(&["email"]), ..Relatives::default() };
        assert_eq!(of(Mode::Upsert, filled).watched, [1]);
        let heirs = Relatives { heirs: names(&["heir"]), heirs_wait: true, ..Relatives::default() };
        let care = of(Mode::Update, heirs.clone());
        assert!(care.always.is_some() && care.deferred == [ALL]);
        assert_eq!(of(Mode::Append, heirs), Care::default(), "nothing is inserted there");
    }

    #[test]
    fn a_default_that_looks_has_rows_written_one_by_one_where_it_is_taken() {
        let of = |mode, column: &str| {
            let one = LookingDefault { column: column.to_owned(), function: "f".to_owned() };
            Care::new(&intent(mode), &Facts { looking_defaults: vec![one], ..Facts::default() }).always
        };
        for mode in [Mode::Append, Mode::InsertIgnore, Mode::Upsert] {
            assert!(of(mode, "n").is_some_and(|why| why.contains("column n calls f")), "{mode:?}");
            assert_eq!(of(mode, "email"), None, "it is given");
        }
        assert_eq!(of(Mode::Update, "n"), None);
    }

    #[test]
    fn an_index_has_room_for_all_of_its_columns() {
        assert_eq!((long_from(1), long_from(2)), (LONG, LONG));
        for columns in 1..=32 {
            assert!(columns * (long_from(columns) + BESIDE_VALUE) + BESIDE_ROW <= MOST_OF_INDEX, "{columns}");
        }
        let covers = Index { covered: vec!["email".to_owned()], ..index("t_pkey", &["id"]) };
        let care = Care::new(&intent(Mode::Upsert), &Facts { indexes: vec![covers], ..Facts::default() });
        assert_eq!((care.long, care.long_from), (vec![1], LONG));
        // One that is spelled in several ways is written, and deleted.
        let numeric = Intent { exact: &[false, true, true], is_long: &|_| true, ..intent(Mode::Upsert) };
        let facts = Facts { indexes: vec![index("t_pkey", &["id"])], ..Facts::default() };
        let care = Care::new(&numeric, &facts);
        assert_eq!((care.long, care.long_key), (vec![0], vec![0]));
    }

    #[test]
    fn a_check_that_may_look_at_other_rows_sees_them_one_by_one() {
        let looker = Looker { check: "c".to_owned(), function: "f".to_owned() };
        let facts = Facts { lookers: vec![looker], ..Facts::default() };
        assert!(Care::new(&intent(Mode::Append), &facts).always.is_some());
    }

    #[test]
    fn what_waits_where_nobody_may_name_it_is_asked_with_all_others() {
        let of = |hidden| {
            let waits = Constraint { deferred: true, hidden, ..constraint(ConstraintKind::ForeignKey, &[]) };
            let facts = Facts { constraints: vec![waits], ..Facts::default() };
            Care::new(&intent(Mode::Append), &facts).deferred
        };
        assert_eq!(of(false), ["public.c"]);
        assert_eq!(of(true), [ALL]);
    }

    #[test]
    fn what_the_order_gives_follows_the_records() {
        let facts = Facts { numbered: vec!["number".to_owned()], ..Facts::default() };
        assert_eq!(Care::new(&intent(Mode::Append), &facts).order, Order::Records);
        assert_eq!(Care::new(&intent(Mode::Update), &facts), Care::default(), "nothing is inserted");
        let facts = Facts { numbered: vec!["id".to_owned()], ..Facts::default() };
        assert_eq!(Care::new(&intent(Mode::Append), &facts), Care::default(), "it is written");
    }
}
