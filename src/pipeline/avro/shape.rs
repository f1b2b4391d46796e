//! The columns that a record's fields would be.

use super::super::shape::{Field, numeric, of_semantic};
use super::plan::{NamedNode, Node, Plan};

impl Plan {
    /// The fields of the record that this is, or of the one that a change event writes; `None`: it is no record.
    pub(crate) fn shape(&self, is_event: bool) -> Option<Vec<Field>> {
        let mut fields = self.record(self.root)?;
        if is_event {
            let (_, after) = fields.iter().find(|(name, _)| &**name == b"\"after\":")?;
            fields = self.record(*after)?;
        }
        fields.iter().map(|(name, node)| self.field(name, *node)).collect()
    }

    /// A record, or a union of one and null.
    fn record(&self, node: usize) -> Option<&[NamedNode]> {
        match &self.nodes[self.present(node).0] {
            Node::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// What is there of a union of it and null, and whether it is there always.
    fn present(&self, node: usize) -> (usize, bool) {
        let Node::Union(branches) = &self.nodes[node] else { return (node, true) };
        let mut others = branches.iter().filter(|branch| !matches!(self.nodes[**branch], Node::Null));
        match (others.next(), others.next()) {
            (Some(only), None) => (*only, branches.len() == 1),
            // Of several kinds: the union itself.
            _ => (node, !branches.iter().any(|branch| matches!(self.nodes[*branch], Node::Null))),
        }
    }

    fn field(&self, name: &[u8], node: usize) -> Option<Field> {
        // As JSON, with its colon.
        let name = serde_json::from_slice(name.strip_suffix(b":")?).ok()?;
        let (node, not_null) = self.present(node);
        Some(Field { name, sql_type: self.sql_type(node), not_null })
    }

    fn sql_type(&self, node: usize) -> String {
        match &self.nodes[node] {
            Node::Boolean => "boolean",
            Node::Int => "integer",
            Node::Long => "bigint",
            Node::Float => "real",
            Node::Double => "double precision",
            Node::Bytes | Node::Fixed(_) => "bytea",
            Node::String | Node::Enum(_) => "text",
            Node::Uuid | Node::UuidBytes => "uuid",
            Node::Duration => "interval",
            Node::BigDecimal | Node::VariableScale => "numeric",
            Node::DecimalBytes { scale, precision, .. } => return numeric(*precision, *scale),
            Node::Counts(semantic) | Node::Text(semantic) | Node::BytesOf(semantic) => of_semantic(semantic),
            Node::Array(items) => {
                let (items, _) = self.present(*items);
                return match self.sql_type(items).as_str() {
                    items if items == "jsonb" || items.ends_with("[]") => "jsonb".to_owned(),
                    items => format!("{items}[]"),
                };
            }
            Node::Record(_) | Node::Map(_) | Node::Union(_) | Node::Null | Node::Pending => "jsonb",
        }
        .to_owned()
    }
}
