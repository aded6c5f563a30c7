//! What programs of ours count, as they say it to whoever asks for `/metrics`.

use anyhow::{Context, ensure};

/// The sum of all samples of counters whose name ends so. With labels (`drops_total{cause="slow"}`), of
/// those that have exactly these.
///
/// # Errors
/// If no counter has such a name, counted or not.
pub(crate) fn metric(metrics: &str, name: &str) -> anyhow::Result<f64> {
    // Who describes a counter leaves its end away.
    let described = name.split('{').next().unwrap_or(name).trim_end_matches("_total");
    let is_it = |line: &str| {
        let counter = line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" counter"));
        counter.is_some_and(|counter| counter.ends_with(described))
    };
    ensure!(metrics.lines().any(is_it), "there is no ..._{described}");
    let mut sum = 0.0;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let own = if name.contains('{') { Some(series) } else { series.split('{').next() };
        if own.is_some_and(|own| own.ends_with(name)) {
            sum += value.parse::<f64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_name_are_added_up() {
        let text = "# HELP notifier_kafka_lost_records Records.\n\
                    # TYPE notifier_kafka_lost_records counter\nnotifier_kafka_lost_records_total 2\n\
                    # TYPE notifier_intake_lost_records counter\nnotifier_intake_lost_records_total 3\n\
                    # TYPE notifier_drops counter\nnotifier_drops_total{cause=\"a\"} 4\n\
                    notifier_drops_total{cause=\"b\"} 5\n# TYPE notifier_poison counter\n\
                    # TYPE notifier_lag gauge\nnotifier_lag 9\n# EOF\n";
        for (name, sum) in [
            ("lost_records_total", 5.0),
            ("kafka_lost_records_total", 2.0),
            ("drops_total", 9.0),
            ("drops_total{cause=\"b\"}", 5.0),
            // Known, and nothing has been counted.
            ("poison_total", 0.0),
        ] {
            assert_eq!(metric(text, name).unwrap(), sum, "{name}");
        }
        for name in ["lost_total", "notifier_lag", "auditor_lost_records_total"] {
            metric(text, name).unwrap_err();
        }
    }
}
