//! What has to be done to a table, and what must not.

use ponix_entities::quoted;

use super::Obstacle;
use super::shape::{Column, Shape};

/// What to do, or why not.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) obstacles: Vec<Obstacle>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) table: String,
    pub(super) subject: String,
    pub(super) sql: String,
}

impl Step {
    /// Tells that rows which are there do not allow the step.
    pub(super) fn refused(&self, problem: &str) -> Obstacle {
        Obstacle {
            table: self.table.clone(),
            subject: self.subject.clone(),
            problem: format!("rows that are there do not fit ({problem})"),
            remedy: "mend the rows first, or take the change back".into(),
        }
    }
}

/// Compares tables, given by name.
///
/// A table that is not there gets all its columns at once, then its keys; since a key may refer to
/// another new table, all columns come before all keys.
pub(super) fn plan(wanted: &[(String, Shape)], existing: &[(String, Shape)]) -> Plan {
    let mut plan = Plan::default();
    for (table, shape) in wanted {
        match existing.iter().find(|(name, _)| name == table) {
            Some((_, found)) => plan.columns(table, shape, found),
            None => plan.create(table, shape),
        }
    }
    let nothing = Shape::default();
    for keys in [Plan::indexes, Plan::constraints] {
        for (table, shape) in wanted {
            let found = existing.iter().find(|(name, _)| name == table);
            keys(
                &mut plan,
                table,
                shape,
                found.map_or(&nothing, |(_, found)| found),
            );
        }
    }
    plan
}

impl Plan {
    fn create(&mut self, table: &str, wanted: &Shape) {
        let columns: Vec<_> = wanted.columns.iter().map(declared).collect();
        let sql = format!("CREATE TABLE {} ({})", quoted(table), columns.join(", "));
        self.step(table, "the table".into(), sql);
    }

    fn columns(&mut self, table: &str, wanted: &Shape, existing: &Shape) {
        for column in &wanted.columns {
            match existing
                .columns
                .iter()
                .find(|found| found.name == column.name)
            {
                Some(found) => self.column(table, column, found),
                None => self.add(table, column),
            }
        }
        for column in &existing.columns {
            if !wanted.columns.iter().any(|kept| kept.name == column.name) {
                let remedy = format!(
                    "declare the field again, or drop its values yourself: ALTER TABLE {} DROP COLUMN {}",
                    quoted(table),
                    quoted(&column.name)
                );
                self.refuse(
                    table,
                    &column.name,
                    "no field is declared for it any more".into(),
                    remedy,
                );
            }
        }
    }

