//! Any text as entity file: the loader never panics, and what it takes has tables and samples.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ponix_entities::{Catalog, Format, ddl, sample};

fuzz_target!(|text: &str| {
    let catalog = match Catalog::from_files([("fuzz.yaml".into(), text.to_owned())]) {
        Ok(catalog) => catalog,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            return drop(errors.to_string());
        }
    };
    assert_eq!(ddl(&catalog).matches("CREATE TABLE").count(), catalog.tables().len());
    for entity in catalog.entities() {
        // Constraints may leave no value at all, so a sample may be refused; the entity is known.
        let json = sample(&catalog, entity).json;
        let named = catalog.identify(Format::Json, json.as_bytes(), None);
        assert_eq!(named.ok(), Some(entity.name()), "{json}");
        if let Err(error) = catalog.parse(Format::Json, json.as_bytes(), None) {
            assert_eq!(error.entity.as_deref(), Some(entity.name()), "{json}");
        }
    }
});
