//! What came of it: one row an attack, for a person or for a program.
use super::{Attack, Plan, Seen, honest::Felt};
use crate::{
    Failure,
    stats::{quantile, readable},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write};

/// What a client may feel of an attack: so many times its quiet p99.
const P99_TIMES: f64 = 2.0;

/// One attack.
pub(super) struct Row {
    pub(super) kind: Attack,
    pub(super) plan: Plan,
    pub(super) felt: Felt,
    /// The server's, at most, in bytes.
    pub(super) memory: u64,
    pub(super) seen: Seen,
}

/// All of them, and the quiet between.
pub(super) struct Table {
    honest_rate: u32,
    seconds: u64,
    /// In MiB.
    memory_cap: u64,
    quiet: Felt,
    quiet_memory: u64,
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn new(honest_rate: u32, seconds: u64, memory_cap: u64) -> Table {
        Table { honest_rate, seconds, memory_cap, quiet: Felt::default(), quiet_memory: 0, rows: Vec::new() }
    }

    pub(super) fn quiet(&mut self, felt: Felt, memory: u64) {
        if self.rows.is_empty() {
            self.quiet_memory = memory;
        }
        self.quiet.acks.extend(felt.acks);
        self.quiet.deliveries.extend(felt.deliveries);
    }

    pub(super) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// What is not as it should be; empty if all is.
    fn faults(&self, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        let answers = &row.seen.answers;
        let is_missing = |wanted: &&&str| !answers.keys().any(|answer| answer.starts_with(**wanted));
        faults.extend(
            row.kind.expected().iter().filter(is_missing).map(|wanted| format!("never answered {wanted}")),
        );
        let ratio = self.ratio(&row.felt.deliveries, &self.quiet.deliveries);
        let ack_ratio = self.ratio(&row.felt.acks, &self.quiet.acks);
        if ratio.max(ack_ratio) > P99_TIMES {
            faults.push(format!("p99 is {:.1} times the quiet one", ratio.max(ack_ratio)));
        }
        if mib(row.memory) > self.memory_cap {
            faults.push(format!("memory is above {} MiB", self.memory_cap));
        }
        faults
    }

    fn ratio(&self, under: &[f64], quiet: &[f64]) -> f64 {
        let quiet = quantile(quiet, 0.99);
        if quiet > 0.0 { quantile(under, 0.99) / quiet } else { 0.0 }
    }

    pub(super) fn print(&self, published: u64, as_json: bool) {
        let build = if cfg!(debug_assertions) { "DEBUG BUILD: the numbers mean little\n" } else { "" };
        if as_json {
            println!("{}", self.value(published, build.trim()));
        } else {
            println!(
                "Attacks, and what a well-behaved client feels of them\n{build}\n{}",
                self.text(published)
            );
        }
    }

    fn value(&self, published: u64, about: &str) -> Value {
        let felt = |felt: &Felt| {
            json!({"samples": felt.deliveries.len(), "ack_p50_ms": ms(&felt.acks, 0.5), "ack_p99_ms": ms(&felt.acks, 0.99),
                "delivery_p50_ms": ms(&felt.deliveries, 0.5), "delivery_p99_ms": ms(&felt.deliveries, 0.99)})
        };
        let rows = self.rows.iter().map(|row| {
            json!({"attack": row.kind.name(), "per_second": row.plan.rate, "connections": row.plan.connections,
                "did": row.seen.did, "answers": row.seen.answers, "felt": felt(&row.felt),
                "delivery_p99_ratio": self.ratio(&row.felt.deliveries, &self.quiet.deliveries),
                "ack_p99_ratio": self.ratio(&row.felt.acks, &self.quiet.acks),
                "memory_mib": mib(row.memory), "faults": self.faults(row)})
        });
        json!({"about": about, "seconds": self.seconds, "honest_per_second": self.honest_rate, "published": published,
            "lost": 0, "quiet": felt(&self.quiet), "quiet_memory_mib": mib(self.quiet_memory), "memory_cap_mib": self.memory_cap,
            "attacks": rows.collect::<Vec<_>>()})
    }

