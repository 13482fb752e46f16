//! Who a connection is: a password, a certificate, or neither; by the configuration of this moment.
//!
//! | shows | is |
//! |---|---|
//! | name and password | the user of that name; one with `certificate = true` must show the certificate too |
//! | a certificate only | the user of the certificate's name, with `certificate = true` and no password |
//! | neither | anonymous, where that is allowed |
//!
//! A certificate and another name in CONNECT without a password is neither: it is refused.

use std::net::IpAddr;
use std::sync::Arc;

use rumqttd::protocol::ConnectReturnCode;
use rustls_pki_types::CertificateDer;

use super::acl::Rights;
use super::attempts::Attempts;
use super::auth::{HashError, Users, Verdict};
use super::client_ids;
use super::codec::shorten;
use super::config::{MqttConfig, UserConfig};

/// Longest user name, given or configured.
pub const MAX_NAME: usize = 256;

/// A client's certificate, found trusted.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The user's name in it, or why there is none.
    pub name: Result<Arc<str>, super::certificate::NameError>,
    /// The whole chain, to be judged again when the authorities or the list of revoked ones change.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// The other side of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is.
    pub address: IpAddr,
    /// What it showed over TLS.
    pub certificate: Option<Presented>,
}

/// Why a CONNECT is refused: what the client is told, and what the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For CONNACK.
    pub code: ConnectReturnCode,
    /// For the log and the reject list; "" where the code says all.
    pub why: String,
}

impl From<ConnectReturnCode> for Refused {
    fn from(code: ConnectReturnCode) -> Self {
        Self { code, why: String::new() }
    }
}

fn refused(code: ConnectReturnCode, why: impl Into<String>) -> Refused {
    Refused { code, why: why.into() }
}

/// The part of the configuration that says who may do what; a reload puts another in its place.
pub struct Access {
    /// Users, lists, anonymous; the rest of it is not looked at here.
    pub config: MqttConfig,
    users: Arc<Users>,
}

impl Access {
    /// From a section that was checked; `before` is what it takes the place of.
    ///
    /// # Errors
    /// [`HashError`].
    pub fn new(config: MqttConfig, before: Option<&Self>) -> Result<Arc<Self>, HashError> {
        let users = Users::new(&config.users, before.map(|before| &*before.users))?;
        Ok(Arc::new(Self { config, users }))
    }

    /// What a session's client may do.
    pub fn rights(&self, user: Option<&str>, client: &str) -> Rights {
        Rights::of_session(&self.config, user, client)
    }

    /// May a client of this user have this client id?
    ///
    /// # Errors
    /// [`Refused`].
    pub fn may_have(&self, user: Option<&str>, client: &str) -> Result<(), Refused> {
        client_ids::check(&self.config, user, client)
            .map_err(|why| refused(ConnectReturnCode::ClientIdentifierNotValid, why))
    }

    /// May a session go on: is there (still) such a user, and may it have this client id?
    pub fn keeps_session(&self, user: Option<&str>, client: &str) -> bool {
        self.knows(user) && client_ids::check(&self.config, user, client).is_ok()
    }

    /// Is there (still) such a user? `None` is one without a name.
    pub fn knows(&self, user: Option<&str>) -> bool {
        user.map_or_else(|| self.config.allows_anonymous(), |name| self.config.user_of(name).is_some())
    }

    /// May the connection of a user stay, that came in under `before`? Not when it would have to show something else now.
    pub fn keeps(&self, before: &Self, user: Option<&str>, address: IpAddr) -> bool {
        let Some(name) = user else { return self.config.allows_anonymous_from(address) };
        let shows = |entry: &UserConfig| (entry.password_hash.clone(), entry.certificate);
        let now = self.config.user_of(name).map(shows);
        now.is_some() && now == before.config.user_of(name).map(shows)
    }

