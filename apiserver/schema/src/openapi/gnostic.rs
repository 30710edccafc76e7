//! OpenAPI documents as the protobuf messages of gnostic (OpenAPIv2.proto, OpenAPIv3.proto): only what Kubernetes'
//! documents have.

use serde_json::Value;

/// Messages: name, and `key=number:kind` for each key of a JSON object. The kind is a message, `bool` or `double`; a
/// string where there is none. The key `*` is any other key, whose member is a pair of name and value; `x-` is an
/// extension; an empty key is the value itself.
pub(super) type Messages = [(&'static str, &'static str)];

pub(super) const V2: [(&str, &str); 26] = [
    (
        "Document",
        "swagger=1 info=2:Info paths=8:Paths definitions=9:Definitions parameters=10:ParameterDefinitions \
         security=12:SecurityRequirement securityDefinitions=13:SecurityDefinitions",
    ),
    ("Info", "title=1 version=2"),
    ("Paths", "*=2:PathItem"),
    ("Definitions", "*=1:Schema"),
    ("ParameterDefinitions", "*=1:Parameter"),
    ("SecurityRequirement", "*=1:StringArray"),
    ("SecurityDefinitions", "*=1:SecurityDefinitionsItem"),
    ("SecurityDefinitionsItem", "=2:ApiKeySecurity"),
    ("ApiKeySecurity", "type=1 name=2 in=3 description=4"),
    ("StringArray", "=1"),
    (
        "PathItem",
        "get=2:Operation put=3:Operation post=4:Operation delete=5:Operation patch=8:Operation \
         parameters=9:ParametersItem",
    ),
    (
        "Operation",
        "tags=1 description=3 operationId=5 produces=6 consumes=7 parameters=8:ParametersItem responses=9:Responses \
         schemes=10 x-=13",
    ),
    ("JsonReference", "$ref=1"),
    ("BodyParameter", "description=1 name=2 in=3 required=4:bool schema=5:Schema"),
    (
        "QueryParameterSubSchema",
        "required=1:bool in=2 description=3 name=4 type=6 format=7 items=8:PrimitivesItems uniqueItems=20:bool",
    ),
    ("PathParameterSubSchema", "required=1:bool in=2 description=3 name=4 type=5 format=6 uniqueItems=19:bool"),
    ("PrimitivesItems", "type=1"),
    ("Responses", "*=1:ResponseValue"),
    ("ResponseValue", "=1:Response"),
    ("Response", "description=1 schema=2:SchemaItem"),
    ("SchemaItem", "=1:Schema"),
    (
        "Schema",
        "$ref=1 format=2 description=4 required=19 additionalProperties=21:AdditionalPropertiesItem type=22:TypeItem \
         items=23:ItemsItem properties=25:Properties x-=31",
    ),
    ("AdditionalPropertiesItem", "=1:Schema"),
    ("TypeItem", "=1"),
    ("ItemsItem", "=1:Schema"),
    ("Properties", "*=1:Schema"),
];

pub(super) const V3: [(&str, &str); 25] = [
    ("Document", "openapi=1 info=2:Info paths=4:Paths components=5:Components"),
    ("Info", "title=1 version=6"),
    ("Paths", "*=1:PathItem"),
    ("Components", "schemas=1:SchemasOrReferences securitySchemes=7:SecuritySchemesOrReferences"),
    ("SchemasOrReferences", "*=1:SchemaOrReference"),
    ("SecuritySchemesOrReferences", "*=1:SecuritySchemeOrReference"),
    ("SecuritySchemeOrReference", "=1:SecurityScheme"),
    ("SecurityScheme", "type=1 description=2 name=3 in=4"),
    (
        "PathItem",
        "get=4:Operation put=5:Operation post=6:Operation delete=7:Operation patch=10:Operation \
         parameters=13:ParameterOrReference",
    ),
    (
        "Operation",
        "tags=1 description=3 operationId=5 parameters=6:ParameterOrReference requestBody=7:RequestBodyOrReference \
         responses=8:Responses x-=13",
    ),
    ("ParameterOrReference", "=1:Parameter"),
    ("Parameter", "name=1 in=2 description=3 required=4:bool schema=10:SchemaOrReference"),
    ("RequestBodyOrReference", "=1:RequestBody"),
    ("RequestBody", "content=2:MediaTypes required=3:bool"),
    ("MediaTypes", "*=1:MediaType"),
    ("MediaType", "schema=1:SchemaOrReference"),
    ("Responses", "*=2:ResponseOrReference"),
    ("ResponseOrReference", "=1:Response"),
    ("Response", "description=1 content=3:MediaTypes"),
    ("Reference", "$ref=1"),
    (
        "Schema",
        "uniqueItems=20:bool required=23 type=25 allOf=26:SchemaOrReference oneOf=27:SchemaOrReference \
         items=30:ItemsItem properties=31:Properties additionalProperties=32:AdditionalPropertiesItem \
         default=33:DefaultType description=34 format=35 x-=36",
    ),
    ("AdditionalPropertiesItem", "=1:SchemaOrReference"),
    ("ItemsItem", "=1:SchemaOrReference"),
    ("Properties", "*=1:SchemaOrReference"),
    ("SecurityRequirement", "*=1:StringArray"),
];

