//! The authority of a console (the people's door) whose certificate isn't the collector's own: what `--ca-file` named when the
//! host joined. A copy is kept in the enrolment's folder, since renewals need it for years, and the file that was named may be
//! gone by then, or not for the agent's user to read.
//!
//! That file still counts where it can be read, beside the copy: an authority that is replaced there is believed without
//! joining again, and copied anew once the console is seen to be of it. Nothing that is wrong with either keeps the collector's own authority from being believed.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio_rustls::rustls::RootCertStore;

use super::https::{Door, Pin};
use super::join::{address, door};
use super::{EnrolError, Enrolled};

/// How long the console is waited for where nothing depends on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Certificates of authorities.
pub(super) type Authorities = Vec<CertificateDer<'static>>;

/// The authorities in a file that a person named.
///
/// # Errors
/// [`EnrolError::Authority`] when it can't be read, or holds none.
pub(super) fn given(path: &Path) -> Result<Authorities, EnrolError> {
    read(path).map_err(|why| EnrolError::Authority { path: path.to_owned(), why })
}

/// The authorities in a file, one at least that can be believed; or what is wrong with it.
fn read(path: &Path) -> Result<Authorities, String> {
    let found = crate::tls::all(path).map_err(|error| match error {
        rustls_pki_types::pem::Error::Io(error) => error.to_string(),
        error => format!("it is damaged: {error}"),
    })?;
    if found.is_empty() {
        return Err("it holds no certificate".into());
    }
    let (sound, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    if sound == 0 {
        return Err("it holds no certificate that can be read: it is damaged".into());
    }
    Ok(found)
}

/// The PEM text of a copy: certificates alone, whatever else stands in the file.
pub(super) fn pem(authorities: &Authorities) -> String {
    authorities.iter().map(|one| super::csr::pem("CERTIFICATE", one)).collect()
}

/// Whom an enrolment believes at the console beside the collector's own authority: `None`, the system's authorities; and what
/// is missing, when it joined by an authority that isn't at hand.
pub(super) fn believed(enrolled: &Enrolled) -> (Option<Authorities>, Option<String>) {
    let (copy, named) = (enrolled.folder.console_file(), enrolled.joined.ca_file.as_deref());
    let kept = copy.exists().then(|| read(&copy));
    if named.is_none() && kept.is_none() {
        return (None, None);
    }
    let named = named.map(|path| (path, read(path)));
    let lack = match (&kept, &named) {
        (Some(Ok(_)), _) | (_, Some((_, Ok(_)))) => None,
        (Some(Err(why)), _) => Some(format!("{} can't be used ({why})", copy.display())),
        (None, Some((path, Err(why)))) => {
            Some(format!("{} can't be used ({why}), and there is no copy of it", path.display()))
        }
        (None, None) => None,
    };
    let found = [kept, named.map(|(_, read)| read)].into_iter().flatten().flatten().flatten();
    (Some(found.collect()), lack)
}

/// Where the authority of an enrolment's console belongs, for whoever put another certificate there.
pub(super) fn way_out(enrolled: &Enrolled) -> String {
    let copy = enrolled.folder.console_file();
    let or = match &enrolled.joined.ca_file {
        Some(named) => format!(", or into {}", named.display()),
        None => String::new(),
    };
    format!(
        "put the PEM file of the authority that signed it at {}{or}, readable by the agent's user: the agent takes it up within an hour. Or enroll the host again with --ca-file",
        copy.display()
    )
}

/// Copies the authority where there is no copy that can be used, as in an enrolment that an older version made, which kept its
/// path alone; no matter when it can't be read: there may be a time when it can.
pub(super) fn adopt(enrolled: &Enrolled) {
    if let Some(path) = &enrolled.joined.ca_file
        && read(&enrolled.folder.console_file()).is_err()
        && let Ok(found) = read(path)
    {
        keep(enrolled, path, &found);
    }
}

/// Copies the authority anew where the file that was named holds another one by now, and the console is seen to be of it. A
/// file that was left as it was must not take the place of what somebody put into the copy since.
pub(super) async fn refresh(enrolled: &Enrolled) {
    let Some((path, found)) = other_than_copied(enrolled) else { return };
    let Ok(door) = Door::new(address(&enrolled.joined), Pin::Nobody, Some(found.clone())) else { return };
    match door.meet(PATIENCE).await {
        Ok(()) => keep(enrolled, path, &found),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "the console isn't seen to be of the authority in this file, which isn't copied")
        }
    }
}

