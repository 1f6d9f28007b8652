//! Certificates against TLSA records (RFC 7672 §3). Which records count is decided in
//! `galerne_core::tls_policy::tlsa`, and how one compares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use galerne_core::tls_policy::tlsa::{Matching, Selector, TlsaSet, Usage};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls;

/// Sets of records whose configuration, with its resumable sessions, is kept.
const MOST: usize = 256;

/// A configuration for each set of records in use.
pub struct DaneConfigs {
    provider: Arc<CryptoProvider>,
    by_set: Mutex<HashMap<Arc<TlsaSet>, Arc<ClientConfig>>>,
}

impl DaneConfigs {
    /// None yet.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        DaneConfigs {
            provider,
            by_set: Mutex::default(),
        }
    }

    /// The configuration that demands a certificate of these records. A new set of records is
    /// another configuration, so that no session outlives the records that proved it.
    ///
    /// # Errors
    /// The cryptographic library refuses; not expected.
    pub fn config(&self, set: &Arc<TlsaSet>) -> Result<Arc<ClientConfig>, String> {
        let mut by_set = self.by_set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = by_set.get(set) {
            return Ok(config.clone());
        }
        let verifier = DaneVerifier {
            provider: self.provider.clone(),
            set: set.clone(),
        };
        let config = tls::config(&self.provider, Arc::new(verifier))?;
        if by_set.len() >= MOST {
            by_set.clear();
        }
        by_set.insert(set.clone(), config.clone());
        Ok(config)
    }
}

#[cfg(test)]
impl DaneConfigs {
    pub fn len(&self) -> usize {
        self.by_set.lock().unwrap().len()
    }
}

/// Accepts what the records vouch for.
#[derive(Debug)]
struct DaneVerifier {
    provider: Arc<CryptoProvider>,
    set: Arc<TlsaSet>,
}

impl DaneVerifier {
    /// DANE-EE: the server's own certificate is the one; names and dates do not count.
    fn is_named(&self, server: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        self.any(Usage::Server, server)
    }

    fn any(&self, usage: Usage, certificate: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let mut records = self.set.records.iter().filter(|r| r.usage == usage);
        Ok(records.any(|record| record.matches(certificate, &key)))
    }

    /// DANE-TA: the authorities that the records name, out of the chain or out of a record that
    /// holds one whole.
    fn authorities(&self, chain: &[CertificateDer<'_>]) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for certificate in chain {
            if matches!(self.any(Usage::Authority, certificate), Ok(true)) {
                // One that can be no anchor is none.
                let _ = roots.add(certificate.clone().into_owned());
            }
        }
        for record in &self.set.records {
            let whole = (Usage::Authority, Selector::Whole, Matching::Exact);
            if (record.usage, record.selector, record.matching) == whole {
                let _ = roots.add(CertificateDer::from(record.data.clone()));
            }
        }
        roots
    }

    fn is_under(
        &self,
        roots: &RootCertStore,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let server = ParsedCertificate::try_from(server)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&server, roots, chain, now, algorithms)?;
        let mut last = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.set.names {
            let Ok(name) = ServerName::try_from(name.as_str()) else {
                continue;
            };
            match verify_server_name(&server, &name) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_named(server)? {
            return Ok(ServerCertVerified::assertion());
        }
        let roots = self.authorities(chain);
        if roots.is_empty() {
            let text = "no TLSA record is about the certificate";
            return Err(rustls::Error::General(text.into()));
        }
        self.is_under(&roots, server, chain, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
