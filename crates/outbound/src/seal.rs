//! The fields that are put in front of a message before it leaves: DKIM signatures and an ARC set
//! (RELAY-48 to RELAY-53). Who signs is decided in `galerne_core::signing`; here it is done, once
//! for each set of signers, whatever the number of recipients and hops.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use galerne_core::content::{Content, Patch, Spill};
use galerne_core::keys::{Algorithm, KeyFile};
use galerne_core::model::{Plan, Submission};
use galerne_core::ports::Module;
use galerne_core::refusal::{Code, Refusal};
use galerne_core::signing::Signer;
use galerne_core::snapshot::Snapshot;
use galerne_dns::{LookupFailure, Resolver};
use galerne_sign::arc::{Chain, Sealing, judge, may_extend, queries, seal};
use galerne_sign::{BodyHasher, KeyError, Signature, SigningKey, Txt, sign, split};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::content::kept;
use crate::delivery::Delivery;

/// Content beyond this is signed off the network threads.
const IN_PLACE: u64 = 64 * 1024;
/// How much of a spilled message is read at a time.
const CHUNK: usize = 256 * 1024;
/// How long the keys of a chain are asked for.
const LOOKUPS: Duration = Duration::from_secs(10);
/// A domain without a key is told of once in this time.
const SELDOM: Duration = Duration::from_secs(3600);
/// Most domains remembered for that.
const MOST_DOMAINS: usize = 1000;

/// Fields in front of a message, each with its CRLF.
pub type Fields = Arc<[u8]>;

/// What one process needs for signing.
pub struct Sealer {
    /// Signatures computed at a time off the network threads: one for each processor.
    computing: Arc<Semaphore>,
    told: Mutex<HashMap<String, Instant>>,
}

impl Default for Sealer {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get());
        Sealer {
            computing: Arc::new(Semaphore::new(processors)),
            told: Mutex::default(),
        }
    }
}

/// The fields of one message, made when they are first needed.
#[derive(Default)]
pub struct Seals(Mutex<Vec<Made>>);

struct Made {
    signers: Vec<Signer>,
    arc: bool,
    sealer: Option<Signer>,
    fields: Arc<OnceCell<Result<Fields, Refusal>>>,
}

/// What is to be put in front of a message.
pub struct Wanted<'a> {
    signers: Vec<&'a Signer>,
    arc: bool,
    /// Who seals the ARC set, if anybody can.
    sealer: Option<&'a Signer>,
}

impl Seals {
    /// The fields that are wanted.
    ///
    /// # Errors
    /// The message cannot be signed, by a fault of ours: a temporary failure.
    pub async fn fields(
        &self,
        delivery: &Delivery,
        submission: &Submission,
        wanted: Wanted<'_>,
        deadline: Instant,
    ) -> Result<Fields, Refusal> {
        let cell = self.cell(&wanted);
        let make = || make(delivery, submission, wanted, deadline);
        cell.get_or_init(make).await.clone()
    }

    fn cell(&self, wanted: &Wanted<'_>) -> Arc<OnceCell<Result<Fields, Refusal>>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |m: &&Made| {
            m.arc == wanted.arc
                && m.sealer.as_ref() == wanted.sealer
                && m.signers.iter().eq(wanted.signers.iter().copied())
        };
        if let Some(found) = made.iter().find(is_it) {
            return found.fields.clone();
        }
        let fields = Arc::new(OnceCell::new());
        made.push(Made {
            signers: wanted.owned(),
            arc: wanted.arc,
            sealer: wanted.sealer.cloned(),
            fields: fields.clone(),
        });
        fields
    }
}

impl Wanted<'_> {
    fn owned(&self) -> Vec<Signer> {
        self.signers.iter().copied().cloned().collect()
    }
}

