//! Everything that is decided for one recipient before the first attempt: precedence of the
//! sources (RELAY-58, RELAY-59), then route, outbounds, EHLO name, envelope sender and limits.

use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};

use crate::directive::Directive;
use crate::model::Plan;
use crate::refusal::Refusal;
use crate::settings::{Account, Group, Settings};

/// The parts of a submission that the plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub account: Option<&'a Account>,
    pub directive: &'a Directive,
    /// MAIL FROM.
    pub sender: &'a ReversePath,
    /// The one usable address of the From field.
    pub header_from: Option<&'a Mailbox>,
}

/// Whether the recipient's group must be known before planning. If not, a relay host is chosen
/// whatever the group, so the MX lookup may be skipped and the catch-all group be passed.
pub fn needs_group(_account: Option<&Account>, _directive: &Directive) -> bool {
    todo!()
}

/// The plan for one recipient, whose domain belongs to `group`.
pub fn plan(
    _settings: &Settings,
    _asked: &Asked<'_>,
    _group: &Arc<Group>,
    _recipient_domain: &str,
) -> Result<Plan, Refusal> {
    todo!()
}

/// All plans in order of preference: several relay hosts may be named; the next is for when no
/// connection to the one before was possible. Never empty; `plan` is the first.
pub fn plans(
    _settings: &Settings,
    _asked: &Asked<'_>,
    _group: &Arc<Group>,
    _recipient_domain: &str,
) -> Result<Vec<Plan>, Refusal> {
    todo!()
}
