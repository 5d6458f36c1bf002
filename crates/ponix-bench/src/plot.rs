//! `plot`: what the results of a folder show, as SVG.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::PlotArgs;
use crate::report;

const SIZE: (u32, u32) = (720, 420);
const COLORS: [RGBColor; 5] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x7f, 0x7f, 0x7f),
];

/// What is drawn of a `pipeline` result.
#[derive(Debug, Deserialize)]
struct Pipeline {
    events: u64,
    backlog: bool,
    pack: u32,
    events_per_second: f64,
    processes: BTreeMap<String, Usage>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    cpu_seconds: f64,
}

/// What is drawn of a `latency` result.
#[derive(Debug, Deserialize)]
struct Latency {
    events_per_second: f64,
    latency_ms: Percentiles,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Default)]
struct Results {
    pipelines: Vec<Pipeline>,
    latencies: Vec<Latency>,
}

/// A line of a drawing.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Reads the results of a folder and draws what it has two points of.
///
/// # Errors
/// A result cannot be read, there is nothing to draw, or a drawing cannot be written.
pub(crate) fn run(args: &PlotArgs) -> Result<()> {
    let results = Results::read(&args.folder)?;
    let mut drawn = 0;
    for (name, draw) in [
        (
            "throughput",
            throughput as fn(&Results, &Path) -> Result<bool>,
        ),
        ("cost", cost),
        ("latency", latency),
    ] {
        let file = args.folder.join(format!("{name}.svg"));
        if draw(&results, &file).with_context(|| format!("draw {}", file.display()))? {
            report::line(name, file.display());
            drawn += 1;
        }
    }
    if drawn == 0 {
        bail!(
            "{}: no results to draw: two of `pipeline` with other sizes of --pack, or of `latency` with other rates, each with a file of its own (--json)",
            args.folder.display()
        );
    }
    Ok(())
}

impl Results {
    fn read(folder: &Path) -> Result<Self> {
        let mut results = Self::default();
        let named = || format!("read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(named)? {
            let file = entry.with_context(named)?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let read = results.add(&file);
                read.with_context(|| format!("read {}", file.display()))?;
            }
        }
        Ok(results)
    }

    fn add(&mut self, file: &Path) -> Result<()> {
        let mut report: Value = serde_json::from_slice(&fs::read(file)?)?;
        let result = report["result"].take();
        match report["command"].as_str() {
            Some("pipeline") => self.pipelines.push(serde_json::from_value(result)?),
            Some("latency") => self.latencies.push(serde_json::from_value(result)?),
            _ => {}
        }
        Ok(())
    }
}

/// Events a second by how many are in a message.
fn throughput(results: &Results, file: &Path) -> Result<bool> {
    let line = |name: &str, backlog: bool| {
        let of_kind = results.pipelines.iter().filter(|it| it.backlog == backlog);
        Line {
            name: name.to_owned(),
            points: of_kind
                .map(|it| (f64::from(it.pack), it.events_per_second / 1000.0))
                .collect(),
        }
    };
    let lines = vec![
        line("from a backlog", true),
        line("published and stored at once", false),
    ];
    let axes = ("events in a message", "thousand events a second");
    draw_lines(
        file,
        "Events a second, from publish to readable",
        axes,
        lines,
    )
}

/// Milliseconds from publish to readable, by events a second.
fn latency(results: &Results, file: &Path) -> Result<bool> {
    let line = |name: &str, value: fn(&Percentiles) -> f64| Line {
        name: name.to_owned(),
        points: results
            .latencies
            .iter()
            .map(|it| (it.events_per_second, value(&it.latency_ms)))
            .collect(),
    };
    let lines = vec![line("99 %", |it| it.p99), line("half", |it| it.p50)];
    let axes = ("events a second", "milliseconds");
    draw_lines(file, "From publish to readable", axes, lines)
}

