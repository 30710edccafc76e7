//! From OpenAPI v3, which documents are made in, to v2.

use serde_json::{Map, Value, json};

use super::parameters;

/// Turns a path item.
pub(super) fn path(item: &mut Value) {
    for (key, value) in item.as_object_mut().into_iter().flatten() {
        if key == "parameters" {
            let parameters = value.take();
            *value = own(parameters).collect();
        } else {
            operation(value);
        }
    }
}

/// Turns a query or path parameter: its schema's members become its own.
pub(super) fn parameter(mut parameter: Value) -> Value {
    if let (Value::Object(schema), Some(members)) = (parameter["schema"].take(), parameter.as_object_mut()) {
        members.remove("schema");
        members.extend(schema);
    }
    parameter
}

/// Turns the schema of a type: what v2 has no word for is left out.
pub(super) fn schema(value: &mut Value) {
    let Some(schema_of) = value.as_object_mut() else { return };
    schema_of.remove("default");
    if let Some(mut all) = schema_of.remove("allOf") {
        schema_of.insert("$ref".to_owned(), all[0]["$ref"].take());
    }
    if schema_of.remove("oneOf").is_some() {
        schema_of.insert("type".to_owned(), "string".into());
    }
    if let Some(Value::String(reference)) = schema_of.get_mut("$ref") {
        *reference = reference.replace("#/components/schemas/", "#/definitions/");
    }
    for (key, value) in schema_of {
        match (key.as_str(), value) {
            ("properties", Value::Object(fields)) => fields.values_mut().for_each(schema),
            ("items" | "additionalProperties", value) => schema(value),
            _ => {}
        }
    }
}

fn own(mut parameters: Value) -> impl Iterator<Item = Value> {
    std::mem::take(parameters.as_array_mut().unwrap_or(&mut Vec::new())).into_iter().map(parameter)
}

fn operation(operation: &mut Value) {
    let mut body = operation["requestBody"].take();
    let content = std::mem::take(body["content"].as_object_mut().unwrap_or(&mut Map::new()));
    let produces: Value = operation.pointer("/responses/200/content").map_or_else(|| json!([]), media);
    let consumes = if content.is_empty() { json!(["*/*"]) } else { media(&Value::Object(content.clone())) };
    let mut taken: Vec<Value> = Vec::new();
    if let Some(mut media) = content.into_iter().next().map(|(_, media)| media) {
        schema(&mut media["schema"]);
        let required = body["required"] == true;
        taken.push(json!({"name": "body", "in": "body", "required": required, "schema": media["schema"]}));
    }
    for value in operation["parameters"].take().as_array().into_iter().flatten() {
        taken.push(match value["name"].as_str() {
            Some(name) if parameters::is_shared(value) => json!({"$ref": format!("#/parameters/{name}")}),
            _ => parameter(value.clone()),
        });
    }
    for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let Some(response) = response.as_object_mut() else { continue };
        let Some(Value::Object(content)) = response.remove("content") else { continue };
        if let Some(mut media) = content.into_iter().next().map(|(_, media)| media) {
            schema(&mut media["schema"]);
            response.insert("schema".to_owned(), media["schema"].take());
        }
    }
    let Some(members) = operation.as_object_mut() else { return };
    members.remove("requestBody");
    members.insert("parameters".to_owned(), taken.into());
    members.insert("consumes".to_owned(), consumes);
    members.insert("produces".to_owned(), produces);
    members.insert("schemes".to_owned(), json!(["https"]));
}

fn media(content: &Value) -> Value {
    content.as_object().into_iter().flatten().map(|(media, _)| Value::from(media.as_str())).collect()
}
