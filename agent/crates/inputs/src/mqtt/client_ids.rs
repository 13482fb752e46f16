//! Whose a client id is. A session belongs to the user who began it (handshake.rs), so without more whoever comes first
//! has an id, and its device is refused. `client_ids` of a user settles that beforehand:
//!
//! - what an entry's patterns name is for its users alone: anybody else is refused, also who has no such list;
//! - a user whose entry has patterns gets no other ids, but those that the server made up for it.

use super::codec::shorten;
use super::config::{MqttConfig, UserConfig, fits};

/// How ids begin that the server makes up for clients without one; 24 hexadecimal digits follow.
pub const ASSIGNED: &str = "auto-";

/// May a client of this user (`None`: one without a name) have this id?
///
/// # Errors
/// Why not, for the operator.
pub fn check(config: &MqttConfig, user: Option<&str>, client: &str) -> Result<(), String> {
    let entry = user.and_then(|name| config.user_of(name));
    let listed = |user: &UserConfig, name: &str| {
        // A name with a star, which a certificate may show, must not make a pattern wider.
        let plain = !name.contains('*');
        let mut patterns = user.client_ids.iter().filter(|pattern| plain || !pattern.contains("%u"));
        patterns.any(|pattern| fits(&pattern.replace("%u", name), client))
    };
    if let (Some(entry), Some(name)) = (entry, user) {
        if listed(entry, name) {
            return Ok(());
        }
        if !entry.client_ids.is_empty() && !is_assigned(client) {
            return Err(format!(
                "its client id is none of the client_ids of its user {:?}: {:?}",
                shorten(name),
                entry.client_ids
            ));
        }
    }
    let mut others =
        config.users.iter().filter(|other| !entry.is_some_and(|entry| std::ptr::eq(entry, *other)));
    // Of a pattern's users any may be meant: their names are left open.
    let keeps = |other: &&UserConfig| {
        other.client_ids.iter().any(|pattern| fits(&pattern.replace("%u", &other.name), client))
    };
    match others.find(keeps) {
        Some(owner) => {
            Err(format!("its client id is another user's: client_ids of user {:?} name it", owner.name))
        }
        None => Ok(()),
    }
}

/// Checks a configured pattern.
///
/// # Errors
/// What is wrong with it.
pub fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    match pattern {
        "" => Err("it is empty: an empty client id gets one from the server"),
        _ if pattern.contains(char::is_control) => Err("it holds control characters"),
        _ => Ok(()),
    }
}

fn is_assigned(client: &str) -> bool {
    client
        .strip_prefix(ASSIGNED)
        .is_some_and(|rest| rest.len() == 24 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(users: &[(&str, &[&str])]) -> MqttConfig {
        let of = |(name, ids): &(&str, &[&str])| UserConfig {
            name: (*name).into(),
            client_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..UserConfig::default()
        };
        MqttConfig { users: users.iter().map(of).collect(), ..MqttConfig::default() }
    }

    #[test]
    fn what_an_entry_names_is_its_users_alone_and_its_users_get_nothing_else() {
        let config = config(&[("ada", &["pump7", "%u-*"]), ("eve", &[]), ("bob", &["b"])]);
        for (user, id) in [
            (Some("ada"), "pump7"),
            (Some("ada"), "ada-1"),
            (Some("ada"), "auto-0123456789abcdef01234567"),
            (Some("eve"), "anything"),
            (None, "anything"),
        ] {
            assert_eq!(check(&config, user, id), Ok(()), "{user:?} {id}");
        }
        for (user, id) in [
            (Some("eve"), "pump7"),
            (Some("eve"), "ada-1"),
            (None, "pump7"),
            (Some("bob"), "pump7"),
            (Some("ada"), "anything"),
            (Some("ada"), "auto-1"),
            (Some("bob"), "bb"),
        ] {
            assert!(check(&config, user, id).is_err(), "{user:?} {id}");
        }
    }

    #[test]
    fn an_entry_for_many_gives_each_its_own_and_keeps_all_from_others() {
        let config = config(&[("sensor-*", &["%u"]), ("eve", &[])]);
        assert_eq!(check(&config, Some("sensor-1"), "sensor-1"), Ok(()));
        assert!(check(&config, Some("sensor-1"), "sensor-2").is_err());
        assert!(check(&config, Some("eve"), "sensor-2").is_err());
        assert!(check(&config, Some("sensor-*"), "sensor-2").is_err(), "a name is no pattern");
    }
}