/// The file that was named, and the authorities in it, where those aren't the ones in the copy.
fn other_than_copied(enrolled: &Enrolled) -> Option<(&Path, Authorities)> {
    let path = enrolled.joined.ca_file.as_deref()?;
    let (found, copied) = (read(path).ok()?, read(&enrolled.folder.console_file()).ok()?);
    (found != copied).then_some((path, found))
}

fn keep(enrolled: &Enrolled, path: &Path, found: &Authorities) {
    match enrolled.folder.keep_console(&pem(found)) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "the console's authority is copied into the enrolment")
        }
        Err(error) => {
            tracing::warn!(%error, "the console's authority can't be copied into the enrolment")
        }
    }
}

/// What may keep the certificate from being renewed, though nothing else is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What, and why.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl Enrolled {
    /// That the console, asked within this time, shows a certificate which isn't believed: `None` where it is, and where that
    /// can't be seen.
    pub async fn console_refused(&self, patience: Duration) -> Option<Doubt> {
        match door(self).ok()?.meet(patience).await {
            Err(EnrolError::Untrusted { url, why, remedy }) => Some(Doubt {
                found: format!(
                    "it can't be renewed, since what the console at {url} shows isn't trusted: {why}"
                ),
                remedy,
            }),
            _ => None,
        }
    }

    /// That the console's authority by which the host joined isn't kept here, or another one than the file holds. `None`: all
    /// is well, or it joined without one.
    pub fn console_doubt(&self) -> Option<Doubt> {
        let copy = self.folder.console_file();
        if let Some(lack) = self.console_lack() {
            return Some(Doubt {
                found: format!(
                    "it can't be renewed where the console's certificate is of the authority by which this host joined (--ca-file): {lack}"
                ),
                remedy: format!(
                    "put that authority's PEM file at {}, readable by the agent's user: the agent takes it up within an hour",
                    copy.display()
                ),
            });
        }
        let (path, _) = other_than_copied(self)?;
        Some(Doubt {
            found: format!(
                "{} and the copy {} hold different certificates: renewals believe both, and the copy alone once that file is gone",
                path.display(),
                copy.display()
            ),
            remedy: format!(
                "leave {} there until the agent has copied it: within an hour, when its user may read it and the console's certificate is of an authority in it. If the copy is the right one, remove it",
                path.display()
            ),
        })
    }

    fn console_lack(&self) -> Option<String> {
        let (_, lack) = believed(self);
        let copy = self.folder.console_file();
        lack.or_else(|| match &self.joined.ca_file {
            Some(path) if !copy.exists() => {
                Some(format!("it stands in {} alone, and the agent has made no copy: its user may not be able to read that", path.display()))
            }
            _ if copy.exists() => read(&copy).err().map(|why| format!("{} can't be used ({why})", copy.display())),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use std::sync::Arc;

    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_util::sync::CancellationToken;

    use super::super::csr::Key;
    use super::super::folder::{Folder, Joined};
    use super::super::{keep_renewed, renew};
    use super::*;
    use crate::Host;
    use crate::state::LinkState;

    /// Some authority's certificate, in PEM.
    const PEM: &str = include_str!("testdata/authority.pem");

    fn enrolled(data: &Path, ca_file: Option<PathBuf>, copy: Option<&str>) -> Enrolled {
        enrolled_at("https://c:8420/#/first", data, ca_file, copy)
    }

    fn enrolled_at(collector: &str, data: &Path, ca_file: Option<PathBuf>, copy: Option<&str>) -> Enrolled {
        let folder = Folder::of(data);
        let _: Key = folder.new_key().unwrap();
        let joined = Joined {
            agent: "a".into(),
            site: String::new(),
            // As an older version kept an address with more than a host.
            collector: collector.into(),
            gateway: "https://c:8421".into(),
            server_name: String::new(),
            ca_file,
        };
        folder.put(&joined, PEM, copy, None).unwrap();
        folder.load().unwrap().unwrap()
    }

    #[test]
    fn a_file_without_a_certificate_is_no_authority_and_says_so() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("ca.pem");
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (content, why) in
            [("", "it holds no certificate"), ("hello\n", "it holds no certificate"), (damaged, "damaged")]
        {
            std::fs::write(&path, content).unwrap();
            let error = given(&path).unwrap_err();
            assert!(error.is_wrong_use() && error.to_string().contains(why), "{error}");
        }
        std::fs::write(&path, format!("what else stands there\n{PEM}")).unwrap();
        assert_eq!(pem(&given(&path).unwrap()).lines().next(), PEM.lines().next());
    }

    #[test]
    fn who_joined_by_an_authority_goes_on_when_its_file_is_gone() {
        let (data, away) = (tempfile::tempdir().unwrap(), Path::new("/no/such/ca.pem"));
        let it = enrolled(data.path(), Some(away.into()), Some(PEM));
        assert_eq!(believed(&it).0.unwrap().len(), 1);
        assert_eq!(it.console_doubt(), None);
        assert!(super::super::join::door(&it).is_ok());
        std::fs::write(it.folder.console_file(), "").unwrap();
        let said = it.console_doubt().unwrap().found;
        assert!(said.contains("console-ca.pem can't be used (it holds no certificate)"), "{said}");
        assert!(super::super::join::door(&it).is_ok(), "the collector's own is believed");
    }

    #[test]
    fn an_enrolment_that_kept_a_path_alone_gets_a_copy_while_it_can() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("corporate.pem");
        let it = enrolled(data.path(), Some(path.clone()), None);
        let said = it.console_doubt().unwrap().found;
        assert!(said.contains("corporate.pem can't be used (") && said.contains("no copy"), "{said}");
        adopt(&it);
        assert_eq!(believed(&it).0.unwrap().len(), 0);
        assert!(super::super::join::door(&it).is_ok(), "the collector's own is believed");
        std::fs::write(&path, PEM).unwrap();
        assert!(it.console_doubt().unwrap().found.contains("alone"));
        adopt(&it);
        std::fs::remove_file(&path).unwrap();
        assert_eq!((it.console_doubt(), believed(&it).0.unwrap().len()), (None, 1));
    }

    /// An authority of openssl's making, in a folder of its own, and what it has signed.
    struct Signer(tempfile::TempDir);

    impl Signer {
        fn new() -> Self {
            let it = Self(tempfile::tempdir().unwrap());
            let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
            it.openssl(&format!("req -x509 {key} ca.key -out ca.pem -days 2 -subj /CN=authority"));
            it.openssl(&format!("req {key} console.key -out console.csr -subj /CN=console"));
            it.sign("console");
            it
        }

        /// Makes a certificate for the request NAME.csr.
        fn sign(&self, name: &str) {
            std::fs::write(self.file("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
            let by = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
            self.openssl(&format!("x509 -req -in {name}.csr {by} -out {name}.pem"));
        }

        fn openssl(&self, arguments: &str) {
            let mut command = std::process::Command::new("openssl");
            let done = command.args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.file(name)).unwrap()
        }

        /// The address of a console that shows what this authority signed, and says nothing.
        async fn console(&self) -> String {
            let chain = given(&self.file("console.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(self.text("console.key").as_bytes()).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            tokio::spawn(async move {
                loop {
                    let (link, _) = listener.accept().await.unwrap();
                    drop(acceptor.accept(link).await);
                }
            });
            format!("https://127.0.0.1:{port}")
        }
    }

    struct Here;

    impl Host for Here {
        fn wall(&self) -> i64 {
            jiff::Timestamp::now().as_nanosecond() as i64
        }
        fn mono(&self) -> u64 {
            0
        }
        fn status_json(&self) -> String {
            "{}".into()
        }
    }

    #[tokio::test]
    async fn an_authority_that_is_replaced_in_the_named_file_is_copied_and_the_file_may_go() {
        let (old, new, own) = (Signer::new(), Signer::new(), Signer::new());
        let data = tempfile::tempdir().unwrap();
        let named = data.path().join("corporate.pem");
        std::fs::write(&named, new.text("ca.pem")).unwrap();
        let it =
            enrolled_at(&new.console().await, data.path(), Some(named.clone()), Some(&old.text("ca.pem")));
        let doubt = it.console_doubt().unwrap();
        assert!(doubt.found.contains("hold different certificates"), "{doubt:?}");
        // With a good certificate the agent only looks after it.
        std::fs::write(own.file("host.csr"), it.folder.key().unwrap().request("a").unwrap()).unwrap();
        own.sign("host");
        std::fs::write(it.folder.ca_file(), own.text("ca.pem")).unwrap();
        std::fs::write(it.folder.cert_file(), own.text("host.pem")).unwrap();
        let copied = async {
            while read(&it.folder.console_file()) != read(&named) {
                tokio::task::yield_now().await;
            }
        };
        let (host, link): (Arc<dyn Host>, _) = (Arc::new(Here), Arc::new(LinkState::default()));
        tokio::select! {
            () = keep_renewed(it.folder.clone(), host, link, CancellationToken::new()) => unreachable!(),
            copied = tokio::time::timeout(Duration::from_secs(60), copied) => copied.unwrap(),
        }
        std::fs::remove_file(&named).unwrap();
        assert_eq!((it.console_doubt(), it.console_refused(PATIENCE).await), (None, None));
    }

    #[tokio::test]
    async fn a_file_that_was_left_as_it_was_does_not_undo_what_was_put_into_the_copy() {
        let (old, new) = (Signer::new(), Signer::new());
        let data = tempfile::tempdir().unwrap();
        let copy = new.text("ca.pem");
        let it = enrolled_at(&new.console().await, data.path(), Some(old.file("ca.pem")), Some(&copy));
        refresh(&it).await;
        assert_eq!(std::fs::read_to_string(it.folder.console_file()).unwrap(), copy);
        assert!(it.console_doubt().unwrap().remedy.contains("remove it"));
    }

    #[tokio::test]
    async fn a_console_of_an_authority_that_is_not_believed_is_told_with_the_file_that_is_read() {
        let (old, new) = (Signer::new(), Signer::new());
        let data = tempfile::tempdir().unwrap();
        let it = enrolled_at(
            &new.console().await,
            data.path(),
            Some("/no/such/ca.pem".into()),
            Some(&old.text("ca.pem")),
        );
        std::fs::write(it.folder.ca_file(), old.text("ca.pem")).unwrap();
        let refused = renew(&it).await.unwrap_err().to_string();
        let doubt = it.console_refused(PATIENCE).await.unwrap();
        for said in [&refused, &format!("{}: {}", doubt.found, doubt.remedy)] {
            assert!(said.contains("signed by no authority that this host believes"), "{said}");
            assert!(
                said.contains("identity/console-ca.pem, or into /no/such/ca.pem")
                    && said.contains("--ca-file"),
                "{said}"
            );
            assert!(!said.contains("uplink."), "{said}");
        }
        std::fs::write(it.folder.console_file(), new.text("ca.pem")).unwrap();
        assert_eq!(it.console_refused(PATIENCE).await, None);
    }
}
