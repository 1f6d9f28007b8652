//! How often TLS came about and how often not, in the words of TLS reports (RFC 8460 §4.3). Plain
//! counters: reports and metrics are made of them elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a session did not come up to a policy, or to encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    StartTlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

impl Failure {
    /// All, in the order of the counters.
    pub const ALL: [Failure; 10] = [
        Failure::StartTlsNotSupported,
        Failure::CertificateHostMismatch,
        Failure::CertificateExpired,
        Failure::CertificateNotTrusted,
        Failure::ValidationFailure,
        Failure::TlsaInvalid,
        Failure::DnssecInvalid,
        Failure::StsPolicyFetchError,
        Failure::StsPolicyInvalid,
        Failure::StsWebpkiInvalid,
    ];

    /// The result type of a report.
    pub fn word(self) -> &'static str {
        match self {
            Failure::StartTlsNotSupported => "starttls-not-supported",
            Failure::CertificateHostMismatch => "certificate-host-mismatch",
            Failure::CertificateExpired => "certificate-expired",
            Failure::CertificateNotTrusted => "certificate-not-trusted",
            Failure::ValidationFailure => "validation-failure",
            Failure::TlsaInvalid => "tlsa-invalid",
            Failure::DnssecInvalid => "dnssec-invalid",
            Failure::StsPolicyFetchError => "sts-policy-fetch-error",
            Failure::StsPolicyInvalid => "sts-policy-invalid",
            Failure::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// The counters of this process.
#[derive(Debug, Default)]
pub struct TlsCounts {
    encrypted: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
}

impl TlsCounts {
    /// A new session is encrypted as it had to be.
    pub fn encrypted(&self) {
        self.encrypted.fetch_add(1, Ordering::Relaxed);
    }

    /// A session, or a policy, failed.
    pub fn failed(&self, failure: Failure) {
        if let Some(counter) = self.failures.get(failure as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// New sessions that were encrypted as they had to be.
    pub fn sessions(&self) -> u64 {
        self.encrypted.load(Ordering::Relaxed)
    }

    /// How often that happened.
    pub fn failures(&self, failure: Failure) -> u64 {
        let counter = self.failures.get(failure as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_12_every_failure_has_a_counter_of_its_own() {
        let counts = TlsCounts::default();
        for (number, failure) in Failure::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| counts.failed(failure));
        }
        for (number, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(
                counts.failures(failure),
                number as u64 + 1,
                "{}",
                failure.word()
            );
        }
    }
}
