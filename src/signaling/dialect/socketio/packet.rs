//! Packets of Engine.IO 4 and Socket.IO 5, between text and types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

/// Between packets of one polling payload (Engine.IO 4).
const RECORD_SEPARATOR: char = '\u{1e}';

/// An Engine.IO packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnginePacket {
    Open(String),
    Close,
    Ping(String),
    Pong(String),
    Text(String),
    Binary(Bytes),
    Upgrade,
    Noop,
}

impl EnginePacket {
    /// From a text frame, or one record of a payload. `None`: not Engine.IO.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.chars();
        let kind = rest.next()?;
        let rest = rest.as_str();
        Some(match kind {
            '0' => Self::Open(rest.to_owned()),
            '1' => Self::Close,
            '2' => Self::Ping(rest.to_owned()),
            '3' => Self::Pong(rest.to_owned()),
            '4' => Self::Text(rest.to_owned()),
            '5' => Self::Upgrade,
            '6' => Self::Noop,
            'b' => Self::Binary(STANDARD.decode(rest).ok()?.into()),
            _ => return None,
        })
    }

    /// The packets of a polling body, still text.
    pub fn records(payload: &str) -> impl Iterator<Item = &str> {
        payload.split(RECORD_SEPARATOR)
    }

    /// A polling body of these packets.
    pub fn payload<'a>(packets: impl IntoIterator<Item = &'a Self>) -> String {
        let mut payload = String::new();
        for packet in packets {
            if !payload.is_empty() {
                payload.push(RECORD_SEPARATOR);
            }
            packet.append_to(&mut payload);
        }
        payload
    }

    /// The packet as text, for polling and for text frames.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.append_to(&mut text);
        text
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        match self {
            Self::Open(text) | Self::Ping(text) | Self::Pong(text) | Self::Text(text) => 1 + text.len(),
            // As base64.
            Self::Binary(bytes) => 1 + bytes.len().div_ceil(3) * 4,
            Self::Close | Self::Upgrade | Self::Noop => 1,
        }
    }

    fn append_to(&self, out: &mut String) {
        let (kind, text) = match self {
            Self::Open(text) => ('0', text.as_str()),
            Self::Close => ('1', ""),
            Self::Ping(text) => ('2', text.as_str()),
            Self::Pong(text) => ('3', text.as_str()),
            Self::Text(text) => ('4', text.as_str()),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
            Self::Binary(bytes) => {
                out.push('b');
                return STANDARD.encode_string(bytes, out);
            }
        };
        out.push(kind);
        out.push_str(text);
    }
}

/// Kinds of Socket.IO packets, without the binary ones, which are events or acknowledgements with attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// A Socket.IO packet, its data still JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub kind: PacketKind,
    /// `/` is the main one.
    pub namespace: String,
    pub id: Option<u64>,
    /// An array for events and acknowledgements; an object, or nothing, for the others.
    pub data: Option<String>,
    /// How many binary messages belong to it.
    pub attachments: usize,
}

impl Packet {
    /// A packet without id and attachments.
    pub fn new(kind: PacketKind, namespace: &str, data: Option<String>) -> Self {
        Self { kind, namespace: namespace.to_owned(), id: None, data, attachments: 0 }
    }

    /// Reads `<kind>[<attachments>-][<namespace>,][<id>][<data>]`. `None`: not Socket.IO.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(1)?;
        let (kind, binary) = match kind {
            "0" => (PacketKind::Connect, false),
            "1" => (PacketKind::Disconnect, false),
            "2" => (PacketKind::Event, false),
            "3" => (PacketKind::Ack, false),
            "4" => (PacketKind::ConnectError, false),
            "5" => (PacketKind::Event, true),
            "6" => (PacketKind::Ack, true),
            _ => return None,
        };
        let (attachments, rest) = if binary {
            let (count, rest) = rest.split_once('-')?;
            (number(count)? as usize, rest)
        } else {
            (0, rest)
        };
        let (namespace, rest) = match rest.strip_prefix('/') {
            Some(_) => rest.split_once(',').unwrap_or((rest, "")),
            None => ("/", rest),
        };
        // A query behind a namespace's name is older protocols' way of passing data.
        let namespace = namespace.split_once('?').map_or(namespace, |(name, _)| name);
        let digits = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len());
        let (id, data) = rest.split_at_checked(digits)?;
        let id = if id.is_empty() { None } else { Some(number(id)?) };
        let data = if data.is_empty() { None } else { Some(data.to_owned()) };
        let packet = Self { kind, namespace: namespace.to_owned(), id, data, attachments };
        packet.is_well_formed().then_some(packet)
    }

    pub fn to_text(&self) -> String {
        let kind = match (self.kind, self.attachments) {
            (PacketKind::Connect, _) => '0',
            (PacketKind::Disconnect, _) => '1',
            (PacketKind::Event, 0) => '2',
            (PacketKind::Ack, 0) => '3',
            (PacketKind::ConnectError, _) => '4',
            (PacketKind::Event, _) => '5',
            (PacketKind::Ack, _) => '6',
        };
        let mut text = String::from(kind);
        if matches!(kind, '5' | '6') {
            text.push_str(&format!("{}-", self.attachments));
        }
        if self.namespace != "/" {
            text.push_str(&self.namespace);
            text.push(',');
        }
        if let Some(id) = self.id {
            text.push_str(&id.to_string());
        }
        text.push_str(self.data.as_deref().unwrap_or_default());
        text
    }

    /// The event's name and its arguments.
    pub fn event(&self) -> Option<(String, Vec<&RawValue>)> {
        let mut parts: Vec<&RawValue> = serde_json::from_str(self.data.as_deref()?).ok()?;
        if parts.is_empty() {
            return None;
        }
        let arguments = parts.split_off(1);
        let name = serde_json::from_str(parts.first()?.get()).ok()?;
        Some((name, arguments))
    }

    /// What an acknowledgement brings.
    pub fn arguments(&self) -> Option<Vec<&RawValue>> {
        array(self.data.as_deref()?)
    }

    /// True when every placeholder stands for one of the attachments. The stock client ends its connection over one
    /// that does not, so none may be passed on.
    pub fn placeholders_fit(&self) -> bool {
        let data = self.data.as_deref().unwrap_or("null");
        serde_json::from_str(data).is_ok_and(|value| fits(&value, self.attachments as u64))
    }

    fn is_well_formed(&self) -> bool {
        let data = self.data.as_deref();
        match self.kind {
            PacketKind::Connect => {
                data.is_none_or(|data| serde_json::from_str::<serde_json::Map<String, Value>>(data).is_ok())
            }
            PacketKind::Disconnect => data.is_none(),
            PacketKind::Event => self.event().is_some(),
            PacketKind::Ack => self.id.is_some() && data.is_some_and(|data| array(data).is_some()),
            // Only servers send it.
            PacketKind::ConnectError => false,
        }
    }
}

