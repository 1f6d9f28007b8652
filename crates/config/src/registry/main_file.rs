//! The keys of `galerne.ini` (CONF-22, CONF-27).

use super::{CLUSTER, HTTP, JOBS, KeySpec, Kind, PUSH, RETURNS};

const fn many(min: u64) -> Kind {
    Kind::Count {
        min,
        max: 1_000_000,
        unit: "",
    }
}

const fn days() -> Kind {
    Kind::Count {
        min: 0,
        max: 36_500,
        unit: " of days",
    }
}

const fn within(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

const YEAR: u64 = 366 * 86_400;

type K = KeySpec;

/// Addresses, the program itself, the sending side.
#[rustfmt::skip]
pub const SENDING: &[KeySpec] = &[
    K::new(&["ip"], "*", Kind::Domain, "", "CONF-23", "The key is a public address used for sending, the value its reverse-DNS name."),
    K::new(&["galerne"], "runas", Kind::Text, "", "CONF-95", "User that a program started as root becomes once its ports are bound."),
    K::new(&["galerne"], "logage", days(), "30", "CONF-88", "Days for which daily log files are kept; 0 keeps them for ever."),
    K::new(&["galerne"], "log", Kind::Words(&["text", "json"]), "text", "IF-13", "Form of the log lines on standard error."),
    K::new(&["galerne"], "mailsize", many(1), "10000", "CONF-22", "Most jobs routed at once.").later(JOBS),
    K::new(&["galerne"], "mailage", days(), "7", "CONF-32", "Days for which the working data of a finished job are kept.").later(JOBS),
    K::new(&["galerne"], "qmsize", Kind::Count { min: 1, max: u64::MAX, unit: "" }, "100000", "CONF-31", "Most records in the queue."),
    K::new(&["galerne"], "qmmemo", Kind::Count { min: 1, max: 1_000_000, unit: " of KB" }, "16", "CONF-31", "Bodies up to this size stand in the database of the queue, larger ones in files of their own; beyond 256 KB always. Read at the start."),
    K::new(&["galerne"], "apikey", Kind::Secret, "", "API-3", "Global key of the HTTP API.").later(HTTP),
    K::new(&["galerne"], "apissl", Kind::Flag, "0", "API-4", "Whether the global key works over TLS only.").later(HTTP),
    K::new(&["galerne"], "archive", days(), "0", "API-26", "Days for which sent messages are archived.").later(HTTP),
    K::new(&["rfuser"], "spool", Kind::Path, "spool", "CONF-7", "Main spool directory, with one directory per user."),
    K::new(&["rfuser"], "poll", within(1, 3600), "5", "JOB-8", "Pause between two looks into the REQUEST directories.").later(JOBS),
    K::new(&["rfmail"], "flush", within(1, 86_400), "300", "CONF-22", "Time between updates of live statistics.").later(JOBS),
    K::new(&["rfmta"], "threadnb", many(1), "128", "RELAY-4", "Most simultaneous sends."),
    K::new(&["rfmta"], "mxport", Kind::Port, "25", "IF-10", "Port for delivery to MX hosts."),
    K::new(&["rfmta"], "cafile", Kind::Path, "", "IF-10", "PEM file with further trust anchors for the certificates of remotes."),
    K::new(&["rfmta"], "connecttimeout", within(1, 590), "10", "RELAY-61", "Time to connect, and again to get the greeting."),
    K::new(&["rfmta"], "idle", within(0, 300), "5", "RELAY-42", "How long an idle session to a remote is kept for the next message."),
    K::new(&["rfmta"], "grace", within(0, 3600), "30", "QUEUE-19", "How long running transactions may go on when the program is told to stop."),
    K::new(&["rfmta"], "authclear", Kind::Flag, "0", "ROUTE-41", "Send passwords in clear to remotes without TLS."),
    K::new(&["rfmta"], "verify", Kind::Flag, "1", "ROUTE-41", "The certificate must verify where a password is sent, and where ssl = required."),
    K::new(&["rfmta"], "dane", Kind::Flag, "1", "CONF-27", "Honour TLSA records of MX hosts (DANE) where DNSSEC is in use."),
    K::new(&["rfmta"], "mtasts", Kind::Flag, "1", "CONF-27", "Honour MTA-STS policies of recipient domains."),
    K::new(&["rfmta"], "mtastsport", Kind::Port, "443", "CONF-27", "Port from which MTA-STS policies are fetched."),
];

/// The receiving side and the relay.
#[rustfmt::skip]
pub const RECEIVING: &[KeySpec] = &[
    K::new(&["rfrelay"], "listen", Kind::Listen { port: 25, secure: 465 }, "0.0.0.0 0.0.0.0:465", "CONF-28", "Where SMTP clients are accepted."),
    K::new(&["rfrelay"], "threadnb", many(1), "32", "RELAY-4", "Most simultaneous SMTP sessions of clients."),
    K::new(&["rfrelay"], "maxperip", many(0), "0", "RELAY-5", "Most unauthenticated sessions of one client address; 0 = no limit."),
    K::new(&["rfrelay"], "maxsize", Kind::Size { min: 1024 }, "20M", "RELAY-15", "Largest message accepted."),
    K::new(&["rfrelay"], "maxrcpt", Kind::Count { min: 1, max: 100_000, unit: "" }, "100", "RELAY-19", "Most recipients in one transaction."),
    K::new(&["rfrelay"], "barelf", Kind::BareLf, "reject", "RELAY-18", "What happens to a message with a bare CR or LF."),
    K::new(&["rfrelay"], "received", Kind::Flag, "0", "RELAY-23", "Prepend a Received field."),
    K::new(&["rfrelay"], "keepdirective", Kind::Flag, "0", "RELAY-26", "Leave the X-SMTP-R-API field in the message."),
    K::new(&["rfrelay"], "blocktemp", Kind::Flag, "0", "RELAY-67", "Answer 451 instead of a final 5xx that means we are block-listed."),
    K::new(&["rfrelay"], "permcode", Kind::Flag, "0", "RELAY-80", "Answer our own refusals of the classes 9.0 to 9.2 with 550 instead of 451."),
    K::new(&["rfrelay"], "chunking", Kind::Flag, "1", "RELAY-14", "Offer CHUNKING (BDAT)."),
    K::new(&["rfrelay"], "proxyfrom", Kind::Networks, "", "CONF-96", "Proxies whose connections must begin with a PROXY header."),
    K::new(&["rfrelay"], "dmarcaddr", Kind::LocalParts, "", "CONF-85", "Local parts that receive DMARC reports; the first one stands in the rua that `galerne dns` prints."),
    K::new(&["rfrelay"], "fbladdr", Kind::LocalParts, "", "CONF-85", "Local parts that receive feedback-loop reports.").later(RETURNS),
    K::new(&["rfrelay"], "challengepattern", Kind::Strings, "", "CONF-22", "Strings that mark a returned mail as a challenge.").or(&["challengepatrn"]).later(RETURNS),
    K::new(&["rfrelay"], "softpattern", Kind::Strings, "", "CONF-22", "Strings that mark a returned mail as a soft bounce.").or(&["softptrn"]).later(RETURNS),
    K::new(&["rfrelay"], "hardpattern", Kind::Strings, "", "CONF-22", "Strings that mark a returned mail as a hard bounce.").or(&["hardptrn"]).later(RETURNS),
    K::new(&["rfrelay"], "complainpattern", Kind::Strings, "", "CONF-26", "Strings that mark a returned mail as a complaint.").or(&["complainptrn"]).later(RETURNS),
    K::new(&["relay"], "mode", Kind::Mode, "sync", "QUEUE-1", "Answer with the remote's own reply (sync), store and forward (queue), or both (auto)."),
    K::new(&["relay"], "timeout", within(1, 590), "60", "RELAY-43", "Longest time spent trying before the client is answered."),
    K::new(&["relay"], "maxhop", Kind::Count { min: 1, max: 20, unit: "" }, "3", "RELAY-43", "Most connection attempts for one message."),
    K::new(&["relay"], "idempotent", Kind::Flag, "0", "API-48", "A message.ref seen within 24 hours gets the recorded reply.").later(HTTP),
    K::new(&["routing"], "ip", Kind::Addresses, "", "RELAY-59", "Addresses to send from, where neither user file nor order says."),
    K::new(&["routing"], "sender", Kind::Domain, "", "RELAY-59", "Sender domain for generated return addresses."),
    K::new(&["routing"], "ehlo", Kind::Ehlo, "@rdns", "RELAY-44", "Name in EHLO."),
    K::new(&["routing"], "envelopefrom", Kind::EnvelopeFrom, "@mailfrom", "RELAY-45", "Envelope sender used outbound."),
    K::new(&["routing"], "ssl", Kind::Ssl, "1", "RELAY-55", "Use of STARTTLS towards remotes."),
    K::new(&["routing"], "route", Kind::AtNames, "", "CONF-75", "Relay hosts to send through."),
    K::new(&["routing"], "sign", Kind::Sign, "1", "RELAY-48", "Which domain signs."),
    K::new(&["routing"], "arc", Kind::Flag, "0", "RELAY-53", "Add an ARC set."),
];

/// Names, store, queue, HTTP.
#[rustfmt::skip]
pub const REST: &[KeySpec] = &[
    K::new(&["dns"], "resolver", Kind::Resolvers, "", "IF-9", "Name servers to ask; empty: those of the system."),
    K::new(&["dns"], "timeout", within(1, 60), "", "CONF-27", "Time for one look-up; empty: the resolver's own."),
    K::new(&["dns"], "dnssec", Kind::Words(&["validate", "trust-ad", "off"]), "", "CONF-27", "How DNSSEC is used; empty: trust-ad if every resolver is loopback, else off."),
    K::new(&["dns"], "trustanchor", Kind::Path, "", "CONF-27", "File with DNSKEY records of the root to validate from; empty: those known to the program."),
    K::new(&["rftrack"], "listen", Kind::Listen { port: 80, secure: 443 }, "0.0.0.0 0.0.0.0:443", "CONF-28", "Where HTTP clients are accepted.").later(HTTP),
    K::new(&["rftrack"], "threadnb", many(1), "64", "CONF-22", "Most simultaneous HTTP sessions.").later(HTTP),
    K::new(&["api"], "fetch", Kind::Flag, "0", "API-23", "Allow attachments that are fetched from a URL.").later(HTTP),
    K::new(&["queue"], "maxage", within(60, YEAR), "48h", "QUEUE-11", "How long temporary failures are retried."),
    K::new(&["queue"], "retry", Kind::Durations, "5m 10m 20m 40m 1h", "QUEUE-12", "Pauses between attempts; the last one repeats."),
    K::new(&["queue"], "unknowndelay", within(0, YEAR), "15m", "QUEUE-4", "Pause before a delivery of unknown outcome is tried again."),
    K::new(&["queue"], "sync", Kind::Flag, "1", "QUEUE-7", "Wait for stable storage before an answer; 0 is unsafe."),
    K::new(&["queue"], "minfree", Kind::Size { min: 0 }, "256M", "QUEUE-9", "Free space below which no new mail is taken."),
    K::new(&["queue"], "tracekeep", within(0, YEAR), "7d", "QUEUE-17", "How long the story of a finished message is kept."),
    K::new(&["queue"], "place", Kind::Words(&["local", "shared"]), "local", "QUEUE-20", "Where new mail is kept in a cluster.").later(CLUSTER),
    K::new(&["store"], "url", Kind::Url, "", "QUEUE-20", "The store: empty or sqlite:… for the embedded one, postgres://… for a shared one.").later(CLUSTER),
    K::new(&["maildrop"], "group", Kind::Text, "", "QUEUE-24", "Group that may drop mail."),
    K::new(&["maildrop"], "user", Kind::Text, "", "QUEUE-24", "Account to which dropped mail belongs."),
    K::new(&["maildrop"], "origin", Kind::Domain, "", "QUEUE-24", "Domain added to names without one."),
    K::new(&["returns"], "keep", days(), "30", "RET-15", "Days for which a return address can be looked up.").later(RETURNS),
    K::new(&["push"], "private", Kind::Flag, "0", "API-46", "Allow private and loopback addresses as targets.").later(PUSH),
    K::new(&["push"], "url", Kind::Url, "", "API-43", "Endpoint of push notifications.").later(PUSH),
    K::new(&["push"], "method", Kind::Words(&["basic", "oauth2", "none"]), "none", "API-43", "How we authenticate there.").later(PUSH),
    K::new(&["push"], "user", Kind::Text, "", "API-43", "User or client id.").later(PUSH),
    K::new(&["push"], "passw", Kind::Secret, "", "API-43", "Password or client secret.").later(PUSH),
    K::new(&["push"], "tokenurl", Kind::Url, "", "API-43", "Where OAuth 2 tokens are fetched.").later(PUSH),
    K::new(&["push"], "header", Kind::Text, "", "API-43", "A further header, key=value.").later(PUSH),
    K::new(&["push"], "customerno", Kind::Text, "", "API-36", "Customer number in notifications.").later(PUSH),
    K::new(&["webhook"], "format", Kind::Words(&["form", "json"]), "json", "API-35", "Form of webhook calls.").later(PUSH),
    K::new(&["webhook"], "secret", Kind::Secret, "", "API-33", "Key for HMAC signatures of calls.").later(PUSH),
    K::new(&["webhook"], "verify", Kind::Flag, "0", "API-34", "A target must be verified once.").later(PUSH),
    K::new(&["webhook"], "*", Kind::Url, "", "API-35", "The key is a type of event, the value the URL that gets it.").later(PUSH),
];
