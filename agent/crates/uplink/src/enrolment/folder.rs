//! What is kept of an enrolment, in `data_dir/identity`:
//!
//! ```text
//! key.pem       the host's key, mode 0600; made here, never sent
//! ca.pem        the collector's authority
//! console-ca.pem  the authority of the people's door, where that is another one: a copy of what `--ca-file` named
//! joined.json   the agent's name, its site, where the collector is met
//! cert.pem      the certificate; missing while an operator has to approve the host
//! ```
//!
//! Any of these may be damaged or gone, as anything on a disk: then there is no link until it is mended, and the agent runs all
//! the same. Nobody removes what is there but a person; a certificate that can't be used is kept beside the next one.
//!
//! DURABILITY: a new enrolment is written whole into `identity.new` and takes the place of the old one by renames; a start
//! that finds only the new one finishes that. A renewed certificate replaces cert.pem alone, since the key stays.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use seglog::regular::{self, LONGEST};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::ring as crypto;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::EnrolError;
use super::csr::Key;
use super::fitting;
use crate::address::Address;
use crate::certificate::{Validity, public_key, validity};

const KEY: &str = "key.pem";
const CA: &str = "ca.pem";
const CONSOLE: &str = "console-ca.pem";
const CERT: &str = "cert.pem";
const JOINED: &str = "joined.json";
/// Certificates that could not be used when the next one came, so many at most: numbered from 1.
const DAMAGED: &str = "cert.pem.damaged";
const KEPT: u32 = 8;

/// What the collector said when the host joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The agent's name: the certificate is for it alone.
    pub agent: String,
    /// Its site, as the token said.
    pub site: String,
    /// The people's door, where certificates are renewed.
    pub collector: String,
    /// The agents' door.
    pub gateway: String,
    /// The name that counts in the collector's certificate; empty: the host's in the address, and the system's authorities.
    pub server_name: String,
    /// The file with an authority of the people's door, where that has a certificate of another one: a copy is kept beside
    /// this, and enrolments of older versions have the path alone.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// An enrolment, as a link uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Where it is kept.
    pub folder: Folder,
    /// What was said.
    pub joined: Joined,
}

/// The folder, and beside it the one that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    new: PathBuf,
}

impl Folder {
    /// In this data folder.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join("identity"), new: data_dir.join("identity.new") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate.
    pub fn cert_file(&self) -> PathBuf {
        self.path.join(CERT)
    }

    /// Its key.
    pub fn key_file(&self) -> PathBuf {
        self.path.join(KEY)
    }

    /// The collector's authority.
    pub fn ca_file(&self) -> PathBuf {
        self.path.join(CA)
    }

    /// The authority of the people's door, where that has a certificate of another one.
    pub fn console_file(&self) -> PathBuf {
        self.path.join(CONSOLE)
    }

