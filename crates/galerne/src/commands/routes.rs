//! `galerne routes`: the route table from the command line (ROUTE-13 to ROUTE-22).

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use galerne_config::csv::{Row, Table};
use galerne_core::ports::StateStore as _;
use galerne_core::routes::{
    Chosen, Draw, Fields, MX_TIER, NONE_CONFIGURED, Passwords, RouteRow, RouteTable, Wanted,
    tier_words,
};
use galerne_core::settings::{Secret, Settings};
use galerne_smtp::{Mailbox, ReversePath};
use serde_json::{Value, json};

use super::{fail, print_json, read, settings};
use crate::cli::{RoutesCommand, RoutesTestArgs};
use crate::control::{self, Presence};
use crate::out::print;
use crate::routes::{Change, STATE, apply, open};

/// The columns of export and import, as the API names the fields.
const COLUMNS: [&str; 10] = [
    "id",
    "destination",
    "remoteHost",
    "remotePort",
    "priority",
    "localIp",
    "smtpUser",
    "mailFrom",
    "remoteLogin",
    "remotePasswd",
];

/// One of the commands.
pub fn routes(root: &Path, command: RoutesCommand) -> ExitCode {
    let done = match command {
        RoutesCommand::List { json } => list(root, json),
        RoutesCommand::Add(args) => {
            let as_json = args.json;
            add(root, args.into(), as_json)
        }
        RoutesCommand::Del { id } => change(root, Change::Remove { id }).map(|_| ExitCode::SUCCESS),
        RoutesCommand::Test(args) => test(root, &args),
        RoutesCommand::Export { secrets } => export(root, secrets),
        RoutesCommand::Import { file, replace } => import(root, &file, replace),
    };
    done.unwrap_or_else(|text| fail(&text))
}

/// The rows of the root; a state that was never made has none.
pub(super) fn rows(root: &Path) -> Result<Vec<RouteRow>, String> {
    super::is_root_of_a_tree(root)?;
    match root.join(STATE).exists() {
        false => Ok(Vec::new()),
        true => open(root)?.routes().map_err(|e| format!("{STATE}: {e}")),
    }
}

fn list(root: &Path, as_json: bool) -> Result<ExitCode, String> {
    let rows = rows(root)?;
    if as_json {
        let fields = rows.iter().map(|row| row.fields(Passwords::Masked));
        return Ok(print_json(&fields.collect::<Vec<_>>(), ExitCode::SUCCESS));
    }
    let text = match rows.is_empty() {
        true => NONE_CONFIGURED.to_owned(),
        false => rows.iter().map(|row| format!("{row}\n")).collect(),
    };
    Ok(print(&text, ExitCode::SUCCESS))
}

fn add(root: &Path, fields: Fields, as_json: bool) -> Result<ExitCode, String> {
    let rows = vec![fields];
    let ids = change(
        root,
        Change::Add {
            rows,
            replace: false,
        },
    )?;
    let id = ids.first().copied().unwrap_or_default();
    Ok(match as_json {
        true => print_json(&json!({"id": id}), ExitCode::SUCCESS),
        false => print(&id.to_string(), ExitCode::SUCCESS),
    })
}

/// Makes a change: by the running server, else in the store.
fn change(root: &Path, change: Change) -> Result<Vec<u64>, String> {
    super::is_root_of_a_tree(root)?;
    match control::presence(root)? {
        Presence::Runs => control::change_routes(root, &change),
        Presence::Absent => {
            let settings = settings(root)?;
            galerne_config::create_directories(root, &settings)
                .map_err(|e| format!("directories: {e}"))?;
            let ids = apply(&open(root)?, &settings, change)?;
            // A server that started meanwhile may have read the table before.
            if control::presence(root)? == Presence::Runs {
                control::change_routes(root, &Change::nothing())?;
            }
            Ok(ids)
        }
    }
}

fn export(root: &Path, secrets: bool) -> Result<ExitCode, String> {
    let passwords = match secrets {
        true => Passwords::Shown,
        false => Passwords::Masked,
    };
    let mut table = Table::new(&COLUMNS);
    for row in rows(root)? {
        let f = row.fields(passwords);
        let text = Option::unwrap_or_default;
        let fields = vec![
            row.id.to_string(),
            text(f.destination),
            f.remote_host,
            f.remote_port.to_string(),
            f.priority.to_string(),
            text(f.local_ip),
            text(f.smtp_user),
            text(f.mail_from),
            text(f.remote_login),
            f.remote_passwd.map(|secret| secret.0).unwrap_or_default(),
        ];
        table.rows.push(Row { line: 0, fields });
    }
    Ok(print(&table.print(), ExitCode::SUCCESS))
}

