//! What programs of ours count, as they say it to whoever asks for `/metrics`.

/// The sum of all samples of metrics whose name ends so. With labels (`drops_total{cause="slow"}`), of
/// those that have exactly these.
pub(crate) fn metric(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let own = if name.contains('{') { series } else { series.split('{').next()? };
        own.ends_with(name).then(|| value.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_name_are_added_up() {
        let text = "# HELP x\nlatchline_auditor_kafka_poison_total{stream=\"a\"} 2\n\
                    latchline_auditor_kafka_poison_total{stream=\"b\"} 3\nlatchline_auditor_other_total 9\n";
        for (name, sum) in [
            ("auditor_kafka_poison_total", 5.0),
            ("auditor_kafka_poison_total{stream=\"b\"}", 3.0),
            ("auditor_lost_records_total", 0.0),
        ] {
            assert_eq!(metric(text, name), sum, "{name}");
        }
    }
}
