//! A message on its way to local subscribers, detached from the socket buffer it came in.

use std::sync::Arc;

use bytes::Bytes;

/// The properties of a v5 PUBLISH that travel on to v5 subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// 1 when the payload is UTF-8 text.
    pub payload_format: Option<u8>,
    /// MIME type or whatever the parties agreed.
    pub content_type: Option<String>,
    /// Where a response is wanted.
    pub response_topic: Option<String>,
    /// What the requester needs to find its request again.
    pub correlation_data: Option<Bytes>,
    /// Free pairs.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// True when there is nothing to send on.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + self.user.iter().map(|(name, value)| 48 + name.len() + value.len()).sum::<usize>()
    }
}

/// One published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic name.
    pub topic: Box<str>,
    /// The payload, in an allocation of its own: a slice would pin the whole read buffer.
    pub payload: Bytes,
    /// The publisher's quality of service, 0 to 2.
    pub qos: u8,
    /// Published with the retain flag.
    pub retain: bool,
    /// When it stops being worth delivering (timeline, ns), if the publisher said so.
    pub expires: Option<i64>,
    /// v5 properties.
    pub properties: Option<Box<Properties>>,
    /// Who published, for no-local.
    pub publisher: Arc<str>,
}

impl Message {
    /// About how many bytes of memory it holds.
    pub fn weight(&self) -> usize {
        128 + self.topic.len() + self.payload.len() + self.properties.as_ref().map_or(0, |p| p.weight())
    }

    /// What a publisher's expiry interval comes to when its message came at `now` (timeline, ns).
    pub fn expiry(now: i64, seconds: u32) -> i64 {
        now.saturating_add(i64::from(seconds) * 1_000_000_000)
    }

    /// True once it is past its expiry.
    pub fn expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Whole seconds of life left, as a PUBLISH to a subscriber carries it.
    pub fn seconds_left(&self, now: i64) -> Option<u32> {
        let left = self.expires?.saturating_sub(now).max(0) / 1_000_000_000;
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }
}
