//! Everything that is decided for one recipient before the first attempt: which source a key is
//! taken from (RELAY-58, RELAY-59), then route, outbounds, EHLO name, envelope sender and limits.
//! Pure; called by the delivery driver and by `explain`.

mod grouped;
mod sources;
mod times;

pub use grouped::{may_route_group, needs_group, plans_after};
pub use sources::mode;
pub use times::{Times, patience, timeout};

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};

use crate::directive::{Directive, OutboundName};
use crate::model::{NextHop, OutboundSender, Plan, Route, RouteRule, Terms};
use crate::refusal::{Code, Refusal};
use crate::relay_service::{self, Fate};
use crate::routes::{Chosen, Draw, Target, Wanted};
use crate::settings::{
    Account, EhloName, EnvelopeFrom, Group, HostKind, OutboundIp, Outbounds, RelayHost,
    RelayService, Settings, Sign, Ssl,
};
use crate::signing::{self, Signing, Wish};
use sources::{Origin, Rule, Sources};

/// The parts of a submission that the plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub account: Option<&'a Account>,
    /// The login that counts as authenticated; `None`: nobody's, and mail of our own (ROUTE-60).
    pub login: Option<&'a str>,
    pub directive: &'a Directive,
    /// MAIL FROM.
    pub sender: &'a ReversePath,
    /// The one usable address of the From field.
    pub header_from: Option<&'a Mailbox>,
    /// The route table; `None`: there is none.
    pub routes: Option<&'a Draw>,
}

/// All plans for one recipient, whose domain belongs to `group`, in order of preference; never
/// empty. There are several only if several relay hosts are named or several routes apply; the next
/// is for when the one before could not be reached.
pub fn plans(
    settings: &Settings,
    asked: &Asked<'_>,
    group: &Arc<Group>,
    recipient_domain: &str,
) -> Result<Vec<Plan>, Refusal> {
    Planner::new(settings, asked, group).plans(recipient_domain)
}

/// As `plans`, and each plan says for each decision which rule made it (`Plan::reasons`).
pub fn explained_plans(
    settings: &Settings,
    asked: &Asked<'_>,
    group: &Arc<Group>,
    recipient_domain: &str,
) -> Result<Vec<Plan>, Refusal> {
    let mut planner = Planner::new(settings, asked, group);
    planner.explains = true;
    planner.plans(recipient_domain)
}

/// The relay service of the account for this sender (ROUTE-48).
fn service<'a>(asked: &Asked<'a>, sources: &Sources<'a>) -> Option<&'a RelayService> {
    let account = asked
        .account
        .filter(|account| !account.services.is_empty())?;
    let ordered = asked.directive.envelopefrom.as_ref();
    let choice = sources.choose("envelopefrom", |keys| &keys.envelopefrom, ordered);
    let is_kept = choice
        .value
        .is_none_or(|value| *value == EnvelopeFrom::MailFrom);
    let fate = if is_kept { Fate::Kept } else { Fate::Rewritten };
    relay_service::find(&account.services, asked.sender, fate, asked.header_from)
}

fn words(rule: &dyn Display) -> RouteRule {
    RouteRule::Words(rule.to_string().into())
}