impl Sealer {
    /// What is put in front of a message that a plan sends from an outbound. `None`: nothing.
    pub fn wanted<'a>(
        &self,
        delivery: &Delivery,
        submission: &Submission,
        (plan, outbound): (&'a Plan, IpAddr),
    ) -> Option<Wanted<'a>> {
        let signing = &plan.signing;
        for domain in &signing.unsigned {
            self.tell(delivery, submission, domain);
        }
        if signing.is_nothing() {
            return None;
        }
        let signers = signing.signers(outbound);
        let (arc, sealer) = (
            signing.arc,
            signing.sealer(&submission.settings.keys, outbound),
        );
        (arc || !signers.is_empty()).then_some(Wanted {
            signers,
            arc,
            sealer,
        })
    }

    /// Logs that a domain has no key, not for every message (RELAY-50).
    fn tell(&self, delivery: &Delivery, submission: &Submission, domain: &str) {
        let now = Instant::now();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match told.get(domain) {
                Some(at) if now.duration_since(*at) < SELDOM => return,
                Some(_) => {}
                None if told.len() >= MOST_DOMAINS => {
                    told.retain(|_, at| now.duration_since(*at) < SELDOM);
                    if told.len() >= MOST_DOMAINS {
                        return;
                    }
                }
                None => {}
            }
            told.insert(domain.to_owned(), now);
        }
        let account = submission.client.account.as_ref();
        let account = account.map_or_else(String::new, |a| format!(" of account {}", a.name));
        let text = format!("no signing key for {domain}: mail{account} goes out unsigned by it");
        tracing::info!("{text}");
        delivery.events.note(Module::RfMta, &text);
    }
}

/// One message to be signed.
struct Job<'a> {
    settings: &'a Snapshot,
    content: &'a Content,
    patch: &'a Patch,
    signers: &'a [&'a Signer],
    sealer: Option<&'a Signer>,
    /// Answers of the name servers about the keys of the chain; `None`: no ARC set.
    arc: Option<HashMap<String, Txt>>,
    time: u64,
}

/// What came of it, and what is to be logged.
type Outcome = Result<(Vec<u8>, Option<String>), Fault>;

#[derive(Debug)]
enum Fault {
    Key(String, KeyError),
    Disk(std::io::Error),
}

async fn make(
    delivery: &Delivery,
    submission: &Submission,
    wanted: Wanted<'_>,
    deadline: Instant,
) -> Result<Fields, Refusal> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let arc = match wanted.arc {
        true => Some(answers(&*delivery.edge().resolver, submission, deadline).await),
        false => None,
    };
    let keys = &submission.settings.keys;
    let is_fast = |signer: &&Signer| {
        let key = keys.get(signer.key);
        key.is_some_and(|key| key.algorithm == Algorithm::Ed25519Sha256)
    };
    let in_place = arc.is_none()
        && submission.content.spill.is_none()
        && submission.content.len() <= IN_PLACE
        && wanted.signers.iter().all(is_fast);
    let time = now.map_or(0, |length| length.as_secs());
    let outcome = if in_place {
        let job = Job {
            settings: &submission.settings,
            content: &submission.content,
            patch: &submission.patch,
            signers: &wanted.signers,
            sealer: wanted.sealer,
            arc,
            time,
        };
        job.run()
    } else {
        let computing = delivery.sealer.computing.clone();
        let Ok(Ok(place)) = timeout_at(deadline, computing.acquire_owned()).await else {
            let text = "the signature was not made in time";
            return Err(Refusal::new(Code::Timeout, text, "RELAY-40"));
        };
        let (settings, content) = (submission.settings.clone(), submission.content.clone());
        let (patch, signers) = (submission.patch.clone(), wanted.owned());
        let sealer = wanted.sealer.cloned();
        // The place is taken until the work is done, also when nobody waits for it any more.
        let work = move || {
            let job = Job {
                settings: &settings,
                content: &content,
                patch: &patch,
                signers: &signers.iter().collect::<Vec<_>>(),
                sealer: sealer.as_ref(),
                arc,
                time,
            };
            let outcome = job.run();
            drop(place);
            outcome
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Fault::Disk(std::io::Error::other(error))),
        }
    };
    match outcome {
        Ok((fields, note)) => {
            if let Some(note) = note {
                let text = format!("{}: {note}", submission.message_id);
                delivery.events.note(Module::RfMta, &text);
            }
            Ok(fields.into())
        }
        Err(fault) => {
            let why = match fault {
                Fault::Key(file, error) => format!("{file}: {error}"),
                Fault::Disk(error) => format!("the content cannot be read: {error}"),
            };
            let id = &submission.message_id;
            tracing::error!(message_id = %id, "a message cannot be signed: {why}");
            let text = format!("error: {id} cannot be signed: {why}");
            delivery.events.note(Module::RfMta, &text);
            let text = format!("4.3.0 the message could not be signed, id {id}");
            Err(Refusal::standard(451, text, "RELAY-51"))
        }
    }
}

