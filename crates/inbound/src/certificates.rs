//! The certificates of our own listeners (CONF-28, CONF-29): `certs/<domain>.pem` and `.key`, chosen
//! by SNI, `.def.pem` and `.def.key` as default, a self-signed one when there is nothing.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What was found, for the start-up lines and for `check`.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Names with a certificate of their own.
    pub names: Vec<String>,
    /// The default one was made by ourselves.
    pub self_signed: bool,
    /// Files that could not be used: path and reason.
    pub errors: Vec<(String, String)>,
}

/// Reads `certs/` and makes the TLS configuration of the listeners. Files that cannot be used are
/// reported in `Found` and left out; a usable default always exists.
pub fn server_config(certs: &Path, hostname: &str) -> Result<(Arc<ServerConfig>, Found), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut found = Found::default();
    let mut by_name = HashMap::new();
    let mut default = None;
    for stem in stems(certs) {
        match load(certs, &stem, &provider) {
            Ok(key) if stem == ".def" => default = Some(Arc::new(key)),
            Ok(key) => {
                by_name.insert(stem.to_ascii_lowercase(), Arc::new(key));
                found.names.push(stem);
            }
            Err(why) => found.errors.push((format!("certs/{stem}.pem"), why)),
        }
    }
    let default = match default.or_else(|| by_name.get(&hostname.to_ascii_lowercase()).cloned()) {
        Some(key) => key,
        None => {
            found.self_signed = true;
            Arc::new(self_signed(hostname, &provider)?)
        }
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni { by_name, default }));
    Ok((Arc::new(config), found))
}

/// Names of the `.pem` files, without ending, sorted.
fn stems(certs: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(certs) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut stems: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".pem").map(str::to_owned))
        .collect();
    stems.sort();
    stems
}

fn load(certs: &Path, stem: &str, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let pem = certs.join(format!("{stem}.pem"));
    let key = certs.join(format!("{stem}.key"));
    let chain = CertificateDer::pem_file_iter(&pem)
        .and_then(|list| list.collect::<Result<Vec<_>, _>>())
        .map_err(|e| format!("not a PEM certificate chain: {e}"))?;
    if chain.is_empty() {
        return Err("no certificate in it".into());
    }
    let key =
        PrivateKeyDer::from_pem_file(&key).map_err(|e| format!("its key certs/{stem}.key: {e}"))?;
    certified(chain, key, provider)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|e| format!("key and certificate: {e}"))?;
    Ok(certified)
}

fn self_signed(hostname: &str, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let made =
        rcgen::generate_simple_self_signed(vec![hostname.to_owned()]).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    certified(vec![made.cert.der().clone()], key, provider)
}

struct BySni {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(
            name.and_then(|name| self.by_name.get(&name).cloned())
                .unwrap_or_else(|| self.default.clone()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, stem: &str, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        fs::write(dir.join(format!("{stem}.pem")), made.cert.pem()).unwrap();
        fs::write(
            dir.join(format!("{stem}.key")),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
    }

    #[test]
    fn conf_29_self_signed_when_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (_, found) = server_config(&dir.path().join("certs"), "mta.example.net").unwrap();
        assert!(found.self_signed);
        assert!(found.names.is_empty() && found.errors.is_empty());
    }

    #[test]
    fn conf_29_files_are_found_by_name_and_default() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "mail.example.com", "mail.example.com");
        write(dir.path(), ".def", "mta.example.net");
        let (_, found) = server_config(dir.path(), "mta.example.net").unwrap();
        assert_eq!(found.names, ["mail.example.com"]);
        assert!(!found.self_signed);
    }

    #[test]
    fn conf_29_a_broken_file_is_reported_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bad.example.com.pem"), "nothing").unwrap();
        write(dir.path(), "good.example.com", "good.example.com");
        write(dir.path(), "other.example.com", "other.example.com");
        fs::remove_file(dir.path().join("other.example.com.key")).unwrap();
        let (_, found) = server_config(dir.path(), "mta.example.net").unwrap();
        assert_eq!(found.names, ["good.example.com"]);
        let files: Vec<_> = found.errors.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(
            files,
            ["certs/bad.example.com.pem", "certs/other.example.com.pem"]
        );
    }
}
