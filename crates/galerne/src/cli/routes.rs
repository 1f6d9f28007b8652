//! The words of `galerne routes` (ROUTE-13 to ROUTE-21).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use galerne_core::routes::Fields;
use galerne_core::settings::Secret;

#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    /// One line per route
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Add a route and print its id
    ///
    /// It holds from the next message on. Rows of the same user, destination and sender share the
    /// load; one that is entered twice gets twice the share.
    Add(RoutesAddArgs),
    /// Remove a route
    Del {
        /// As `routes list` shows it
        id: u64,
    },
    /// Say which tier and which routes a submission would get; nothing is sent
    Test(RoutesTestArgs),
    /// Print all routes as CSV
    Export {
        /// With the passwords, which are masked otherwise
        #[arg(long)]
        secrets: bool,
    },
    /// Add the routes of a CSV file, all or none; they get new ids
    Import {
        /// Columns as `routes export` prints them; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Remove the routes that are there
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Args)]
pub struct RoutesAddArgs {
    /// Recipient domain; left out or *: any
    #[arg(short = 'd', long, alias = "d", value_name = "DOMAIN")]
    pub destination: Option<String>,
    /// Where to deliver: a host name or an IP address (short: -rh)
    #[arg(long = "remoteHost", aliases = ["remote-host", "rh"], value_name = "HOST")]
    pub remote_host: Option<String>,
    /// Its port (short: -rp)
    #[arg(long = "remotePort", aliases = ["remote-port", "rp"], value_name = "PORT", default_value_t = 25)]
    pub remote_port: u16,
    /// The lowest number is preferred, higher ones are used when it fails
    #[arg(
        short = 'p',
        long,
        alias = "p",
        value_name = "NUMBER",
        default_value_t = 1
    )]
    pub priority: u32,
    /// Addresses to send from, joined by | (rotation) or & (failover)
    #[arg(short = 'l', long = "localIp", aliases = ["local-ip", "l"], value_name = "IP")]
    pub local_ip: Option<String>,
    /// SMTP login, or the domain of logins
    #[arg(short = 'u', long = "smtpUser", aliases = ["smtp-user", "u"], value_name = "USER")]
    pub smtp_user: Option<String>,
    /// MAIL FROM address, or its domain; only for users who have logged in
    #[arg(short = 'f', long = "mailFrom", aliases = ["mail-from", "f"], value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// Login at the remote (short: -rl)
    #[arg(long = "remoteLogin", aliases = ["remote-login", "rl"], value_name = "LOGIN")]
    pub remote_login: Option<String>,
    /// Password at the remote (short: -rpwd)
    #[arg(long = "remotePasswd", aliases = ["remote-passwd", "rpwd"], value_name = "PASSWORD", allow_hyphen_values = true)]
    pub remote_passwd: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

impl std::fmt::Debug for RoutesAddArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoutesAddArgs")
    }
}

#[derive(Debug, Args)]
pub struct RoutesTestArgs {
    /// SMTP login or account; left out: an unauthenticated client
    #[arg(short = 'u', long = "smtpUser", aliases = ["smtp-user", "u"], value_name = "USER")]
    pub smtp_user: Option<String>,
    /// MAIL FROM; left out: the null sender
    #[arg(short = 'f', long = "mailFrom", aliases = ["mail-from", "f"], value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// Recipient domain
    #[arg(short = 'd', long, alias = "d", value_name = "DOMAIN")]
    pub destination: String,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

impl From<RoutesAddArgs> for Fields {
    fn from(args: RoutesAddArgs) -> Fields {
        Fields {
            id: None,
            destination: args.destination,
            remote_host: args.remote_host.unwrap_or_default(),
            remote_port: args.remote_port,
            priority: args.priority,
            local_ip: args.local_ip,
            smtp_user: args.smtp_user,
            mail_from: args.mail_from,
            remote_login: args.remote_login,
            remote_passwd: args.remote_passwd.map(Secret),
        }
    }
}

/// Short flags of several letters (ROUTE-14); to clap `-rh` would be `-r` with the value `h`.
const LONG_SHORT: [&str; 4] = ["-rh", "-rp", "-rl", "-rpwd"];
/// What is behind these is a password, whatever it looks like.
const PASSWORD: [&str; 4] = ["--rpwd", "--remotePasswd", "--remote-passwd", "-rpwd"];

/// A command line of `routes` with a second dash in front of its short flags of several letters.
/// Others stay as they are.
pub fn with_two_dashes(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = Vec::new();
    let (mut is_routes, mut is_password) = (false, false);
    for word in given {
        let text = word.to_str().unwrap_or_default();
        let (flag, _) = text.split_once('=').unwrap_or((text, ""));
        let changed = is_routes && !is_password && LONG_SHORT.contains(&flag);
        is_password = is_routes && !is_password && PASSWORD.contains(&text);
        is_routes |= text == "routes" || text == "route";
        words.push(match changed {
            true => OsString::from(format!("-{text}")),
            false => word,
        });
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn dashes(line: &str) -> String {
        let words = with_two_dashes(line.split(' ').map(OsString::from));
        let words: Vec<_> = words.iter().map(|w| w.to_str().unwrap()).collect();
        words.join(" ")
    }

    fn add(line: &str) -> Fields {
        let line = format!("galerne routes add {line}");
        let words = with_two_dashes(line.split(' ').map(OsString::from));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Routes(RoutesCommand::Add(args)) => args.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn route_14_short_flags_of_several_letters_get_a_second_dash() {
        assert_eq!(
            dashes("galerne --root x route add -rh a -rp 1 -rl b -rpwd -rh -rp=2 -p 3"),
            "galerne --root x route add --rh a --rp 1 --rl b --rpwd -rh --rp=2 -p 3"
        );
        for other in [
            "galerne send -rh a",
            "galerne run -rp",
            "galerne routes add -rhx -rpw",
        ] {
            assert_eq!(dashes(other), other);
        }
    }

    #[test]
    fn route_5_route_14_all_forms_of_a_flag_are_one() {
        let forms = [
            "-d d.example -rh r.example -rp 26 -p 2 -l 192.0.2.1 -u u -f f.example -rl l -rpwd p",
            "--d d.example --rh r.example --rp 26 --p 2 --l 192.0.2.1 --u u --f f.example --rl l --rpwd p",
            "--destination d.example --remoteHost r.example --remotePort 26 --priority 2 --localIp 192.0.2.1 --smtpUser u --mailFrom f.example --remoteLogin l --remotePasswd p",
            "--destination d.example --remote-host r.example --remote-port 26 --priority 2 --local-ip 192.0.2.1 --smtp-user u --mail-from f.example --remote-login l --remote-passwd p",
        ];
        let read: Vec<Fields> = forms.iter().map(|line| add(line)).collect();
        assert!(read.iter().all(|fields| *fields == read[0]));
        assert_eq!(read[0].remote_passwd.as_ref().unwrap().0, "p");
        let least = add("-rh r.example");
        assert_eq!((least.remote_port, least.priority), (25, 1));
        assert_eq!((least.destination, least.local_ip), (None, None));
    }

    #[test]
    fn route_13_route_20_route_is_accepted_and_del_takes_one_number() {
        let parses = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("galerne route list") && parses("galerne routes del 7"));
        for wrong in ["del", "del 1 2", "del x", "del -1"] {
            assert!(!parses(&format!("galerne routes {wrong}")), "{wrong}");
        }
    }
}
