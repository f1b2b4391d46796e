//! Parameters whose values the driver cannot print: it logs them, with their `Debug`, when its target is at DEBUG.

use std::error::Error;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

/// The parameters of one call.
pub(crate) struct Hidden<'a>(Vec<Parameter<'a>>);

impl<'a> Hidden<'a> {
    pub(crate) fn new(params: &[&'a (dyn ToSql + Sync)]) -> Self {
        Self(params.iter().map(|param| Parameter(*param)).collect())
    }

    /// As the driver takes them.
    pub(crate) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
    }
}

struct Parameter<'a>(&'a (dyn ToSql + Sync));

impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Only what can be asked of the value itself reaches it, which is what the driver asks.
impl ToSql for Parameter<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(ty, out)
    }

    /// The value knows, and says so when it is written.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(ty, out)
    }

    fn encode_format(&self, ty: &Type) -> Format {
        self.0.encode_format(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_hides_its_value_and_is_written_as_it_is() {
        let hidden = Hidden::new(&[&"s3cret", &7_i64, &None::<i32>]);
        let params = hidden.params();
        assert_eq!(format!("{params:?}"), "[(hidden), (hidden), (hidden)]");
        let mut out = BytesMut::new();
        assert!(matches!(params[0].to_sql_checked(&Type::TEXT, &mut out), Ok(IsNull::No)));
        assert_eq!(&out[..], b"s3cret");
        assert!(matches!(params[2].to_sql_checked(&Type::INT4, &mut out), Ok(IsNull::Yes)));
        // The text names the type that was given, and the one that was wanted.
        let error = params[1].to_sql_checked(&Type::TEXT, &mut out).err().expect("it is no text");
        assert!(error.is::<tokio_postgres::types::WrongType>());
        assert_eq!(
            error.to_string(),
            "cannot convert between the Rust type `i64` and the Postgres type `text`"
        );
    }
}
