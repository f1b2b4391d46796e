//! The columns that a record's fields would be.

use super::super::shape::{Field, Fields, numeric, of_semantic};
use super::plan::{NamedNode, Node, Plan};

impl Plan {
    /// The fields of the record that this is, or of the one that a change event writes; `None`: it is no record. With a
    /// `separator`, the fields of records in it stand in their place.
    pub(crate) fn shape(&self, is_event: bool, separator: Option<&str>) -> Option<Vec<Field>> {
        let mut root = self.root;
        if is_event {
            root = self.record(root)?.iter().find(|(name, _)| &**name == b"\"after\":")?.1;
        }
        let mut fields = Fields::new(separator);
        self.add(self.record(root)?, &mut fields, &mut vec![self.present(root).0])?;
        Some(fields.finish())
    }

    /// `within`: the records around.
    fn add(&self, named: &[NamedNode], fields: &mut Fields<'_>, within: &mut Vec<usize>) -> Option<()> {
        for (name, node) in named {
            // As JSON, with its colon.
            let name: String = serde_json::from_slice(name.strip_suffix(b":")?).ok()?;
            let (node, not_null) = self.present(*node);
            match &self.nodes[node] {
                Node::Record(inner) if fields.may_enter() && !within.contains(&node) => {
                    within.push(node);
                    fields.enter(name, not_null, |fields| self.add(inner, fields, within))?;
                    within.pop();
                }
                _ => fields.push(&name, self.sql_type(node), not_null),
            }
        }
        Some(())
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