    fn add(&mut self, table: &str, column: &Column) {
        if !column.nullable && column.default.is_none() {
            let problem =
                "it is new and not nullable, and the rows that are there have no value".into();
            let remedy = format!(
                "make the field nullable, or add the column with its values yourself: ALTER TABLE {} \
                 ADD COLUMN {} {} NOT NULL DEFAULT …",
                quoted(table),
                quoted(&column.name),
                column.sql_type
            );
            return self.refuse(table, &column.name, problem, remedy);
        }
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(table),
            declared(column)
        );
        self.step(table, subject(&column.name), sql);
    }

    fn column(&mut self, table: &str, wanted: &Column, found: &Column) {
        let alter = format!(
            "ALTER TABLE {} ALTER COLUMN {}",
            quoted(table),
            quoted(&wanted.name)
        );
        if wanted.sql_type != found.sql_type {
            let change = format!("{alter} TYPE {}", wanted.sql_type);
            if is_wider(&found.sql_type, &wanted.sql_type) {
                self.step(table, subject(&wanted.name), change);
            } else {
                let problem = format!(
                    "it is {}, the field asks for {}",
                    found.sql_type, wanted.sql_type
                );
                let remedy = format!(
                    "declare a field of another name, or change the column yourself: {change}"
                );
                self.refuse(table, &wanted.name, problem, remedy);
            }
        }
        if wanted.nullable && !found.nullable {
            self.step(
                table,
                subject(&wanted.name),
                format!("{alter} DROP NOT NULL"),
            );
        }
        if !wanted.nullable && found.nullable {
            let problem = "it is nullable, the field is not, and rows may have no value".into();
            let remedy = format!(
                "make the field nullable, or fill the rows and change the column yourself: {alter} SET NOT NULL"
            );
            self.refuse(table, &wanted.name, problem, remedy);
        }
    }

    fn indexes(&mut self, table: &str, wanted: &Shape, existing: &Shape) {
        for index in &wanted.indexes {
            let serves = existing.indexes.iter().any(|found| {
                found.columns == index.columns
                    && found.unique >= index.unique
                    && found.primary >= index.primary
            });
            if serves {
                continue;
            }
            let columns: Vec<_> = index.columns.iter().map(|column| quoted(column)).collect();
            let (table_sql, columns) = (quoted(table), columns.join(", "));
            let sql = if index.primary {
                format!("ALTER TABLE {table_sql} ADD PRIMARY KEY ({columns})")
            } else {
                let unique = if index.unique { "UNIQUE " } else { "" };
                let name = quoted(&index.name);
                format!("CREATE {unique}INDEX {name} ON {table_sql} ({columns})")
            };
            self.step(table, format!("key {columns}"), sql);
        }
    }

    fn constraints(&mut self, table: &str, wanted: &Shape, existing: &Shape) {
        for constraint in &wanted.constraints {
            let definition = &constraint.definition;
            let there = |found: &super::shape::Constraint| found.definition == *definition;
            if existing.constraints.iter().any(there) {
                continue;
            }
            let (table_sql, name) = (quoted(table), quoted(&constraint.name));
            let sql = format!("ALTER TABLE {table_sql} ADD CONSTRAINT {name} {definition}");
            self.step(table, format!("constraint {}", constraint.name), sql);
        }
    }

    fn step(&mut self, table: &str, subject: String, sql: String) {
        let table = table.to_owned();
        self.steps.push(Step {
            table,
            subject,
            sql,
        });
    }

    fn refuse(&mut self, table: &str, column: &str, problem: String, remedy: String) {
        self.obstacles.push(Obstacle {
            table: table.into(),
            subject: subject(column),
            problem,
            remedy,
        });
    }
}

fn subject(column: &str) -> String {
    format!("column {column}")
}

/// Writes a column as CREATE TABLE and ADD COLUMN take it.
fn declared(column: &Column) -> String {
    let mut sql = format!("{} {}", quoted(&column.name), column.sql_type);
    if let Some(default) = &column.default {
        sql.push_str(" DEFAULT ");
        sql.push_str(default);
    }
    if !column.nullable {
        sql.push_str(" NOT NULL");
    }
    sql
}

/// Tells whether every value of one type is one of the other, unchanged.
fn is_wider(from: &str, to: &str) -> bool {
    const VARCHAR: &str = "character varying";
    match (from, to) {
        ("smallint", "integer" | "bigint") | ("integer", "bigint") => return true,
        _ => {}
    }
    let (from_name, from_limits) = parts(from);
    let (to_name, to_limits) = parts(to);
    match (from_name, to_name) {
        (VARCHAR, "text") => true,
        (VARCHAR, VARCHAR) => match (&from_limits[..], &to_limits[..]) {
            (_, []) => true,
            ([from], [to]) => to >= from,
            _ => false,
        },
        ("numeric", "numeric") => match (&from_limits[..], &to_limits[..]) {
            (_, []) => true,
            ([from, from_scale], [to, to_scale]) => {
                to_scale >= from_scale && to - to_scale >= from - from_scale
            }
            _ => false,
        },
        _ => false,
    }
}

/// Splits `numeric(15,2)` into name and numbers.
fn parts(sql_type: &str) -> (&str, Vec<i64>) {
    let Some((name, limits)) = sql_type.split_once('(') else {
        return (sql_type, Vec::new());
    };
    let limits = limits.trim_end_matches(')').split(',');
    (
        name,
        limits
            .filter_map(|limit| limit.trim().parse().ok())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_wider_when_every_value_fits_unchanged() {
        for (from, to) in [
            ("character varying(10)", "character varying(11)"),
            ("character varying(10)", "text"),
            ("numeric(7,2)", "numeric(9,3)"),
            ("numeric(7,2)", "numeric"),
            ("integer", "bigint"),
        ] {
            assert!(is_wider(from, to), "{from} {to}");
            assert!(!is_wider(to, from), "{to} {from}");
        }
        for (from, to) in [
            ("numeric(7,2)", "numeric(8,4)"),
            ("text", "character varying(10)"),
            ("bigint", "text"),
            ("double precision", "numeric"),
        ] {
            assert!(!is_wider(from, to), "{from} {to}");
        }
    }
}
