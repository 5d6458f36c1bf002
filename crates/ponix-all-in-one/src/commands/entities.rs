//! `ponix-all-in-one entities`.

use std::path::Path;

use ponix_entities::{Catalog, ddl, sample, schema};
use ponix_runner::Outcome;

use crate::cli::{self, EntitiesCommand};

/// Does it, without any server; the outcome is a wrong configuration when the entities are wrong.
pub(crate) fn run(command: &EntitiesCommand) -> Outcome {
    match command {
        EntitiesCommand::Check { dir } => with_catalog(dir, |catalog| {
            for entity in catalog.entities() {
                let (name, table) = (entity.name(), entity.table());
                let (columns, name_of_table) = (table.columns.len(), &table.name);
                cli::line(&format!("{name}: table {name_of_table}, {columns} fields"));
            }
            Outcome::Clean
        }),
        EntitiesCommand::Ddl { dir } => with_catalog(dir, |catalog| {
            cli::line(ddl(catalog).trim_end());
            Outcome::Clean
        }),
        EntitiesCommand::Sample { dir, entity } => {
            with_catalog(dir, |catalog| print_sample(catalog, entity))
        }
        EntitiesCommand::Schema => {
            cli::line(schema().trim_end());
            Outcome::Clean
        }
    }
}

fn with_catalog(dir: &Path, go_on: impl FnOnce(&Catalog) -> Outcome) -> Outcome {
    match Catalog::load(dir) {
        Ok(catalog) => go_on(&catalog),
        Err(errors) => cli::wrong_configuration(&errors),
    }
}

fn print_sample(catalog: &Catalog, name: &str) -> Outcome {
    let Some(entity) = catalog.entity(name) else {
        let known: Vec<&str> = catalog
            .entities()
            .iter()
            .map(ponix_entities::Entity::name)
            .collect();
        return cli::wrong_configuration(&format!(
            "there is no entity {name:?}, expected one of {}",
            known.join(", ")
        ));
    };
    let messages = sample(catalog, entity);
    for message in messages.line.iter().chain([&messages.json]) {
        cli::line(message);
    }
    Outcome::Clean
}
