//! Server-sent events as they come: of `/v1/alarms/stream` and `/v1/audit/stream`.
//!
//! A stream that is cut off goes on where it was: whoever reads gives [`Events::last_id`] as `after`.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::timeout;

use super::Api;

/// A line, or what of an event was read, is never longer; both come from our own programs.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id, a place in the stream.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it says.
    pub data: Value,
}

/// An open stream of events.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    decoder: Decoder,
}

impl Api {
    /// Opens a stream of events; what is written from now on comes.
    pub async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let response = self.stream(path).await?.error_for_status()?;
        Ok(Events { response, decoder: Decoder::default() })
    }
}

impl Events {
    /// The next event. Cancel safety: what was read is kept.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.decoder.next()? {
                return Ok(event);
            }
            let chunk = self.response.chunk().await.context("read events")?;
            self.decoder.take(&chunk.context("the stream of events has ended")?)?;
        }
    }

    /// The first event that is wanted; those before it are passed over, and named if it does not come.
    pub async fn find(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Event> {
        let mut passed = Vec::new();
        let find = async {
            loop {
                let event = self.next().await?;
                if wanted(&event.data) {
                    return Ok(event);
                }
                passed.push(event.data);
            }
        };
        let found = timeout(deadline, find).await;
        found.with_context(|| format!("no event within {deadline:?}: {what}; there were {passed:?}"))?
    }

    /// Where the stream is.
    pub fn last_id(&self) -> &str {
        &self.decoder.last_id
    }
}

/// Bytes to events. Pure.
#[derive(Debug, Default)]
struct Decoder {
    buffer: Vec<u8>,
    last_id: String,
    name: String,
    data: String,
}

impl Decoder {
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        ensure!(self.buffer.len() <= BYTES_MAX, "an event of more than {BYTES_MAX} bytes");
        Ok(())
    }

    fn next(&mut self) -> anyhow::Result<Option<Event>> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = std::str::from_utf8(&line).context("events are text")?.trim_end_matches(['\r', '\n']);
            if !line.is_empty() {
                self.field(line);
            } else if !self.data.is_empty() {
                let data = serde_json::from_str(&self.data).context("data of an event")?;
                self.data.clear();
                return Ok(Some(Event {
                    id: self.last_id.clone(),
                    name: std::mem::take(&mut self.name),
                    data,
                }));
            }
        }
        Ok(None)
    }

    /// A line that begins with a colon is a comment: it keeps the connection alive.
    fn field(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.last_id),
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push_str(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let bytes = b"id: 1\n\n: alive\n\nid: 2\nevent: alarm\ndata: {\"a\":\ndata:  1}\n\nid:3\r\ndata:[\"\xc3\xa4\"]\r\n\r\nid: 4\ndata: 5\n";
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.take(chunk).unwrap();
                while let Some(event) = decoder.next().unwrap() {
                    events.push((event.id, event.name, event.data));
                }
            }
            let expected = [
                ("2".to_owned(), "alarm".to_owned(), json!({ "a": 1 })),
                ("3".to_owned(), String::new(), json!(["ä"])),
            ];
            assert_eq!(events, expected, "in chunks of {size}");
            assert_eq!(decoder.last_id, "4", "a place is known before its event is whole");
        }
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        let mut decoder = Decoder::default();
        assert!(decoder.take(&vec![b'a'; BYTES_MAX]).is_ok());
        assert!(decoder.take(b"a").is_err());
        let mut decoder = Decoder::default();
        decoder.take(b"data: nonsense\n\n").unwrap();
        assert!(decoder.next().is_err());
    }
}