fn fits(value: &Value, attachments: u64) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, attachments)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            fields.get("num").and_then(Value::as_u64).is_some_and(|number| number < attachments)
        }
        Value::Object(fields) => fields.values().all(|field| fits(field, attachments)),
        _ => true,
    }
}

fn array(data: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(data).ok()
}

/// Up to 15 digits: what JavaScript counts exactly.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_packets_there_and_back() {
        for text in ["0{}", "1", "2", "2probe", "3probe", "4hé€llo", "5", "6", "bAQIDBA=="] {
            assert_eq!(EnginePacket::parse(text).expect(text).to_text(), text);
        }
        for text in ["", "7", "x", "b***", "é"] {
            assert_eq!(EnginePacket::parse(text), None, "{text}");
        }
    }

    #[test]
    fn payloads_there_and_back() {
        let packets =
            vec![EnginePacket::Text("a".into()), EnginePacket::Binary(Bytes::from_static(&[1, 2])), EnginePacket::Noop];
        let payload = EnginePacket::payload(&packets);
        assert_eq!(payload, "4a\u{1e}bAQI=\u{1e}6");
        let parse = |payload| EnginePacket::records(payload).map(EnginePacket::parse).collect::<Option<Vec<_>>>();
        assert_eq!(parse(&payload), Some(packets));
        assert_eq!(parse("4a\u{1e}"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn socket_packets_there_and_back() {
        for text in [
            "0",
            "0/webrtc,",
            r#"0/webrtc,{"token":"x"}"#,
            r#"2["hi",1]"#,
            r#"2/webrtc,["webrtc-offer",{"a":1}]"#,
            r#"2/webrtc,12["ev",{"a":1}]"#,
            "3/ns,12[]",
            r#"51-["ev",{"_placeholder":true,"num":0}]"#,
            r#"62-/ns,3["ev"]"#,
            "1/webrtc,",
            "1",
        ] {
            assert_eq!(Packet::parse(text).expect(text).to_text(), text);
        }
    }

    #[test]
    fn what_is_not_socket_io() {
        for text in [
            "",
            "9",
            "2",
            "2[]",
            "2[1]",
            "2{}",
            "2[\"a\"",
            "0[]",
            "0nope",
            "1{}",
            "3[]",
            "31{}",
            "5[\"a\"]",
            "5x-[\"a\"]",
            "4{}",
            "é",
            "5/a",
            "2/ns",
            "51-",
            "29999999999999999[\"a\"]",
        ] {
            assert_eq!(Packet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn placeholders_name_attachments_that_are_there() {
        let fits = |text: &str| Packet::parse(text).expect(text).placeholders_fit();
        assert!(fits(r#"51-["a",{"b":[{"_placeholder":true,"num":0}]}]"#));
        assert!(fits(r#"51-["a",{"_placeholder":"true","num":9}]"#));
        for bad in ["1", "-1", "0.5", "\"0\"", "null"] {
            assert!(!fits(&format!(r#"51-["a",[{{"_placeholder":true,"num":{bad}}}]]"#)), "{bad}");
        }
        assert!(!fits(r#"51-["a",{"_placeholder":true}]"#));
    }

    #[test]
    fn the_parts_of_an_event() {
        let packet = Packet::parse(r#"2/webrtc,7["join-room",{"room":"r"},  3]"#).expect("event");
        let (name, arguments) = packet.event().expect("event");
        assert_eq!((packet.namespace.as_str(), packet.id, name.as_str()), ("/webrtc", Some(7), "join-room"));
        assert_eq!(arguments.iter().map(|raw| raw.get()).collect::<Vec<_>>(), [r#"{"room":"r"}"#, "3"]);
        assert_eq!(Packet::parse("0/nope?x=1,").expect("connect").namespace, "/nope");
    }
}
