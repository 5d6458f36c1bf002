//! Measures [`ponix_entities::Catalog::parse`] on one core, with the orders of `examples/tpch`.
//!
//! ```text
//! cargo run --release -p ponix-entities --example parse_speed
//! ```

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use ponix_entities::{Catalog, Format, sample};

const ORDER: &str =
    "O|1|370|O|172799.49|1996-01-02|5-LOW|Clerk#000000951|0|nstructions sleep furiously among";
const LINE_ITEM: &str =
    "L|1|1552|93|1|17|24710.35|0.04|0.02|N|O|1996-03-13|TRUCK|egular courts above the";
const LASTING: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch");
    let catalog = Catalog::load(&folder)?;
    let order = catalog.entity("Order").ok_or("there is no Order")?;
    let json = sample(&catalog, order).json;
    for (name, format, message) in [
        ("order, line", Format::Line, ORDER),
        ("line item, line", Format::Line, LINE_ITEM),
        ("order with one line item, JSON", Format::Json, &json),
    ] {
        let start = Instant::now();
        let mut messages = 0_u32;
        while start.elapsed() < LASTING {
            for _ in 0..1000 {
                let parsed = catalog.parse(format, black_box(message.as_bytes()), None)?;
                black_box(parsed);
            }
            messages += 1000;
        }
        let per_second = f64::from(messages) / start.elapsed().as_secs_f64();
        println!("{name}: {per_second:.0} messages/s");
    }
    Ok(())
}
