//! Where to look: the addresses of a running system, and commands to try.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::demo::cast::{FRONT_DOOR, GARDEN_GATE, OFFICE};
use crate::demo::screen::{heading, say};
use crate::site::Site;
use crate::stack::{ALARMS, COMMANDS};

/// Says where the parts are, and which of them are not where people look for them.
pub fn parts(site: &Site) {
    let mqtt = format!("mqtt://{}", site.mqtt);
    let kafka = site.kafka.clone().unwrap_or_default();
    for (name, address, port) in [
        ("Kafka", kafka.as_str(), None),
        ("broker, MQTT", &mqtt, Some(1883)),
        ("broker, MQTT over WebSocket", &site.websocket, Some(8083)),
        ("broker, HTTP", &site.broker.url, Some(18083)),
        ("auditor: who opened what", &site.auditor.url, Some(8101)),
        ("monitor: state and alarms", &site.monitor.url, Some(8102)),
        ("notifier: tells the owners", &site.notifier.url, Some(8103)),
        ("the owner's mail", &site.mail.url, Some(8025)),
        ("the owner's SMS", &site.sms.url, Some(8026)),
    ] {
        say(&part(name, address, port));
    }
}

fn part(name: &str, address: &str, port: Option<u16>) -> String {
    let elsewhere = port.filter(|port| port_of(address) != Some(*port));
    let note = elsewhere.map(|port| format!("   (port {port} is taken)")).unwrap_or_default();
    format!("{name:<28} {address}{note}")
}

fn port_of(address: &str) -> Option<u16> {
    let (_, rest) = address.rsplit_once(':')?;
    rest.split('/').next()?.parse().ok()
}

/// Says what to open and what to type.
pub fn look_further(site: &Site, folder: &Path) -> anyhow::Result<()> {
    let own = own_folder()?;
    let environment = write_environment(site, folder)?;
    heading("Open; what happens is shown here, too, until Ctrl-C");
    let Site { broker, auditor, monitor, notifier, mail, sms, .. } = site;
    say(&format!(
        "{}/               the owner's mail\n\
         {}/               the owner's SMS\n\
         {}/docs           the auditor's API, to try\n\
         {}/docs           the monitor's\n\
         {}/docs           the notifier's\n\
         {}/metrics       the broker's metrics; the services have such a page, too\n\
         {}/readyz        whether it does its job, and if not why; the same",
        mail.url, sms.url, auditor.url, monitor.url, notifier.url, broker.url, broker.url,
    ));
    heading("Type, in another terminal");
    let (front, office, gate) = (FRONT_DOOR.id, OFFICE.id, GARDEN_GATE.id);
    say(&format!(
        "$ source {environment}; PATH=$PATH:{own}\n\
         $ ask() {{ curl -sS -H \"Authorization: Bearer $LATCHLINE_API_TOKEN\" \"$@\"; echo; }}\n\
         $ ask \"$LATCHLINE_AUDITOR_URL/v1/audit/locks/{front}/timeline?kind=command\"\n\
         $ ask \"$LATCHLINE_AUDITOR_URL/v1/audit/verify?chain=0\"\n\
         $ ask \"$LATCHLINE_MONITOR_URL/v1/alarms?open=true&client_id={gate}\"\n\
         $ ask \"$LATCHLINE_NOTIFIER_URL/v1/notifications?client_id={front}\"\n\
         $ lockctl unlock {office}\n\
         $ lockctl unlock {office} --v5 --forge\n\
         $ lockctl records {COMMANDS}\n\
         $ lockctl records {ALARMS}\n\
         $ locksim attack\n\
         $ mosquitto_sub -p {port} -u operator -P \"$LATCHLINE_PASSWORD\" -i operator-me -t 'devices/+/state'",
        environment = environment.display(),
        own = own.display(),
        port = site.mqtt.port(),
    ));
    Ok(())
}

fn own_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.parent().context("this program is in no folder")?.to_owned())
}

/// Where everything is and the secrets of this run, in a file that only its owner can read, gone when
/// the demo ends.
fn write_environment(site: &Site, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("environment");
    let mut options = std::fs::OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    for (name, value) in site.environment() {
        writeln!(file, "export {name}={value}")?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_taken_is_told() {
        for (address, port, expected) in [
            ("http://127.0.0.1:8101", Some(8101), "x                            http://127.0.0.1:8101"),
            (
                "http://127.0.0.1:1",
                Some(8101),
                "x                            http://127.0.0.1:1   (port 8101 is taken)",
            ),
            ("ws://127.0.0.1:8083/mqtt", Some(8083), "x                            ws://127.0.0.1:8083/mqtt"),
            ("a:1,b:2", None, "x                            a:1,b:2"),
        ] {
            assert_eq!(part("x", address, port), expected);
        }
    }
}
