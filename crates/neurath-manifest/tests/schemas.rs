//! The committed JSON Schemas are those of the reader.

use neurath_manifest::schema;

#[test]
fn committed_schemas_are_fresh() {
    for (name, text) in schema::all() {
        let path = format!("{}/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("NEURATH_BLESS").is_some() {
            std::fs::write(&path, &text).expect("write the schema");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{path} is stale: run this test with NEURATH_BLESS=1 and commit the file"
        );
    }
}
