//! The order of rows by bytes of their keys.
//!
//! 16 bytes of a key, from where all keys first differ, nearly always decide. So sorting touches no row.

/// The keys of rows, one behind the other, as bytes that sort as they are wanted.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// A key is appended here, and then [ended](Self::end).
    pub(crate) bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self { bytes: Vec::with_capacity(rows * 32), ends: Vec::with_capacity(rows) }
    }

    /// What was appended since the key before is the next row's.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn get(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    /// The rows in the order of what decides nearly always; `None` if there are more than can be counted.
    pub(crate) fn by_prefix(&self) -> Option<Vec<(u128, u32)>> {
        let common = self.common_prefix();
        let count = u32::try_from(self.ends.len()).ok()?;
        let mut order: Vec<(u128, u32)> = (0..count).map(|row| (self.prefix(row, common), row)).collect();
        order.sort_unstable();
        Some(order)
    }

    /// How many bytes all keys begin with.
    fn common_prefix(&self) -> usize {
        let Some((first_end, ends)) = self.ends.split_first() else { return 0 };
        let first = &self.bytes[..*first_end];
        let mut common = first.len();
        let mut start = *first_end;
        for &end in ends {
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

/// The fields of a row of a binary `COPY`: `None` is NULL.
pub(crate) fn fields(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            return Some(None);
        };
        let (field, after) = after.split_at_checked(length)?;
        rest = after;
        Some(Some(field))
    })
}
