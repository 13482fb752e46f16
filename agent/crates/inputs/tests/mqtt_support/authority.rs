//! An authority for TLS, made by openssl, and a client's side of TLS before a plain socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Names and addresses of this host.
pub const HERE: &str = "DNS:localhost,IP:127.0.0.1,IP:::1";

pub fn openssl(dir: &Path, arguments: &str) {
    let mut command = std::process::Command::new("openssl");
    let done = command.args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, and certificates that it signed.
pub struct Authority(tempfile::TempDir);

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        );
        Self(dir)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Makes `name.pem` and `name.key`, for these names and addresses.
    pub fn sign(&self, name: &str, alternatives: &str) {
        self.sign_as(name, &format!("/CN={name}"), alternatives);
    }

    /// The same with a subject as openssl writes it.
    pub fn sign_as(&self, name: &str, subject: &str, alternatives: &str) {
        let dir = self.0.path();
        std::fs::write(dir.join("extensions"), format!("subjectAltName={alternatives}\n")).unwrap();
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ),
        );
    }

    /// Writes the list of revoked certificates, with these on it.
    pub fn revoke(&self, names: &[&str]) {
        let dir = self.0.path();
        let settings = "[ca]\ndefault_ca=here\n[here]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=number\n";
        std::fs::write(dir.join("settings"), settings).unwrap();
        for (file, text) in [("index", ""), ("number", "01\n")] {
            if !dir.join(file).exists() {
                std::fs::write(dir.join(file), text).unwrap();
            }
        }
        for name in names {
            openssl(dir, &format!("ca -config settings -keyfile ca.key -cert ca.pem -revoke {name}.pem"));
        }
        openssl(dir, "ca -config settings -keyfile ca.key -cert ca.pem -gencrl -out crl.new");
        std::fs::rename(dir.join("crl.new"), dir.join("crl.pem")).unwrap();
    }

    /// Shakes hands with a server, with the certificate of that name or none.
    pub async fn shake(
        &self,
        server: SocketAddr,
        name: Option<&str>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = vec![CertificateDer::from_pem_file(self.file(&format!("{name}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(server).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// A port without TLS whose connections go on to the server over TLS, with the certificate of that name.
    pub async fn before(self: &Arc<Self>, server: SocketAddr, name: Option<&str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (authority, name) = (Arc::clone(self), name.map(str::to_owned));
        tokio::spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let (authority, name) = (Arc::clone(&authority), name.clone());
                tokio::spawn(async move {
                    if let Ok(mut secure) = authority.shake(server, name.as_deref()).await {
                        // Ends when either side does.
                        let _ = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
                    }
                });
            }
        });
        address
    }
}