/// Writes the fields of a message.
pub(super) fn message(messages: &Messages, name: &str, value: &Value, out: &mut Vec<u8>) {
    if let Some((number, inner)) = choice(name, value) {
        return field(messages, number, inner, value, out);
    }
    let row = row(messages, name);
    if let Some(itself) = row.strip_prefix('=') {
        let (number, kind) = spec(itself);
        return field(messages, number, kind, value, out);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match find(row, key) {
            Some((number, kind)) => field(messages, number, kind, value, out),
            None if key.starts_with("x-") => {
                let Some((number, _)) = find(row, "x-") else { continue };
                delimited(number, &pair(key, |out| string(2, &value.to_string(), out)), out);
            }
            None => member(messages, name, key, value, out),
        }
    }
}

/// Writes one pair of a message whose keys are free.
pub(super) fn member(messages: &Messages, name: &str, key: &str, value: &Value, out: &mut Vec<u8>) {
    let Some((number, kind)) = find(row(messages, name), "*") else { return };
    delimited(number, &pair(key, |out| message(messages, kind, value, out)), out);
}

/// Writes a field whose message is written already.
pub(super) fn nested(messages: &Messages, name: &str, key: &str, bytes: &[u8], out: &mut Vec<u8>) {
    if let Some((number, _)) = find(row(messages, name), key) {
        delimited(number, bytes, out);
    }
}

/// Which member of a `oneof` a value is; None where the message is no such choice.
fn choice(name: &str, value: &Value) -> Option<(u32, &'static str)> {
    let refers = value["$ref"].is_string();
    Some(match (name, value["in"].as_str().unwrap_or_default()) {
        ("ParametersItem", _) if refers => (2, "JsonReference"),
        ("ParametersItem", _) => (1, "Parameter"),
        ("Parameter", "body") => (1, "BodyParameter"),
        // OpenAPI v3 has no such message below a parameter, and its rows say so.
        ("Parameter", _) if value.get("schema").is_none() => (2, "NonBodyParameter"),
        ("NonBodyParameter", "path") => (4, "PathParameterSubSchema"),
        ("NonBodyParameter", _) => (3, "QueryParameterSubSchema"),
        ("SchemaOrReference", _) if refers => (2, "Reference"),
        ("SchemaOrReference", _) => (1, "Schema"),
        ("DefaultType", _) => match value {
            Value::Number(_) => (1, "double"),
            Value::Bool(_) => (2, "bool"),
            _ => (3, ""),
        },
        _ => return None,
    })
}

fn row<'a>(messages: &'a Messages, name: &str) -> &'a str {
    messages.iter().find(|(message, _)| *message == name).map_or("", |(_, row)| row)
}

fn find<'a>(row: &'a str, key: &str) -> Option<(u32, &'a str)> {
    let word = row.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
    Some(spec(word))
}

fn spec(word: &str) -> (u32, &str) {
    let (number, kind) = word.split_once(':').unwrap_or((word, ""));
    (number.parse().unwrap_or_default(), kind)
}

/// Writes a field; that of an array, once for each item.
fn field(messages: &Messages, number: u32, kind: &str, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (_, Value::Array(items)) => items.iter().for_each(|item| field(messages, number, kind, item, out)),
        ("", Value::String(text)) => string(number, text, out),
        ("", _) => {}
        ("bool", _) => {
            varint(u64::from(number) << 3, out);
            out.push(u8::from(value == &Value::Bool(true)));
        }
        ("double", _) => {
            varint(u64::from(number) << 3 | 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        (kind, _) => {
            let mut inner = Vec::new();
            message(messages, kind, value, &mut inner);
            delimited(number, &inner, out);
        }
    }
}

/// The pair of a name and a message.
fn pair(name: &str, value: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (mut out, mut inner) = (Vec::new(), Vec::new());
    value(&mut inner);
    string(1, name, &mut out);
    delimited(2, &inner, &mut out);
    out
}

fn string(number: u32, text: &str, out: &mut Vec<u8>) {
    delimited(number, text.as_bytes(), out);
}

fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
