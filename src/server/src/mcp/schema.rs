//! JSON Schemas as MCP clients like them: one self-contained object, no `$ref`, no lists of types
//! and no number formats that validators warn about.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of a tool's arguments. Unknown names are an error.
#[must_use]
pub fn input<T: JsonSchema>() -> JsonObject {
    let mut schema = generate::<T>(SchemaSettings::draft2020_12());
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// The schema of a tool's structured answer.
#[must_use]
pub fn output<T: JsonSchema>() -> JsonObject {
    generate::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn generate<T: JsonSchema>(settings: SchemaSettings) -> JsonObject {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    tidy(&mut value);
    let Value::Object(mut schema) = value else {
        return JsonObject::new();
    };
    // An object without properties still has to say that it is one.
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.remove("description");
    schema
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            schema.remove("title");
            let unsigned = schema
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| {
                    format.starts_with("uint") || format.starts_with("int") || format == "double"
                });
            if unsigned {
                schema.remove("format");
            }
            if let Some(Value::Array(types)) = schema.get("type").cloned() {
                schema.remove("type");
                let one = types
                    .into_iter()
                    .map(|kind| json!({ "type": kind }))
                    .collect();
                schema.insert("anyOf".to_owned(), Value::Array(one));
            }
            schema.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