    /// What is kept; `None` when the host never joined.
    ///
    /// # Errors
    /// [`EnrolError`] when it is there and can't be read.
    pub fn load(&self) -> Result<Option<Enrolled>, EnrolError> {
        let file = self.path.join(JOINED);
        let new = self.new.join(JOINED);
        if !self.path.exists() && new.exists() {
            // A start was cut short between the two renames.
            rename(&self.new, &self.path)?;
        }
        let unusable = |why: String| EnrolError::Folder { path: file.clone(), why };
        let text = match regular::read_text(&file, LONGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Put beside its key and authority: without it the host has joined all the same.
                let others = [self.key_file(), self.ca_file(), self.cert_file()];
                return match others.iter().any(|other| other.exists()) {
                    true => Err(unusable("it is missing".into())),
                    false => Ok(None),
                };
            }
            Err(error) => return Err(unread(&file, error)),
        };
        let joined: Joined = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        // The configuration is made of these.
        Address::parse("url", &joined.gateway)
            .map_err(|_| unusable(format!("its gateway {:?} is no address", joined.gateway)))?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if joined.agent.is_empty() || joined.agent.len() > 128 || !joined.agent.bytes().all(letter) {
            return Err(unusable(format!("its agent {:?} is no name", joined.agent)));
        }
        Ok(Some(Enrolled { folder: self.clone(), joined }))
    }

    /// Whether the files can be used, and belong together: of a certificate that isn't there yet nothing is asked. With
    /// `authority` that is looked at too.
    ///
    /// # Errors
    /// [`EnrolError::Folder`], naming the file, and [`EnrolError::Withheld`] where this user may not read it.
    pub fn check(&self, authority: bool) -> Result<(), EnrolError> {
        let key = self.key_file();
        let unusable = |path: PathBuf, why: String| EnrolError::Folder { path, why };
        let found = private_key(&key).map_err(|error| bad_pem(&key, error, "no key"))?;
        let key = fitting::key(found).map_err(|why| unusable(key, why))?;
        let ca = self.ca_file();
        let roots = match authority {
            true => Some(fitting::roots(&certificates(&ca)?).map_err(|why| unusable(ca, why))?),
            false => None,
        };
        let cert = self.cert_file();
        // Of another kind than a file it can't be used either.
        if std::fs::symlink_metadata(&cert).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        let chain = certificates(&cert)?;
        fitting::certificate(chain, key, roots).map_err(|why| unusable(cert, why))
    }

    /// The key of an enrolment that is under way: the one of the last try, so that a host whose answer was lost is the same
    /// to the collector; or a new one.
    pub(crate) fn new_key(&self) -> Result<Key, EnrolError> {
        let file = self.new.join(KEY);
        if let Ok(key) = private_key(&file) {
            return Key::read(key.secret_der());
        }
        if !self.new.exists() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.new);
            made.map_err(|source| EnrolError::Io { path: self.new.clone(), source })?;
            self.give(&self.new)?;
        }
        let (key, bytes) = Key::generate()?;
        self.write(&file, &super::csr::pem("PRIVATE KEY", &bytes), 0o600)?;
        Ok(key)
    }

    /// The key that is in force.
    pub(crate) fn key(&self) -> Result<Key, EnrolError> {
        let file = self.key_file();
        let key = private_key(&file).map_err(|error| bad_pem(&file, error, "no key"))?;
        Key::read(key.secret_der())
    }

    /// What frames over a site's broker are signed with, and the collector is believed by.
    pub(crate) fn signer(&self) -> Result<wire::envelope::Key, EnrolError> {
        let (path, ca) = (self.key_file(), self.ca_file());
        let unusable = |path: &PathBuf, why: String| EnrolError::Folder { path: path.clone(), why };
        let key = private_key(&path).map_err(|error| bad_pem(&path, error, "no key"))?;
        let authority = certificate(&ca).map_err(|error| bad_pem(&ca, error, "no certificate"))?;
        let point = public_key(&authority).ok_or_else(|| unusable(&ca, "it has no P-256 key".into()))?;
        wire::envelope::Key::of_host(key.secret_der(), point)
            .map_err(|error| unusable(&path, error.to_string()))
    }

    /// Puts a new enrolment in force, with the key of [`Folder::new_key`].
    pub(crate) fn put(
        &self,
        joined: &Joined,
        ca: &str,
        console: Option<&str>,
        certificate: Option<&str>,
    ) -> Result<(), EnrolError> {
        self.write(&self.new.join(CA), ca, 0o644)?;
        let copy = self.new.join(CONSOLE);
        match console {
            Some(console) => self.write(&copy, console, 0o644)?,
            // Of a try that went no further.
            None if copy.exists() => {
                std::fs::remove_file(&copy).map_err(|source| EnrolError::Io { path: copy, source })?;
            }
            None => {}
        }
        if let Some(certificate) = certificate {
            fits(certificate, &self.new.join(KEY))?;
            self.write(&self.new.join(CERT), certificate, 0o644)?;
        }
        let text = serde_json::to_string_pretty(joined)
            .map_err(|error| EnrolError::Folder { path: self.new.join(JOINED), why: error.to_string() })?;
        self.write(&self.new.join(JOINED), &text, 0o644)?;
        if self.path.exists() {
            let old = self.path.with_extension("old");
            if old.exists() {
                std::fs::remove_dir_all(&old)
                    .map_err(|source| EnrolError::Io { path: old.clone(), source })?;
            }
            rename(&self.path, &old)?;
        }
        rename(&self.new, &self.path)
    }

    /// Keeps the authority of the people's door beside an enrolment that has none.
    pub(super) fn keep_console(&self, pem: &str) -> Result<(), EnrolError> {
        self.write(&self.console_file(), pem, 0o644)
    }

    /// Replaces the certificate. One that can't be used gets another name.
    pub(crate) fn renewed(&self, certificate: &str) -> Result<(), EnrolError> {
        fits(certificate, &self.key_file())?;
        let cert = self.cert_file();
        let names = (1..=KEPT).map(|number| self.path.join(format!("{DAMAGED}.{number}")));
        if self.check(true).is_err()
            && cert.exists()
            && let Some(free) = names.into_iter().find(|name| !name.exists())
        {
            rename(&cert, &free)?;
        }
        self.write(&cert, certificate, 0o644)
    }

    /// From when until when a certificate is valid that can be used; `None` while there is none.
    pub fn usable(&self) -> Option<Validity> {
        self.check(true).ok().and_then(|()| self.validity())
    }

    /// From when until when the certificate is valid; `None` while there is none.
    pub fn validity(&self) -> Option<Validity> {
        let certificate = certificate(&self.cert_file()).ok()?;
        validity(&certificate)
    }

    /// Writes a file, whole or not at all.
    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), EnrolError> {
        let beside = path.with_extension("tmp");
        let io = |source| EnrolError::Io { path: path.to_owned(), source };
        let mut file = regular::create(&beside, mode).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        self.give(&beside)?;
        rename(&beside, path)
    }

    /// Gives what root writes to whom the data folder belongs: the agent runs as another user than the one who enrolls it.
    fn give(&self, path: &Path) -> Result<(), EnrolError> {
        let Some(owner) = self.path.parent().and_then(|data| std::fs::metadata(data).ok()) else {
            return Ok(());
        };
        let io = |source| EnrolError::Io { path: path.to_owned(), source };
        let now = std::fs::metadata(path).map_err(io)?;
        if (now.uid(), now.gid()) == (owner.uid(), owner.gid()) {
            return Ok(());
        }
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(io)
    }
}

