//! Who may publish and receive what: per user two lists of topic filters.
//!
//! Publishing needs a name that a `write` filter matches. A subscription is granted when it *could*
//! meet a `read` filter, and each message is checked again when it is delivered: so `#` gives a
//! client what it may read and nothing else, whatever way (wildcard, `$share`, retained, will) it
//! came, and a client can't learn more by asking wider.

use std::sync::Arc;

use super::config::{MqttConfig, UserConfig};
use super::topic::{self, InvalidTopic};

/// A list of filters with `%u` and `%c` filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Checks a configured pattern.
    ///
    /// # Errors
    /// [`InvalidTopic`].
    pub fn check(pattern: &str) -> Result<(), InvalidTopic> {
        topic::check_filter(&pattern.replace("%u", "u").replace("%c", "c"))
    }

    /// Fills in the placeholders. A pattern whose placeholder would be filled with something that
    /// isn't one plain level (a client id of `#` or `a/b`) matches nothing.
    fn fill(patterns: &[String], user: &str, client: &str) -> Self {
        let plain = |text: &str| !text.is_empty() && !text.contains(['+', '#', '/', '\0']);
        let filled = patterns.iter().filter(|pattern| {
            (!pattern.contains("%u") || plain(user)) && (!pattern.contains("%c") || plain(client))
        });
        Self(
            filled
                // %c first would let a client id of `%u` be filled in again.
                .map(|pattern| (pattern, fill_one(pattern, user, client)))
                // `%c/#` with a client id of `$SYS` would be a filter for what the server tells of itself.
                .filter(|(pattern, filled)| pattern.starts_with('$') || !filled.starts_with('$'))
                .map(|(_, filled)| filled)
                .collect(),
        )
    }

    fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| topic::matches(pattern, name))
    }

    fn meets(&self, filter: &str) -> bool {
        self.0.iter().any(|pattern| topic::intersect(pattern, filter))
    }
}

fn fill_one(pattern: &str, user: &str, client: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + user.len() + client.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (filled, skip) = match rest.as_bytes().get(at + 1) {
            Some(b'u') => (user, 2),
            Some(b'c') => (client, 2),
            _ => ("%", 1),
        };
        out.push_str(filled);
        rest = &rest[at + skip..];
    }
    out.push_str(rest);
    out
}

/// What one connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Anything but publishing to a topic that begins with `$` (a client on this host without a name, unless its lists
    /// say less).
    All,
    /// What the user's lists say.
    Listed {
        /// May publish.
        write: Arc<Patterns>,
        /// May receive.
        read: Arc<Patterns>,
    },
}

impl Rights {
    /// The rights of a client of the user `name`, whom this entry is for: its own name may be a pattern.
    pub fn of(user: &UserConfig, name: &str, client: &str) -> Self {
        Self::Listed {
            write: Arc::new(Patterns::fill(&user.write, name, client)),
            read: Arc::new(Patterns::fill(&user.read, name, client)),
        }
    }

    /// The rights of a client without a name.
    pub fn of_anonymous(config: &MqttConfig, client: &str) -> Self {
        let everything = |patterns: &[String]| patterns.iter().any(|pattern| pattern == "#");
        if everything(&config.anonymous_write) && everything(&config.anonymous_read) {
            return Self::All;
        }
        Self::Listed {
            write: Arc::new(Patterns::fill(&config.anonymous_write, "", client)),
            read: Arc::new(Patterns::fill(&config.anonymous_read, "", client)),
        }
    }

    /// The rights of a session: what the configuration gives whom it belongs to.
    pub fn of_session(config: &MqttConfig, user: Option<&str>, client: &str) -> Self {
        let nothing = || Self::Listed { write: Arc::default(), read: Arc::default() };
        match user {
            None if config.allows_anonymous() => Self::of_anonymous(config, client),
            None => nothing(),
            Some(name) => config.user_of(name).map_or_else(nothing, |user| Self::of(user, name, client)),
        }
    }

    /// May it publish to this topic? Those that begin with `$` are the server's: `$SYS` tells of it, and `$share/g/t`
    /// is no topic but a way to subscribe.
    pub fn may_write(&self, name: &str) -> bool {
        if name.starts_with('$') {
            return false;
        }
        match self {
            Self::All => true,
            Self::Listed { write, .. } => write.allows(name),
        }
    }

    /// May a message on this topic be delivered to it?
    pub fn may_read(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed { read, .. } => read.allows(name),
        }
    }

    /// May it hold this subscription (without its `$share` prefix)?
    pub fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed { read, .. } => read.meets(filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(read: &[&str], write: &[&str], client: &str) -> Rights {
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Rights::of(
            &UserConfig { read: list(read), write: list(write), ..UserConfig::default() },
            "ada",
            client,
        )
    }

    #[test]
    fn a_wide_subscription_is_granted_but_delivers_only_what_may_be_read() {
        let rights = rights(&["plant/ada/#"], &[], "c");
        assert!(rights.may_subscribe("#"));
        assert!(rights.may_subscribe("+/+/temp"));
        assert!(!rights.may_subscribe("other/#"));
        assert!(rights.may_read("plant/ada/temp"));
        assert!(!rights.may_read("plant/bob/temp"));
        assert!(!rights.may_subscribe("$SYS/#"));
    }

    #[test]
    fn placeholders_are_filled_once_and_never_with_a_wildcard() {
        assert!(rights(&[], &["d/%c/#"], "p7").may_write("d/p7/x"));
        for evil in ["#", "+", "a/b", ""] {
            assert!(!rights(&[], &["d/%c/#"], evil).may_write("d/anything/x"), "{evil:?}");
        }
        assert!(!rights(&[], &["d/%c"], "%u").may_write("d/ada"));
        assert!(rights(&[], &["%u/100%"], "c").may_write("ada/100%"));
    }

    #[test]
    fn no_name_and_no_client_id_makes_a_pattern_wider_or_one_of_the_servers() {
        let user = UserConfig {
            read: vec!["%u/#".into(), "%c/#".into(), "d/%u".into()],
            write: vec!["%u".into(), "w/%c/+".into()],
            ..UserConfig::default()
        };
        for evil in ["#", "+", "$SYS", "a/b", "+/+", "/", "", "\0", "$share/g"] {
            let rights = Rights::of(&user, evil, evil);
            for topic in ["$SYS/broker/uptime", "a/b", "d/x", "x/y/z", "a", "#", "w/a/b"] {
                assert!(!rights.may_read(topic) && !rights.may_write(topic), "{evil:?} {topic}");
            }
            for filter in ["#", "$SYS/#", "a/#", "x/+/z"] {
                let harmless = filter == "#" && evil == "$SYS";
                assert!(harmless || !rights.may_subscribe(filter), "{evil:?} {filter}");
            }
        }
        assert!(Rights::of(&user, "ada", "c7").may_read("ada/x"));
    }

    #[test]
    fn nobody_publishes_to_a_topic_of_the_server() {
        for name in ["$SYS/broker/uptime", "$share/g/t", "$share", "$other/x", "$"] {
            assert!(!Rights::All.may_write(name), "{name}");
            assert!(!rights(&[], &["#", "$SYS/#", "$share/#", name], "c").may_write(name), "{name}");
        }
        assert!(Rights::All.may_write("price/$"));
    }
}
