//! The keys of `users/<name>.ini` (CONF-39, CONF-54).

use super::{API_FROM, HTTP, JOBS, KeySpec, Kind, PUSH, RETURNS, SIGNING};

type K = KeySpec;

const MANY: Kind = Kind::Count {
    min: 0,
    max: u64::MAX,
    unit: "",
};
const DAYS: Kind = Kind::Count {
    min: 0,
    max: 36_500,
    unit: " of days",
};

/// Access and rights.
#[rustfmt::skip]
pub const ACCOUNT: &[KeySpec] = &[
    K::new(&["account"], "smtpssl", Kind::Flag, "1", "RELAY-10", "SMTP only over TLS."),
    K::new(&["account"], "smtplogin", Kind::Text, "", "CONF-52", "Login for the relay; empty: the user name, if there is a password."),
    K::new(&["account"], "smtppassw", Kind::Secret, "", "CONF-53", "Password for the relay; empty: no login by password."),
    K::new(&["account"], "smtpip", Kind::Networks, "", "CONF-92", "Client addresses and networks whose sessions belong to the account without AUTH."),
    K::new(&["account"], "authorizedip", Kind::Addresses, "", "CONF-44", "Addresses the user may send from; absent: all of [IP]."),
    K::new(&["account"], "authorizedsender", Kind::Domains, "", "CONF-48", "Sender domains the user may use; absent: all."),
    K::new(&["account"], "authorizedroute", Kind::AtNames, "", "CONF-49", "Relay hosts the user may use; absent: none."),
    K::new(&["account"], "authorizedrouting", Kind::AtNames, "", "CONF-50", "Groups for which orders may give parameters; * = all, absent: none."),
    K::new(&["account"], "granted_from_addr", Kind::SenderPatterns, "", "CONF-55", "Patterns one of which the From address must match."),
    K::new(&["account"], "forced_from_addr", Kind::SenderPatterns, "", "CONF-55", "Replaces the From address of jobs and API mail.").later(API_FROM),
    K::new(&["account"], "default_from_addr", Kind::SenderPatterns, "", "CONF-55", "From address of jobs and API mail that give none.").later(API_FROM),
    K::new(&["account"], "maxhour", MANY, "0", "CONF-93", "Most recipients per sliding hour; 0 = no limit."),
    K::new(&["account"], "maxday", MANY, "0", "CONF-93", "Most recipients per sliding day; 0 = no limit."),
    K::new(&["account"], "apissl", Kind::Flag, "1", "API-4", "API only over TLS.").later(HTTP),
    K::new(&["account"], "apikey", Kind::Secret, "", "API-3", "Key of the user for the HTTP API.").later(HTTP),
    K::new(&["list"], "filter", Kind::Lists, "rfhard %user%", "CONF-57", "Lists whose addresses get no mail; %user% is the user's own."),
    K::new(&["list"], "testaddr", Kind::Mailboxes, "", "JOB-11", "Stored test addresses.").later(JOBS),
    K::new(&["list"], "hardttl", Kind::Duration { min: 0, max: 3_162_240_000 }, "0", "CONF-65", "How long hard bounces stay listed; 0 = for ever.").later(RETURNS),
    K::new(&["message"], "timeout", Kind::Duration { min: 1, max: 590 }, "60", "RELAY-43", "Longest time spent trying before the client is answered."),
    K::new(&["message"], "maxhop", Kind::Count { min: 1, max: 20, unit: "" }, "3", "RELAY-43", "Most connection attempts for one message."),
    K::new(&["relay"], "mode", Kind::Mode, "sync", "QUEUE-1", "Answer with the remote's own reply (sync), store and forward (queue), or both (auto)."),
];

const HERE: &[&str] = &["routing", "routing@"];

/// Routing, in general and per group.
#[rustfmt::skip]
pub const ROUTING: &[KeySpec] = &[
    K::new(HERE, "ip", Kind::Addresses, "", "CONF-43", "Addresses to send from, whatever the order says."),
    K::new(HERE, "sender", Kind::Domain, "", "CONF-47", "Sender domain.").or(&["domain"]),
    K::new(HERE, "ehlo", Kind::Ehlo, "@rdns", "RELAY-44", "Name in EHLO."),
    K::new(HERE, "envelopefrom", Kind::EnvelopeFrom, "@mailfrom", "RELAY-45", "Envelope sender used outbound."),
    K::new(HERE, "verp", Kind::Flag, "", "CONF-42", "Old spelling: 1 is envelopefrom = @verp."),
    K::new(HERE, "ssl", Kind::Ssl, "1", "RELAY-55", "Use of STARTTLS towards remotes."),
    K::new(HERE, "route", Kind::AtNames, "", "CONF-75", "Relay hosts to send through, declared in hosts/."),
    K::new(HERE, "sign", Kind::Sign, "1", "RELAY-48", "Which domain signs."),
    K::new(HERE, "arc", Kind::Flag, "0", "RELAY-53", "Add an ARC set."),
    K::new(HERE, "smime", Kind::Flag, "0", "ROUTE-50", "Sign the content with S/MIME.").later(SIGNING),
];