fn mx(domain: &str) -> Route {
    Route {
        next_hop: NextHop::Mx,
        rule: words(&format_args!("MX of {domain}")),
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

/// (key, value, rule) of each decision; `None`: nobody asks, so no text is made.
struct Reasons(Option<Vec<(String, String, String)>>);

impl Reasons {
    fn add(&mut self, key: &str, why: impl FnOnce() -> (String, String)) {
        if let Some(reasons) = &mut self.0 {
            let (value, rule) = why();
            reasons.push((key.to_owned(), value, rule));
        }
    }
}

/// One recipient's planning.
struct Planner<'a> {
    settings: &'a Settings,
    asked: &'a Asked<'a>,
    group: &'a Arc<Group>,
    sources: Sources<'a>,
    explains: bool,
}

impl<'a> Planner<'a> {
    fn new(settings: &'a Settings, asked: &'a Asked<'a>, group: &'a Arc<Group>) -> Self {
        let sources = Sources::new(settings, asked.account, &group.name);
        Planner {
            settings,
            asked,
            group,
            sources,
            explains: false,
        }
    }

    fn plans(&self, recipient_domain: &str) -> Result<Vec<Plan>, Refusal> {
        let routes = self.routes(recipient_domain)?;
        let mut shared = Shared {
            eligible: self.eligible(),
            terms: None,
        };
        let mut plans = Vec::with_capacity(routes.len());
        for route in routes {
            plans.push(self.plan(route, &mut shared)?);
        }
        Ok(plans)
    }

    /// Where to (ROUTE-1). Every entry that the directive names is judged, also one that the user
    /// file or the relay service overrides: nothing is silently dropped (CONF-46).
    fn routes(&self, recipient_domain: &str) -> Result<Vec<Route>, Refusal> {
        for name in self.asked.directive.outbound.iter().flatten() {
            self.judge_entry(name)?;
        }
        if let Some(service) = service(self.asked, &self.sources) {
            let (file, domain) = (&service.host.file, &service.domain);
            let rule = words(&format_args!("{file} [relay@{domain}] target"));
            let next_hop = NextHop::Host(service.host.clone());
            return Ok(vec![Route { next_hop, rule }]);
        }
        let choice = self.sources.choose("route", |keys| &keys.route, None);
        let by_file = choice.origin == Origin::UserFile;
        let ordered: Vec<&String> = hosts_of(self.asked.directive).collect();
        let (names, rule) = if by_file || ordered.is_empty() {
            let names = choice.value.map(|names| names.iter().collect());
            (names.unwrap_or_default(), choice.rule)
        } else {
            (ordered, Rule::Directive("routing", "outbound"))
        };
        if !names.is_empty() {
            let routes = names.iter();
            return routes
                .map(|name| self.host_route(name, rule, by_file))
                .collect();
        }
        if let Some(routes) = self.table(recipient_domain) {
            return Ok(routes);
        }
        if let Some(name) = &self.group.relay {
            let rule = Rule::Key(&self.group.file, "dns", "relay");
            return Ok(vec![self.host_route(name, rule, false)?]);
        }
        Ok(vec![mx(recipient_domain)])
    }

    /// The rows of the route table that apply, in the order of their attempts (ROUTE-24).
    fn table(&self, domain: &str) -> Option<Vec<Route>> {
        let wanted = Wanted {
            login: self.asked.login,
            sender: self.asked.sender,
            domain,
        };
        let Chosen { tier, targets } = self.asked.routes?.choose(&wanted)?;
        let route = |target: Target| Route {
            rule: RouteRule::Row {
                id: target.id,
                tier,
            },
            next_hop: NextHop::Host(target.host),
        };
        Some(targets.into_iter().map(route).collect())
    }

    /// One entry of `routing.outbound`. Unknown and forbidden are answered alike (RELAY-57).
    fn judge_entry(&self, name: &OutboundName) -> Result<(), Refusal> {
        let (allowed, shown, key) = match name {
            OutboundName::Ip(ip) => {
                let known = self.settings.outbounds.place(*ip).is_some();
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
        let rule = self.account_rule(key).to_string();
        Err(Refusal::new(Code::NotAllowed, text, rule))
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
    fn account_rule(&self, key: &'static str) -> Rule<'a> {
        match self.asked.account {
            Some(account) => Rule::Key(&account.file, "account", key),
            None => Rule::Words("no account"),
        }
    }

    /// The route through a relay host; one that the user file names must be authorised as well
    /// (CONF-49).
    fn host_route(
        &self,
        name: &str,
        rule: Rule<'_>,
        named_by_user_file: bool,
    ) -> Result<Route, Refusal> {
        match find_host(self.settings, name) {
            Some(host) if !named_by_user_file || self.may_route(name) => Ok(Route {
                next_hop: NextHop::Host(host.clone()),
                rule: words(&rule),
            }),
            _ => {
                let text =
                    format!("routing.route @{name} is unknown or not allowed to this account");
                Err(Refusal::new(Code::NotAllowed, text, rule.to_string()))
            }
        }
    }

    fn plan(&self, route: Route, shared: &mut Shared<'_>) -> Result<Plan, Refusal> {
        let mut reasons = Reasons(self.explains.then(Vec::new));
        let host = route.next_hop.host().map(AsRef::as_ref);
        reasons.add("route", || {
            let shown = host.map_or("MX".to_owned(), |h| match h.kind {
                HostKind::File => format!("@{} ({}:{})", h.name, h.host, h.port),
                HostKind::Table | HostKind::Service => format!("{}:{}", h.host, h.port),
            });
            (shown, route.rule.to_string())
        });
        let of_host = host.and_then(|host| host.group.as_ref());
        let group = of_host.unwrap_or(self.group);
        let (outbounds, ordered) = self.outbounds(&shared.eligible, host, &mut reasons)?;
        let overwrites = host.is_some_and(|host| host.overwrite);
        let known = shared
            .terms
            .as_ref()
            .filter(|_| !overwrites && !self.explains);
        let (terms, ssl) = match known {
            Some(terms) => (terms.clone(), self.ssl(host, &mut reasons)),
            None => {
                let ehlo = self.ehlo(&mut reasons);
                let sender = self.sender(host, &outbounds, &mut reasons)?;
                let ssl = self.ssl(host, &mut reasons);
                let terms = Arc::new(self.terms(ehlo, sender, &outbounds, &mut reasons)?);
                // Who has a sender of each outbound's name depends on the outbounds of the route.
                let depends = matches!(terms.sender, OutboundSender::Verp { domain: None });
                if !overwrites && !depends {
                    shared.terms = Some(terms.clone());
                }
                (terms, ssl)
            }
        };
        let group = group.clone();
        Ok(Plan {
            route,
            group,
            outbounds,
            ordered,
            ssl,
            terms,
            reasons: reasons.0.unwrap_or_default(),
        })
    }

    /// Signatures and limits.
    fn terms(
        &self,
        ehlo: Option<String>,
        sender: OutboundSender,
        outbounds: &Outbounds,
        reasons: &mut Reasons,
    ) -> Result<Terms, Refusal> {
        let signing = self.signing(&sender, outbounds, reasons)?;
        let Asked {
            account, directive, ..
        } = *self.asked;
        let (timeout, rule) = sources::timeout(self.settings, account, directive);
        reasons.add("timeout", || {
            (format!("{} s", timeout.as_secs()), rule.to_string())
        });
        let (maxhop, rule) = sources::maxhop(self.settings, account, directive);
        reasons.add("maxhop", || (maxhop.to_string(), rule.to_string()));
        Ok(Terms {
            ehlo,
            sender,
            signing,
            timeout,
            maxhop,
        })
    }

    /// The local addresses (CONF-43 to CONF-45, ROUTE-3), and whether their order is to be kept.
    fn outbounds(
        &self,
        eligible: &Eligible<'_>,
        host: Option<&RelayHost>,
        reasons: &mut Reasons,
    ) -> Result<(Outbounds, bool), Refusal> {
        let Eligible {
            list,
            ordered,
            rule,
            within,
        } = eligible;
        let (mut list, mut ordered) = (list.clone(), *ordered);
        let rule = || match within {
            Some(within) => format!("{rule}, within {within}"),
            None => rule.to_string(),
        };
        if list.is_empty() {
            let text = if self.settings.outbounds.is_empty() {
                "no sending address is configured in [IP]".to_owned()
            } else {
                "none of the addresses set for this account is available in [IP]".to_owned()
            };
            return Err(Refusal::new(Code::NotAllowed, text, rule()));
        }
        let of_host = host.and_then(|h| Some((h, h.ips.as_ref()?)));
        let rule = || match of_host {
            Some((host, _)) => format!("{}, within {}", local_ip_rule(host), rule()),
            None => rule(),
        };
        if let Some((host, ips)) = of_host {
            list = match host.in_order {
                true => list.in_order_of(ips),
                false => list.among(ips),
            };
            ordered |= host.in_order;
            if list.is_empty() {
                let name = match host.kind {
                    HostKind::File => format!("relay host @{}", host.name),
                    HostKind::Table => host.name.clone(),
                    HostKind::Service => format!("the relay service {}", host.name),
                };
                let text = format!("{name} and this account have no sending address in common");
                return Err(Refusal::new(Code::NotAllowed, text, rule()));
            }
        }
        reasons.add("outbound", || {
            let shown: Vec<String> = list.iter().map(|o| o.address.to_string()).collect();
            let manner = if ordered {
                "in this order"
            } else {
                "in rotation"
            };
            (format!("{} {manner}", shown.join(" ")), rule())
        });
        Ok((list, ordered))
    }

    /// The addresses that the user may use, with the rule.
    fn eligible(&self) -> Eligible<'a> {
        let all = &self.settings.outbounds;
        let choice = self.sources.choose("ip", |keys| &keys.ip, None);
        if let (Origin::UserFile, Some(list)) = (choice.origin, choice.value) {
            return Eligible::new(all.among(list), choice.rule);
        }
        if choice.origin != Origin::UserFile {
            let named: Vec<IpAddr> = ips_of(self.asked.directive).collect();
            let ordered = all.in_order_of(&named);
            if !ordered.is_empty() {
                let rule = Rule::Directive("routing", "outbound");
                return Eligible {
                    ordered: true,
                    ..Eligible::new(ordered, rule)
                };
            }
        }
        let authorised = self.asked.account.and_then(|a| a.authorizedip.as_ref());
        let mut eligible = match authorised {
            Some(list) => Eligible::new(all.among(list), self.account_rule("authorizedip")),
            None => Eligible::new(all.clone(), Rule::Words("galerne.ini [IP]")),
        };
        if let Some(list) = choice.value {
            eligible.list = eligible.list.among(list);
            eligible.within = Some(std::mem::replace(&mut eligible.rule, choice.rule));
        }
        eligible
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
        reasons.add("ehlo", || {
            let shown = name.clone().unwrap_or_else(|| "@rdns".to_owned());
            (shown, choice.rule.to_string())
        });
        name
    }

    fn ssl(&self, host: Option<&RelayHost>, reasons: &mut Reasons) -> Ssl {
        let shown = |ssl| match ssl {
            Ssl::Opportunistic => "true",
            Ssl::Never => "false",
            Ssl::Required => "required",
        };
        if let Some((host, ssl)) = host.and_then(|host| Some((host, host.ssl?))) {
            reasons.add("ssl", || {
                let rule = format!("{} [{}] ssl", host.file, host.name);
                (shown(ssl).to_owned(), rule)
            });
            return ssl;
        }
        let choice =
            self.sources
                .choose("ssl", |keys| &keys.ssl, self.asked.directive.ssl.as_ref());
        let ssl = choice.value.copied().unwrap_or(Ssl::Opportunistic);
        reasons.add("ssl", || (shown(ssl).to_owned(), choice.rule.to_string()));
        ssl
    }

    /// Who signs (RELAY-48 to RELAY-50, RELAY-53).
    fn signing(
        &self,
        sender: &OutboundSender,
        outbounds: &[Arc<OutboundIp>],
        reasons: &mut Reasons,
    ) -> Result<Signing, Refusal> {
        let ordered = self.asked.directive.sign.as_ref();
        let choice = self.sources.choose("sign", |keys| &keys.sign, ordered);
        let arc = self.sources.choose("arc", |keys| &keys.arc, None);
        let from = self.asked.header_from.map(Mailbox::ascii_domain);
        let permitted = self.asked.account.and_then(|a| a.authorizedsender.as_ref());
        let wish = Wish {
            sign: choice.value.copied().unwrap_or(Sign::From),
            demanded: choice.origin == Origin::Directive,
            arc: arc.value.copied().unwrap_or(false),
            from: from.as_deref(),
            permitted: permitted.map(Vec::as_slice),
        };
        let signing = signing::decide(&self.settings.keys, wish, sender, outbounds)?;
        reasons.add("sign", || {
            let shown = signing.shown(&self.settings.keys);
            (shown, choice.rule.to_string())
        });
        if signing.arc {
            reasons.add("arc", || ("1".to_owned(), arc.rule.to_string()));
        }
        Ok(signing)
    }

    /// The envelope sender to use outbound (RELAY-45 to RELAY-47, CONF-78).
    fn sender(
        &self,
        host: Option<&RelayHost>,
        outbounds: &[Arc<OutboundIp>],
        reasons: &mut Reasons,
    ) -> Result<OutboundSender, Refusal> {
        let ReversePath::Mailbox(given) = self.asked.sender else {
            let rule = "null sender stays null (RELAY-46)";
            reasons.add("envelopefrom", || ("<>".to_owned(), rule.to_owned()));
            return Ok(OutboundSender::Fixed(ReversePath::Null));
        };
        let sender = match host.filter(|host| host.overwrite) {
            Some(host) => overwritten(host, reasons)?,
            None => self.wanted_sender(given, reasons)?,
        };
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

    /// What `envelopefrom` makes of the client's sender.
    fn wanted_sender(
        &self,
        given: &Mailbox,
        reasons: &mut Reasons,
    ) -> Result<OutboundSender, Refusal> {
        let ordered = self.asked.directive.envelopefrom.as_ref();
        let choice = self
            .sources
            .choose("envelopefrom", |keys| &keys.envelopefrom, ordered);
        let (mailbox, word) = match choice.value {
            None | Some(EnvelopeFrom::MailFrom) => (given, "@mailfrom "),
            Some(EnvelopeFrom::Address(address)) => (address, ""),
            Some(EnvelopeFrom::From) => match self.asked.header_from {
                Some(from) => (from, "@from "),
                None => {
                    let text =
                        "routing.envelopefrom @from: the From field has not one usable address";
                    return Err(Refusal::new(Code::BadValue, text, choice.rule.to_string()));
                }
            },
            Some(EnvelopeFrom::Verp) => {
                let domain = self.sources.choose("sender", |keys| &keys.sender, None);
                reasons.add("envelopefrom", || {
                    let shown = match domain.value {
                        Some(name) => format!("@verp at {name} ({})", domain.rule),
                        None => "@verp at the name of the chosen outbound".to_owned(),
                    };
                    (shown, choice.rule.to_string())
                });
                return Ok(OutboundSender::Verp {
                    domain: domain.value.cloned(),
                });
            }
        };
        reasons.add("envelopefrom", || {
            (format!("{word}<{mailbox}>"), choice.rule.to_string())
        });
        let path = ReversePath::Mailbox(mailbox.clone());
        Ok(OutboundSender::Fixed(path))
    }

    /// RELAY-47. A domain stands for itself alone, not for what is below it.
    fn judge_sender(&self, domain: &str) -> Result<(), Refusal> {
        let list = self.asked.account.and_then(|a| a.authorizedsender.as_ref());
        if list.is_none_or(|list| list.iter().any(|name| name.eq_ignore_ascii_case(domain))) {
            return Ok(());
        }
        let text = format!("envelope sender domain {domain} is not allowed to this account");
        let rule = self.account_rule("authorizedsender").to_string();
        Err(Refusal::new(Code::SenderNotAllowed, text, rule))
    }
}

/// Which line names the addresses of a relay host.
fn local_ip_rule(host: &RelayHost) -> String {
    match host.kind {
        HostKind::File => format!("{} [dns] ip", host.file),
        HostKind::Table => format!("local IPs of {}", host.name),
        HostKind::Service => format!("{} [{}] ip", host.file, host.name),
    }
}

fn find_host<'a>(settings: &'a Settings, name: &str) -> Option<&'a Arc<RelayHost>> {
    settings
        .hosts
        .iter()
        .find(|host| host.name.eq_ignore_ascii_case(name))
}

/// `overwrite` of a relay host: its login is the envelope sender (CONF-78).
fn overwritten(host: &RelayHost, reasons: &mut Reasons) -> Result<OutboundSender, Refusal> {
    let rule = Rule::Key(&host.file, "dns", "overwrite");
    match host.login.as_deref().map(Mailbox::parse) {
        Some(Ok(login)) => {
            reasons.add("envelopefrom", || (format!("<{login}>"), rule.to_string()));
            Ok(OutboundSender::Fixed(ReversePath::Mailbox(login)))
        }
        // The configuration check refuses such a file; nothing else may go out in its name.
        _ => Err(Refusal::new(
            Code::NotAllowed,
            format!("relay host @{} has no address as login", host.name),
            rule.to_string(),
        )),
    }
}

/// What the plans of one recipient have in common.
struct Shared<'a> {
    eligible: Eligible<'a>,
    /// Unless they depend on the route.
    terms: Option<Arc<Terms>>,
}

/// Local addresses that may be used, and the rule, which may stand within another.
struct Eligible<'a> {
    list: Outbounds,
    ordered: bool,
    rule: Rule<'a>,
    within: Option<Rule<'a>>,
}

impl<'a> Eligible<'a> {
    fn new(list: Outbounds, rule: Rule<'a>) -> Self {
        Eligible {
            list,
            ordered: false,
            rule,
            within: None,
        }
    }
}

#[cfg(test)]
mod tests;
