//! Everything that is decided for one recipient before the first attempt: which source a key is
//! taken from (RELAY-58, RELAY-59), then route, outbounds, EHLO name, envelope sender and limits.
//! Pure; called by the delivery driver and by `explain`.

mod sources;

use std::net::IpAddr;
use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};

use crate::directive::{Directive, OutboundName};
use crate::model::{NextHop, OutboundSender, Plan, Route};
use crate::refusal::{Code, Refusal};
use crate::settings::{
    Account, EhloName, EnvelopeFrom, Group, OutboundIp, RelayHost, Settings, Ssl,
};
use sources::{Origin, Sources};

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
pub fn needs_group(account: Option<&Account>, directive: &Directive) -> bool {
    let Some(account) = account else { return true };
    if !account.routing_by_group.is_empty() {
        return true;
    }
    match (
        account.routing.route.is_present(),
        account.routing.route.value(),
    ) {
        (true, route) => route.is_none_or(Vec::is_empty),
        (false, _) => hosts_of(directive).next().is_none(),
    }
}

/// Whether an order of the account may give `[routing@group]` parameters (CONF-50).
pub fn may_route_group(account: &Account, group: &str) -> Result<(), Refusal> {
    let given = &account.authorizedrouting;
    if given
        .iter()
        .any(|name| name == "*" || name.eq_ignore_ascii_case(group))
    {
        return Ok(());
    }
    let rule = format!("{} [account] authorizedrouting", account.file);
    Err(Refusal::new(
        Code::NotAllowed,
        format!("routing@{group} is not allowed to this account"),
        rule,
    ))
}

/// How long the attempts of a message may take (RELAY-40); it does not depend on the recipient.
pub fn timeout(settings: &Settings, asked: &Asked<'_>) -> std::time::Duration {
    sources::timeout(settings, asked.account, asked.directive).0
}

/// The plan for one recipient, whose domain belongs to `group`.
pub fn plan(
    settings: &Settings,
    asked: &Asked<'_>,
    group: &Arc<Group>,
    recipient_domain: &str,
) -> Result<Plan, Refusal> {
    let planner = Planner::new(settings, asked, group);
    let route = planner.routes(recipient_domain)?.into_iter().next();
    planner.plan(route.unwrap_or_else(|| mx(recipient_domain)))
}

/// All plans in order of preference, never empty; `plan` is the first. There are several only if
/// several relay hosts are named; the next is for when the one before could not be reached.
pub fn plans(
    settings: &Settings,
    asked: &Asked<'_>,
    group: &Arc<Group>,
    recipient_domain: &str,
) -> Result<Vec<Plan>, Refusal> {
    let planner = Planner::new(settings, asked, group);
    planner
        .routes(recipient_domain)?
        .into_iter()
        .map(|route| planner.plan(route))
        .collect()
}

fn mx(domain: &str) -> Route {
    Route {
        next_hop: NextHop::Mx,
        rule: format!("MX of {domain}"),
    }
}

/// The relay hosts that a directive names.
fn hosts_of(directive: &Directive) -> impl Iterator<Item = &String> {
    directive
        .outbound
        .iter()
        .flatten()
        .filter_map(|name| match name {
            OutboundName::Host(host) => Some(host),
            OutboundName::Ip(_) => None,
        })
}

fn ips_of(directive: &Directive) -> impl Iterator<Item = IpAddr> {
    directive
        .outbound
        .iter()
        .flatten()
        .filter_map(|name| match name {
            OutboundName::Ip(ip) => Some(*ip),
            OutboundName::Host(_) => None,
        })
}

/// (key, value, rule) of each decision.
type Reasons = Vec<(String, String, String)>;

/// One recipient's planning.
struct Planner<'a> {
    settings: &'a Settings,
    asked: &'a Asked<'a>,
    group: &'a Arc<Group>,
    sources: Sources<'a>,
}

impl<'a> Planner<'a> {
    fn new(settings: &'a Settings, asked: &'a Asked<'a>, group: &'a Arc<Group>) -> Self {
        let sources = Sources::new(settings, asked.account, &group.name);
        Planner {
            settings,
            asked,
            group,
            sources,
        }
    }

