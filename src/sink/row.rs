//! Rows: tuples and slices of values.

use bytes::BytesMut;

use super::plan::Column;
use super::target::{Defect, Written};
use super::value::{ToColumn, put_field};

/// Takes the values of a row one after the other.
#[derive(Debug)]
pub struct Fields<'a> {
    columns: &'a [Column],
    /// Which of the columns, in this order. `None`: all.
    only: Option<&'a [usize]>,
    next: usize,
    /// The first column that keeps what the table has.
    pub(crate) kept: Option<usize>,
    out: &'a mut BytesMut,
}

/// Why a row was not taken: which column, and what is wrong there.
#[derive(Debug)]
pub enum Failure {
    /// More or fewer values than columns.
    Arity,
    /// At this position among the table's columns.
    Column(usize, Defect),
    TooLarge,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(columns: &'a [Column], out: &'a mut BytesMut) -> Self {
        Self { columns, only: None, next: 0, kept: None, out }
    }

    pub(crate) fn only(self, positions: &'a [usize]) -> Self {
        Self { only: Some(positions), ..self }
    }

    #[inline]
    pub(crate) fn put<T: ToColumn + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let position = match self.only {
            None => self.next,
            Some(positions) => *positions.get(self.next).ok_or(Failure::Arity)?,
        };
        let column = self.columns.get(position).ok_or(Failure::Arity)?;
        let at = self.out.len();
        let written =
            put_field(value, &column.target, self.out).map_err(|defect| Failure::Column(position, defect))?;
        match (written, column.length) {
            (Written::Null, _) if column.not_null => return Err(Failure::Column(position, Defect::NotNull)),
            (Written::Value, Some(length)) => {
                length.fit(at, self.out).map_err(|defect| Failure::Column(position, defect))?;
            }
            (Written::Kept, _) => self.kept = self.kept.or(Some(position)),
            _ => {}
        }
        self.next += 1;
        Ok(())
    }

    /// How many values are taken.
    pub(crate) fn wanted(&self) -> usize {
        self.only.map_or(self.columns.len(), <[usize]>::len)
    }

    /// Whether every column has its value.
    pub(crate) fn full(&self) -> Result<(), Failure> {
        if self.next == self.wanted() { Ok(()) } else { Err(Failure::Arity) }
    }
}

impl Failure {
    /// The same, where `columns` were counted from a later one on.
    pub(crate) fn behind(self, columns: usize) -> Self {
        match self {
            Self::Column(position, defect) => Self::Column(position + columns, defect),
            other => other,
        }
    }
}

/// The values of a row, in the order of the table's columns: a tuple of up to 24 values of any types that go
/// [into columns](ToColumn), or an array, slice or `Vec` of one type, which may be `&dyn ToColumn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    note = "a row is a tuple of up to 24 values, or a slice: `rows.push((id, amount))`; one column: `rows.push((id,))`"
)]
pub trait Row {
    #[doc(hidden)]
    fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure>;
}

impl<T: ToColumn> Row for [T] {
    fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure> {
        self.iter().try_for_each(|value| fields.put(value))
    }
}

impl<T: ToColumn, const N: usize> Row for [T; N] {
    fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure> {
        <[T] as Row>::put(self, fields)
    }
}

impl<T: ToColumn> Row for Vec<T> {
    fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure> {
        <[T] as Row>::put(self, fields)
    }
}

impl<R: Row + ?Sized> Row for &R {
    fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure> {
        R::put(self, fields)
    }
}

/// Tuples of as many values as there are names, and of fewer.
macro_rules! tuples {
    () => {};
    ($first:ident $($rest:ident)*) => {
        impl<$first: ToColumn, $($rest: ToColumn),*> Row for ($first, $($rest,)*) {
            #[expect(non_snake_case, reason = "the values are named after their types")]
            fn put(&self, fields: &mut Fields<'_>) -> Result<(), Failure> {
                let ($first, $($rest,)*) = self;
                fields.put($first)?;
                $(fields.put($rest)?;)*
                Ok(())
            }
        }
        tuples!($($rest)*);
    };
}

tuples!(A B C D E F G H I J K L M N O P Q R S T U V W X);
