//! Whose a client id is. A session belongs to the user who began it (handshake.rs), so without more whoever comes first
//! has an id, and its device is refused. `client_ids` of a user settles that beforehand:
//!
//! - what an entry's patterns name is for its users alone: anybody else is refused, also who has no such list;
//! - of two entries that name an id the one has it that names it more closely: "plant-2-*" before "plant-*";
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
    let found = user.and_then(|name| Some((name, config.user_of(name)?)));
    let own = found.and_then(|(name, entry)| own_claim(entry, name, client));
    if let (Some((name, entry)), None) = (found, own)
        && !entry.client_ids.is_empty()
        && !is_assigned(client)
    {
        return Err(format!(
            "its client id is none of the client_ids of its user {:?}: {:?}",
            shorten(name),
            entry.client_ids
        ));
    }
    let is_own = |other: &UserConfig| found.is_some_and(|(_, entry)| std::ptr::eq(entry, other));
    // Of two that name it as closely, the first entry has it.
    let mut before = true;
    for other in &config.users {
        if is_own(other) {
            before = false;
            continue;
        }
        let Some(theirs) = others_claim(other, found, client) else { continue };
        if own.is_none_or(|own| theirs > own || before && theirs == own) {
            return Err(format!(
                "its client id is another user's: client_ids of user {:?} name it",
                other.name
            ));
        }
    }
    Ok(())
}

/// How closely a pattern names an id: without a star, or by its other characters.
type Closeness = (bool, usize);

fn closeness(pattern: &str, name: &str) -> Closeness {
    let literal = pattern.replace("%u", name).chars().filter(|letter| *letter != '*').count();
    if pattern.contains('*') { (false, literal) } else { (true, 0) }
}

/// How closely a user's own entry names an id for it; `None` when it doesn't.
fn own_claim(entry: &UserConfig, name: &str, client: &str) -> Option<Closeness> {
    // A name with a star, which a certificate may show, must not make a pattern wider.
    let plain = !name.contains('*');
    let patterns = entry.client_ids.iter().filter(|pattern| plain || !pattern.contains("%u"));
    let fitting = patterns.filter(|pattern| fits(&pattern.replace("%u", name), client));
    fitting.map(|pattern| closeness(pattern, name)).max()
}

/// How closely another entry names an id, for any of its users; `asks` is who wants it.
fn others_claim(other: &UserConfig, asks: Option<(&str, &UserConfig)>, client: &str) -> Option<Closeness> {
    // Of a pattern's users any may be meant: their names are left open. One whose entry is of just its name is none of them,
    // and what would be its own there is nobody else's.
    let leaves = |pattern: &str| {
        asks.is_some_and(|(name, entry)| {
            entry.name == name
                && other.name.contains('*')
                && pattern.contains("%u")
                && fits(&other.name, name)
                && fits(&pattern.replace("%u", name), client)
        })
    };
    let patterns = other.client_ids.iter().filter(|pattern| !leaves(pattern));
    let fitting = patterns.filter(|pattern| fits(&pattern.replace("%u", &other.name), client));
    fitting.map(|pattern| closeness(pattern, &other.name)).max()
}

/// Checks the lists of all users: one that names every id would leave none to who has no list, and what two users have is
/// neither's.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_lists(users: &[UserConfig]) -> Result<(), String> {
    let mut seen: Vec<(String, &str)> = Vec::new();
    for user in users {
        for pattern in &user.client_ids {
            if !pattern.is_empty() && pattern.bytes().all(|byte| byte == b'*') {
                return Err(format!(
                    "client_ids of user {:?} name every client id, and nobody else could have one: leave client_ids out, or name those that are its own",
                    user.name
                ));
            }
            let meant = once(&pattern.replace("%u", &user.name));
            if let Some((_, whose)) =
                seen.iter().find(|(other, whose)| *other == meant && *whose != user.name)
            {
                return Err(format!(
                    "client_ids of users {whose:?} and {:?} name the same: {pattern:?} is {meant:?}; leave it with one of them",
                    user.name
                ));
            }
            seen.push((meant, &user.name));
        }
    }
    Ok(())
}

/// A pattern with one star where several stand together, which name the same.
fn once(pattern: &str) -> String {
    let mut out = pattern.to_owned();
    while out.contains("**") {
        out = out.replace("**", "*");
    }
    out
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

    #[test]
    fn of_two_entries_that_name_an_id_the_one_has_it_that_names_it_more_closely() {
        for turned in [false, true] {
            let mut users: Vec<(&str, &[&str])> =
                vec![("plant", &["%u-*"]), ("plant-2", &["%u-*"]), ("ada", &["plant-2-pump", "pump*"])];
            if turned {
                users.reverse();
            }
            let config = config(&users);
            for (user, id) in
                [("plant", "plant-1"), ("plant-2", "plant-2-a"), ("ada", "plant-2-pump"), ("ada", "pump")]
            {
                for (other, _) in &users {
                    let found = check(&config, Some(other), id);
                    assert_eq!(found.is_ok(), *other == user, "{other} {id}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn as_closely_named_by_two_it_is_the_first_entrys() {
        let config = config(&[("ada", &["a*"]), ("bob", &["*b"])]);
        assert_eq!(check(&config, Some("ada"), "ab"), Ok(()));
        assert!(check(&config, Some("bob"), "ab").is_err());
    }

    #[test]
    fn an_entry_of_just_a_name_keeps_what_is_its_own_beside_a_pattern_that_fits_it() {
        for own in [&[][..], &["%u"], &["sensor-*"]] {
            let config = config(&[("sensor-*", &["%u", "%u:*"]), ("sensor-9", own), ("eve", &[])]);
            assert_eq!(check(&config, Some("sensor-9"), "sensor-9"), Ok(()), "{own:?}");
            assert!(check(&config, Some("sensor-9"), "sensor-8").is_err());
            for other in ["sensor-8", "eve"] {
                assert!(check(&config, Some(other), "sensor-9").is_err(), "{other}");
            }
        }
        let config = config(&[("sensor-*", &["%u:*"]), ("sensor-9", &[])]);
        assert_eq!(check(&config, Some("sensor-9"), "sensor-9:a"), Ok(()));
        assert!(check(&config, Some("sensor-9"), "sensor-8:a").is_err());
    }

    #[test]
    fn lists_that_name_the_same_or_everything_are_refused_with_what_to_do() {
        let said = |users: &[(&str, &[&str])]| check_lists(&config(users).users).unwrap_err();
        let same = said(&[("ada", &["pump7"]), ("bob", &["b", "pump7"])]);
        assert!(same.contains("\"ada\" and \"bob\"") && same.contains("one of them"), "{same}");
        assert!(said(&[("ada", &["%u-*"]), ("bob", &["ada-*"])]).contains("name the same"));
        assert!(said(&[("ada", &["a**-*"]), ("bob", &["a*-***"])]).contains("name the same"));
        assert!(said(&[("ada-*", &["%u*"]), ("bob", &["ada-*"])]).contains("name the same"));
        assert!(said(&[("ada", &["*"])]).contains("leave client_ids out"));
        let fine = config(&[("ada", &["%u-*", "ada-*"]), ("bob", &["%u-*"])]);
        assert_eq!(check_lists(&fine.users), Ok(()));
    }
}
