//! The same as OpenTelemetry's protocol has it, in JSON (OTLP 1.x: names in camelCase, numbers of 64 bits as texts).

use super::{MS, Metrics, Of, Row};
use crate::agents::lock;
use serde_json::{Value, json};

/// AGGREGATION_TEMPORALITY_CUMULATIVE: each push says all since the start, so that one that is lost is no loss.
const CUMULATIVE: u8 = 2;

/// From when until when was counted, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) since_ns: u64,
    pub(crate) until_ns: u64,
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn attributes(of: &Of) -> Vec<Value> {
    let mut all = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", &of.provider),
        text("gen_ai.request.model", &of.model),
    ];
    all.extend((of.end != "ok").then(|| text("error.type", of.end)));
    all
}

/// Milliseconds as the seconds that the conventions want.
#[expect(clippy::cast_precision_loss, reason = "a sum of times is exact to 2^53 milliseconds")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl Row {
    /// How many calls took how long: below each border and above the last, each call once.
    fn buckets(&self) -> Vec<String> {
        let (mut before, mut all) = (0, Vec::with_capacity(MS.len() + 1));
        for below in self.below.iter().copied().chain([self.count]) {
            all.push((below - before).to_string());
            before = below;
        }
        all
    }
}

impl Metrics {
    /// A request that a collector takes (ExportMetricsServiceRequest).
    pub(crate) fn otlp(&self, instance: &str, span: Span) -> Value {
        let rows = lock(&self.0);
        let point = |of: &Of, more: Value| {
            let mut point = json!({
                "attributes": attributes(of),
                "startTimeUnixNano": span.since_ns.to_string(), "timeUnixNano": span.until_ns.to_string(),
            });
            if let (Some(point), Value::Object(more)) = (point.as_object_mut(), more) {
                point.extend(more);
            }
            point
        };
        let points = |each: &dyn Fn(&Row) -> Value| {
            rows.iter().map(|(of, row)| point(of, each(row))).collect::<Vec<_>>()
        };
        let histogram = |name: &str, points: Vec<Value>| json!({"name": name, "unit": "s", "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points}});
        let sum = |name: &str, unit: &str, points: Vec<Value>| {
            let sum =
                json!({"aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points});
            json!({"name": name, "unit": unit, "sum": sum})
        };
        let took = points(&|row| {
            json!({"count": row.count.to_string(), "sum": seconds(row.sum_ms),
                "bucketCounts": row.buckets(), "explicitBounds": MS.map(seconds)})
        });
        // Without borders a histogram has a count and a sum.
        let first =
            points(&|row| json!({"count": row.first_count.to_string(), "sum": seconds(row.first_sum_ms)}));
        let mut tokens = Vec::new();
        for (of, row) in rows.iter() {
            for (kind, count) in [("input", row.input), ("output", row.output)] {
                let mut one = point(of, json!({"asInt": count.to_string()}));
                if let Some(attributes) = one["attributes"].as_array_mut() {
                    attributes.push(text("gen_ai.token.type", kind));
                }
                tokens.push(one);
            }
        }
        let cost = points(&|row| json!({"asInt": row.microusd.to_string()}));
        let version = env!("CARGO_PKG_VERSION");
        let resource = [
            text("service.name", "octant-router"),
            text("service.version", version),
            text("service.instance.id", instance),
        ];
        json!({"resourceMetrics": [{
            "resource": {"attributes": resource},
            "scopeMetrics": [{
                "scope": {"name": "octant.router", "version": version},
                "metrics": [
                    histogram("gen_ai.client.operation.duration", took),
                    histogram("gen_ai.server.time_to_first_token", first),
                    sum("gen_ai.client.token.usage", "{token}", tokens),
                    sum("octant.router.cost", "{microusd}", cost),
                ],
            }],
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Measured;

    #[test]
    fn what_is_counted_is_said_as_collectors_read_it() {
        let metrics = Metrics::default();
        let of = |end| Of { provider: "p".into(), model: "m\"1".into(), end };
        let call = Measured { ms: 1500, first_ms: Some(30), input: 10, output: 20, microusd: 7 };
        metrics.count(of("ok"), &call);
        metrics.count(of("ok"), &Measured { ms: 10, ..Measured::default() });
        metrics.count(of("timeout"), &Measured { ms: 90_000, ..Measured::default() });
        let said = metrics
            .otlp("run-1", Span { since_ns: 1_700_000_000_000_000_001, until_ns: 1_700_000_060_000_000_000 });
        let all = &said["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(
            said["resourceMetrics"][0]["resource"]["attributes"][2],
            text("service.instance.id", "run-1")
        );
        let took = &all[0]["histogram"]["dataPoints"];
        assert_eq!((&took[0]["count"], &took[0]["sum"]), (&json!("2"), &json!(1.51)));
        assert_eq!(took[0]["startTimeUnixNano"], "1700000000000000001", "exact: it is no number of JSON");
        let counts = |point: &Value| -> Vec<u64> {
            let all = point["bucketCounts"].as_array().unwrap().iter();
            all.map(|count| count.as_str().unwrap().parse().unwrap()).collect()
        };
        let bounds = took[0]["explicitBounds"].as_array().unwrap();
        assert_eq!(
            (counts(&took[0]).len(), &bounds[0], &bounds[8]),
            (bounds.len() + 1, &json!(0.01), &json!(2.56))
        );
        assert_eq!(counts(&took[0]), [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(&took[1]).last(), Some(&1), "beyond the last border");
        assert_eq!(took[1]["attributes"][3], text("error.type", "timeout"));
        assert_eq!(took[0]["attributes"].as_array().unwrap().len(), 3);
        let tokens = &all[2]["sum"];
        assert_eq!((&tokens["isMonotonic"], &tokens["dataPoints"][1]["asInt"]), (&json!(true), &json!("20")));
        assert_eq!(tokens["dataPoints"][1]["attributes"][3], text("gen_ai.token.type", "output"));
        assert_eq!(all[3]["sum"]["dataPoints"][0]["asInt"], "7");
    }
}
