//! What an account names must exist and be allowed to it: addresses, routes, groups, lists.

use std::collections::HashSet;

use galerne_core::settings::{Account, Key, RoutingKeys};

use crate::finding::Level;
use crate::load::Listed;
use crate::load::routing::Hosts;
use crate::sheet::Sheet;

/// What exists.
pub struct Known<'a> {
    pub listed: &'a Listed,
    /// Files of lists/, without extension, lower case.
    pub lists: HashSet<String>,
    pub hosts: Hosts<'a>,
    pub groups: HashSet<String>,
}

impl Known<'_> {
    /// Reports what is missing or forbidden.
    pub fn check(&self, sheet: &mut Sheet, account: &Account) {
        let authorized = account.authorizedip.as_deref().unwrap_or_default();
        for address in authorized.iter().filter(|a| !self.listed.contains(a)) {
            let text = format!("{address} is not listed in [IP]");
            sheet.error("account", "authorizedip", &text);
        }
        let routes = &account.authorizedroute;
        self.hosts
            .check(sheet, "account", "authorizedroute", routes);
        for group in account.authorizedrouting.iter().filter(|g| *g != "*") {
            self.group(sheet, "account", "authorizedrouting", group);
        }
        self.routing(sheet, "routing", &account.routing, account);
        for (group, keys) in &account.routing_by_group {
            let section = format!("routing@{group}");
            self.group(sheet, &section, "-", group);
            self.routing(sheet, &section, keys, account);
        }
        self.filter(sheet, account);
        if sheet.is_good() && account.password.is_none() && account.smtpip.is_empty() {
            let text = "neither smtppassw nor smtpip: nobody can relay with this account";
            sheet.report(Level::Notice, "account", "-", text);
        }
    }

    fn routing(&self, sheet: &mut Sheet, section: &str, keys: &RoutingKeys, account: &Account) {
        if let Key::Set(addresses) = &keys.ip {
            for address in addresses.iter().filter(|a| !self.listed.contains(a)) {
                sheet.error(section, "ip", &format!("{address} is not listed in [IP]"));
            }
        }
        if let Key::Set(route) = &keys.route {
            self.hosts.check(sheet, section, "route", route);
            for name in route
                .iter()
                .filter(|n| !account.authorizedroute.contains(n))
            {
                let text = format!("@{name} is not in [account] authorizedroute");
                sheet.error(section, "route", &text);
            }
        }
        if let Key::Set(sender) = &keys.sender
            && account
                .authorizedsender
                .as_ref()
                .is_some_and(|a| !a.contains(sender))
        {
            let text = format!("{sender} is not in [account] authorizedsender");
            sheet.report(Level::Warning, section, "sender", &text);
        }
    }

    /// A group that does not exist is named in vain.
    fn group(&self, sheet: &mut Sheet, section: &str, key: &str, group: &str) {
        let host = self.hosts.usable.iter().any(|h| h.name == group);
        if !group.is_empty() && !host && !self.groups.contains(group) {
            let text = format!("unknown group @{group}; expected a file domains/@{group}.ini");
            sheet.report(Level::Warning, section, key, &text);
        }
    }

    /// CONF-64: every list exists, except `rfhard` and the account's own, which are created.
    fn filter(&self, sheet: &mut Sheet, account: &Account) {
        for list in &account.filter {
            if list != "rfhard" && *list != account.name && !self.lists.contains(list) {
                let text = format!("there is no list {list}; expected a file lists/{list}.csv");
                sheet.error("list", "filter", &text);
            }
        }
    }
}
