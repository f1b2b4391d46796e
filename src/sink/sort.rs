//! The order in which a batch's rows are sent: by key.
//!
//! Neighbours in the index are then inserted one after the other, on pages that are at hand. For upserts it also finds
//! the last write per key, and lets workers lock rows in one order.
//!
//! What may not be left out or reordered because somebody could tell is found here, too: see [`super::care`].
//!
//! A key becomes bytes: see [`push`] for what their order is.

use bytes::Bytes;

use super::buffer::{RowRef, fields, row_bytes};
use super::care::{Care, Order};
use super::plan::TablePlan;
use super::tail::Deed;
use super::target::Kind;
use crate::tx::order::Keys;

/// A row that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick(u32);

impl Pick {
    const REPLACES: u32 = 1 << 31;

    /// The row at this place, which is below [`REPLACES`](Self::REPLACES): a batch has no more.
    pub(crate) fn whole(row: usize) -> Self {
        Self(u32::try_from(row).unwrap_or_default() & !Self::REPLACES)
    }

    /// Its place among the rows of the batch.
    pub(crate) fn row(self) -> usize {
        (self.0 & !Self::REPLACES) as usize
    }

    /// Whether its key is deleted first.
    pub(crate) fn replaces(self) -> bool {
        self.0 & Self::REPLACES != 0
    }
}

/// What is sent of a batch's rows.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// `None`: all, as they are.
    pub(crate) order: Option<Vec<Pick>>,
    /// Somebody could tell: each row is to be written by a statement of its own.
    pub(crate) row_by_row: bool,
}

/// The rows to send, in order; `deletes`: whether some are there only to be deleted.
pub(crate) fn order(plan: &TablePlan, segments: &[Bytes], rows: &[RowRef], deletes: bool) -> Sorted {
    let care = &plan.care;
    if care.always.is_some() || (deletes && care.deletions.is_some()) {
        return Sorted { order: None, row_by_row: true };
    }
    let is_keyed = plan.mode.is_keyed();
    let is_long = |row: &RowRef, at| is_long(care, row_bytes(segments, row), at);
    let long_key = if deletes { &care.long_key[..] } else { &[] };
    let mut long = care.long.iter().chain(long_key);
    if is_keyed && !plan.key_is_comparable && long.any(|&at| rows.iter().any(|row| is_long(row, at))) {
        // An index may refuse it, and nobody here can tell whether a later row overwrites it.
        return Sorted { order: None, row_by_row: true };
    }
    let sorts = if is_keyed { plan.key_is_comparable } else { care.order == Order::Key };
    if !sorts || plan.key.is_empty() || rows.len() < 2 {
        return Sorted::default();
    }
    let keys = keys(plan, segments, rows);
    let Some(mut order) = keys.by_prefix() else { return Sorted::default() };
    // Where only the index's pages are at stake, equal prefixes are near enough.
    if !is_keyed {
        return Sorted {
            order: Some(order.into_iter().map(|(_, row)| Pick(row)).collect()),
            row_by_row: false,
        };
    }
    // Equal ones are few, or (of one key) all: either is quickly sorted.
    for same in order.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|same| same.len() > 1) {
        same.sort_unstable_by(|(_, i), (_, j)| keys.get(*i).cmp(keys.get(*j)).then(i.cmp(j)));
    }
    let order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
    let of = |row: u32| row_bytes(segments, &rows[row as usize]);
    reduce(plan, &order, &keys, &of)
}

/// The last write per key wins, of the newest version.
fn reduce<'a>(plan: &TablePlan, order: &[u32], keys: &Keys, of: &dyn Fn(u32) -> &'a [u8]) -> Sorted {
    let mut sent = Vec::with_capacity(order.len());
    for same in order.chunk_by(|a, b| keys.get(*a) == keys.get(*b)) {
        let Some(last) = winner(plan, same, of) else { continue };
        let others = || same.iter().copied().filter(|row| *row != last);
        let mut replaces = 0;
        if same.len() > 1 {
            if could_be_told(plan, of(last), &mut others().map(of)) {
                return Sorted { order: None, row_by_row: true };
            }
            let deletes = |row: u32| is_deletion(plan, of(row));
            if !deletes(last) && others().any(deletes) {
                replaces = Pick::REPLACES;
            }
        }
        sent.push(Pick(last | replaces));
    }
    // Where the server finds the last ones, or the rows go as the records came, all are sent.
    let order = (plan.reduced_here && plan.care.order == Order::Key).then_some(sent);
    Sorted { order, row_by_row: false }
}

