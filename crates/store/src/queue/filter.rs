//! Which deliveries an operator means (QUEUE-16): as a question about one, and as SQL.
//!
//! Addresses and domains compare without regard to ASCII case, everything else octet for octet.

use galerne_core::queue::{Filter, Listed, State};
use rusqlite::types::Value;

use super::{key, to_row};

/// Whether a delivery is meant.
pub fn matches(filter: &Filter, of: &Listed) -> bool {
    let Filter {
        id,
        user,
        sender,
        recipient,
        domain,
        group,
        tag,
        reference,
        state,
        held,
        received_before,
        route,
        after,
        only,
    } = filter;
    let (stored, progress) = (&of.stored, &of.stored.progress);
    let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    let same_address = |wanted: &Option<String>, is: &str| {
        wanted.as_deref().is_none_or(|w| w.eq_ignore_ascii_case(is))
    };
    let by_id = |wanted: &String| {
        *wanted == of.id || *wanted == of.reference || of.header_id.as_deref() == Some(bare(wanted))
    };
    id.as_ref().is_none_or(by_id)
        && user
            .as_ref()
            .is_none_or(|u| Some(u) == stored.user.as_ref())
        && same_address(sender, &stored.sender)
        && same_address(recipient, &stored.recipient)
        && same_address(domain, domain_of(&stored.recipient))
        && same(group, &progress.group)
        && tag.as_ref().is_none_or(|t| of.tags.contains(t))
        && same(reference, &of.reference)
        && state.is_none_or(|s| s == progress.state)
        && held.is_none_or(|h| h == progress.held)
        && received_before.is_none_or(|before| stored.received_at < before)
        && same(route, &progress.route)
        && after.is_none_or(|after| stored.delivery > after)
        && only
            .as_ref()
            .is_none_or(|only| only.contains(&stored.delivery))
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// A Message-ID without its brackets.
fn bare(id: &str) -> &str {
    id.strip_prefix('<')
        .and_then(|id| id.strip_suffix('>'))
        .unwrap_or(id)
}

/// The number of a state in the tables.
pub fn state_number(state: State) -> i64 {
    match state {
        State::Waiting => 0,
        State::Deferred => 1,
        State::Unknown => 2,
    }
}

/// Flags of a delivery in the tables.
pub const HELD: i64 = 1;
pub const HANDED: i64 = 2;
pub const DUPLICATE_POSSIBLE: i64 = 4;
pub const DELAY_TOLD: i64 = 8;

/// A condition over the tables `m` (message) and `d` (delivery).
#[derive(Debug, Default)]
pub struct Condition {
    pub sql: String,
    pub values: Vec<Value>,
    /// Something is asked of the message: then messages are gone through, not deliveries.
    pub of_message: bool,
}

/// The same as [`matches`], in SQL.
pub fn condition(filter: &Filter) -> Condition {
    let mut made = Condition {
        sql: "1".to_owned(),
        ..Condition::default()
    };
    made.message_part(filter);
    made.delivery_part(filter);
    made
}

/// What is asked of the message and what of the delivery, apart, behind `filter.after`; `None`: one
/// of them is nothing, or the deliveries are named one by one.
pub fn parts(filter: &Filter) -> Option<(Condition, Condition)> {
    let mut of_message = Condition {
        sql: "1".to_owned(),
        ..Condition::default()
    };
    let mut of_delivery = Condition {
        sql: "1".to_owned(),
        ..Condition::default()
    };
    of_message.message_part(filter);
    let anywhere = Filter {
        after: None,
        ..filter.clone()
    };
    of_delivery.delivery_part(&anywhere);
    if !of_message.of_message || of_delivery.values.is_empty() {
        return None;
    }
    if let Some(after) = filter.after {
        let no = Value::Integer(after.message.0.cast_signed());
        of_message.all("m.no >= ?", vec![no]);
        of_delivery.all("d.key > ?", vec![Value::Integer(key(after))]);
    }
    Some((of_message, of_delivery))
}

impl Condition {
    fn message_part(&mut self, filter: &Filter) {
        if let Some(id) = &filter.id {
            let text = Value::Text(id.clone());
            let header = Value::Text(bare(id).to_owned());
            self.all(
                "(m.id = ? OR m.reference = ? OR m.header_id = ?)",
                vec![text.clone(), text, header],
            );
        }
        self.text("m.user = ?", filter.user.as_deref());
        self.text("m.sender = ? COLLATE NOCASE", filter.sender.as_deref());
        self.text("m.reference = ?", filter.reference.as_deref());
        self.text(
            "m.tags IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(m.tags) WHERE value = ?)",
            filter.tag.as_deref(),
        );
        if let Some(before) = filter.received_before {
            let before = Value::Integer(to_row(before));
            self.all("m.received_at < ?", vec![before]);
        }
        // Those that are named one by one are looked up.
        self.of_message = !self.values.is_empty() && filter.only.is_none();
    }

    fn delivery_part(&mut self, filter: &Filter) {
        self.text("d.address = ? COLLATE NOCASE", filter.recipient.as_deref());
        match filter.domain.as_deref() {
            Some("") => self.all("instr(d.address, '@') = 0", Vec::new()),
            Some(domain) => {
                let end = format!("@{domain}");
                let length = i64::try_from(end.chars().count()).unwrap_or(i64::MAX);
                let values = vec![Value::Integer(length), Value::Text(end)];
                self.all("substr(d.address, -?) = ? COLLATE NOCASE", values);
            }
            None => {}
        }
        self.text("d.grp = ?", filter.group.as_deref());
        self.text("d.route = ?", filter.route.as_deref());
        if let Some(state) = filter.state {
            self.all("d.state = ?", vec![Value::Integer(state_number(state))]);
        }
        if let Some(held) = filter.held {
            let wanted = if held { HELD } else { 0 };
            self.all("(d.flags & 1) = ?", vec![Value::Integer(wanted)]);
        }
        if let Some(only) = &filter.only {
            // In one value: a statement takes 32,766 of them at most.
            let keys: Vec<_> = only.iter().map(|number| key(*number)).collect();
            let keys = Value::Text(serde_json::Value::from(keys).to_string());
            let sql = "d.key IN (SELECT value FROM json_each(?))";
            self.all(sql, vec![keys]);
        }
        if let Some(after) = filter.after {
            self.all("d.key > ?", vec![Value::Integer(key(after))]);
            if self.of_message {
                // The same of the table that is gone through.
                let no = after.message.0.cast_signed();
                self.all("m.no >= ?", vec![Value::Integer(no)]);
            }
        }
    }

    fn text(&mut self, sql: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.all(sql, vec![Value::Text(value.to_owned())]);
        }
    }

    fn all(&mut self, sql: &str, values: Vec<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}