/// The records of the keys of a chain. A server that keeps silent is a temporary failure.
async fn answers(
    resolver: &dyn Resolver,
    submission: &Submission,
    deadline: Instant,
) -> HashMap<String, Txt> {
    let deadline = deadline.min(Instant::now() + LOOKUPS);
    let names = queries(&submission.content.memory);
    let lookups = names.into_iter().map(|name| async move {
        let found = match timeout_at(deadline, resolver.txt(&name)).await {
            Ok(Ok(records)) => {
                let records = records.iter();
                let texts = records.map(|octets| String::from_utf8_lossy(octets).into_owned());
                Txt::Found(texts.collect())
            }
            Ok(Err(LookupFailure::NoSuchName)) => Txt::None,
            Ok(Err(LookupFailure::Temporary(_))) | Err(_) => Txt::TempFail,
        };
        (name, found)
    });
    futures_util::future::join_all(lookups)
        .await
        .into_iter()
        .collect()
}

impl Job<'_> {
    fn run(self) -> Outcome {
        let (header, body) = parts(&self.content.memory, self.patch);
        let (header, body) = (&*header, &*body);
        let mut hasher = BodyHasher::default();
        self.each_piece(body, &mut |piece| hasher.update(piece))?;
        let body_hash = hasher.finish();
        let mut signatures = Vec::with_capacity(self.signers.len());
        for signer in self.signers {
            signatures.push(self.signature(signer)?);
        }
        let signed = sign(header, &body_hash, &signatures, self.time)
            .map_err(|error| Fault::Key("keys/".to_owned(), error))?;
        let Some(answers) = &self.arc else {
            return Ok((signed, None));
        };
        let dns = |name: &str| answers.get(name).cloned().unwrap_or(Txt::None);
        let fault = RefCell::new(None);
        let pieces = |take: &mut dyn FnMut(&[u8])| {
            if let Err(error) = self.each_piece(body, take) {
                fault.replace(Some(error));
            }
        };
        let chain = judge(header, &pieces, &dns);
        // A chain is not broken because our disk is.
        if let Some(fault) = fault.into_inner() {
            return Err(fault);
        }
        let whole = [&signed, header].concat();
        match self.arc_set(&whole, &body_hash, &chain)? {
            Ok(mut fields) => {
                fields.extend_from_slice(&signed);
                Ok((fields, None))
            }
            Err(note) => Ok((signed, Some(note))),
        }
    }

    /// The set, or why none is added.
    fn arc_set(
        &self,
        header: &[u8],
        body_hash: &[u8; 32],
        chain: &Chain,
    ) -> Result<Result<Vec<u8>, String>, Fault> {
        if !may_extend(chain) {
            let worth = chain.validity.word();
            return Ok(Err(format!(
                "no ARC set: the chain of {} is {worth}",
                chain.sets
            )));
        }
        let Some(signer) = self.sealer else {
            let text = "no ARC set: neither its From domain nor its envelope domain has an RSA key \
                        that may be used";
            return Ok(Err(text.to_owned()));
        };
        let Signature {
            key,
            domain,
            selector,
            ..
        } = self.signature(signer)?;
        let sealing = Sealing {
            key,
            domain,
            selector,
            authserv_id: &self.settings.hostname,
            results: "",
            names: None,
            time: self.time,
        };
        seal(header, body_hash, chain, &sealing)
            .map(Ok)
            .map_err(|error| Fault::Key("keys/".to_owned(), error))
    }

    fn signature<'a>(&'a self, signer: &'a Signer) -> Result<Signature<'a>, Fault> {
        let missing = || Fault::Key("keys/".to_owned(), KeyError::Damaged);
        let file = self.settings.keys.get(signer.key).ok_or_else(missing)?;
        Ok(Signature {
            key: read(file)?,
            domain: &signer.domain,
            selector: &file.name.selector,
            identity: &file.name.id,
        })
    }

    /// Gives the body in pieces: what is in memory, then what was spilled.
    fn each_piece(&self, body: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        take(body);
        let Some(spill) = &self.content.spill else {
            return Ok(());
        };
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        while offset < spill.len() {
            let length = read_at(&**spill, offset, &mut buffer)?;
            take(buffer.get(..length).unwrap_or_default());
            offset += length as u64;
        }
        Ok(())
    }
}

