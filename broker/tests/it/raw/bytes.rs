//! MQTT packets by hand, right or wrong: independent of the broker's codec on purpose.
//!
//! A version is the protocol level on the wire: 4 (3.1.1) or 5. Properties are given as their bytes
//! and are left out on 3.1.1, so that one test can run on both.

pub(crate) const V3: u8 = 4;
pub(crate) const V5: u8 = 5;
pub(crate) const VERSIONS: [u8; 2] = [V3, V5];

pub(crate) const PING: [u8; 2] = [0xc0, 0];
pub(crate) const GOODBYE: [u8; 2] = [0xe0, 0];

/// A packet of this first byte and these parts, with the length that they have.
pub(crate) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first][..], &varint(body.len()), &body].concat()
}

pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A string, or binary data.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("a string fits its length");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A property block; nothing on 3.1.1.
pub(crate) fn block(version: u8, properties: &[u8]) -> Vec<u8> {
    if version == V5 { [&varint(properties.len())[..], properties].concat() } else { Vec::new() }
}

/// CONNECT.
#[derive(Clone)]
pub(crate) struct Connect {
    pub version: u8,
    pub id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub properties: Vec<u8>,
    pub will: Option<Will>,
    pub login: Option<(&'static str, &'static str)>,
}

#[derive(Clone)]
pub(crate) struct Will {
    pub topic: &'static str,
    pub payload: &'static str,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<u8>,
}

impl Connect {
    /// A clean session without keep alive.
    pub(crate) fn new(version: u8, id: &str) -> Self {
        Self {
            version,
            id: id.to_owned(),
            clean: true,
            keep_alive_s: 0,
            properties: Vec::new(),
            will: None,
            login: None,
        }
    }

    /// A session that is resumed, and kept for five minutes.
    pub(crate) fn kept(version: u8, id: &str) -> Self {
        Self { clean: false, ..Self::new(version, id) }.with(&[0x11, 0, 0, 1, 0x2c])
    }

    /// One more property.
    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    pub(crate) fn keep_alive(self, keep_alive_s: u16) -> Self {
        Self { keep_alive_s, ..self }
    }

    /// A will at QoS 1.
    pub(crate) fn will(self, topic: &'static str, payload: &'static str) -> Self {
        let will = Will { topic, payload, qos: 1, retain: false, properties: Vec::new() };
        Self { will: Some(will), ..self }
    }

    /// A will with a delay; without one on 3.1.1.
    pub(crate) fn delayed_will(self, topic: &'static str, payload: &'static str, delay_s: u8) -> Self {
        let properties = vec![0x18, 0, 0, 0, delay_s];
        Self { will: Some(Will { topic, payload, qos: 1, retain: false, properties }), ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        let login = if self.login.is_some() { 0xc0 } else { 0 };
        let flags = login | will | u8::from(self.clean) << 1;
        let mut body = [&text("MQTT")[..], &[self.version, flags], &self.keep_alive_s.to_be_bytes()].concat();
        body.extend(block(self.version, &self.properties));
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            body.extend(block(self.version, &will.properties));
            body.extend(text(will.topic));
            body.extend(text(will.payload));
        }
        if let Some((username, password)) = self.login {
            body.extend(text(username));
            body.extend(text(password));
        }
        packet(0x10, &[&body])
    }
}

/// PUBLISH.
#[derive(Clone)]
pub(crate) struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    pub properties: Vec<u8>,
}

impl Publish {
    /// A message at QoS 0.
    pub(crate) fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            id: 0,
            dup: false,
            retain: false,
            properties: Vec::new(),
        }
    }

    pub(crate) fn qos(self, qos: u8, id: u16) -> Self {
        Self { qos, id, ..self }
    }

    pub(crate) fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    pub(crate) fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    /// One more property.
    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    pub(crate) fn bytes(&self, version: u8) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let id = self.id.to_be_bytes();
        let id = if self.qos > 0 { &id[..] } else { &[] };
        packet(first, &[&text(&self.topic), id, &block(version, &self.properties), &self.payload])
    }
}

/// SUBSCRIBE to filters with their options.
pub(crate) fn subscribe(version: u8, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> =
        filters.iter().flat_map(|(filter, options)| [&text(filter)[..], &[*options]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), &block(version, properties), &filters])
}

/// UNSUBSCRIBE.
pub(crate) fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(text).collect();
    packet(0xa2, &[&id.to_be_bytes(), &block(version, &[]), &filters])
}

/// PUBACK.
pub(crate) fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &[&id.to_be_bytes()])
}

/// PUBREC.
pub(crate) fn pubrec(id: u16) -> Vec<u8> {
    packet(0x50, &[&id.to_be_bytes()])
}

/// PUBREL.
pub(crate) fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &[&id.to_be_bytes()])
}

/// PUBCOMP.
pub(crate) fn pubcomp(id: u16) -> Vec<u8> {
    packet(0x70, &[&id.to_be_bytes()])
}

/// DISCONNECT with a reason and properties (MQTT 5).
pub(crate) fn disconnect(reason_code: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xe0, &[&[reason_code], &block(V5, properties)])
}
