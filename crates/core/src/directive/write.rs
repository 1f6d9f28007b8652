//! The directive as JSON again, for what is kept of a message in the queue.

use serde_json::{Map, Value, json};

use super::{Directive, OutboundName};
use crate::settings::{EhloName, EnvelopeFrom, Mode, Sign, Ssl};

impl Directive {
    /// What `parse` reads as this directive; `None`: it says nothing.
    pub fn to_json(&self) -> Option<String> {
        let mut message = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                message.insert(key.to_owned(), value);
            }
        };
        put("ref", self.reference.as_ref().map(|r| json!(r)));
        put("title", self.title.as_ref().map(|t| json!(t)));
        put("tags", (!self.tags.is_empty()).then(|| json!(self.tags)));
        put("timeout", self.timeout.map(|t| json!(t.as_secs())));
        put("maxhop", self.maxhop.map(|m| json!(m)));
        put("mode", self.mode.map(|m| json!(word(m))));
        let mut routing = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                routing.insert(key.to_owned(), value);
            }
        };
        put("ehlo", self.ehlo.as_ref().map(ehlo));
        put(
            "envelopefrom",
            self.envelopefrom.as_ref().map(envelope_from),
        );
        put("sign", self.sign.map(sign));
        put("ssl", self.ssl.map(ssl));
        put("outbound", self.outbound.as_deref().map(outbound));
        let mut all = Map::new();
        for (key, members) in [("message", message), ("routing", routing)] {
            if !members.is_empty() {
                all.insert(key.to_owned(), Value::Object(members));
            }
        }
        (!all.is_empty()).then(|| Value::Object(all).to_string())
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Sync => "sync",
        Mode::Queue => "queue",
        Mode::Auto => "auto",
    }
}

fn ehlo(name: &EhloName) -> Value {
    match name {
        EhloName::Rdns => json!("@rdns"),
        EhloName::Name(name) => json!(name),
    }
}

fn envelope_from(from: &EnvelopeFrom) -> Value {
    match from {
        EnvelopeFrom::MailFrom => json!("@mailfrom"),
        EnvelopeFrom::Verp => json!("@verp"),
        EnvelopeFrom::From => json!("@from"),
        EnvelopeFrom::Address(address) => json!(address.as_str()),
    }
}

fn sign(sign: Sign) -> Value {
    json!(match sign {
        Sign::From => "from",
        Sign::Envelope => "envelope",
        Sign::Both => "both",
        Sign::None => "none",
    })
}

fn ssl(ssl: Ssl) -> Value {
    match ssl {
        Ssl::Opportunistic => json!(true),
        Ssl::Never => json!(false),
        Ssl::Required => json!("required"),
    }
}

fn outbound(names: &[OutboundName]) -> Value {
    let name = |name: &OutboundName| match name {
        OutboundName::Ip(address) => address.to_string(),
        OutboundName::Host(host) => format!("@{host}"),
    };
    json!(names.iter().map(name).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn queue_5_a_directive_is_the_same_after_it_was_kept() {
        let texts = [
            r#"{"message":{"ref":"abc-1","title":"A \"title\" é","tags":["a","b"],"timeout":90,"maxhop":3,"mode":"auto"}}"#,
            r#"{"routing":{"ehlo":"mail.example.com","envelopefrom":"b@example.com","sign":"both","ssl":"required","outbound":["192.0.2.1","@host"]}}"#,
            r#"{"message":{"mode":"queue"},"routing":{"ehlo":"@rdns","envelopefrom":"@verp","sign":"envelope","ssl":false}}"#,
            r#"{"message":{"mode":"sync"},"routing":{"envelopefrom":"@from","sign":"none","ssl":true}}"#,
            r#"{"routing":{"envelopefrom":"@mailfrom","sign":"from"}}"#,
        ];
        for text in texts {
            let directive = parse(text.as_bytes()).unwrap();
            let kept = directive.to_json().unwrap();
            assert_eq!(parse(kept.as_bytes()).unwrap(), directive, "{kept}");
        }
        assert_eq!(parse(b"{}").unwrap().to_json(), None);
    }
}
