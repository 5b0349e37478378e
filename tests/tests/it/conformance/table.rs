//! A table for a person: green, red, or otherwise by the contract and why.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
};

/// What stands in a cell.
pub(super) enum Cell {
    Kept,
    ByTheContract(&'static str),
    Red(String),
}

pub(super) struct Table {
    corner: &'static str,
    rows: Vec<String>,
    columns: Vec<String>,
    cells: BTreeMap<(String, String), Cell>,
}

impl Table {
    pub(super) fn new(corner: &'static str, rows: &[&str], columns: &[&str]) -> Table {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Table { corner, rows: owned(rows), columns: owned(columns), cells: BTreeMap::new() }
    }

    pub(super) fn set(&mut self, row: &str, column: &str, cell: Cell) {
        self.cells.insert((row.to_owned(), column.to_owned()), cell);
    }

    /// Prints it, also where the output of a test that passes is kept back, and gives what is red.
    pub(super) fn print(&self) -> Vec<String> {
        let mut reasons: Vec<&str> = Vec::new();
        let mut red = Vec::new();
        let width = |names: &[String], least: usize| {
            names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(least)
        };
        let (first, other) = (width(&self.rows, self.corner.len()), width(&self.columns, 8));
        let mut text = format!("\n{:first$}", self.corner);
        for column in &self.columns {
            let _ = write!(text, "  {column:other$}");
        }
        for row in &self.rows {
            let _ = write!(text, "\n{row:first$}");
            for column in &self.columns {
                let word = match self.cells.get(&(row.clone(), column.clone())) {
                    None => String::new(),
                    Some(Cell::Kept) => "ok".to_owned(),
                    Some(Cell::ByTheContract(reason)) => {
                        let at = reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("({})", at + 1)
                    }
                    Some(Cell::Red(seen)) => {
                        red.push(format!("{row} | {column}: {seen}"));
                        "RED".to_owned()
                    }
                };
                let _ = write!(text, "  {word:other$}");
            }
        }
        text.push('\n');
        for (n, reason) in reasons.iter().enumerate() {
            let _ = writeln!(text, "({}) by the contract: {reason}", n + 1);
        }
        // What is written past `print!` is not captured; a table that cannot be written is no reason to fail.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        red
    }
}