    /// Who is it? `None` is a client without a name.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn identify(
        &self,
        attempts: &Attempts,
        login: Option<&(String, String)>,
        peer: &Peer,
    ) -> Result<Option<Arc<str>>, Refused> {
        use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        let config = &self.config;
        // Where nobody has a name, one that is given means nothing.
        let login = login.filter(|_| !config.users.is_empty());
        let (name, password) = login.map_or(("", ""), |(name, password)| (name, password));
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(refused(
                BadUserNamePassword,
                "the user name is too long or holds control characters",
            ));
        }
        if !password.is_empty() {
            return self.by_password(attempts, name, password, peer).await;
        }
        match &peer.certificate {
            Some(presented) if !config.users.is_empty() => {
                let shown = presented.name.as_ref().map_err(|why| refused(NotAuthorized, why.to_string()))?;
                if !name.is_empty() && *name != **shown {
                    let why = format!(
                        "it shows the certificate of {:?} and says it were {:?}",
                        shorten(shown),
                        shorten(name)
                    );
                    return Err(refused(NotAuthorized, why));
                }
                self.by_certificate(shown)
            }
            _ if login.is_some() => Err(refused(BadUserNamePassword, "a user name without a password")),
            _ if config.allows_anonymous_from(peer.address) => Ok(None),
            _ => {
                Err(refused(NotAuthorized, "no user name, and clients without one aren't let in from there"))
            }
        }
    }

    async fn by_password(
        &self,
        attempts: &Attempts,
        name: &str,
        password: &str,
        peer: &Peer,
    ) -> Result<Option<Arc<str>>, Refused> {
        use ConnectReturnCode::{BadUserNamePassword, NotAuthorized, ServerBusy};
        if !self.users.remembers(name, password) {
            let many = |_| refused(ServerBusy, "too many wrong passwords from its address");
            attempts.turn(peer.address).await.map_err(many)?;
            match self.users.verify(name, password).await {
                Verdict::Right => {}
                Verdict::Wrong => {
                    attempts.wrong(peer.address);
                    let why = format!("no user {:?} with this password", shorten(name));
                    return Err(refused(BadUserNamePassword, why));
                }
                Verdict::Busy => return Err(refused(ServerBusy, "too many passwords wait to be checked")),
            }
        }
        // Asked last: a wrong password tells nothing of whom there is.
        let Some(entry) = self.config.user_of(name) else {
            return Err(refused(NotAuthorized, format!("user {:?} is revoked", shorten(name))));
        };
        let shown = peer.certificate.as_ref().and_then(|presented| presented.name.as_deref().ok());
        if entry.certificate && shown != Some(name) {
            let why = format!("user {:?} must show the certificate of that name too", shorten(name));
            return Err(refused(NotAuthorized, why));
        }
        Ok(Some(name.into()))
    }

    fn by_certificate(&self, name: &Arc<str>) -> Result<Option<Arc<str>>, Refused> {
        let no = |why| {
            refused(
                ConnectReturnCode::NotAuthorized,
                format!("its certificate is of {:?}, {why}", shorten(name)),
            )
        };
        match self.config.user_of(name) {
            None if self.config.is_revoked(name) => Err(no("who is revoked")),
            None => Err(no("who is no user")),
            Some(entry) if !entry.certificate => Err(no("a user who comes in by password only")),
            Some(entry) if !entry.password_hash.is_empty() => {
                Err(no("a user who must give the password too"))
            }
            Some(_) => Ok(Some(Arc::clone(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::hash_password;
    use super::super::certificate::NameError;
    use super::*;

    const NEAR: [u8; 4] = [127, 0, 0, 1];
    const FAR: [u8; 4] = [10, 1, 2, 3];

    fn shows(name: Result<&str, NameError>) -> Option<Presented> {
        Some(Presented { name: name.map(Arc::from), chain: Arc::new([]) })
    }

    async fn who(
        config: &MqttConfig,
        login: Option<(&str, &str)>,
        address: [u8; 4],
        certificate: Option<Presented>,
    ) -> Result<Option<String>, ConnectReturnCode> {
        let access = Access::new(config.clone(), None).unwrap();
        let login = login.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let peer = Peer { address: address.into(), certificate };
        let found = access.identify(&Attempts::new(10), login.as_ref(), &peer).await;
        found.map(|name| name.map(|name| name.to_string())).map_err(|refused| refused.code)
    }

    fn users() -> Vec<UserConfig> {
        let by_password = |name: &str, certificate| UserConfig {
            name: name.into(),
            password_hash: hash_password("p").unwrap(),
            certificate,
            ..UserConfig::default()
        };
        let many = UserConfig { name: "s*".into(), certificate: true, ..UserConfig::default() };
        vec![by_password("ada", false), by_password("both", true), many]
    }

    #[tokio::test]
    async fn without_a_name_only_this_host_is_let_in_and_the_networks_that_are_named() {
        use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        let open = MqttConfig::default();
        assert_eq!(who(&open, None, NEAR, None).await, Ok(None));
        assert_eq!(who(&open, None, FAR, None).await, Err(NotAuthorized));
        let named = MqttConfig { anonymous_from: vec!["10.0.0.0/8".parse().unwrap()], ..open };
        assert_eq!(who(&named, None, FAR, None).await, Ok(None));
        assert_eq!(who(&named, None, [192, 168, 0, 1], None).await, Err(NotAuthorized));
        // Beside users, and a name that is given must be right.
        let beside = MqttConfig { users: users(), anonymous: Some(true), ..named.clone() };
        assert_eq!(who(&beside, None, FAR, None).await, Ok(None));
        assert_eq!(who(&beside, Some(("ada", "x")), NEAR, None).await, Err(BadUserNamePassword));
        assert_eq!(who(&beside, Some(("", "x")), NEAR, None).await, Err(BadUserNamePassword));
        assert_eq!(who(&beside, Some(("ada", "")), NEAR, None).await, Err(BadUserNamePassword));
        // A certificate of nobody is not the same as none.
        assert_eq!(who(&beside, None, NEAR, shows(Ok("nobody"))).await, Err(NotAuthorized));
        let closed = MqttConfig { anonymous: None, ..beside };
        assert_eq!(who(&closed, None, NEAR, None).await, Err(NotAuthorized));
    }

    #[tokio::test]
    async fn a_password_a_certificate_or_both_say_who_it_is() {
        use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        let config = MqttConfig { users: users(), revoked: vec!["s9".into()], ..MqttConfig::default() };
        let ok = |name: &str| Ok(Some(name.to_owned()));
        let cases = [
            (Some(("ada", "p")), None, ok("ada")),
            (Some(("ada", "p")), shows(Ok("s1")), ok("ada")),
            (Some(("both", "p")), shows(Ok("both")), ok("both")),
            (Some(("both", "p")), shows(Ok("s1")), Err(NotAuthorized)),
            (Some(("both", "p")), None, Err(NotAuthorized)),
            (Some(("both", "x")), shows(Ok("both")), Err(BadUserNamePassword)),
            (None, shows(Ok("both")), Err(NotAuthorized)),
            (None, shows(Ok("s1")), ok("s1")),
            (Some(("s1", "")), shows(Ok("s1")), ok("s1")),
            (Some(("s2", "")), shows(Ok("s1")), Err(NotAuthorized)),
            (None, shows(Ok("s9")), Err(NotAuthorized)),
            (None, shows(Ok("ada")), Err(NotAuthorized)),
            (None, shows(Err(NameError::Unreadable)), Err(NotAuthorized)),
            (Some(("s*", "p")), None, Err(BadUserNamePassword)),
            (None, shows(Ok("s*")), ok("s*")),
        ];
        for (login, certificate, expected) in cases {
            let said = format!("{login:?} {certificate:?}");
            assert_eq!(who(&config, login, FAR, certificate).await, expected, "{said}");
        }
    }
}
