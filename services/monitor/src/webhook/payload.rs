//! A group of alerts as Alertmanager sends it to webhooks, version 4. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Key of the only group there is.
const GROUP_KEY: &str = "{}:{}";

/// A group of alerts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group<'a> {
    version: &'static str,
    group_key: &'static str,
    truncated_alerts: u32,
    /// `firing` if any alert is.
    status: &'static str,
    receiver: &'a str,
    group_labels: BTreeMap<&'a str, &'a str>,
    /// What all alerts have alike.
    common_labels: BTreeMap<&'a str, &'a str>,
    common_annotations: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: &'a [&'a Value],
}

impl<'a> Group<'a> {
    /// These alerts, in their order.
    pub fn new(alerts: &'a [&'a Value], receiver: &'a str, external_url: &'a str) -> Self {
        let is_firing = alerts.iter().any(|alert| alert["status"] == "firing");
        Self {
            version: "4",
            group_key: GROUP_KEY,
            truncated_alerts: 0,
            status: if is_firing { "firing" } else { "resolved" },
            receiver,
            group_labels: BTreeMap::new(),
            common_labels: common(alerts, "labels"),
            common_annotations: common(alerts, "annotations"),
            external_url,
            alerts,
        }
    }
}

/// Texts of `field` that are the same in all alerts.
fn common<'a>(alerts: &[&'a Value], field: &str) -> BTreeMap<&'a str, &'a str> {
    let texts = |alert: &'a Value| alert[field].as_object().into_iter().flatten();
    let Some((first, others)) = alerts.split_first() else { return BTreeMap::new() };
    texts(first)
        .filter(|(name, value)| others.iter().all(|alert| alert[field].get(name) == Some(value)))
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(status: &str, client_id: &str) -> Value {
        json!({
            "status": status,
            "labels": { "alertname": "battery_low", "client_id": client_id },
            "annotations": { "summary": "low" },
        })
    }

    #[test]
    fn a_group_is_what_its_alerts_are() {
        let (first, second) = (alert("resolved", "1"), alert("firing", "2"));
        let alerts = [&first, &second];
        let group = serde_json::to_value(Group::new(&alerts, "desk", "http://monitor/")).unwrap();
        let expected = json!({
            "version": "4",
            "groupKey": "{}:{}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "desk",
            "groupLabels": {},
            "commonLabels": { "alertname": "battery_low" },
            "commonAnnotations": { "summary": "low" },
            "externalURL": "http://monitor/",
            "alerts": [first, second],
        });
        assert_eq!(group, expected);
        let alerts = [&expected["alerts"][0]];
        let alone = serde_json::to_value(Group::new(&alerts, "", "")).unwrap();
        assert_eq!(alone["status"], "resolved");
        assert_eq!(alone["commonLabels"], expected["alerts"][0]["labels"]);
    }
}