const TARGET: &[&str] = &["relay@"];
const RETURN: &[&str] = &["returns", "returns@"];

/// Jobs, tracking, relay service, return mail, notifications.
#[rustfmt::skip]
pub const REST: &[KeySpec] = &[
    K::new(&["job"], "retrynb", MANY, "3", "JOB-30", "Number of retries.").later(JOBS),
    K::new(&["job"], "retrydelay", Kind::Hours, "12", "JOB-14", "Pause between retries.").later(JOBS),
    K::new(&["job"], "tags", Kind::Text, "", "RELAY-39", "Tags of at most 32 characters.").later(JOBS),
    K::new(&["job"], "repeatunknown", Kind::Flag, "0", "JOB-34", "Repeat deliveries of unknown outcome.").later(JOBS),
    K::new(&["tracking"], "host", Kind::Domain, "", "JOB-37", "Domain of tracking links; empty: reverse DNS of the address.").or(&["domain"]).later(JOBS),
    K::new(&["tracking"], "open", Kind::Words(&["image", "disable"]), "image", "JOB-38", "How opens are seen.").later(JOBS),
    K::new(&["tracking"], "click", Kind::Words(&["short", "long", "disable"]), "short", "JOB-38", "How clicks are seen.").later(JOBS),
    K::new(&["tracking"], "image", Kind::Words(&["enable", "disable"]), "disable", "JOB-38", "Whether image addresses are rewritten.").later(JOBS),
    K::new(&["tracking"], "bot", Kind::Words(&["disable", "mark", "drop"]), "disable", "JOB-38", "What happens to hits of programs.").later(JOBS),
    K::new(&["tracking"], "unsub", Kind::Text, "/unsub.htm", "JOB-41", "Unsubscribe page.").later(JOBS),
    K::new(&["tracking"], "uncfm", Kind::Text, "/uncfm.htm", "JOB-41", "Confirmation page.").later(JOBS),
    K::new(&["tracking"], "preventscam", Kind::Flag, "0", "JOB-44", "Leave links whose text is their own address.").later(JOBS),
    K::new(&["tracking"], "days", DAYS, "0", "API-47", "Days for which opens and clicks are counted; 0 = no end.").later(JOBS),
    K::new(TARGET, "target", Kind::Domain, "", "ROUTE-45", "Host that receives the mail of this sender domain."),
    K::new(TARGET, "address", Kind::Mailboxes, "", "ROUTE-47", "Only these sender addresses, at most 10."),
    K::new(TARGET, "ip", Kind::Address, "", "ROUTE-52", "The one address to send from."),
    K::new(TARGET, "port", Kind::Port, "25", "ROUTE-46", "Port of the target."),
    K::new(TARGET, "login", Kind::Text, "", "ROUTE-59", "Login at the target."),
    K::new(TARGET, "passw", Kind::Secret, "", "ROUTE-59", "Password at the target."),
    K::new(TARGET, "ssl", Kind::Ssl, "1", "ROUTE-59", "Use of TLS towards the target."),
    K::new(RETURN, "trackbounces", Kind::Flag, "0", "RET-7", "Bounces come to us first.").later(RETURNS),
    K::new(RETURN, "forward", Kind::Text, "", "CONF-54", "Where return mail is forwarded.").later(RETURNS),
    K::new(&["rewritefrom"], "*", Kind::Mailboxes, "", "RET-17", "The key is an envelope sender, the value what replaces it.").later(RETURNS),
    K::new(&["push"], "url", Kind::Url, "", "API-43", "Endpoint of push notifications.").later(PUSH),
    K::new(&["push"], "method", Kind::Words(&["basic", "oauth2", "none"]), "none", "API-43", "How we authenticate there.").later(PUSH),
    K::new(&["push"], "user", Kind::Text, "", "API-43", "User or client id.").later(PUSH),
    K::new(&["push"], "passw", Kind::Secret, "", "API-43", "Password or client secret.").later(PUSH),
    K::new(&["push"], "tokenurl", Kind::Url, "", "API-43", "Where OAuth 2 tokens are fetched.").later(PUSH),
    K::new(&["push"], "header", Kind::Text, "", "API-43", "A further header, key=value; may be repeated.").later(PUSH),
    K::new(&["push"], "customerno", Kind::Text, "", "API-36", "Customer number in notifications.").later(PUSH),
    K::new(&["push"], "override", Kind::Flag, "0", "API-44", "A message may name its own endpoint.").later(PUSH),
    K::new(&["webhook"], "format", Kind::Words(&["form", "json"]), "json", "API-35", "Form of webhook calls.").later(PUSH),
    K::new(&["webhook"], "secret", Kind::Secret, "", "API-33", "Key for HMAC signatures of calls.").later(PUSH),
    K::new(&["webhook"], "verify", Kind::Flag, "0", "API-34", "A target must be verified once.").later(PUSH),
    K::new(&["webhook"], "*", Kind::Url, "", "API-35", "The key is a type of event, the value the URL that gets it.").later(PUSH),
];
