//! The columns by which rows are found or sorted.

use super::facts::Index;
use crate::sink::table::{Mode, Table};

/// A table's key.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// Positions among the columns that are written.
    pub(super) positions: Vec<usize>,
    /// The index that it is of, for an upsert.
    pub(super) index: Option<usize>,
}

impl Index {
    /// Whether rows can be found by it: unique, over plain columns, and at once.
    fn finds_rows(&self) -> bool {
        self.usable && self.unique && self.immediate && !self.computes
    }
}

pub(super) fn find(table: &Table, names: &[&str], indexes: &[Index]) -> Result<Key, String> {
    let position = |column: &String| names.iter().position(|name| name == column);
    let usable: Vec<usize> = (0..indexes.len()).filter(|&at| indexes[at].finds_rows()).collect();
    if let Some(columns) = table.key.as_ref().filter(|_| table.mode != Mode::InsertIgnore) {
        let key: Option<Vec<usize>> = columns.iter().map(position).collect();
        let key = key.filter(|key| !key.is_empty());
        let positions = key.ok_or("the key has a column that is not among those written")?;
        if !table.mode.is_keyed() {
            return Ok(Key { positions, index: None });
        }
        let same = |at: &&usize| {
            let index = &indexes[**at];
            index.columns.len() == columns.len()
                && columns.iter().all(|column| index.columns.contains(column))
        };
        let of =
            usable.iter().filter(same).min_by_key(|at| indexes[**at].collations.iter().flatten().count());
        let Some(&at) = of else {
            return Err(format!("there is no unique index on exactly the key ({})", columns.join(", ")));
        };
        compares_as_usual(&indexes[at])?;
        return Ok(Key { positions, index: Some(at) });
    }
    if table.mode.is_keyed() {
        let at = match usable.as_slice() {
            [] => return Err("an upsert, or update, needs a primary key or a unique index".to_owned()),
            [at] => *at,
            [at, ..] if indexes[*at].primary => *at,
            _ => return Err("several unique indexes could be the key: choose with Table::key".to_owned()),
        };
        let index = &indexes[at];
        compares_as_usual(index)?;
        let key: Option<Vec<usize>> = index.columns.iter().map(position).collect();
        let positions = key.ok_or_else(|| {
            format!(
                "the key ({}) has a column that is not among those written; choose with Table::key",
                index.columns.join(", ")
            )
        })?;
        return Ok(Key { positions, index: Some(at) });
    }
    if !table.sorted {
        return Ok(Key::default());
    }
    // The columns with which an index begins are enough to be near in it.
    let leading = |at: &usize| -> Vec<usize> { indexes[*at].columns.iter().map_while(position).collect() };
    let positions = usable.iter().map(leading).find(|key| !key.is_empty()).unwrap_or_default();
    Ok(Key { positions, index: None })
}

/// An operator class may call equal what the type does not.
fn compares_as_usual(index: &Index) -> Result<(), String> {
    match index.classes.first() {
        None => Ok(()),
        Some(class) => Err(format!(
            "its unique index {} compares by operator class {class}, whose equality is not known here: choose another key",
            index.name
        )),
    }
}
