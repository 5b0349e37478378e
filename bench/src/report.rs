//! What came of it, as a table for a person or one JSON object for a program.
use crate::{BenchArgs, stats::readable};
use serde_json::{Value, json};
use std::{fmt::Write, thread};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The larger.
    More,
    /// The smaller.
    Less,
}

/// All results.
pub struct Report {
    json: bool,
    about: String,
    sections: Vec<(String, Vec<Row>)>,
}

struct Row {
    name: &'static str,
    hearth: f64,
    plain: f64,
    ratio: f64,
}

impl Report {
    /// Nothing yet.
    pub fn new(args: &BenchArgs) -> Report {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let build = if cfg!(debug_assertions) { ", DEBUG BUILD: the numbers mean little" } else { "" };
        let about = format!(
            "{} bytes of data a message, {processors} processors, medians of {} turns of a second{build}",
            args.payload_bytes, args.seconds
        );
        Report { json: args.json, about, sections: Vec::new() }
    }

    /// Begins a workload.
    pub fn section(&mut self, title: &str) {
        self.sections.push((title.to_owned(), Vec::new()));
    }

    /// Adds a result to it: Hearth's first. The ratio is above 1 where Hearth is better.
    pub fn row(&mut self, name: &'static str, better: Better, [hearth, plain]: [f64; 2]) {
        let (over, under) = if better == Better::More { (hearth, plain) } else { (plain, hearth) };
        let ratio = if under > 0.0 { over / under } else { 0.0 };
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push(Row { name, hearth, plain, ratio });
        }
    }

    /// Prints it.
    pub fn print(&self) {
        if self.json {
            println!("{}", self.value());
        } else {
            print!("{}", self.table());
        }
    }

    fn value(&self) -> Value {
        let sections = self.sections.iter().map(|(title, rows)| {
            let rows = rows.iter().map(|row| {
                json!({"measure": row.name, "hearth": row.hearth, "plain": row.plain, "ratio": row.ratio})
            });
            json!({"workload": title, "results": rows.collect::<Vec<_>>()})
        });
        json!({"about": self.about, "workloads": sections.collect::<Vec<_>>(), "lost": 0, "doubled": 0, "reordered": 0})
    }

    fn table(&self) -> String {
        let mut text = format!(
            "Hearth beside a plain WebSocket server (axum, a task and a broadcast channel per connection)\n{}\n\n",
            self.about
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<38}{:>12}{:>12}{:>10}", "", "Hearth", "plain", "ratio");
        for (title, rows) in &self.sections {
            let _ = writeln!(text, "{title}");
            for row in rows {
                let (hearth, plain) = (readable(row.hearth), readable(row.plain));
                let _ = writeln!(text, "  {:<36}{hearth:>12}{plain:>12}{:>9.2}×", row.name, row.ratio);
            }
        }
        text.push_str("\nEvery delivery was checked: none lost, none doubled, none out of order.\n");
        text
    }
}

/// The same measures of several sizes, or of several things, side by side.
pub struct Columns {
    title: String,
    /// Numbers or names.
    heads: Vec<Value>,
    rows: Vec<(String, Vec<f64>)>,
    remarks: Vec<String>,
}

impl Columns {
    /// Nothing but the sizes yet.
    pub fn new(title: impl Into<String>, heads: impl IntoIterator<Item = u32>) -> Columns {
        Self::of(title.into(), heads.into_iter().map(|size| f64::from(size).into()).collect())
    }

    /// The same, of things with names.
    pub fn named<'a>(title: impl Into<String>, heads: impl IntoIterator<Item = &'a str>) -> Columns {
        Self::of(title.into(), heads.into_iter().map(Value::from).collect())
    }

    fn of(title: String, heads: Vec<Value>) -> Columns {
        Columns { title, heads, rows: Vec::new(), remarks: Vec::new() }
    }

    /// Adds a measure: one value a size.
    pub fn row(&mut self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) {
        self.rows.push((name.into(), values.into_iter().collect()));
    }

    /// Adds what a person should know.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// For a program.
    pub fn value(&self) -> Value {
        let rows = self.rows.iter().map(|(name, values)| json!({"measure": name, "values": values}));
        json!({"title": self.title, "sizes": self.heads, "results": rows.collect::<Vec<_>>(), "remarks": self.remarks})
    }

    /// For a person.
    pub fn table(&self) -> String {
        let line = |indent: usize, name: &str, values: &mut dyn Iterator<Item = String>| {
            let values: String = values.map(|value| format!("{value:>12}")).collect();
            format!("{:indent$}{name:<width$}{values}\n", "", width = 50 - indent)
        };
        let mut heads = self.heads.iter().map(|head| match head {
            Value::String(name) => name.clone(),
            size => readable(size.as_f64().unwrap_or_default()),
        });
        let mut text = line(0, &self.title, &mut heads);
        let rows = self.rows.iter();
        text.extend(rows.map(|(name, values)| line(2, name, &mut values.iter().copied().map(readable))));
        text.extend(self.remarks.iter().map(|remark| format!("  {remark}\n")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stand_side_by_side() {
        let mut columns = Columns::new("users", [400, 5000]);
        columns.row("frames", [1.5, 20_000.0]);
        columns.remark("that is all");
        let lines: Vec<String> = columns
            .table()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(lines, ["users 400 5,000", "frames 1.50 20,000", "that is all"]);
        assert_eq!(columns.value()["results"][0]["values"][1], 20_000.0);
    }

    #[test]
    fn ratios_say_how_much_better() {
        let mut report = Report { json: false, about: "about".into(), sections: Vec::new() };
        report.section("work");
        report.row("more", Better::More, [300.0, 100.0]);
        report.row("less", Better::Less, [1.0, 2.0]);
        report.row("nothing", Better::Less, [0.0, 2.0]);
        let ratios: Vec<f64> = report.sections[0].1.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [3.0, 2.0, 0.0]);
        assert!(report.table().contains("3.00×"), "{}", report.table());
        assert_eq!(report.value()["workloads"][0]["results"][1]["hearth"], 1.0);
    }
}
