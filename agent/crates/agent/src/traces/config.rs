//! `[tracing]`: where spans go, what is shown there, and what can be wrong with it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fold::Span;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use uplink::secret::{self, SecretError};

use crate::courier::Address;

/// `[tracing]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// Where spans go: the base URL of an OTLP/HTTP receiver, such as `https://otel.example:4318`; `/v1/traces` is added. Plain http only to this machine. Without it nothing is traced.
    pub endpoint: Option<String>,
    /// Share of what comes without a trace that begins one: 0.001 is about one in a thousand journal records; 0 goes on with senders' traces alone.
    pub sample: f64,
    /// File with a token, sent as `Authorization: Bearer`; only its owner may read it.
    pub token_file: Option<PathBuf>,
    /// File with further headers, one `Name: value` a line; only its owner may read it.
    pub headers_file: Option<PathBuf>,
    /// PEM file of the authorities that the receiver's certificate may be signed by; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// How long the receiver may take to connect and to answer.
    pub timeout: Span,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: 0.0,
            token_file: None,
            headers_file: None,
            ca_file: None,
            timeout: Span::from_secs(10),
        }
    }
}

impl TracingConfig {
    /// What can't work, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !(0.0..=1.0).contains(&self.sample) {
            found.push(format!(
                "tracing.sample = {}: a share lies between 0 and 1; 0.001 is one in a thousand",
                self.sample
            ));
        }
        if self.timeout < Span::from_nanos(1_000_000) {
            found.push(format!("tracing.timeout = {} leaves no time to answer: take 10s", self.timeout));
        }
        let Some(endpoint) = &self.endpoint else { return found };
        match Address::parse(endpoint) {
            Some(address) if !address.named && address.port != 0 && address.uri.query().is_none() => {
                if !address.tls && !is_loopback(&address.host) {
                    found.push(format!(
                        "tracing.endpoint = {endpoint:?} would send spans and the token in plain text: take https://"
                    ));
                }
                if !address.tls && self.ca_file.is_some() {
                    found.push("tracing.ca_file goes with an endpoint of https://".into());
                }
            }
            // It may hold a password.
            _ => found.push(
                "tracing.endpoint is no address: write e.g. \"https://otel.example:4318\", and what is to be shown there into token_file or headers_file".into(),
            ),
        }
        found
    }

    /// The first file that it names and that can't be used now, as a sentence.
    pub fn unusable_file(&self) -> Option<String> {
        self.endpoint.as_ref()?;
        let read = self.headers().err();
        read.or_else(|| uplink::trusting(Some(self.ca_file.as_deref()?)).err().map(|error| error.to_string()))
            // What reads authorities names the uplink's key.
            .map(|error| format!("tracing.{}", error.strip_prefix("uplink.").unwrap_or(&error)))
    }

    /// What a message is sent with. The files are read each time: a token that was renewed is used, one that is missing may come.
    ///
    /// # Errors
    /// A sentence that begins with the key.
    pub fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        if let Some(path) = &self.headers_file {
            for (number, line) in private("headers_file", secret::text, path)?.lines().enumerate() {
                if line.trim().is_empty() {
                    continue;
                }
                // The line itself may be a secret.
                let bad =
                    || format!("headers_file {}: line {} is no `Name: value`", path.display(), number + 1);
                let (name, value) = line.split_once(':').ok_or_else(bad)?;
                let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
                headers.insert(name, hidden(value.trim()).ok_or_else(bad)?);
            }
        }
        if let Some(path) = &self.token_file {
            let token = private("token_file", secret::line, path)?;
            let shown = hidden(&format!("Bearer {token}"));
            headers.insert(AUTHORIZATION, shown.ok_or("token_file holds no token")?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(headers)
    }
}

fn hidden(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A file with secrets.
fn private<T>(
    key: &str,
    read: impl FnOnce(&Path) -> Result<T, SecretError>,
    path: &Path,
) -> Result<T, String> {
    read(path).map_err(|error| format!("{key} {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn problems(text: &str) -> String {
        toml::from_str::<TracingConfig>(text).unwrap().problems().join("\n")
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        for fine in [
            "",
            "endpoint = \"http://127.0.0.1:4318\"\nsample = 0.001\n",
            "endpoint = \"http://[::1]:4318/\"\n",
            "endpoint = \"http://localhost:4318\"\n",
            "endpoint = \"https://otel.example/otlp\"\nsample = 1.0\nca_file = \"/x\"\n",
        ] {
            assert_eq!(problems(fine), "", "{fine}");
        }
        assert!(problems("endpoint = \"http://otel.example:4318\"").contains("take https://"));
        for bad in
            ["otel.example:4318", "ftp://otel.example", "https://user:hidden@otel", "https://x/?k=hidden", ""]
        {
            let said = problems(&format!("endpoint = {bad:?}"));
            assert!(
                said.contains("tracing.endpoint is no address") && !said.contains("hidden"),
                "{bad}: {said}"
            );
        }
        for bad in ["1.5", "-0.1", "nan"] {
            assert!(problems(&format!("sample = {bad}")).contains("tracing.sample"), "{bad}");
        }
        assert!(problems("timeout = \"0s\"").contains("tracing.timeout"));
        assert!(problems("endpoint = \"http://localhost:1\"\nca_file = \"/x\"").contains("tracing.ca_file"));
    }

    #[test]
    fn files_with_secrets_are_read_and_must_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path
        };
        let config = TracingConfig {
            endpoint: Some("http://localhost:1".into()),
            token_file: Some(file("token", "secret\n")),
            headers_file: Some(file("headers", "X-Scope: plant\n\n")),
            ..TracingConfig::default()
        };
        let headers = config.headers().unwrap();
        assert_eq!(
            (&headers["authorization"], &headers["x-scope"]),
            (&"Bearer secret".parse().unwrap(), &"plant".parse().unwrap())
        );
        assert_eq!(config.unusable_file(), None);

        file("headers", "X-Scope: plant\nhidden word\n");
        let said = config.unusable_file().unwrap();
        assert!(said.contains("line 2") && !said.contains("hidden"), "{said}");
        let token = file("token", "a\nb\n");
        let config = TracingConfig { headers_file: None, ..config };
        assert!(config.unusable_file().unwrap().contains("one line"));
        std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(config.unusable_file().unwrap().contains("chmod 600"));
        std::fs::remove_file(&token).unwrap();
        assert!(config.unusable_file().unwrap().starts_with("tracing.token_file"));
        let ca_file = Some(file("ca.pem", "no certificate"));
        let said = TracingConfig { ca_file, token_file: None, ..config.clone() }.unusable_file().unwrap();
        assert!(said.starts_with("tracing.ca_file"), "{said}");
        assert_eq!(TracingConfig { endpoint: None, ..config }.unusable_file(), None);
    }
}
