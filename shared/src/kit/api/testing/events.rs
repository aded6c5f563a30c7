//! A stream of server-sent events, read event by event.

use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use super::server::SOON;

/// A stream that is being read.
#[derive(Debug)]
pub struct Events {
    response: Response,
    text: String,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where the stream goes on behind it.
    pub id: String,
    /// What kind of event.
    pub name: String,
    /// What happened.
    pub data: Value,
}

impl Events {
    /// Of an answer. Panics unless it is a stream.
    pub fn new(response: Response) -> Self {
        assert_eq!(response.status(), 200, "{}", response.url());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; none at the end. Panics if there is none in time.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = event(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    // A comment, which keeps the connection alive.
                    None => continue,
                }
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("an event in time");
            let chunk = chunk.expect("a stream ends in order")?;
            self.text += std::str::from_utf8(&chunk).expect("a stream is UTF-8");
        }
    }
}

fn event(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let data = field("data: ")?;
    let text = |name| field(name).unwrap_or_else(|| panic!("no {name}in {block}")).to_owned();
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
    Some(Event { id: text("id: "), name: text("event: "), data })
}