fn import(root: &Path, file: &Path, replace: bool) -> Result<ExitCode, String> {
    let shown = file.display();
    let bytes = match file == Path::new("-") {
        true => {
            let mut bytes = Vec::new();
            let whole = std::io::stdin().lock().read_to_end(&mut bytes);
            whole.map_err(|error| format!("standard input: {error}"))?;
            bytes
        }
        false => read(file)?,
    };
    let rows = parse(&bytes).map_err(|(line, why)| format!("{shown}:{line}: {why}"))?;
    let count = rows.len();
    let ids = change(root, Change::Add { rows, replace })?;
    let text = match (ids.first(), ids.last()) {
        (Some(first), Some(last)) => format!("{count} routes added: {first} to {last}"),
        _ => "no routes added".to_owned(),
    };
    Ok(print(&text, ExitCode::SUCCESS))
}

/// The rows of a CSV file; an error with its line.
fn parse(bytes: &[u8]) -> Result<Vec<Fields>, (u64, String)> {
    let table = Table::parse(bytes).map_err(|bad| (bad.line, bad.why))?;
    if table.column("remoteHost").is_none() {
        return Err((1, format!("expected the columns {}", COLUMNS.join(","))));
    }
    let columns = COLUMNS.map(|name| table.column(name));
    let row = |row: &Row| {
        let mut fields = columns.iter().map(|column| {
            let text = column.and_then(|c| row.fields.get(c)).map(|f| f.trim());
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        });
        let mut next = || fields.next().flatten();
        let wrong = |what: &str| (row.line, format!("{what}: expected a number"));
        let fields = Fields {
            id: next().and(None),
            destination: next(),
            remote_host: next().unwrap_or_default(),
            remote_port: number(next(), 25).ok_or_else(|| wrong("remotePort"))?,
            priority: number(next(), 1).ok_or_else(|| wrong("priority"))?,
            local_ip: next(),
            smtp_user: next(),
            mail_from: next(),
            remote_login: next(),
            remote_passwd: next().map(Secret),
        };
        match fields.clone().check() {
            Ok(_) => Ok(fields),
            Err(why) => Err((row.line, why)),
        }
    };
    table.rows.iter().map(row).collect()
}

fn number<T: std::str::FromStr>(text: Option<String>, default: T) -> Option<T> {
    match text {
        None => Some(default),
        Some(text) => text.parse().ok(),
    }
}

fn test(root: &Path, args: &RoutesTestArgs) -> Result<ExitCode, String> {
    let settings = settings(root)?;
    let sender = args.mail_from.as_deref().unwrap_or_default();
    let sender = ReversePath::parse(sender).map_err(|why| format!("--mailFrom: {why}"))?;
    let address = match args.destination.contains('@') {
        true => args.destination.clone(),
        false => format!("x@{}", args.destination),
    };
    let recipient = Mailbox::parse(&address).map_err(|why| format!("--destination: {why}"))?;
    let domain = recipient.ascii_domain().to_ascii_lowercase();
    let wanted = Wanted {
        login: args.smtp_user.as_deref().map(|user| login(&settings, user)),
        sender: &sender,
        domain: &domain,
    };
    let table = Arc::new(RouteTable::new(rows(root)?, &settings));
    let chosen = Draw::look(table.clone()).choose(&wanted);
    if args.json {
        return Ok(print_json(&as_json(chosen, &table), ExitCode::SUCCESS));
    }
    Ok(print(&as_text(chosen, &table, &domain), ExitCode::SUCCESS))
}

/// An account goes by its login (ROUTE-60).
fn login<'a>(settings: &'a Settings, user: &'a str) -> &'a str {
    let is = |name: &str| name.eq_ignore_ascii_case(user);
    let account = settings.accounts.iter().find(|account| is(&account.name));
    account.map_or(user, |account| account.own_login())
}

fn row_of(table: &RouteTable, id: u64) -> Option<&RouteRow> {
    let place = table.rows().binary_search_by_key(&id, |row| row.id).ok()?;
    table.rows().get(place)
}

fn as_text(chosen: Option<Chosen>, table: &RouteTable, domain: &str) -> String {
    let Some(Chosen { tier, targets }) = chosen else {
        return format!("Tier {MX_TIER}: MX of {domain}\n");
    };
    let mut text = format!("Tier {tier}: {}\n", tier_words(tier));
    for (number, target) in targets.iter().enumerate() {
        let Some(row) = row_of(table, target.id) else {
            continue;
        };
        let (id, priority, weight) = (target.id, target.priority, target.weight);
        let (local, remote) = (&row.local_ips, row.remote());
        let number = number + 1;
        text.push_str(&format!("{number} - Route: {id} - Priority: {priority} - Share: {weight} - Local IPs: {local} - Remote host: {remote}\n"));
    }
    text
}

fn as_json(chosen: Option<Chosen>, table: &RouteTable) -> Value {
    let Some(Chosen { tier, targets }) = chosen else {
        return json!({"tier": MX_TIER, "attempts": []});
    };
    let attempts = targets.iter().filter_map(|target| {
        let fields = row_of(table, target.id)?.fields(Passwords::Masked);
        let mut value = serde_json::to_value(fields).ok()?;
        value["share"] = target.weight.into();
        Some(value)
    });
    json!({"tier": tier, "attempts": attempts.collect::<Vec<_>>()})
}
