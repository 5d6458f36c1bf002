//! What `ponix top` draws, and what its keys do.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use ponix_console::Rates;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row as TableRow, Sparkline, Table, TableState};
use serde_json::{Value, json};

/// Looks whose numbers are kept for the sparklines.
const KEPT: usize = 240;
/// Findings that are shown.
const FINDINGS_MAX: usize = 4;

/// What is known of a pipeline.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) pipeline: String,
    /// What the service on this machine did since the look before.
    pub(super) rates: Option<Rates>,
    pub(super) pending: Option<u64>,
    pub(super) in_work: Option<u64>,
    pub(super) lag_s: Option<f64>,
    pub(super) dead_letters: u64,
    /// How full its stream is, 0 to 1.
    pub(super) share: f64,
}

impl Row {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "pipeline": self.pipeline,
            "rates": self.rates,
            "pending": self.pending,
            "in_work": self.in_work,
            "lag_s": self.lag_s,
            "dead_letters": self.dead_letters,
            "stream_share": self.share,
        })
    }

    fn stored_per_s(&self) -> Option<f64> {
        self.rates.as_ref().map(|rates| rates.stored_per_s)
    }
}

/// By what the pipelines are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Name,
    Rate,
    Lag,
    DeadLetters,
}

impl Order {
    const fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Lag,
            Self::Lag => Self::DeadLetters,
            Self::DeadLetters => Self::Name,
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Lag => "lag",
            Self::DeadLetters => "dead letters",
        }
    }
}

/// What comes after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    End,
}

/// The screen: what was seen, and how it is looked at.
#[derive(Debug)]
pub(super) struct Screen {
    title: String,
    rows: Vec<Row>,
    findings: Vec<String>,
    /// Events stored per second and lag in milliseconds, look by look.
    series: BTreeMap<String, VecDeque<(u64, u64)>>,
    order: Order,
    filter: String,
    is_typing: bool,
    selected: usize,
}

impl Screen {
    pub(super) fn new(nats: &str, admin: SocketAddr) -> Self {
        Self {
            title: format!(" ponix top · NATS at {nats} · service at {admin} "),
            rows: Vec::new(),
            findings: Vec::new(),
            series: BTreeMap::new(),
            order: Order::Name,
            filter: String::new(),
            is_typing: false,
            selected: 0,
        }
    }

    /// Takes over what was seen.
    pub(super) fn update(&mut self, rows: Vec<Row>, findings: Vec<String>) {
        for row in &rows {
            let series = self.series.entry(row.pipeline.clone()).or_default();
            if series.len() == KEPT {
                series.pop_front();
            }
            let lag_ms = row.lag_s.unwrap_or_default() * 1000.0;
            let stored = row.stored_per_s().unwrap_or_default();
            series.push_back((stored.round() as u64, lag_ms.round() as u64));
        }
        self.rows = rows;
        self.findings = findings;
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> After {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return After::End,
            KeyCode::Esc | KeyCode::Enter if self.is_typing => {
                self.is_typing = false;
                if key.code == KeyCode::Esc {
                    self.filter.clear();
                }
            }
            KeyCode::Backspace if self.is_typing => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.is_typing => self.filter.push(c),
            KeyCode::Esc | KeyCode::Char('q') => return After::End,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Down | KeyCode::Char('j') => self.selected += 1,
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            _ => {}
        }
        self.selected = self.selected.min(self.shown().len().saturating_sub(1));
        After::GoOn
    }

