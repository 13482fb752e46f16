//! The authority of a console (the people's door) whose certificate isn't the collector's own: what `--ca-file` named when the
//! host joined. A copy is kept in the enrolment's folder, since renewals need it for years, and the file that was named may be
//! gone by then, or not for the agent's user to read.
//!
//! That file still counts where it can be read, beside the copy: an authority that is replaced there is believed without
//! joining again. Nothing that is wrong with either keeps the collector's own authority from being believed.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use tokio_rustls::rustls::RootCertStore;

use super::{EnrolError, Enrolled};

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

/// Copies the authority of an enrolment that an older version made, which kept its path alone; no matter when it can't be read:
/// there may be a time when it can.
pub(super) fn adopt(enrolled: &Enrolled) {
    if let Some(path) = &enrolled.joined.ca_file
        && !enrolled.folder.console_file().exists()
        && let Ok(found) = read(path)
    {
        match enrolled.folder.keep_console(&pem(&found)) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "the console's authority is copied into the enrolment")
            }
            Err(error) => {
                tracing::warn!(%error, "the console's authority can't be copied into the enrolment")
            }
        }
    }
}

impl Enrolled {
    /// What may keep the certificate from being renewed, though nothing else is wrong: the console's authority by which the
    /// host joined isn't kept here. `None`: all is well, or it joined without one.
    pub fn console_doubt(&self) -> Option<String> {
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

    use super::super::csr::Key;
    use super::super::folder::{Folder, Joined};
    use super::*;

    /// Some authority's certificate, in PEM.
    const PEM: &str = include_str!("testdata/authority.pem");

    fn enrolled(data: &Path, ca_file: Option<PathBuf>, copy: Option<&str>) -> Enrolled {
        let folder = Folder::of(data);
        let _: Key = folder.new_key().unwrap();
        let joined = Joined {
            agent: "a".into(),
            site: String::new(),
            // As an older version kept an address with more than a host.
            collector: "https://c:8420/#/first".into(),
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
        let said = it.console_doubt().unwrap();
        assert!(said.contains("console-ca.pem can't be used (it holds no certificate)"), "{said}");
        assert!(super::super::join::door(&it).is_ok(), "the collector's own is believed");
    }

    #[test]
    fn an_enrolment_that_kept_a_path_alone_gets_a_copy_while_it_can() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("corporate.pem");
        let it = enrolled(data.path(), Some(path.clone()), None);
        let said = it.console_doubt().unwrap();
        assert!(said.contains("corporate.pem can't be used (") && said.contains("no copy"), "{said}");
        adopt(&it);
        assert_eq!(believed(&it).0.unwrap().len(), 0);
        assert!(super::super::join::door(&it).is_ok(), "the collector's own is believed");
        std::fs::write(&path, PEM).unwrap();
        assert!(it.console_doubt().unwrap().contains("alone"));
        adopt(&it);
        std::fs::remove_file(&path).unwrap();
        assert_eq!((it.console_doubt(), believed(&it).0.unwrap().len()), (None, 1));
    }
}