/// Header and body of the outgoing message, as far as it is in memory. Only what is not the same as
/// in the content is copied: often nothing, as a rule the header alone.
fn parts<'a>(memory: &'a [u8], patch: &Patch) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    let (header, body) = split(memory);
    if patch.prefix.is_empty() && patch.cuts.is_empty() {
        return (Cow::Borrowed(header), Cow::Borrowed(body));
    }
    // A header with an end of its own keeps it when whole fields are taken out.
    if header.len() < memory.len() && patch.cuts.iter().all(|cut| cut.end <= header.len()) {
        return (Cow::Owned(patched(header, patch)), Cow::Borrowed(body));
    }
    let whole = patched(memory, patch);
    let (header, body) = split(&whole);
    (Cow::Owned(header.to_vec()), Cow::Owned(body.to_vec()))
}

/// The beginning of the content as it goes out.
fn patched(octets: &[u8], patch: &Patch) -> Vec<u8> {
    let mut patched = Vec::with_capacity(patch.prefix.len() + octets.len());
    patched.extend_from_slice(&patch.prefix);
    for range in kept(octets.len(), &patch.cuts) {
        patched.extend_from_slice(octets.get(range).unwrap_or_default());
    }
    patched
}

fn read_at(spill: &dyn Spill, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
    match spill.read_at(offset, buffer) {
        Ok(0) => Err(Fault::Disk(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(length) => Ok(length),
        Err(error) => Err(Fault::Disk(error)),
    }
}

/// The key of a file, read once for as long as the settings are in force.
fn read(file: &KeyFile) -> Result<&SigningKey, Fault> {
    let make = || SigningKey::from_pem(file.pem.0.as_bytes());
    match file.read.get_or_make(make) {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(Fault::Key(file.file.clone(), error.clone())),
        None => Err(Fault::Key(file.file.clone(), KeyError::Damaged)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts in the plain way: all of the message, then split.
    fn plainly(memory: &[u8], patch: &Patch) -> (Vec<u8>, Vec<u8>) {
        let whole = patched(memory, patch);
        let (header, body) = split(&whole);
        (header.to_vec(), body.to_vec())
    }

    #[test]
    fn relay_51_the_parts_that_are_signed_are_those_that_go_out() {
        let directive = "X-SMTP-R-API: {\r\n \"x\": 1}\r\n";
        let open = "X-SMTP-R-API: {\r\n\r\n \"x\": 1}\r\n";
        for header in ["", "From: a@x\r\n", "From: a@x\r\nTo: b@x\r\n c@x\r\n"] {
            for (before, after) in [
                ("", ""),
                (directive, ""),
                ("", directive),
                (directive, directive),
                (open, ""),
            ] {
                for end in ["", "\r\n", "\r\nbody\r\n\r\nX: 1\r\n\r\n", "\r\n\r\n"] {
                    let text = [before, header, after, end].concat();
                    let cuts: Vec<_> = [directive, open]
                        .iter()
                        .flat_map(|what| text.match_indices(what))
                        .map(|(at, what)| at..at + what.len())
                        .collect();
                    for prefix in ["", "Received: by x\r\n"] {
                        let patch = Patch {
                            prefix: prefix.as_bytes().to_vec(),
                            cuts: cuts.clone(),
                        };
                        let (head, body) = parts(text.as_bytes(), &patch);
                        let found = (head.into_owned(), body.into_owned());
                        assert!(
                            found == plainly(text.as_bytes(), &patch),
                            "{text:?} {patch:?}"
                        );
                    }
                }
            }
        }
    }
}
