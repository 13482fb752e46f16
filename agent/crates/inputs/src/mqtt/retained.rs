//! The last retained message of each topic.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::message::Message;
use super::topic;

/// Topic → retained message, sorted, so that a filter's literal prefix bounds the search.
#[derive(Debug, Default)]
pub struct Retained {
    topics: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
}

impl Retained {
    /// Sets, or with an empty payload removes. False when `max` topics are there already.
    pub fn set(&mut self, message: &Arc<Message>, max: usize) -> bool {
        if message.payload.is_empty() {
            self.remove(&message.topic);
            return true;
        }
        if self.topics.len() >= max && !self.topics.contains_key(&message.topic) {
            return false;
        }
        self.bytes += message.weight();
        if let Some(old) = self.topics.insert(message.topic.clone(), Arc::clone(message)) {
            self.bytes -= old.weight();
        }
        true
    }

    /// Removes one topic's.
    pub fn remove(&mut self, name: &str) {
        if let Some(old) = self.topics.remove(name) {
            self.bytes -= old.weight();
        }
    }

    /// What a filter matches, without what has expired.
    pub fn matching(&self, filter: &str, now: i64) -> Vec<Arc<Message>> {
        let prefix = topic::literal_prefix(filter);
        let range = (Bound::Included(&*prefix), Bound::Unbounded);
        self.topics
            .range::<str, _>(range)
            .take_while(|(name, _)| name.starts_with(&*prefix))
            .filter(|(name, message)| topic::matches(filter, name) && !message.expired(now))
            .map(|(_, message)| Arc::clone(message))
            .collect()
    }

    /// Topics whose message has expired.
    pub fn expired(&self, now: i64) -> Vec<Box<str>> {
        self.topics.iter().filter(|(_, message)| message.expired(now)).map(|(name, _)| name.clone()).collect()
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics held.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// True when nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(topic: &str, payload: &'static str) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: 0,
            retain: true,
            expires: None,
            properties: None,
            publisher: "p".into(),
        })
    }

    #[test]
    fn an_empty_payload_removes_and_the_memory_is_given_back() {
        let mut retained = Retained::default();
        assert!(retained.set(&message("a/b", "1"), 10));
        assert!(retained.set(&message("a/b", "22"), 10));
        assert!(retained.bytes() > 0);
        assert!(retained.set(&message("a/b", ""), 10));
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn wildcards_find_all_and_only_what_they_match() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "ab", "a/b/c", "$SYS/x", "b"] {
            retained.set(&message(topic, "1"), 10);
        }
        let found = |filter: &str| {
            retained.matching(filter, 0).iter().map(|m| m.topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(found("#"), ["a", "a/b", "a/b/c", "ab", "b"]);
        assert_eq!(found("a"), ["a"]);
        assert_eq!(found("$SYS/#"), ["$SYS/x"]);
    }

    #[test]
    fn beyond_the_cap_only_known_topics_are_taken() {
        let mut retained = Retained::default();
        assert!(retained.set(&message("a", "1"), 1));
        assert!(!retained.set(&message("b", "1"), 1));
        assert!(retained.set(&message("a", "2"), 1));
    }
}
