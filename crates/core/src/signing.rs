//! Which domains sign a message, and with which keys (RELAY-47 to RELAY-50, RELAY-53). Part of the
//! plan of a recipient; the signing itself is done by `galerne-outbound` with `galerne-sign`.

use std::net::IpAddr;

use galerne_smtp::ReversePath;

use crate::keys::{Algorithm, KeyFile, choose};
use crate::model::OutboundSender;
use crate::refusal::{Code, Refusal};
use crate::settings::{OutboundIp, Sign};

/// One signature: a key of `Settings::keys` for a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signer {
    /// Index into `Settings::keys`.
    pub key: usize,
    /// The `d=` of the signature.
    pub domain: String,
}

/// What signs, for whatever outbound is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Signing {
    /// Whatever the outbound.
    always: Vec<Signer>,
    /// Besides, by outbound: where the envelope sender bears its name.
    by_outbound: Vec<(IpAddr, Vec<Signer>)>,
    /// Domains that should sign and have no key that may: to be logged (RELAY-50).
    pub unsigned: Vec<String>,
    /// An ARC set is added (RELAY-53).
    pub arc: bool,
    /// Seals it where no signature is made with an RSA key.
    sealer: Option<Signer>,
}

/// What decides about signatures.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub sign: Sign,
    /// The directive says so: without a key it is a refusal (RELAY-50).
    pub demanded: bool,
    pub arc: bool,
    /// Domain of the From field, if it has one usable address.
    pub from: Option<&'a str>,
    /// `authorizedsender`; `None`: any (RELAY-48).
    pub permitted: Option<&'a [String]>,
}

impl Signing {
    /// The signatures from this outbound, in the order in which their fields stand.
    pub fn signers(&self, outbound: IpAddr) -> Vec<&Signer> {
        let of_outbound = self.by_outbound.iter().find(|(ip, _)| *ip == outbound);
        let besides = of_outbound.into_iter().flat_map(|(_, signers)| signers);
        let besides = besides.filter(|signer| !self.always.contains(signer));
        self.always.iter().chain(besides).collect()
    }

    /// Who seals the ARC set of a message from this outbound: the first that signs it with an RSA key,
    /// else a key of its From or envelope domain, whatever `sign` says. `None`: nobody can, or no
    /// set is wanted.
    pub fn sealer(&self, keys: &[KeyFile], outbound: IpAddr) -> Option<&Signer> {
        let mut signers = self.signers(outbound).into_iter();
        let signing = signers.find(|signer| is_rsa(keys, signer));
        signing.or(self.sealer.as_ref()).filter(|_| self.arc)
    }

    /// For `explain`: each signature with its key, and what has none.
    pub fn shown(&self, keys: &[KeyFile]) -> String {
        let by_outbound = self.by_outbound.iter().flat_map(|(_, signers)| signers);
        let mut shown: Vec<String> = Vec::new();
        for signer in self.always.iter().chain(by_outbound) {
            let Some(key) = keys.get(signer.key) else {
                continue;
            };
            let text = format!(
                "d={} s={} {} ({})",
                signer.domain,
                key.name.selector,
                key.algorithm.word(),
                key.file
            );
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        shown.extend(self.unsigned.iter().map(|d| format!("no key for {d}")));
        match shown.is_empty() {
            true => "none".to_owned(),
            false => shown.join(", "),
        }
    }

    /// Whether nothing is to be done at all.
    pub fn is_nothing(&self) -> bool {
        self.always.is_empty() && self.by_outbound.is_empty() && !self.arc
    }
}

/// Decides for one plan. `sender` is the outbound envelope sender; where it is null the From
/// domain takes its part, as everywhere that a sender domain is needed (FLOW-4).
///
/// # Errors
/// 9.1.6 when the directive demands a signature that cannot be made.
pub fn decide(
    keys: &[KeyFile],
    wish: Wish<'_>,
    sender: &OutboundSender,
    outbounds: &[std::sync::Arc<OutboundIp>],
) -> Result<Signing, Refusal> {
    let mut signing = Signing {
        arc: wish.arc,
        ..Signing::default()
    };
    let mut missing = Vec::new();
    let envelope = match sender {
        OutboundSender::Fixed(ReversePath::Mailbox(mailbox)) => {
            Some(Some(mailbox.ascii_domain().into_owned()))
        }
        OutboundSender::Fixed(ReversePath::Null) => Some(wish.from.map(str::to_owned)),
        OutboundSender::Verp { domain: Some(name) } => Some(Some(name.clone())),
        OutboundSender::Verp { domain: None } => None,
    };
    if wish.arc {
        signing.sealer = sealer(keys, wish, envelope.as_ref());
    }
    if matches!(wish.sign, Sign::From | Sign::Both) {
        signing
            .always
            .extend(signers(keys, wish, wish.from, &mut missing));
    }
    if matches!(wish.sign, Sign::Envelope | Sign::Both) {
        match envelope {
            Some(domain) => {
                for signer in signers(keys, wish, domain.as_deref(), &mut missing) {
                    if !signing.always.contains(&signer) {
                        signing.always.push(signer);
                    }
                }
            }
            None => {
                for outbound in outbounds {
                    let found = signers(keys, wish, Some(&outbound.name), &mut missing);
                    signing.by_outbound.push((outbound.address, found));
                }
            }
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if let Some(domain) = missing.first().filter(|_| wish.demanded) {
        let text = format!("routing.sign: no signing key for {domain}");
        return Err(Refusal::new(Code::NoKey, text, "directive routing.sign"));
    }
    signing.unsigned = missing;
    Ok(signing)
}

/// The signers of one domain; noted in `missing` where there are none that may.
fn signers(
    keys: &[KeyFile],
    wish: Wish<'_>,
    domain: Option<&str>,
    missing: &mut Vec<String>,
) -> Vec<Signer> {
    let Some(domain) = domain else {
        missing.push("a From without one usable address".to_owned());
        return Vec::new();
    };
    let is = |name: &String| name.eq_ignore_ascii_case(domain);
    let may = wish.permitted.is_none_or(|list| list.iter().any(is));
    let chosen = match may {
        true => choose(keys, domain),
        false => Vec::new(),
    };
    if chosen.is_empty() {
        missing.push(domain.to_owned());
    }
    let signer = |key| Signer {
        key,
        domain: domain.to_ascii_lowercase(),
    };
    chosen.into_iter().map(signer).collect()
}

/// A key of the From or envelope domain that can seal. `envelope`: unless each outbound has its own.
fn sealer(keys: &[KeyFile], wish: Wish<'_>, envelope: Option<&Option<String>>) -> Option<Signer> {
    let domains = [wish.from, envelope.and_then(Option::as_deref)];
    let candidates = domains.into_iter().flatten();
    let mut signers = candidates.flat_map(|d| signers(keys, wish, Some(d), &mut Vec::new()));
    signers.find(|signer| is_rsa(keys, signer))
}

fn is_rsa(keys: &[KeyFile], signer: &Signer) -> bool {
    let key = keys.get(signer.key);
    key.is_some_and(|key| key.algorithm == Algorithm::RsaSha256)
}

#[cfg(test)]
mod tests;
