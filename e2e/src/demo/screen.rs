//! How the demo looks: headings, sentences, and one line for each record, mail and SMS.
#![expect(clippy::disallowed_macros, reason = "the demo talks on standard output")]

use std::io::IsTerminal;
use std::sync::LazyLock;

use crate::demo::brief::{self, WIDTH, cut};
use crate::kafka::reader::Record;
use crate::sink::Message;
use crate::stack::{ALARMS, FINDINGS, REJECTED};

static COLOURED: LazyLock<bool> =
    LazyLock::new(|| std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());

/// Colours, as the numbers that terminals know them by.
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
const CYAN: &str = "36";

/// Begins a step.
pub fn heading(text: &str) {
    println!("\n{}", paint(BOLD, text));
}

/// Says something.
pub fn say(text: &str) {
    for line in text.lines() {
        println!("{}", format!("  {line}").trim_end());
    }
}

/// Says that a step went well.
pub fn proved(text: &str) {
    println!("  {} {text}", paint(GREEN, "✓"));
}

/// Shows a record as it appears.
pub fn record(record: &Record) {
    let colour = match record.stream.as_str() {
        REJECTED | FINDINGS => RED,
        ALARMS => YELLOW,
        _ => CYAN,
    };
    seen("Kafka", colour, &brief::record(record));
}

/// Shows a mail as it arrives.
pub fn mail(mail: &Message) {
    seen("mail", GREEN, &brief::message(mail));
}

/// Shows an SMS as it arrives.
pub fn sms(sms: &Message) {
    seen("SMS", BLUE, &brief::message(sms));
}

fn seen(place: &str, colour: &str, what: &str) {
    println!("  {} {}", paint(colour, &format!("{place:<6}")), cut(what, WIDTH - 9));
}

fn paint(code: &str, text: &str) -> String {
    if *COLOURED { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
