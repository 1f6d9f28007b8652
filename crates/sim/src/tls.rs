//! A certificate authority for tests: made in memory, different each time.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// An authority that signs server certificates.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, as files would hold them.
#[derive(Clone, Debug)]
pub struct TestCertificate {
    /// The certificate and that of the authority, PEM.
    pub chain_pem: String,
    pub key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl TestCa {
    /// A new authority.
    ///
    /// # Panics
    /// When the cryptographic library fails.
    pub fn new() -> TestCa {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Galerne test authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        TestCa { issuer }
    }

    /// A certificate for these names or addresses.
    ///
    /// # Panics
    /// When a name cannot stand in a certificate.
    pub fn certificate(&self, names: &[&str]) -> TestCertificate {
        self.sign(params(names))
    }

    /// A certificate that was good until the first day of 2020.
    ///
    /// # Panics
    /// When a name cannot stand in a certificate.
    pub fn expired(&self, names: &[&str]) -> TestCertificate {
        let mut params = params(names);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> TestCertificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        TestCertificate {
            chain_pem: certificate.pem() + &self.issuer.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone(), self.issuer.der().clone()],
            key: key.serialize_der(),
        }
    }

    /// A TLS server that shows such a certificate.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.certificate(names).server()
    }

    /// The authority's certificate, PEM: for `cafile`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Trust in this authority alone.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .expect("a root certificate");
        roots
    }

    /// A TLS client that trusts this authority alone.
    pub fn client(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Default for TestCa {
    fn default() -> Self {
        TestCa::new()
    }
}

impl TestCertificate {
    /// A TLS server that shows it.
    ///
    /// # Panics
    /// When the cryptographic library refuses its own key.
    pub fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .expect("a key for the certificate");
        Arc::new(config)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
    CertificateParams::new(names).expect("names for a certificate")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