/// Draws lines over a logarithmic axis; false, and nothing, where there is less than two points.
fn draw_lines(
    file: &Path,
    title: &str,
    (below, beside): (&str, &str),
    mut lines: Vec<Line>,
) -> Result<bool> {
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines.retain(|line| line.points.len() > 1);
    let points = || lines.iter().flat_map(|line| &line.points);
    let Some(right) = points().map(|it| it.0).reduce(f64::max) else {
        return Ok(false);
    };
    let left = points().map(|it| it.0).fold(right, f64::min);
    let top = points().map(|it| it.1).fold(0.0, f64::max) * 1.1;
    let area = area(file)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d((left..right).log_scale(), 0.0..top)?;
    chart.configure_mesh().x_desc(below).y_desc(beside).draw()?;
    for (line, color) in lines.into_iter().zip(COLORS) {
        let dots = line.points.clone();
        chart
            .draw_series(LineSeries::new(line.points, color.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
        let dots = dots
            .into_iter()
            .map(|at| Circle::new(at, 3, color.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(SeriesLabelPosition::LowerRight)
        .draw()?;
    area.present()?;
    Ok(true)
}

/// Microseconds of processor time for an event, by process and by how many are in a message.
fn cost(results: &Results, file: &Path) -> Result<bool> {
    let mut columns: Vec<&Pipeline> = results.pipelines.iter().filter(|it| !it.backlog).collect();
    columns.sort_by_key(|it| it.pack);
    if columns.is_empty() {
        return Ok(false);
    }
    let micros = |of: &Pipeline, usage: &Usage| usage.cpu_seconds * 1e6 / of.events.max(1) as f64;
    let heights = columns.iter().map(|of| {
        let parts = of.processes.values().map(|usage| micros(of, usage));
        parts.sum::<f64>()
    });
    let top = heights.fold(0.0, f64::max) * 1.1;
    let names: Vec<String> = columns.iter().map(|it| it.pack.to_string()).collect();
    let area = area(file)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Processor time of an event", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..columns.len() as f64 - 0.5, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("events in a message, published and stored at once")
        .y_desc("microseconds")
        .x_labels(columns.len())
        .x_label_formatter(&|at| names.get(at.round() as usize).cloned().unwrap_or_default())
        .draw()?;
    let mut below = vec![0.0; columns.len()];
    let processes: Vec<&String> = columns[0].processes.keys().collect();
    for (process, color) in processes.into_iter().zip(COLORS) {
        let bars = columns.iter().zip(&mut below).enumerate();
        let bars: Vec<_> = bars
            .map(|(at, (of, below))| {
                let part = of.processes.get(process).map_or(0.0, |it| micros(of, it));
                let (from, to) = (*below, *below + part);
                *below = to;
                let at = at as f64;
                Rectangle::new([(at - 0.3, from), (at + 0.3, to)], color.filled())
            })
            .collect();
        chart
            .draw_series(bars)?
            .label(process.as_str())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(SeriesLabelPosition::UpperRight)
        .draw()?;
    area.present()?;
    Ok(true)
}

fn area(file: &Path) -> Result<DrawingArea<SVGBackend<'_>, Shift>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(backlog: bool, pack: u32, rate: f64) -> String {
        format!(
            r#"{{"command":"pipeline","result":{{"events":1000,"backlog":{backlog},"pack":{pack},"events_per_second":{rate},"processes":{{"worker":{{"cpu_seconds":0.002}}}}}}}}"#
        )
    }

    #[test]
    fn what_has_two_points_is_drawn_and_the_rest_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let args = PlotArgs {
            folder: folder.path().to_owned(),
        };
        let nothing = run(&args).unwrap_err().to_string();
        assert!(nothing.contains("no results to draw"), "{nothing}");
        for (n, pack) in [1, 100].into_iter().enumerate() {
            let text = pipeline(false, pack, 50_000.0 * f64::from(pack));
            fs::write(folder.path().join(format!("{n}.json")), text).unwrap();
        }
        fs::write(folder.path().join("http.json"), r#"{"command":"http"}"#).unwrap();
        run(&args).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name));
        let throughput = read("throughput.svg").unwrap();
        assert!(throughput.contains("published and stored at once"));
        assert!(
            !throughput.contains("from a backlog"),
            "of that there are no points"
        );
        assert!(read("cost.svg").unwrap().contains("worker"));
        assert!(read("latency.svg").is_err());
        fs::write(folder.path().join("2.json"), r#"{"command":"pipeline"}"#).unwrap();
        let wrong = format!("{:#}", run(&args).unwrap_err());
        assert!(wrong.contains("2.json"), "{wrong}");
    }
}
