//! Configuration files of the reference: whatever the text, reading it ends without a panic; what is
//! wrong is in a line that there is; and what was understood, written anew, is understood the same, with
//! nothing in vain.

#![no_main]

use std::fmt::Write;

use latchline_bridge::config::Compression;
use latchline_bridge::reference::{Reference, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.lines().count();
    let reference = match parse(text) {
        Ok(reference) => reference,
        Err(errors) => {
            assert!(!errors.is_empty(), "wrong, and nobody says what");
            assert!(errors.iter().all(|error| (1..=lines).contains(&error.line)), "{errors:?} of {lines}");
            return;
        }
    };
    assert!(reference.warnings.iter().all(|warning| (1..=lines).contains(&warning.line)));
    let again = parse(&written(&reference)).expect("what was understood can be written");
    assert_eq!(again, Reference { warnings: Vec::new(), ..reference });
});

fn written(reference: &Reference) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        writeln!(text, "bridge.kafka.{key} = {value}").expect("a text takes everything");
    };
    if let Some(servers) = &reference.servers {
        line("servers", servers);
    }
    if let Some(compression) = reference.compression {
        line("producer.compression", word(compression));
    }
    if let Some(bytes) = reference.batch_bytes {
        line("producer.max_batch_bytes", &bytes.to_string());
    }
    for (number, rule) in reference.rules.iter().enumerate() {
        let mut fields = serde_json::Map::from_iter([("topic".to_owned(), rule.topic.clone().into())]);
        if let Some(filter) = &rule.filter {
            fields.insert("filter".to_owned(), filter.clone().into());
        }
        let value = serde_json::Value::Object(fields).to_string();
        line(&format!("hook.{}.{number}", rule.hook.name()), &value);
    }
    text
}

fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "no_compression",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
    }
}
