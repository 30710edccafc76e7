use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::{Column, Registry};
use crate::resource::Resource;

mod age;
mod cells;
mod event;
mod network;
mod node;
mod pod;
mod printers;
mod storage;
mod workload;

pub use age::human_duration;
use cells::Cell;

/// The columns of a resource that has no printer of its own.
const PLAIN: [Column; 2] = [
    Column { name: "Name", ty: "string", priority: 0, format: "name" },
    Column { name: "Created At", ty: "date", priority: 0, format: "" },
];

/// An object to print, and when it is printed.
#[derive(Clone, Copy)]
struct Row<'a> {
    object: &'a Value,
    now: Timestamp,
}

/// How the cells of a printer are made.
enum Printer {
    /// Each on its own.
    Cells(&'static [Cell]),
    /// All in one go, where they follow from the same count.
    Whole(fn(&Row<'_>) -> Vec<Value>),
}

impl Registry {
    /// The `columnDefinitions` of a `meta.k8s.io/v1` Table of that resource.
    pub fn column_definitions(&self, resource: &Resource) -> Value {
        let columns = self.printer_columns(&resource.printer).unwrap_or(&PLAIN);
        let definition = |column: &Column| {
            json!({
                "name": column.name,
                "type": column.ty,
                "format": column.format,
                "description": "",
                "priority": column.priority,
            })
        };
        columns.iter().map(definition).collect()
    }

    /// The cells of one object, in the order of [`Registry::column_definitions`].
    pub fn cells(&self, resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
        let row = Row { object, now };
        match printers::PRINTERS.iter().find(|(name, _)| *name == resource.printer) {
            Some((_, Printer::Cells(cells))) => cells.iter().map(|cell| cell.value(&row)).collect(),
            Some((_, Printer::Whole(cells))) => cells(&row),
            None => vec![row.name().into(), row.text("/metadata/creationTimestamp", "").into()],
        }
    }
}

#[cfg(test)]
mod tests;