/// Of the writes of a key, in their order: the last one of the newest version.
fn winner<'a>(plan: &TablePlan, same: &[u32], of: &dyn Fn(u32) -> &'a [u8]) -> Option<u32> {
    let Some(at) = plan.version.filter(|_| same.len() > 1) else { return same.last().copied() };
    let version = |row: u32| {
        let mut version = Vec::new();
        push(fields(of(row)).nth(at).flatten(), plan.columns[at].target.kind, &mut version);
        version
    };
    same.iter().copied().max_by_key(|&row| version(row))
}

/// Whether somebody could tell that writes of a key are left out because a later one follows.
fn could_be_told(plan: &TablePlan, last: &[u8], before: &mut dyn Iterator<Item = &[u8]>) -> bool {
    let care = &plan.care;
    if care.repeated.is_some() || care.order == Order::Records {
        return true;
    }
    let deleted = is_deletion(plan, last);
    if care.watched.is_empty()
        && care.long.is_empty()
        && (!deleted || care.refused.is_none() && care.long_key.is_empty())
    {
        return false;
    }
    let differs = |row, at: usize| fields(row).nth(at) != fields(last).nth(at);
    let asks = !care.watched.is_empty() || care.refused.is_some();
    before.filter(|row| !is_deletion(plan, row)).any(|row| {
        deleted && (asks || care.long_key.iter().any(|&at| is_long(care, row, at)))
            || care.watched.iter().any(|&at| differs(row, at))
            || care.long.iter().any(|&at| is_long(care, row, at) && differs(row, at))
    })
}

/// Whether an index may refuse the value for its length.
fn is_long(care: &Care, row: &[u8], at: usize) -> bool {
    fields(row).nth(at).flatten().is_some_and(|value| value.len() > care.long_from)
}

fn is_deletion(plan: &TablePlan, row: &[u8]) -> bool {
    plan.tail.deed(row) == Deed::Delete
}

/// The keys of all rows.
fn keys(plan: &TablePlan, segments: &[Bytes], rows: &[RowRef]) -> Keys {
    let mut keys = Keys::with_capacity(rows.len());
    for row in rows {
        let row = row_bytes(segments, row);
        for &position in &plan.key {
            let field = fields(row).nth(position).flatten();
            push(field, plan.columns[position].target.kind, &mut keys.bytes);
        }
        keys.end();
    }
    keys
}

/// What a value of a key is told by: of equal values the same. `None` is NULL.
pub(crate) fn told_by(plan: &TablePlan, row: &[u8], position: usize) -> Option<Vec<u8>> {
    let field = fields(row).nth(position).flatten()?;
    let mut told = Vec::new();
    push(Some(field), plan.columns[position].target.kind, &mut told);
    Some(told)
}

/// Appends a field. Keys without NULL are equal if, and only if, their bytes are. Their order is the server's for integers,
/// dates, times, UUIDs and text of `C`; elsewhere it is only *an* order, the same for all workers.
fn push(field: Option<&[u8]>, kind: Kind, key: &mut Vec<u8>) {
    let Some(field) = field else { return };
    match kind {
        kind if kind.is_signed() => {
            // Two's complement: negative numbers go before the others.
            let (first, rest) = field.split_first().unwrap_or((&0, &[]));
            key.push(first ^ 0x80);
            key.extend_from_slice(rest);
        }
        Kind::Bool | Kind::Uuid => key.extend_from_slice(field),
        Kind::Numeric => push_numeric(field, key),
        // No zero byte is in it, so one ends it.
        Kind::Text => {
            key.extend_from_slice(field);
            key.push(0);
        }
        _ => {
            for byte in field {
                key.push(*byte);
                if *byte == 0 {
                    key.push(0xFF);
                }
            }
            key.extend_from_slice(&[0, 0]);
        }
    }
}

/// `1.0` and `1.00` are one key: all but the digits behind the point that are shown.
fn push_numeric(field: &[u8], key: &mut Vec<u8>) {
    let Some((header, digits)) = field.split_first_chunk::<8>() else { return };
    let [_, _, weight @ .., _, _] = header;
    let [high, low, sign @ ..] = weight;
    let mut weight = i32::from(i16::from_be_bytes([*high, *low]));
    let (groups, _) = digits.as_chunks::<2>();
    let leading = groups.iter().take_while(|group| **group == [0, 0]).count();
    let groups = &groups[leading..];
    let kept = groups.len() - groups.iter().rev().take_while(|group| **group == [0, 0]).count();
    let is_number = sign[0] & 0x80 == 0;
    weight = if kept == 0 { 0 } else { weight - i32::try_from(leading).unwrap_or_default() };
    key.extend_from_slice(if kept == 0 && is_number { &[0, 0] } else { sign });
    key.extend_from_slice(&weight.to_be_bytes());
    for group in &groups[..kept] {
        // No group of digits is above 9,999.
        key.extend_from_slice(group);
    }
    key.extend_from_slice(&[0xFF, 0xFF]);
}
