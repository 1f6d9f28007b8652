//! `galerne explain`: everything that would be decided for one submission, with the rule that
//! decides it. Nothing is sent. The decisions are those of `access` and `plan`, not copies.

use std::fmt;
use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};
use serde::Serialize;

use crate::access::{self, Named};
use crate::directive::Directive;
use crate::model::Plan;
use crate::plan::{self, Asked};
use crate::ports::Lists;
use crate::refusal::Refusal;
use crate::routes::Draw;
use crate::settings::{Account, Group, Settings};

/// What is asked.
pub struct Question<'a> {
    pub from: &'a ReversePath,
    pub to: &'a Mailbox,
    pub account: Option<&'a Arc<Account>>,
    /// How the account is known: `--user shop`, `smtpip 192.0.2.0/24` …
    pub known_by: String,
    /// Parsed, or the refusal that its parsing gave.
    pub directive: Result<&'a Directive, &'a Refusal>,
    pub header_from: Option<&'a Mailbox>,
    /// The route table, if there is one.
    pub routes: Option<&'a Draw>,
    pub group: &'a Arc<Group>,
    /// What TLS must be on the way of a plan, for each remote.
    pub tls: &'a dyn Fn(&Plan) -> Vec<Decision>,
    /// What flow control says of a plan, for each outbound and the sender.
    pub flow: &'a dyn Fn(&Plan) -> Vec<Decision>,
    /// Why this group: `mx1.example.org matches mx pattern *.example.org of domains/@x.ini` …
    pub group_reason: String,
}

/// One decision with its rule.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Decision {
    pub key: String,
    pub value: String,
    pub rule: String,
}

/// What would be refused, and why.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Refused {
    /// `RCPT` or `end of data`.
    pub at: String,
    pub reply: String,
    pub rule: String,
}

/// The whole answer.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Explanation {
    pub from: String,
    pub to: String,
    pub decisions: Vec<Decision>,
    pub refused: Vec<Refused>,
}

/// Answers the question.
pub fn explain(settings: &Settings, question: &Question<'_>, lists: &dyn Lists) -> Explanation {
    let mut explanation = Explanation {
        from: question.from.to_string(),
        to: format!("<{}>", question.to),
        decisions: Vec::new(),
        refused: Vec::new(),
    };
    let account = question.account.map(AsRef::as_ref);
    let name = account.map_or("none", |a| &a.name);
    explanation.decide("account", name, &question.known_by);
    let group = format!("@{}", question.group.name);
    explanation.decide("group", &group, &question.group_reason);

    let permcode = settings.rfrelay.permcode;
    if let Err(refusal) = access::judge_recipient(account, Named::Mailbox(question.to), lists) {
        explanation.refuse("RCPT", &refusal, permcode);
    }
    let planned = question
        .directive
        .map_err(Clone::clone)
        .and_then(|directive| {
            let asked = Asked {
                account,
                login: account.map(Account::own_login),
                directive,
                sender: question.from,
                header_from: question.header_from,
                routes: question.routes,
            };
            plan::explained_plans(
                settings,
                &asked,
                question.group,
                &question.to.ascii_domain(),
            )
        });
    match planned {
        Err(refusal) => explanation.refuse("end of data", &refusal, permcode),
        Ok(plans) => {
            for (number, plan) in plans.iter().enumerate() {
                let more = (question.tls)(plan)
                    .into_iter()
                    .chain((question.flow)(plan));
                let more = more.map(|d| (d.key, d.value, d.rule));
                for (key, value, rule) in
                    &plan.reasons.iter().cloned().chain(more).collect::<Vec<_>>()
                {
                    match number {
                        0 => explanation.decide(key, value, rule),
                        // What an alternative decides alike need not be said again.
                        _ if explanation.says(key, value) => {}
                        _ => explanation.decide(&format!("{key} {}", number + 1), value, rule),
                    }
                }
            }
        }
    }
    explanation
}

impl Explanation {
    fn decide(&mut self, key: &str, value: &str, rule: &str) {
        let decision = Decision {
            key: key.to_owned(),
            value: value.to_owned(),
            rule: rule.to_owned(),
        };
        self.decisions.push(decision);
    }

    fn says(&self, key: &str, value: &str) -> bool {
        self.decisions
            .iter()
            .any(|d| d.key == key && d.value == value)
    }

    fn refuse(&mut self, at: &str, refusal: &Refusal, permcode: bool) {
        let reply = refusal.reply(permcode).to_log();
        self.refused.push(Refused {
            at: at.to_owned(),
            reply,
            rule: refusal.rule().to_owned(),
        });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} to {}", self.from, self.to)?;
        let width = |text: fn(&Decision) -> &str| {
            self.decisions
                .iter()
                .map(|d| text(d).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (keys, values) = (width(|d| &d.key), width(|d| &d.value));
        for Decision { key, value, rule } in &self.decisions {
            writeln!(f, "  {key:keys$}  {value:values$}  {rule}")?;
        }
        for Refused { at, reply, rule } in &self.refused {
            writeln!(f, "  refused at {at}: {reply}")?;
            writeln!(f, "    because of {rule}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
