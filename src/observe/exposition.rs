//! The two texts that a scraper may ask for, from one list of metric families.
//!
//! OpenMetrics 1.0 names a counter's family without `_total` and its sample with it, knows the type `info` and units, and
//! ends in `# EOF`. The older Prometheus text format 0.0.4 knows neither; its parsers, `promtool check metrics` among them,
//! take OpenMetrics counters for something else. So a scraper that does not ask for OpenMetrics gets the older one, with
//! the same sample names and the same last line, which is a comment there.

use std::fmt::Write;

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Text,
}

impl Dialect {
    /// By the value of a request's `Accept`.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Dialect::OpenMetrics } else { Dialect::Text }
    }

    /// For `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Dialect::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What kind of family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, or starts anew; samples end in `_total`.
    Counter,
    /// Constant labels; the sample ends in `_info` and is 1.
    Info,
}

/// A text under construction.
#[derive(Debug)]
pub struct Exposition {
    dialect: Dialect,
    text: String,
    sample: String,
}

impl Exposition {
    /// An empty one.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::with_capacity(16 * 1024), sample: String::new() }
    }

    /// Begins a family; samples follow. A name that ends in `_seconds` or `_bytes` has that unit. `name` is without
    /// `_total` and `_info`, `help` is one line.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.sample.clear();
        self.sample.push_str(name);
        match kind {
            Kind::Gauge => {}
            Kind::Counter => self.sample.push_str("_total"),
            Kind::Info => self.sample.push_str("_info"),
        }
        let (head, word) = match (self.dialect, kind) {
            (Dialect::OpenMetrics, Kind::Info) => (name, "info"),
            (Dialect::OpenMetrics, Kind::Counter) => (name, "counter"),
            (Dialect::Text, Kind::Counter) => (self.sample.as_str(), "counter"),
            _ => (self.sample.as_str(), "gauge"),
        };
        let _ = writeln!(self.text, "# TYPE {head} {word}");
        if self.dialect == Dialect::OpenMetrics
            && let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit))
        {
            let _ = writeln!(self.text, "# UNIT {head} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {head} {help}");
    }

    /// A sample of the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.sample);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = match value {
            f64::INFINITY => writeln!(self.text, " +Inf"),
            value => writeln!(self.text, " {value}"),
        };
    }

    /// A family with one sample.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.sample(&[], value);
    }

    /// The whole text.
    #[must_use]
    pub fn end(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dialect: Dialect) -> String {
        let mut exposition = Exposition::new(dialect);
        exposition.family("x_wait_seconds", Kind::Counter, "Waits.");
        exposition.sample(&[("path", "a\\b\"c\nd"), ("n", "1")], 1.5);
        exposition.family("x", Kind::Info, "Which.");
        exposition.sample(&[], 1.0);
        exposition.gauge("x_left_seconds", "Left.", f64::INFINITY);
        exposition.end()
    }

    #[test]
    fn openmetrics_names_families_without_their_suffix() {
        assert_eq!(
            text(Dialect::OpenMetrics),
            "# TYPE x_wait_seconds counter\n# UNIT x_wait_seconds seconds\n# HELP x_wait_seconds Waits.\n\
             x_wait_seconds_total{path=\"a\\\\b\\\"c\\nd\",n=\"1\"} 1.5\n\
             # TYPE x info\n# HELP x Which.\nx_info 1\n\
             # TYPE x_left_seconds gauge\n# UNIT x_left_seconds seconds\n# HELP x_left_seconds Left.\n\
             x_left_seconds +Inf\n# EOF\n"
        );
    }

    #[test]
    fn the_older_text_names_them_with_it() {
        let text = text(Dialect::Text);
        assert!(text.contains("# TYPE x_wait_seconds_total counter\n# HELP x_wait_seconds_total Waits.\n"), "{text}");
        assert!(text.contains("# TYPE x_info gauge\n"), "{text}");
        assert!(!text.contains("UNIT"), "{text}");
    }

    #[test]
    fn a_scraper_is_asked() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Dialect::accepted(prometheus), Dialect::OpenMetrics);
        assert_eq!(Dialect::accepted("*/*"), Dialect::Text);
        assert_eq!(Dialect::accepted(""), Dialect::Text);
    }
}
