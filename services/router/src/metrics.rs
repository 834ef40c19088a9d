//! What is counted and measured, in the text format of Prometheus and with the names of OpenTelemetry's conventions for
//! generative models.

pub(crate) mod otlp;

use crate::agents::lock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

/// The borders of times, in milliseconds (OpenTelemetry's advice for `gen_ai.client.operation.duration`).
const MS: [u64; 14] = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960, 81_920];
/// How many different rows there are at the most.
const ROWS_MAX: usize = 2048;

/// By what calls are told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Of {
    pub(crate) provider: String,
    pub(crate) model: String,
    /// What became of it: `ok`, or the sort of failure.
    pub(crate) end: &'static str,
}

#[derive(Debug, Default)]
struct Row {
    count: u64,
    sum_ms: u64,
    below: [u64; MS.len()],
    first_count: u64,
    first_sum_ms: u64,
    input: u64,
    output: u64,
    microusd: u64,
}

/// A call that has ended.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) ms: u64,
    pub(crate) first_ms: Option<u64>,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) microusd: u64,
}

impl Measured {
    /// What was used, and what it cost.
    pub(crate) fn add(&mut self, usage: octant_llm::Usage, microusd: u64) {
        self.input = self.input.saturating_add(usage.input);
        self.output = self.output.saturating_add(usage.output);
        self.microusd = self.microusd.saturating_add(microusd);
    }
}

/// Everything that was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<Of, Row>>);

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    pub(crate) fn count(&self, of: Of, what: &Measured) {
        let mut rows = lock(&self.0);
        if rows.len() >= ROWS_MAX && !rows.contains_key(&of) {
            return;
        }
        let row = rows.entry(of).or_default();
        row.count += 1;
        row.sum_ms += what.ms;
        for (below, border) in row.below.iter_mut().zip(MS) {
            *below += u64::from(what.ms <= border);
        }
        if let Some(first_ms) = what.first_ms {
            row.first_count += 1;
            row.first_sum_ms += first_ms;
        }
        row.input = row.input.saturating_add(what.input);
        row.output = row.output.saturating_add(what.output);
        row.microusd = row.microusd.saturating_add(what.microusd);
    }

    /// In the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let rows = lock(&self.0);
        let mut out = String::new();
        let labels = |of: &Of| {
            format!(
                "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"{}\",gen_ai_request_model=\"{}\",error_type=\"{}\"",
                quoted(&of.provider),
                quoted(&of.model),
                if of.end == "ok" { "" } else { of.end }
            )
        };
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        head(&mut out, "gen_ai_client_operation_duration_seconds", "histogram", "How long calls took.");
        for (of, row) in rows.iter() {
            let labels = labels(of);
            let name = "gen_ai_client_operation_duration_seconds";
            for (below, border) in row.below.iter().zip(MS) {
                line(&mut out, &format!("{name}_bucket{{{labels},le=\"{}\"}}", seconds(border)), below);
            }
            line(&mut out, &format!("{name}_bucket{{{labels},le=\"+Inf\"}}"), row.count);
            line(&mut out, &format!("{name}_sum{{{labels}}}"), seconds(row.sum_ms));
            line(&mut out, &format!("{name}_count{{{labels}}}"), row.count);
        }
        let name = "gen_ai_server_time_to_first_token_seconds";
        head(&mut out, name, "summary", "How long the first byte of an answer took.");
        for (of, row) in rows.iter() {
            line(&mut out, &format!("{name}_sum{{{}}}", labels(of)), seconds(row.first_sum_ms));
            line(&mut out, &format!("{name}_count{{{}}}", labels(of)), row.first_count);
        }
        let name = "gen_ai_client_token_usage_total";
        head(&mut out, name, "counter", "Tokens of prompts and answers.");
        for (of, row) in rows.iter() {
            for (kind, tokens) in [("input", row.input), ("output", row.output)] {
                line(&mut out, &format!("{name}{{{},gen_ai_token_type=\"{kind}\"}}", labels(of)), tokens);
            }
        }
        let name = "octant_router_cost_microusd_total";
        head(&mut out, name, "counter", "What calls cost, in millionths of a US dollar.");
        for (of, row) in rows.iter() {
            line(&mut out, &format!("{name}{{{}}}", labels(of)), row.microusd);
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a text does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_said_in_the_format_of_prometheus() {
        let metrics = Metrics::default();
        let of = |end| Of { provider: "p\"x".into(), model: "m".into(), end };
        let call = Measured { ms: 1500, first_ms: Some(30), input: 10, output: 20, microusd: 7 };
        metrics.count(of("ok"), &call);
        metrics.count(of("timeout"), &Measured { ms: 90_000, ..Measured::default() });
        let text = metrics.text();
        let has = |line: &str| text.lines().any(|other| other == line);
        let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="p\"x",gen_ai_request_model="m",error_type="""#;
        let name = "gen_ai_client_operation_duration_seconds";
        assert!(has(&format!("{name}_bucket{{{labels},le=\"1.280\"}} 0")), "{text}");
        assert!(has(&format!("{name}_bucket{{{labels},le=\"2.560\"}} 1")), "{text}");
        assert!(has(&format!("{name}_sum{{{labels}}} 1.500")), "{text}");
        assert!(has(&format!("gen_ai_client_token_usage_total{{{labels},gen_ai_token_type=\"output\"}} 20")));
        assert!(text.contains("error_type=\"timeout\""));
        for line in text.lines() {
            assert!(
                line.starts_with('#') || line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()),
                "{line}"
            );
        }
    }
}