/// The bytes of a PEM file of ours: what stands in its place and is none is not waited for.
fn pem_text(path: &Path) -> Result<Vec<u8>, pem::Error> {
    regular::read(path, LONGEST).map_err(pem::Error::Io)
}

/// The key in one.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(&pem_text(path)?)
}

/// The first certificate in one.
pub(super) fn certificate(path: &Path) -> Result<CertificateDer<'static>, pem::Error> {
    CertificateDer::from_pem_slice(&pem_text(path)?)
}

/// The certificates of a file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EnrolError> {
    let nothing = "no certificate";
    let found = pem_text(path)
        .and_then(|text| CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>())
        .map_err(|error| bad_pem(path, error, nothing))?;
    match found.is_empty() {
        true => Err(bad_pem(path, pem::Error::NoItemsFound, nothing)),
        false => Ok(found),
    }
}

/// What is wrong with a PEM file, in words.
pub(super) fn bad_pem(path: &Path, error: pem::Error, nothing: &str) -> EnrolError {
    let why = match error {
        pem::Error::NoItemsFound => format!("it holds {nothing}"),
        pem::Error::Io(error) => return unread(path, error),
        error => format!("it is damaged: {error}"),
    };
    EnrolError::Folder { path: path.to_owned(), why }
}

/// A file that isn't given: for want of rights nobody knows what is in it.
fn unread(path: &Path, source: std::io::Error) -> EnrolError {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => EnrolError::Withheld { path, source },
        _ => EnrolError::Folder { path, why: source.to_string() },
    }
}

/// Whether a certificate is of this key.
fn fits(certificate: &str, key: &Path) -> Result<(), EnrolError> {
    let bad = |error: &dyn std::fmt::Display| EnrolError::Certificate(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&error))?;
    let key = private_key(key).map_err(|error| bad_pem(key, error, "no key"))?;
    if chain.is_empty() {
        return Err(EnrolError::Certificate("it is empty".into()));
    }
    CertifiedKey::from_der(chain, key, &crypto::default_provider()).map(drop).map_err(|error| bad(&error))
}

/// The SHA-256 of the one certificate in a PEM text.
pub(crate) fn fingerprint(pem: &str) -> Option<[u8; 32]> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    digest(&SHA256, &certificate).as_ref().try_into().ok()
}

