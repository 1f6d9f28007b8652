//! TLS towards remotes: for each proof that may be due a configuration, and the handshake.
//!
//! Which proof is due is decided in `galerne_core::tls_policy`. Each configuration remembers
//! sessions for resumption by itself, so a session that proved less is never resumed where more
//! is due.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use galerne_core::tls_policy::Proof;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connection::plain;
use crate::dane::DaneConfigs;
use crate::dial::BoxStream;
use crate::tls_counts::Failure;

/// Servers whose sessions can be resumed, for each configuration.
const RESUMED: usize = 1_024;

/// The client configurations of one set of settings.
#[derive(Clone)]
pub struct ClientTls(Arc<Configs>);

struct Configs {
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    dane: DaneConfigs,
}

/// An encrypted session.
pub struct Encrypted {
    pub stream: BoxStream,
    /// Protocol, cipher, and what verified the certificate, for logs.
    pub tls: String,
    /// What a proof would have found, where one was only to be tried.
    pub tried: Option<Result<(), TlsTrouble>>,
}

/// Why there is no encrypted session.
#[derive(Clone, Debug)]
pub struct TlsTrouble {
    /// One line.
    pub why: String,
    pub kind: Failure,
}

impl ClientTls {
    /// Reads the system's trust anchors and those of `cafile` (IF-10).
    ///
    /// # Errors
    /// A `cafile` that cannot be read or holds no certificate: the text says which.
    pub fn new(cafile: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(anchors(cafile)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| format!("trust anchors: {e}"))?;
        let any = config(&provider, Arc::new(AcceptAny(provider.clone())))?;
        let verified = config(&provider, verifier.clone())?;
        Ok(ClientTls(Arc::new(Configs {
            any,
            verified,
            verifier,
            dane: DaneConfigs::new(provider),
        })))
    }

    /// The configuration that demands that proof.
    ///
    /// # Errors
    /// The cryptographic library refuses; not expected.
    pub fn config(&self, proof: &Proof) -> Result<Arc<ClientConfig>, String> {
        match proof {
            Proof::None => Ok(self.0.any.clone()),
            Proof::Authority | Proof::MtaSts => Ok(self.0.verified.clone()),
            Proof::Dane(set) => self.0.dane.config(set),
        }
    }

    /// The client's side of a handshake. `host` is the name in SNI and, but for DANE, the one that
    /// the certificate must have. `try_proof`: whether to look, where no proof is due, if there
    /// would be one.
    ///
    /// # Errors
    /// There is no session.
    pub async fn handshake(
        &self,
        stream: BoxStream,
        proof: &Proof,
        (host, address): (&str, IpAddr),
        try_proof: bool,
        deadline: Instant,
    ) -> Result<Encrypted, TlsTrouble> {
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .unwrap_or_else(|_| ServerName::IpAddress(address.into()));
        let config = self.config(proof).map_err(TlsTrouble::other)?;
        let connect = TlsConnector::from(config).connect(name.clone(), stream);
        let stream = match timeout_at(deadline, connect).await {
            Err(_) => return Err(TlsTrouble::other("TLS handshake timed out".into())),
            Ok(Err(error)) => return Err(TlsTrouble::of(&error)),
            Ok(Ok(stream)) => stream,
        };
        let session = stream.get_ref().1;
        let version = session.protocol_version().and_then(|v| v.as_str());
        let suite = session.negotiated_cipher_suite();
        let suite = suite.and_then(|s| s.suite().as_str());
        let (version, suite) = (version.unwrap_or("TLS"), suite.unwrap_or("?"));
        let tls = match proof {
            Proof::None => format!("{version} {suite} unverified"),
            proof => format!("{version} {suite} verified by {}", proof.word()),
        };
        let tried = try_proof.then(|| self.examine(session.peer_certificates(), &name));
        Ok(Encrypted {
            stream: Box::pin(stream),
            tls,
            tried,
        })
    }

    /// Whether an authority vouches for certificates that were accepted without.
    fn examine(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        name: &ServerName<'_>,
    ) -> Result<(), TlsTrouble> {
        let Some((server, others)) = chain.and_then(<[_]>::split_first) else {
            return Err(TlsTrouble::other("no certificate".into()));
        };
        let now = UnixTime::now();
        let verdict = self
            .0
            .verifier
            .verify_server_cert(server, others, name, &[], now);
        verdict.map(|_| ()).map_err(|error| TlsTrouble {
            why: error.to_string().chars().take(120).collect(),
            kind: failure(&error),
        })
    }
}

impl TlsTrouble {
    fn other(why: String) -> Self {
        let kind = Failure::ValidationFailure;
        TlsTrouble { why, kind }
    }

    fn of(error: &std::io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>());
        TlsTrouble {
            why: format!("TLS handshake failed: {}", plain(error)),
            kind: inner.map_or(Failure::ValidationFailure, failure),
        }
    }
}

/// A failed handshake in the words of TLS reports.
fn failure(error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(why) = error else {
        return Failure::ValidationFailure;
    };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Failure::CertificateExpired
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::CertificateHostMismatch
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Failure::CertificateNotTrusted
        }
        _ => Failure::ValidationFailure,
    }
}

/// A configuration with that verifier.
pub fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(RESUMED);
    Ok(Arc::new(config))
}

fn anchors(cafile: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = cafile else { return Ok(roots) };
    let says = |e: &dyn std::fmt::Display| format!("cafile {}: {e}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|list| list.collect::<Result<Vec<_>, _>>())
        .map_err(|e| says(&e))?;
    if certificates.is_empty() {
        return Err(says(&"no certificate in it"));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|e| says(&e))?;
    }
    Ok(roots)
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
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
