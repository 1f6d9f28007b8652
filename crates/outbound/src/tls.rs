//! TLS towards remotes: one configuration that accepts any certificate (opportunistic, RELAY-55)
//! and one that verifies (credentials are only sent to a verified peer, ROUTE-41).

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How much of the remote's certificate must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Any certificate: encryption against eavesdropping only.
    Any,
    /// The chain and the name must verify.
    Verified,
}

/// The client configurations of one set of settings.
#[derive(Clone)]
pub struct ClientTls {
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads the system's trust anchors and those of `cafile` (IF-10).
    ///
    /// # Errors
    /// A `cafile` that cannot be read or holds no certificate: the text says which.
    pub fn new(cafile: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = cafile {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(|list| list.collect::<Result<Vec<_>, _>>())
                .map_err(|e| format!("cafile {}: {e}", path.display()))?;
            if certificates.is_empty() {
                return Err(format!("cafile {}: no certificate in it", path.display()));
            }
            for certificate in certificates {
                roots
                    .add(certificate)
                    .map_err(|e| format!("cafile {}: {e}", path.display()))?;
            }
        }
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|e| e.to_string())
        };
        let any = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider.clone())))
            .with_no_client_auth();
        let verified = builder()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(ClientTls {
            any: Arc::new(any),
            verified: Arc::new(verified),
        })
    }

    /// The configuration for that much trust.
    pub fn config(&self, trust: Trust) -> Arc<ClientConfig> {
        match trust {
            Trust::Any => self.any.clone(),
            Trust::Verified => self.verified.clone(),
        }
    }
}

/// Accepts every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