    /// The pipelines that are shown, in their order.
    fn shown(&self) -> Vec<&Row> {
        let named = |row: &&Row| row.pipeline.contains(&self.filter);
        let mut rows: Vec<_> = self.rows.iter().filter(named).collect();
        let falling = |of: fn(&Row) -> f64| move |a: &&Row, b: &&Row| of(b).total_cmp(&of(a));
        match self.order {
            Order::Name => rows.sort_by(|a, b| a.pipeline.cmp(&b.pipeline)),
            Order::Rate => rows.sort_by(falling(|row| row.stored_per_s().unwrap_or(-1.0))),
            Order::Lag => rows.sort_by(falling(|row| row.lag_s.unwrap_or(-1.0))),
            Order::DeadLetters => rows.sort_by(falling(|row| row.dead_letters as f64)),
        }
        rows
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let rows = self.shown();
        let findings = self.findings.len().min(FINDINGS_MAX) as u16;
        let [table, rate, lag, said, keys] = Layout::vertical([
            Constraint::Min(rows.len() as u16 + 3),
            Constraint::Length(5),
            Constraint::Length(5),
            Constraint::Length(findings),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.table(frame, table, &rows);
        if let Some(row) = rows.get(self.selected.min(rows.len().saturating_sub(1))) {
            let series = self.series.get(&row.pipeline);
            let of = |pick: fn(&(u64, u64)) -> u64| {
                series.map(|series| series.iter().map(pick).collect::<Vec<_>>())
            };
            let name = &row.pipeline;
            sparkline(
                frame,
                rate,
                &format!("{name}: stored per second"),
                of(|it| it.0),
                Color::Green,
            );
            sparkline(
                frame,
                lag,
                &format!("{name}: lag in ms"),
                of(|it| it.1),
                Color::Yellow,
            );
        }
        let lines = self.findings.iter().take(FINDINGS_MAX);
        let lines: Vec<_> = lines.map(|text| Line::from(format!("! {text}"))).collect();
        frame.render_widget(
            Paragraph::new(lines).style(Style::new().fg(Color::Red)),
            said,
        );
        let filter = match (self.is_typing, self.filter.is_empty()) {
            (true, _) => format!("filter: {}_", self.filter),
            (false, true) => "/ filter".to_owned(),
            (false, false) => format!("/ filter: {}", self.filter),
        };
        let text = format!(
            "q end · s sorted by {} · ↑↓ choose · {filter}",
            self.order.shown()
        );
        frame.render_widget(Paragraph::new(text), keys);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect, rows: &[&Row]) {
        let head = [
            "PIPELINE", "IN/S", "STORED/S", "LAG", "P99", "BATCH", "PENDING", "IN WORK", "DEAD",
            "FULL",
        ];
        let widths = [24, 9, 9, 9, 9, 8, 10, 9, 8, 6].map(Constraint::Length);
        let body = rows.iter().map(|row| {
            let rates = row.rates.as_ref();
            let number = |of: fn(&Rates) -> Option<f64>| {
                rates
                    .and_then(of)
                    .map_or_else(dash, |value| format!("{value:.0}"))
            };
            let count = |value: Option<u64>| value.map_or_else(dash, |value| value.to_string());
            let cells = [
                row.pipeline.clone(),
                number(|rates| Some(rates.received_per_s)),
                number(|rates| Some(rates.stored_per_s)),
                seconds(row.lag_s),
                seconds(rates.and_then(|rates| rates.latency_p99_s)),
                number(|rates| rates.batch_events),
                count(row.pending),
                count(row.in_work),
                row.dead_letters.to_string(),
                format!("{:.0} %", row.share * 100.0),
            ];
            TableRow::new(cells)
        });
        let table = Table::new(body, widths)
            .header(TableRow::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::bordered().title(self.title.as_str()));
        let mut state = TableState::default().with_selected(Some(self.selected));
        frame.render_stateful_widget(table, area, &mut state);
    }
}

fn sparkline(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    values: Option<Vec<u64>>,
    colour: Color,
) {
    let values = values.unwrap_or_default();
    let width = usize::from(area.width.saturating_sub(2));
    let latest = &values[values.len().saturating_sub(width)..];
    let most = latest.iter().max().copied().unwrap_or_default();
    let title = format!(" {title}, 0 to {most} ");
    let line = Sparkline::default()
        .block(Block::bordered().title(title))
        .style(Style::new().fg(colour))
        .data(latest.iter().copied());
    frame.render_widget(line, area);
}

fn dash() -> String {
    "-".to_owned()
}

fn seconds(value: Option<f64>) -> String {
    match value {
        None => dash(),
        Some(value) if value < 1.0 => format!("{:.0} ms", value * 1000.0),
        Some(value) => format!("{value:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn row(pipeline: &str, stored_per_s: f64, lag_s: f64, dead_letters: u64) -> Row {
        Row {
            pipeline: pipeline.to_owned(),
            rates: Some(Rates {
                stored_per_s,
                ..Rates::default()
            }),
            pending: Some(7),
            in_work: Some(1),
            lag_s: Some(lag_s),
            dead_letters,
            share: 0.5,
        }
    }

    fn screen() -> Screen {
        let mut screen = Screen::new("nats://x:4222", ([127, 0, 0, 1], 9090).into());
        let rows = vec![
            row("b", 1.0, 0.25, 3),
            row("a", 1234.0, 0.0, 0),
            row("c", 0.0, 90.0, 1),
        ];
        screen.update(rows, vec!["3 dead letters".to_owned()]);
        screen
    }

    fn drawn(screen: &Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..120)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..24).map(line).collect()
    }

    fn press(screen: &mut Screen, keys: &str) -> After {
        let mut after = After::GoOn;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                key => KeyCode::Char(key),
            };
            after = screen.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        after
    }

    fn names(screen: &Screen) -> String {
        screen.shown().iter().map(|row| &row.pipeline[..]).collect()
    }

    #[test]
    fn what_is_known_is_drawn() {
        let text = drawn(&screen()).join("\n");
        for part in [
            "1234",
            "250 ms",
            "90.0 s",
            "50 %",
            "! 3 dead letters",
            "a: stored per second, 0 to 1234",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn keys_sort_filter_choose_and_end() {
        let mut screen = screen();
        assert_eq!(names(&screen), "abc");
        for order in ["abc", "cba", "bca", "abc"] {
            press(&mut screen, "s");
            assert_eq!(names(&screen), order, "{:?}", screen.order);
        }
        press(&mut screen, "jj");
        assert!(
            drawn(&screen)
                .join("\n")
                .contains("c: lag in ms, 0 to 90000")
        );
        // While a filter is typed, letters are no commands.
        assert_eq!(press(&mut screen, "/q"), After::GoOn);
        assert_eq!(names(&screen), "");
        drawn(&screen);
        let backspace = KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE);
        screen.key(backspace);
        press(&mut screen, "b\n");
        assert_eq!(names(&screen), "b");
        assert_eq!(press(&mut screen, "q"), After::End);
    }

    #[test]
    fn a_service_that_is_not_seen_has_no_rates() {
        let mut screen = screen();
        let unseen = Row {
            rates: None,
            ..row("a", 0.0, 0.0, 0)
        };
        screen.update(vec![unseen], Vec::new());
        assert!(drawn(&screen)[2].contains('-'));
    }
}
