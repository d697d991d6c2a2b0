//! JSON Schemas as MCP clients like them: one self-contained object, no `$ref`, no lists of types
//! and no number formats that validators warn about.

use std::borrow::Cow;
use std::marker::PhantomData;

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The schema of a tool's arguments. Unknown names are an error.
#[must_use]
pub fn input<T: JsonSchema>() -> JsonObject {
    let mut schema = generate::<T>(SchemaSettings::draft2020_12());
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        // Leaving an argument out is the one way to give none.
        let properties = properties.values_mut();
        properties
            .filter_map(Value::as_object_mut)
            .for_each(not_null);
    }
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// An input schema as clients are shown it: without patterns and lengths of texts. They cost a tenth
/// of the whole tool list in tokens and help no model; a call is checked against the full schema all the same.
#[must_use]
pub fn listed(input: &JsonObject) -> JsonObject {
    let mut listed = input.clone();
    if let Some(Value::Object(properties)) = listed.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            for word in ["pattern", "maxLength", "minLength"] {
                property.remove(word);
            }
            property.remove("maxLength");
        }
    }
    listed
}

/// The schema of a tool's structured answer: names and types only. Every client sends the list of
/// tools to its model, so each word here is paid for in every conversation. A field without a value
/// is left out of an answer ([`drop_nulls`]), so the schema needs no null; but for [`OrNull`].
#[must_use]
pub fn output<T: JsonSchema>() -> JsonObject {
    let mut schema = Value::Object(generate::<T>(
        SchemaSettings::draft2020_12().for_serialize(),
    ));
    slim(&mut schema);
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

/// The schema of a field that an answer names although nothing may be in it.
pub struct OrNull<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrNull<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrNull", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The null stands first: `not_null` takes it from where an `Option` puts it, behind.
        json_schema!({ "anyOf": [{ "type": "null" }, generator.subschema_for::<T>()] })
    }
}

/// Takes the members that are null out of an answer.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Drops what a reader of answers can do without, and which fields are always there: that alone
/// is an eighth of the list of tools.
fn slim(schema: &mut Value) {
    let Value::Object(node) = schema else {
        return;
    };
    for word in ["description", "minimum", "required"] {
        node.remove(word);
    }
    not_null(node);
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(slim);
    }
    if let Some(items) = node.get_mut("items") {
        slim(items);
    }
    if let Some(Value::Array(choices)) = node.get_mut("anyOf") {
        choices.iter_mut().for_each(slim);
    }
}

/// Takes back what an `Option` adds to the schema of what it holds.
fn not_null(node: &mut JsonObject) {
    if let Some(Value::Array(choices)) = node.get("anyOf")
        && let [one, null] = choices.as_slice()
        && null["type"] == "null"
        && let Value::Object(one) = one.clone()
    {
        node.remove("anyOf");
        let mut whole = one;
        // What a field says of itself goes before what its type says.
        whole.append(node);
        *node = whole;
    }
    if let Some(Value::Array(words)) = node.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
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