/// Renames, and makes it last.
fn rename(from: &Path, to: &Path) -> Result<(), EnrolError> {
    let io = |source| EnrolError::Io { path: to.to_owned(), source };
    std::fs::rename(from, to).map_err(io)?;
    let parent = to.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn joined(agent: &str) -> Joined {
        Joined {
            agent: agent.into(),
            site: "plant1".into(),
            collector: "https://c:8420".into(),
            gateway: "https://c:8421".into(),
            server_name: String::new(),
            ca_file: None,
        }
    }

    #[test]
    fn a_host_that_never_joined_has_no_enrolment_and_one_that_waits_has_no_certificate() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        assert_eq!(folder.load().unwrap(), None);
        folder.new_key().unwrap();
        assert_eq!(folder.load().unwrap(), None, "a key alone is none");
        folder.put(&joined("a"), "ca", None, None).unwrap();
        assert_eq!(folder.load().unwrap().unwrap().joined, joined("a"));
        assert_eq!(folder.validity(), None);
    }

    #[test]
    fn the_key_is_readable_by_its_owner_alone_and_kept_until_an_answer_came() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        folder.new_key().unwrap();
        let first = std::fs::read(data.path().join("identity.new/key.pem")).unwrap();
        folder.new_key().unwrap();
        assert_eq!(std::fs::read(data.path().join("identity.new/key.pem")).unwrap(), first);
        folder.put(&joined("a"), "ca", None, None).unwrap();
        assert_eq!(std::fs::read(folder.key_file()).unwrap(), first);
        assert_eq!(std::fs::metadata(folder.key_file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_new_enrolment_takes_the_place_of_the_old_one_also_when_the_last_step_was_cut_short() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        for name in ["a", "b", "c"] {
            folder.new_key().unwrap();
            folder.put(&joined(name), "ca", None, None).unwrap();
            assert_eq!(folder.load().unwrap().unwrap().joined.agent, name);
        }
        std::fs::rename(folder.path(), data.path().join("identity.new")).unwrap();
        assert_eq!(folder.load().unwrap().unwrap().joined.agent, "c");
    }

    #[test]
    fn a_certificate_that_is_none_is_refused_and_the_enrolment_stays_as_it_was() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        folder.new_key().unwrap();
        assert!(matches!(
            folder.put(&joined("a"), "ca", None, Some("none")),
            Err(EnrolError::Certificate(_))
        ));
        assert_eq!(folder.load().unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        std::fs::create_dir(folder.path()).unwrap();
        std::fs::write(folder.path().join(JOINED), "{").unwrap();
        assert!(folder.load().unwrap_err().to_string().contains("enroll the host again"));
    }

    #[test]
    fn what_this_user_may_not_read_is_not_called_damaged() {
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for error in [
            unread(Path::new("/i/key.pem"), denied()),
            bad_pem(Path::new("/i/key.pem"), pem::Error::Io(denied()), "no key"),
        ] {
            let broken = super::super::Broken::from(error);
            assert!(
                broken.withheld && broken.found.starts_with("/i/key.pem can't be read by this user ("),
                "{broken:?}"
            );
            assert!(
                broken.remedy.contains("run it as that user") && !broken.to_string().contains("enroll"),
                "{broken:?}"
            );
        }
        let gone = unread(Path::new("/i/key.pem"), std::io::ErrorKind::IsADirectory.into());
        assert!(!super::super::Broken::from(gone).withheld);
    }

    #[test]
    fn what_joined_is_missing_beside_a_key_or_names_no_address_is_damage_and_no_host_that_never_joined() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        std::fs::create_dir(folder.path()).unwrap();
        assert_eq!(folder.load().unwrap(), None);
        std::fs::write(folder.key_file(), "").unwrap();
        let said = folder.load().unwrap_err().to_string();
        assert!(said.contains("joined.json can't be used (it is missing)"), "{said}");
        for odd in [Joined { gateway: "hxxps://c".into(), ..joined("a") }, joined("a\u{0}b"), joined("")] {
            std::fs::write(folder.path().join(JOINED), serde_json::to_string(&odd).unwrap()).unwrap();
            assert!(matches!(folder.load(), Err(EnrolError::Folder { .. })), "{odd:?}");
        }
        let broken = super::super::Broken::from(folder.load().unwrap_err());
        assert!(broken.found.ends_with("is no name)"), "{broken:?}");
        assert!(broken.remedy.contains("telemetryx enroll token --agent AGENT --replace"), "{broken:?}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_one_that_is_not_there_yet_is_not() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::of(data.path());
        folder.new_key().unwrap();
        folder.put(&joined("a"), "ca", None, None).unwrap();
        folder.check(false).unwrap();
        let said = |authority| folder.check(authority).unwrap_err().to_string();
        assert!(said(true).contains("ca.pem can't be used (it holds no certificate)"), "{}", said(true));
        std::fs::create_dir(folder.cert_file()).unwrap();
        assert!(said(false).contains("cert.pem can't be used ("), "{}", said(false));
        let key = std::fs::read_to_string(folder.key_file()).unwrap();
        for (content, why) in
            [("", "it holds no key"), (&key[..key.len() / 2], "damaged"), (&key.replace("MI", "MA"), "")]
        {
            std::fs::write(folder.key_file(), content).unwrap();
            assert!(
                said(false).contains("key.pem can't be used") && said(false).contains(why),
                "{}",
                said(false)
            );
        }
    }
}
