//! A description is the committed one, and says all.

use std::path::Path;

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// Name of the environment variable that rewrites the committed description.
pub const UPDATE_VARIABLE: &str = "UPDATE_OPENAPI";

/// Panics unless `openapi.json` in `folder` (`env!("CARGO_MANIFEST_DIR")`) is the description.
/// `UPDATE_OPENAPI=1` writes it there.
pub fn assert_committed(description: &OpenApi, folder: &str) {
    let path = Path::new(folder).join("openapi.json");
    let generated = description.to_pretty_json().expect("a description is JSON") + "\n";
    if std::env::var_os(UPDATE_VARIABLE).is_some() {
        std::fs::write(&path, &generated).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(committed == generated, "{path} is out of date: run this test with {UPDATE_VARIABLE}=1");
}

/// Panics unless every operation has a summary, says what it takes and which errors it answers, and
/// every body that it takes refuses unknown fields ([`crate::kit::api::body::JsonBody`]).
pub fn assert_complete(description: &OpenApi) {
    let description = serde_json::to_value(description).expect("a description is JSON");
    for (path, item) in members(&description["paths"]) {
        for (method, operation) in members(item) {
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name} has no summary");
            let responses = &operation["responses"];
            let is_good = members(responses).any(|(status, _)| status.starts_with('2'));
            assert!(is_good, "{name} has no good answer");
            for status in ["400", "401", "403", "500", "503"] {
                assert!(responses[status].is_object(), "{name} has no {status}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{name} does not describe {parameter}");
            }
            for (_, content) in members(&operation["requestBody"]["content"]) {
                assert_strict(&description, &content["schema"], &name, 0);
            }
        }
    }
}

/// Panics if an object of a schema takes fields that are not described.
fn assert_strict(description: &Value, schema: &Value, name: &str, depth: usize) {
    assert!(depth < 32, "{name}: the schema of the body has no end");
    let at = |schema| assert_strict(description, schema, name, depth + 1);
    if let Some(reference) = schema["$ref"].as_str() {
        let referred = description.pointer(reference.trim_start_matches('#'));
        return at(referred.unwrap_or_else(|| panic!("{name}: {reference} is not there")));
    }
    if let Some(fields) = schema["properties"].as_object() {
        let is_strict = schema["additionalProperties"] == false;
        assert!(is_strict, "{name}: a type of the body is not #[serde(deny_unknown_fields)]: {schema}");
        fields.values().for_each(at);
    }
    if schema["items"].is_object() {
        at(&schema["items"]);
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        schema[list].as_array().into_iter().flatten().for_each(at);
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
