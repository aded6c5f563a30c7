//! What programs of ours count, as they say it to whoever asks for `/metrics`.

use anyhow::Context;

/// The sum of all samples of metrics whose name ends so; none if there is none, which is how a family of
/// counters looks before it has counted anything. With labels (`drops_total{cause="slow"}`), of those
/// that have exactly these.
///
/// # Errors
/// If a value is no number.
pub(crate) fn metric(metrics: &str, name: &str) -> anyhow::Result<Option<f64>> {
    let mut sum = None;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let own = if name.contains('{') { Some(series) } else { series.split('{').next() };
        if own.is_some_and(|own| own.ends_with(name)) {
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            sum = Some(sum.unwrap_or(0.0) + value);
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
                    notifier_intake_lost_records_total 3\nnotifier_drops_total{cause=\"a\"} 4\n\
                    notifier_drops_total{cause=\"b\"} 5\n# EOF\n";
        for (name, sum) in [
            ("lost_records_total", Some(5.0)),
            ("kafka_lost_records_total", Some(2.0)),
            ("drops_total", Some(9.0)),
            ("drops_total{cause=\"b\"}", Some(5.0)),
            ("auditor_lost_records_total", None),
        ] {
            assert_eq!(metric(text, name).unwrap(), sum, "{name}");
        }
        metric("drops_total x", "drops_total").unwrap_err();
    }
}