    /// Where to: steps 2, 3, 5 and 6 of ROUTE-1. Every entry that the directive names is judged,
    /// also one that the user file overrides: nothing is silently dropped (CONF-46).
    fn routes(&self, recipient_domain: &str) -> Result<Vec<Route>, Refusal> {
        for name in self.asked.directive.outbound.iter().flatten() {
            self.judge_entry(name)?;
        }
        let ordered: Vec<String> = hosts_of(self.asked.directive).cloned().collect();
        let choice = self.sources.choose("route", |keys| &keys.route, None);
        let (names, rule) = if choice.origin == Origin::UserFile || ordered.is_empty() {
            (choice.value, choice.rule)
        } else {
            (Some(&ordered), "directive routing.outbound".to_owned())
        };
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            let named_by_file = choice.origin == Origin::UserFile;
            return names
                .iter()
                .map(|name| self.host_route(name, &rule, named_by_file))
                .collect();
        }
        if let Some(name) = &self.group.relay {
            let rule = format!("{} [dns] relay", self.group.file);
            return Ok(vec![self.host_route(name, &rule, false)?]);
        }
        Ok(vec![mx(recipient_domain)])
    }

    /// One entry of `routing.outbound`. Unknown and forbidden are answered alike (RELAY-57).
    fn judge_entry(&self, name: &OutboundName) -> Result<(), Refusal> {
        let (allowed, shown, key) = match name {
            OutboundName::Ip(ip) => {
                let known = self.settings.outbounds.iter().any(|o| o.address == *ip);
                (known && self.may_use(*ip), ip.to_string(), "authorizedip")
            }
            OutboundName::Host(host) => {
                let known = find_host(self.settings, host).is_some();
                (
                    known && self.may_route(host),
                    format!("@{host}"),
                    "authorizedroute",
                )
            }
        };
        if allowed {
            return Ok(());
        }
        let text = format!("routing.outbound {shown} is unknown or not allowed to this account");
        Err(Refusal::new(Code::NotAllowed, text, self.account_rule(key)))
    }

    fn may_use(&self, ip: IpAddr) -> bool {
        let list = self.asked.account.and_then(|a| a.authorizedip.as_ref());
        list.is_none_or(|list| list.contains(&ip))
    }

    fn may_route(&self, host: &str) -> bool {
        let list = self.asked.account.map(|a| &a.authorizedroute);
        list.is_some_and(|list| list.iter().any(|name| name.eq_ignore_ascii_case(host)))
    }

    /// `users/shop.ini [account] authorizedip`.
    fn account_rule(&self, key: &str) -> String {
        match self.asked.account {
            Some(account) => format!("{} [account] {key}", account.file),
            None => format!("no account: no {key}"),
        }
    }

    /// The route through a relay host; one that the user file names must be authorised as well
    /// (CONF-49).
    fn host_route(
        &self,
        name: &str,
        rule: &str,
        named_by_user_file: bool,
    ) -> Result<Route, Refusal> {
        match find_host(self.settings, name) {
            Some(host) if !named_by_user_file || self.may_route(name) => Ok(Route {
                next_hop: NextHop::Host(host.clone()),
                rule: rule.to_owned(),
            }),
            _ => {
                let text =
                    format!("routing.route @{name} is unknown or not allowed to this account");
                Err(Refusal::new(Code::NotAllowed, text, rule))
            }
        }
    }

    fn plan(&self, route: Route) -> Result<Plan, Refusal> {
        let mut reasons = Reasons::new();
        let host = match &route.next_hop {
            NextHop::Mx => None,
            NextHop::Host(host) => Some(host.as_ref()),
        };
        let shown = host.map_or("MX".to_owned(), |h| {
            format!("@{} ({}:{})", h.name, h.host, h.port)
        });
        reasons.push(("route".to_owned(), shown, route.rule.clone()));
        let group = host.map_or(self.group, |host| &host.group);
        let (outbounds, ordered) = self.outbounds(host, &mut reasons)?;
        let ehlo = self.ehlo(&mut reasons);
        let sender = self.sender(host, &outbounds, &mut reasons)?;
        let ssl = self.ssl(&mut reasons);
        let Asked {
            account, directive, ..
        } = *self.asked;
        let (timeout, rule) = sources::timeout(self.settings, account, directive);
        reasons.push((
            "timeout".to_owned(),
            format!("{} s", timeout.as_secs()),
            rule,
        ));
        let (maxhop, rule) = sources::maxhop(self.settings, account, directive);
        reasons.push(("maxhop".to_owned(), maxhop.to_string(), rule));
        let group = group.clone();
        Ok(Plan {
            route,
            group,
            outbounds,
            ordered,
            ehlo,
            sender,
            ssl,
            timeout,
            maxhop,
            reasons,
        })
    }

    /// The local addresses (CONF-43 to CONF-45, ROUTE-3), and whether their order is to be kept.
    fn outbounds(
        &self,
        host: Option<&RelayHost>,
        reasons: &mut Reasons,
    ) -> Result<(Vec<Arc<OutboundIp>>, bool), Refusal> {
        let (mut eligible, ordered, mut rule) = self.eligible();
        if eligible.is_empty() {
            let text = if self.settings.outbounds.is_empty() {
                "no sending address is configured in [IP]".to_owned()
            } else {
                "none of the addresses set for this account is available in [IP]".to_owned()
            };
            return Err(Refusal::new(Code::NotAllowed, text, rule));
        }
        if let Some((host, ips)) = host.and_then(|h| Some((h, h.ips.as_ref()?))) {
            eligible.retain(|o| ips.contains(&o.address));
            rule = format!("{} [dns] ip, within {rule}", host.file);
            if eligible.is_empty() {
                let text = format!(
                    "relay host @{} and this account have no sending address in common",
                    host.name
                );
                return Err(Refusal::new(Code::NotAllowed, text, rule));
            }
        }
        let shown: Vec<String> = eligible.iter().map(|o| o.address.to_string()).collect();
        let manner = if ordered {
            "in this order"
        } else {
            "in rotation"
        };
        let shown = format!("{} {manner}", shown.join(" "));
        reasons.push(("outbound".to_owned(), shown, rule));
        Ok((eligible, ordered))
    }

    /// The addresses that the user may use, with the rule.
    fn eligible(&self) -> (Vec<Arc<OutboundIp>>, bool, String) {
        let all = &self.settings.outbounds;
        let choice = self.sources.choose("ip", |keys| &keys.ip, None);
        let among = |list: &[IpAddr]| {
            all.iter()
                .filter(|o| list.contains(&o.address))
                .cloned()
                .collect::<Vec<_>>()
        };
        if let (Origin::UserFile, Some(list)) = (choice.origin, choice.value) {
            return (among(list), false, choice.rule);
        }
        if choice.origin != Origin::UserFile {
            let mut ordered: Vec<Arc<OutboundIp>> = Vec::new();
            for ip in ips_of(self.asked.directive) {
                if let Some(found) = all.iter().find(|o| o.address == ip)
                    && !ordered.iter().any(|o| o.address == ip)
                {
                    ordered.push(found.clone());
                }
            }
            if !ordered.is_empty() {
                return (ordered, true, "directive routing.outbound".to_owned());
            }
        }
        let authorised = self.asked.account.and_then(|a| a.authorizedip.as_ref());
        let (mut eligible, mut rule) = match authorised {
            Some(list) => (among(list), self.account_rule("authorizedip")),
            None => (all.clone(), "galerne.ini [IP]".to_owned()),
        };
        if let Some(list) = choice.value {
            eligible.retain(|o| list.contains(&o.address));
            rule = format!("{}, within {rule}", choice.rule);
        }
        (eligible, false, rule)
    }

    fn ehlo(&self, reasons: &mut Reasons) -> Option<String> {
        let choice = self.sources.choose(
            "ehlo",
            |keys| &keys.ehlo,
            self.asked.directive.ehlo.as_ref(),
        );
        let name = match choice.value {
            Some(EhloName::Name(name)) => Some(name.clone()),
            Some(EhloName::Rdns) | None => None,
        };
        let shown = name.clone().unwrap_or_else(|| "@rdns".to_owned());
        reasons.push(("ehlo".to_owned(), shown, choice.rule));
        name
    }

    fn ssl(&self, reasons: &mut Reasons) -> Ssl {
        let choice =
            self.sources
                .choose("ssl", |keys| &keys.ssl, self.asked.directive.ssl.as_ref());
        let ssl = choice.value.copied().unwrap_or(Ssl::Opportunistic);
        let shown = match ssl {
            Ssl::Opportunistic => "true",
            Ssl::Never => "false",
            Ssl::Required => "required",
        };
        reasons.push(("ssl".to_owned(), shown.to_owned(), choice.rule));
        ssl
    }

    /// The envelope sender to use outbound (RELAY-45 to RELAY-47, CONF-78).
    fn sender(
        &self,
        host: Option<&RelayHost>,
        outbounds: &[Arc<OutboundIp>],
        reasons: &mut Reasons,
    ) -> Result<OutboundSender, Refusal> {
        let ReversePath::Mailbox(given) = self.asked.sender else {
            reasons.push((
                "envelopefrom".to_owned(),
                "<>".to_owned(),
                "null sender stays null (RELAY-46)".to_owned(),
            ));
            return Ok(OutboundSender::Fixed(ReversePath::Null));
        };
        let (sender, shown, rule) = match host.filter(|host| host.overwrite) {
            Some(host) => overwritten(host)?,
            None => self.wanted_sender(given)?,
        };
        reasons.push(("envelopefrom".to_owned(), shown, rule));
        match &sender {
            OutboundSender::Fixed(path) => {
                if let Some(mailbox) = path.mailbox() {
                    self.judge_sender(&mailbox.ascii_domain())?;
                }
            }
            OutboundSender::Verp {
                domain: Some(domain),
            } => self.judge_sender(domain)?,
            // Any of them may be chosen, so all have to be allowed.
            OutboundSender::Verp { domain: None } => {
                outbounds
                    .iter()
                    .try_for_each(|o| self.judge_sender(&o.name))?;
            }
        }
        Ok(sender)
    }

    /// What `envelopefrom` makes of the client's sender, with words and rule.
    fn wanted_sender(&self, given: &Mailbox) -> Result<(OutboundSender, String, String), Refusal> {
        let ordered = self.asked.directive.envelopefrom.as_ref();
        let choice = self
            .sources
            .choose("envelopefrom", |keys| &keys.envelopefrom, ordered);
        let fixed =
            |mailbox: &Mailbox| OutboundSender::Fixed(ReversePath::Mailbox(mailbox.clone()));
        Ok(match choice.value {
            None | Some(EnvelopeFrom::MailFrom) => {
                (fixed(given), format!("@mailfrom <{given}>"), choice.rule)
            }
            Some(EnvelopeFrom::Address(address)) => {
                (fixed(address), format!("<{address}>"), choice.rule)
            }
            Some(EnvelopeFrom::From) => match self.asked.header_from {
                Some(from) => (fixed(from), format!("@from <{from}>"), choice.rule),
                None => {
                    let text =
                        "routing.envelopefrom @from: the From field has not one usable address";
                    return Err(Refusal::new(Code::BadValue, text, choice.rule));
                }
            },
            Some(EnvelopeFrom::Verp) => {
                let domain = self.sources.choose("sender", |keys| &keys.sender, None);
                let shown = match domain.value {
                    Some(name) => format!("@verp at {name} ({})", domain.rule),
                    None => "@verp at the name of the chosen outbound".to_owned(),
                };
                (
                    OutboundSender::Verp {
                        domain: domain.value.cloned(),
                    },
                    shown,
                    choice.rule,
                )
            }
        })
    }

    /// RELAY-47. A domain stands for itself alone, not for what is below it.
    fn judge_sender(&self, domain: &str) -> Result<(), Refusal> {
        let list = self.asked.account.and_then(|a| a.authorizedsender.as_ref());
        if list.is_none_or(|list| list.iter().any(|name| name.eq_ignore_ascii_case(domain))) {
            return Ok(());
        }
        let text = format!("envelope sender domain {domain} is not allowed to this account");
        Err(Refusal::new(
            Code::SenderNotAllowed,
            text,
            self.account_rule("authorizedsender"),
        ))
    }
}

fn find_host<'a>(settings: &'a Settings, name: &str) -> Option<&'a Arc<RelayHost>> {
    settings
        .hosts
        .iter()
        .find(|host| host.name.eq_ignore_ascii_case(name))
}

/// `overwrite` of a relay host: its login is the envelope sender (CONF-78).
fn overwritten(host: &RelayHost) -> Result<(OutboundSender, String, String), Refusal> {
    let rule = format!("{} [dns] overwrite", host.file);
    match host.login.as_deref().map(Mailbox::parse) {
        Some(Ok(login)) => {
            let shown = format!("<{login}>");
            Ok((
                OutboundSender::Fixed(ReversePath::Mailbox(login)),
                shown,
                rule,
            ))
        }
        // The configuration check refuses such a file; nothing else may go out in its name.
        _ => Err(Refusal::new(
            Code::NotAllowed,
            format!("relay host @{} has no address as login", host.name),
            rule,
        )),
    }
}

#[cfg(test)]
mod tests;