    fn text(&self, published: u64) -> String {
        let mut text = String::new();
        let line = |name: &str, felt: &Felt, ratio: String, memory: u64, verdict: &str| {
            let figures: String =
                [(&felt.acks, 0.5), (&felt.acks, 0.99), (&felt.deliveries, 0.5), (&felt.deliveries, 0.99)]
                    .iter()
                    .map(|(values, part)| format!("{:>9}", readable(ms(values, *part))))
                    .collect();
            format!(
                "{name:<18}{:>8}{figures}{ratio:>9}{:>7}  {verdict}\n",
                felt.deliveries.len(),
                mib(memory)
            )
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<18}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}",
            "", "samples", "ack p50", "p99", "deliv.p50", "p99 ms", "p99 ×", "MiB"
        );
        text += &line("quiet", &self.quiet, String::new(), self.quiet_memory, "");
        for row in &self.rows {
            let ratio = self.ratio(&row.felt.deliveries, &self.quiet.deliveries);
            let faults = self.faults(row);
            let verdict = if faults.is_empty() { "held".to_owned() } else { faults.join("; ") };
            text += &line(&row.kind.name(), &row.felt, format!("{ratio:.2}"), row.memory, &verdict);
            let _ = writeln!(text, "    did       {}", listed(&row.seen.did));
            let _ = writeln!(text, "    answered  {}", listed(&row.seen.answers));
        }
        let _ = writeln!(
            text,
            "\nEach attack lasted {} s, with as much quiet before it; quiet is all of that together. The attacker was paced, and ran at a\n\
             lower priority. The client published {} messages a second, {} in all: none lost, none doubled, none out of order.",
            self.seconds,
            self.honest_rate,
            readable(published as f64)
        );
        text
    }

    /// An error if something is not as it should be.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let faults: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| {
                let faults = self.faults(row);
                (!faults.is_empty()).then(|| format!("{}: {}", row.kind.name(), faults.join("; ")))
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
    }
}

fn ms(seconds: &[f64], part: f64) -> f64 {
    quantile(seconds, part) * 1000.0
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// The most frequent first; ends at different seconds are one.
fn listed(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|one, other| other.1.cmp(one.1));
    let shown: Vec<String> =
        counts.iter().map(|(what, times)| format!("{what}: {}", readable(**times as f64))).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(" · ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn row(kind: Attack, answers: &[&str], seconds: f64, memory: u64) -> Row {
        let address = ([127, 0, 0, 1], 1).into();
        let plan = Plan::divided(kind, address, address, String::new(), 1, Duration::ZERO);
        let mut seen = Seen::default();
        answers.iter().for_each(|answer| seen.answer(*answer));
        Row { kind, plan, felt: Felt { acks: vec![seconds], deliveries: vec![seconds] }, memory, seen }
    }

    #[test]
    fn what_is_not_held_is_said() {
        let mut table = Table::new(100, 1, 100);
        table.quiet(Felt { acks: vec![0.001; 100], deliveries: vec![0.001; 100] }, 20 << 20);
        table.row(row(Attack::Bomb, &["close 1009", "other frames"], 0.001, 50 << 20));
        assert!(table.verdict().is_ok());
        table.row(row(Attack::Bomb, &[], 0.001, 50 << 20));
        table.row(row(Attack::Bomb, &["close 1009"], 0.0021, 50 << 20));
        table.row(row(Attack::Bomb, &["close 1009"], 0.001, 101 << 20));
        let faults: Vec<_> = table.rows.iter().map(|row| table.faults(row)).collect();
        assert_eq!(faults[0], Vec::<String>::new());
        assert_eq!(faults[1], ["never answered close 1009"]);
        assert_eq!(faults[2], ["p99 is 2.1 times the quiet one"]);
        assert_eq!(faults[3], ["memory is above 100 MiB"]);
        assert!(table.verdict().is_err());
        assert!(
            table.text(7).contains("held") && table.value(7, "")["attacks"][0]["answers"]["close 1009"] == 1
        );
    }
}
