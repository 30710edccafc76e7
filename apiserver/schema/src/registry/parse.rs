use std::collections::HashMap;
use std::str::SplitWhitespace;

use super::{Column, Registry};
use crate::defaults;
use crate::resource::{Resource, Subresource};
use crate::types::{Field, Form, ListType, Merge, Shape, Text, Type, TypeId};

/// Types and resources, written by table/convert.py; two spaces indent the parts of a row.
pub(crate) const KINDS: &str = include_str!("../../table/kinds.txt");
/// Printers and their columns, written by table/convert.py.
const COLUMNS: &str = include_str!("../../table/columns.txt");

type Names = HashMap<&'static str, TypeId>;
type Words = SplitWhitespace<'static>;

/// Reads the built-in table. It is part of the program, and a test reads all of it, so a word
/// that is missing or unknown is a bug and panics.
pub(super) fn builtin() -> Registry {
    let mut registry = Registry::default();
    let names = names();
    let mut types: Vec<Type> = Vec::with_capacity(names.len());
    let mut resources: Vec<Resource> = Vec::new();
    for line in KINDS.lines() {
        let mut words = line.split_whitespace();
        if line.starts_with("  ") {
            match resources.last_mut() {
                Some(resource) => resource.subresources.push(subresource(&mut words)),
                None => types.last_mut().expect("a type").fields.push(field(&mut words, &names)),
            }
            continue;
        }
        match word(&mut words) {
            "type" => types.push(ty(&mut words)),
            _ => resources.push(resource(&mut words, &names)),
        }
    }
    defaults::attach(&mut types, &names);
    for mut ty in types {
        ty.fields.shrink_to_fit();
        registry.insert_type(ty);
    }
    registry.builtin = registry.types.len();
    resources.into_iter().for_each(|resource| registry.insert(resource));
    registry.columns = columns();
    registry
}

fn names() -> Names {
    let heads = KINDS.lines().filter_map(|line| line.strip_prefix("type "));
    let named = heads.map(|head| head.split(' ').next().unwrap_or(head));
    named.zip(0..).map(|(name, at)| (name, TypeId(at))).collect()
}

fn word(words: &mut Words) -> &'static str {
    words.next().expect("a word")
}

fn text(words: &mut Words) -> Text {
    Text::Borrowed(word(words))
}

fn group(words: &mut Words) -> Text {
    Text::Borrowed(core(word(words)))
}

fn core(group: &'static str) -> &'static str {
    if group == "core" { "" } else { group }
}

fn list(words: &'static str) -> Vec<Text> {
    words.split(',').filter(|word| !word.is_empty()).map(Text::Borrowed).collect()
}

fn ty(words: &mut Words) -> Type {
    let name = word(words);
    let mut ty = Type::new(name, form(word(words)));
    for word in words {
        let Some(kind) = word.strip_prefix('=') else {
            ty.atomic = true;
            continue;
        };
        let mut parts = kind.split('/').map(Text::Borrowed);
        let mut part = || parts.next().expect("group/version/kind");
        ty.kinds.push((part(), part(), part()));
    }
    ty
}

fn form(word: &str) -> Form {
    match word {
        "struct" => Form::Struct,
        "object" => Form::Object,
        "quantity" => Form::Quantity,
        "int-or-string" => Form::IntOrString,
        "time" => Form::Time,
        "micro-time" => Form::MicroTime,
        _ => Form::Any,
    }
}

fn field(words: &mut Words, names: &Names) -> Field {
    let mut field =
        Field { name: text(words), shape: shape(word(words), names), required: false, default: None, merge: None };
    let mut merge = Merge::default();
    for word in words {
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        match flag {
            "required" => field.required = true,
            "default" => field.default = Some(serde_json::from_str(value).expect("JSON")),
            "list" => merge.list = Some(list_type(value)),
            "map" => merge.map_type = Some(Text::Borrowed(value)),
            "patch" => merge.patch_strategy = Some(Text::Borrowed(value)),
            "key" => merge.patch_merge_key = Some(Text::Borrowed(value)),
            _ => panic!("unknown flag {flag}"),
        }
    }
    if merge != Merge::default() {
        field.merge = Some(Box::new(merge));
    }
    field
}

fn list_type(value: &'static str) -> ListType {
    match value {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        _ => ListType::Map(list(value.trim_start_matches("map:"))),
    }
}

fn shape(word: &'static str, names: &Names) -> Shape {
    if let Some(item) = word.strip_prefix("[]") {
        return Shape::List(Box::new(shape(item, names)));
    }
    if let Some(value) = word.strip_prefix("{}") {
        return Shape::Map(Box::new(shape(value, names)));
    }
    match word {
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "bool" => Shape::Bool,
        name => Shape::Type(names[name.trim_start_matches('@')]),
    }
}

fn resource(words: &mut Words, names: &Names) -> Resource {
    let mut resource = Resource {
        group: group(words),
        version: text(words),
        kind: text(words),
        plural: text(words),
        singular: text(words),
        namespaced: word(words) == "namespaced",
        type_id: names[word(words)],
        verbs: Vec::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        subresources: Vec::new(),
        printer: Text::Borrowed(""),
        shows_deleted: false,
    };
    for word in words {
        match word.split_once('=') {
            Some(("verbs", value)) => resource.verbs = list(value),
            Some(("short", value)) => resource.short_names = list(value),
            Some(("categories", value)) => resource.categories = list(value),
            Some(("printer", value)) => resource.printer = Text::Borrowed(value),
            Some(("deleted", _)) => resource.shows_deleted = true,
            _ => panic!("unknown flag {word}"),
        }
    }
    resource
}

fn subresource(words: &mut Words) -> Subresource {
    Subresource {
        name: text(words),
        group: group(words),
        version: text(words),
        kind: text(words),
        verbs: list(word(words)),
    }
}

fn columns() -> HashMap<&'static str, Vec<Column>> {
    let mut printers: HashMap<&'static str, Vec<Column>> = HashMap::new();
    let mut printer = "";
    for line in COLUMNS.lines() {
        let Some(row) = line.strip_prefix('\t') else {
            printer = line;
            continue;
        };
        let mut cells = row.split('\t');
        let mut cell = || cells.next().expect("a cell");
        printers.entry(printer).or_default().push(Column {
            name: cell(),
            ty: cell(),
            priority: u8::from(cell() == "1"),
            format: cell(),
        });
    }
    printers
}
