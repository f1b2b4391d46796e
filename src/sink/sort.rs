//! The order in which a batch's rows are sent: by key.
//!
//! Neighbours in the index are then inserted one after the other, on pages that are at hand. For upserts it also finds
//! the last write per key, and lets workers lock rows in one order.
//!
//! A key becomes bytes that sort as the key does (but for collations, which matter to nobody here); 16 of them, from
//! where the batch's keys first differ, nearly always decide. So the sort touches no row.

use bytes::Bytes;

use super::buffer::{RowRef, fields, row_bytes};
use super::plan::TablePlan;
use super::table::Mode;
use super::target::Kind;

/// The rows to send, in order. `None`: all, as they are.
pub(crate) fn order(plan: &TablePlan, segments: &[Bytes], rows: &[RowRef]) -> Option<Vec<u32>> {
    if plan.key.is_empty() || rows.len() < 2 {
        return None;
    }
    let keys = Keys::new(plan, segments, rows);
    let common = keys.common_prefix();
    let count = u32::try_from(rows.len()).ok()?;
    let mut order: Vec<(u128, u32)> = (0..count).map(|row| (keys.prefix(row, common), row)).collect();
    // Where only the index's pages are at stake, equal prefixes are near enough.
    if plan.mode == Mode::Append {
        order.sort_unstable();
    } else {
        order.sort_unstable_by(|(a, i), (b, j)| {
            a.cmp(b).then_with(|| keys.get(*i).cmp(keys.get(*j))).then(i.cmp(j))
        });
    }
    let mut order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
    if plan.mode == Mode::Upsert && plan.key_is_exact {
        keep_last(&mut order, &keys);
    }
    Some(order)
}

/// The last write per key wins (PITFALLS 26).
fn keep_last(order: &mut Vec<u32>, keys: &Keys) {
    let mut kept = 0;
    for next in 0..order.len() {
        let is_last = order.get(next + 1).is_none_or(|after| keys.get(*after) != keys.get(order[next]));
        if is_last {
            order[kept] = order[next];
            kept += 1;
        }
    }
    order.truncate(kept);
}

/// The keys of all rows, one behind the other.
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn new(plan: &TablePlan, segments: &[Bytes], rows: &[RowRef]) -> Self {
        let mut keys =
            Self { bytes: Vec::with_capacity(rows.len() * 32), ends: Vec::with_capacity(rows.len()) };
        for row in rows {
            let row = row_bytes(segments, row);
            for &position in &plan.key {
                let field = fields(row).nth(position).flatten();
                push(field, plan.columns[position].target.kind, &mut keys.bytes);
            }
            keys.ends.push(keys.bytes.len());
        }
        keys
    }

    fn get(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    /// How many bytes all keys begin with.
    fn common_prefix(&self) -> usize {
        let first = self.get(0);
        let mut common = first.len();
        let mut start = self.ends[0];
        for &end in &self.ends[1..] {
            let key = &self.bytes[start..end];
            start = end;
            if key.get(..common) != Some(&first[..common]) {
                common = first.iter().zip(key).take(common).take_while(|(a, b)| a == b).count();
            }
        }
        common
    }

    /// The 16 bytes behind the first `common` ones; what is not there counts as zeros.
    fn prefix(&self, row: u32, common: usize) -> u128 {
        let key = self.get(row).get(common..).unwrap_or_default();
        if let Some(bytes) = key.first_chunk::<16>() {
            return u128::from_be_bytes(*bytes);
        }
        let mut bytes = [0; 16];
        bytes[..key.len()].copy_from_slice(key);
        u128::from_be_bytes(bytes)
    }
}

/// Appends a field such that keys are equal if, and only if, all their fields are, and sort by their fields in turn.
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
