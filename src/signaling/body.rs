//! What a message carries.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// Opaque JSON, carried byte for byte and shared by all who receive it, and the binary parts that it refers to.
#[derive(Clone, Debug)]
pub struct Body(Arc<Content>);

#[derive(Debug)]
struct Content {
    json: Box<RawValue>,
    attachments: Vec<Bytes>,
}

impl Body {
    /// JSON with Socket.IO placeholders for these parts.
    pub fn with_attachments(json: Box<RawValue>, attachments: Vec<Bytes>) -> Self {
        Self(Arc::new(Content { json, attachments }))
    }

    /// The binary parts, which only Socket.IO pages send.
    pub fn attachments(&self) -> &[Bytes] {
        &self.0.attachments
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.get().len() + self.attachments().iter().map(Bytes::len).sum::<usize>()
    }
}

impl From<Box<RawValue>> for Body {
    fn from(json: Box<RawValue>) -> Self {
        Self::with_attachments(json, Vec::new())
    }
}

impl Deref for Body {
    type Target = RawValue;

    fn deref(&self) -> &RawValue {
        &self.0.json
    }
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.json.serialize(serializer)
    }
}
