//! The text that Prometheus reads (its exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::tally::Read;

/// Labels: names and values.
pub(crate) type Labels<'a> = [(&'a str, &'a str)];

/// Samples by the names of their metrics, each with its head.
#[derive(Default)]
pub(crate) struct Exposition {
    metrics: BTreeMap<&'static str, String>,
}

impl Exposition {
    /// A counter.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str, labels: &Labels, count: u64) {
        sample(self.metric(name, "counter", help), name, labels, count as f64);
    }

    /// A counter that is there only after it has counted something.
    pub(crate) fn seen(&mut self, name: &'static str, help: &str, labels: &Labels, count: u64) {
        if count > 0 {
            self.counter(name, help, labels, count);
        }
    }

    /// A gauge.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str, labels: &Labels, value: f64) {
        sample(self.metric(name, "gauge", help), name, labels, value);
    }

    /// A histogram with these upper bounds, if it has observed something: how many values are in
    /// each bucket, and beyond the last one, and their sum.
    pub(crate) fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &Labels,
        bounds: &[f64],
        (counts, sum): &Read,
    ) {
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let out = self.metric(name, "histogram", help);
        let mut below = 0;
        for (bound, count) in bounds.iter().map(f64::to_string).chain(["+Inf".into()]).zip(counts) {
            below += count;
            sample(out, &format!("{name}_bucket"), &[labels, &[("le", &*bound)]].concat(), below as f64);
        }
        sample(out, &format!("{name}_sum"), labels, *sum);
        sample(out, &format!("{name}_count"), labels, total as f64);
    }

    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> &mut String {
        self.metrics.entry(name).or_insert_with(|| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"))
    }

    /// All of it.
    pub(crate) fn text(self) -> String {
        self.metrics.into_values().collect()
    }
}

fn sample(out: &mut String, name: &str, labels: &Labels, value: f64) {
    out.push_str(name);
    for (index, (label, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{label}=\"{value}\"");
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}
