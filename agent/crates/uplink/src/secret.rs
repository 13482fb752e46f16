//! Files with secrets: a token, a password, headers, a key. What is shown to others is read only where nobody else can read it
//! too; of what lets others in here, or is used up at once, it is told.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use seglog::regular;

/// No secret is longer.
const MOST: u64 = 64 << 10;

/// Why a file with a secret isn't used. None repeats what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not there.
    #[error("{path:?} isn't there: write the secret into it, and run `chmod 600 {}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There, and can't be read.
    #[error("{path:?} can't be read ({source}): give it to the user that this program runs as")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No file.
    #[error("{path:?} is a folder: name the file in it that holds the secret")]
    Folder {
        /// It.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("{path:?} can be read or written by others (mode {mode:o}): run `chmod 600 {}`", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nothing in it.
    #[error("{path:?} is empty: write the secret into it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Too large.
    #[error("{path:?} has more than 64 KiB: is that the file with the secret?")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Bytes, or more than one line where one is to be.
    #[error("{path:?} must hold one line of visible ASCII: the secret")]
    NoLine {
        /// The file.
        path: PathBuf,
    },
    /// Bytes, where lines are to be.
    #[error("{path:?} isn't text: is that the file with the secret?")]
    NoText {
        /// The file.
        path: PathBuf,
    },
}

/// The text of a file with secrets; there is more in it than space.
///
/// # Errors
/// [`SecretError`] where it isn't there, can be read by others, or holds no text.
pub fn text(path: &Path) -> Result<String, SecretError> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|_| SecretError::NoText { path: path.into() })
}

/// The same of a secret that is used up at once; beside it what is to be told, where others can read it.
///
/// # Errors
/// [`SecretError`] where it isn't there, or holds no text.
pub fn text_once(path: &Path) -> Result<(String, Option<SecretError>), SecretError> {
    let (bytes, exposed) = look(path)?;
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NoText { path: path.into() })?;
    Ok((text, exposed))
}

/// What is to be told of a file with secrets that others use: that more can read it than are meant to. `None` also where it
/// can't be looked at.
pub fn told(path: &Path) -> Option<SecretError> {
    judge(path, &std::fs::metadata(path).ok()?)
}

/// The one line of visible ASCII in a file with a secret.
///
/// # Errors
/// The same, and where it holds anything else.
pub fn line(path: &Path) -> Result<String, SecretError> {
    let bytes = read(path)?;
    let line = bytes.trim_ascii();
    if !line.iter().all(u8::is_ascii_graphic) {
        return Err(SecretError::NoLine { path: path.into() });
    }
    Ok(line.iter().copied().map(char::from).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    match look(path)? {
        (_, Some(exposed)) => Err(exposed),
        (bytes, None) => Ok(bytes),
    }
}

/// That others can read a file, or write it. What is no file, as a pipe, is its reader's.
fn judge(path: &Path, meta: &Metadata) -> Option<SecretError> {
    let mode = meta.mode() & 0o777;
    (meta.is_file() && exposed(mode, meta.uid())).then(|| SecretError::Exposed { path: path.into(), mode })
}

/// What is in it, and whether others can read it.
fn look(path: &Path) -> Result<(Vec<u8>, Option<SecretError>), SecretError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => SecretError::Missing { path: path.into() },
        _ => SecretError::Unreadable { path: path.into(), source },
    };
    // A pipe too, as of a shell: what it gives within a few seconds.
    let file = regular::given(path).map_err(unreadable)?;
    // Of the file that is read, whatever the name stands for by now.
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(SecretError::Folder { path: path.into() });
    }
    let exposed = judge(path, &meta);
    let bytes = regular::read_within(&file, MOST, regular::PATIENCE).map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(SecretError::TooLong { path: path.into() });
    }
    if bytes.trim_ascii().is_empty() {
        return Err(SecretError::Empty { path: path.into() });
    }
    Ok((bytes, exposed))
}

/// Whether others can read a file, or write it. One of root's may be readable by its group: so Kubernetes hands secrets to a
/// process that isn't root, and PostgreSQL judges its keys.
fn exposed(mode: u32, owner: u32) -> bool {
    mode & if owner == 0 { 0o037 } else { 0o077 } != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    /// Somebody who isn't root.
    const NOBODY: u32 = 65_534;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join("secret");
            _ = std::fs::remove_file(&path);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn said(result: Result<String, SecretError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_only_its_owner_can_read_gives_its_secret() {
        let folder = Folder::new();
        for mode in [0o600, 0o400] {
            assert_eq!(line(&folder.file(b" s3cret!\n", mode)).unwrap(), "s3cret!");
        }
        assert_eq!(text(&folder.file("a: ü\nb: c\n".as_bytes(), 0o600)).unwrap(), "a: ü\nb: c\n");
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused_with_the_remedy() {
        let folder = Folder::new();
        for mode in [0o640, 0o604, 0o644, 0o660, 0o602, 0o666, 0o777] {
            let path = folder.file(b"hidden", mode);
            // Of root's, the group may read.
            if std::fs::metadata(&path).unwrap().uid() == 0 {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            for said in [said(line(&path)), said(text(&path))] {
                assert!(said.contains(&format!("(mode {mode:o})")), "{said}");
                assert!(said.ends_with(&format!("run `chmod 600 {}`", path.display())), "{said}");
                assert!(!said.contains("hidden"), "{said}");
            }
            let (text, told_of) = text_once(&path).unwrap();
            assert_eq!(
                (text.as_str(), told_of.map(|it| it.to_string())),
                ("hidden", told(&path).map(|it| it.to_string()))
            );
            assert!(told(&path).is_some());
        }
    }

    #[test]
    fn one_of_roots_may_be_readable_by_the_group_of_this_process() {
        assert!(!exposed(0o440, 0) && !exposed(0o640, 0) && !exposed(0o600, 1000));
        assert!(exposed(0o440, 1000) && exposed(0o660, 0) && exposed(0o444, 0));
    }

    #[test]
    fn a_file_that_is_not_there_a_folder_and_an_empty_one_are_told_apart() {
        let folder = Folder::new();
        let path = folder.0.path().join("secret");
        assert!(matches!(line(&path), Err(SecretError::Missing { .. })));
        assert!(said(line(&path)).contains(&format!("run `chmod 600 {}`", path.display())));
        assert!(matches!(line(folder.0.path()), Err(SecretError::Folder { .. })));
        for nothing in [b"".as_slice(), b" \n\t\n"] {
            assert!(matches!(line(&folder.file(nothing, 0o600)), Err(SecretError::Empty { .. })));
            assert!(matches!(text(&folder.file(nothing, 0o600)), Err(SecretError::Empty { .. })));
        }
        let below = folder.file(b"x", 0o600).join("further");
        assert!(matches!(line(&below), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let folder = Folder::new();
        for bytes in [b"hidden\nhidden".as_slice(), b"hid den", b"hidden\xff", "hidd\u{e9}n".as_bytes()] {
            let said = said(line(&folder.file(bytes, 0o600)));
            assert!(said.contains("one line of visible ASCII") && !said.contains("hid"), "{said}");
        }
        assert!(matches!(text(&folder.file(b"\xff", 0o600)), Err(SecretError::NoText { .. })));
        let most = vec![b'x'; MOST as usize];
        assert_eq!(line(&folder.file(&most, 0o600)).unwrap().len(), most.len());
        let path = folder.file(&[most, vec![b'x']].concat(), 0o600);
        assert!(matches!(line(&path), Err(SecretError::TooLong { .. })));
    }
}
