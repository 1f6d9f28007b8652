//! The command line (IF-1, CONF-91): what can be called, and with what.

mod queue;
mod routes;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use galerne_config::{OPTIONS_FILE, parse_options};

pub use queue::{
    LaneCommand, LaneSuspendArgs, QueueActArgs, QueueCommand, QueueEndArgs, QueueListArgs,
    QueueMoveArgs, QueueShowArgs, QueueTraceArgs, SelectArgs,
};
pub use routes::{RoutesAddArgs, RoutesCommand, RoutesTestArgs};

use crate::out::print;
use crate::{commands, run};

/// Exit code for wrong usage.
const WRONG_USAGE: u8 = 2;

/// A mail relay that answers with the truth: the remote server's own final reply.
#[derive(Debug, Parser)]
#[command(
    name = "galerne",
    version,
    about,
    disable_help_subcommand = true,
    args_override_self = true
)]
pub struct Cli {
    /// The directory with galerne.ini and everything else [env: GALERNE_ROOT] [default: .]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server in the foreground
    ///
    /// Prints what it found, then `galerne ready`. SIGHUP reads the configuration again; SIGTERM and
    /// SIGINT stop it once the transactions under way have their answer ([rfmta] grace, 30 s), a
    /// second one stops it at once. GALERNE_LOG filters the log on standard error (info).
    Run(RunArgs),
    /// See Galerne at work on this machine, without any configuration
    Demo(DemoArgs),
    /// Write the sample configuration into the root, never over an existing file
    Init,
    /// Read the whole configuration and print what is wrong or worth knowing
    ///
    /// One line per finding: `file:line: level: [section] key: text`. Exit 0 without errors, 1 with.
    Check(CheckArgs),
    /// Submit a message to the running server and print the reply
    ///
    /// Waits for the answer, at most as long as the relay may try ([relay] timeout, 60 s). Exit 0 for
    /// a reply 2xx, 75 for 4xx, 69 for 5xx, 1 when no server runs.
    Send(SendArgs),
    /// Say what would be decided for a message, and by which rule; nothing is sent
    Explain(ExplainArgs),
    /// Reply patterns
    #[command(subcommand)]
    Patterns(PatternsCommand),
    /// Flow control: the pace of each address and sender towards each group
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Say what would become of a plan of mail under this flow control; nothing is sent
    ///
    /// The plan is CSV with the columns day (1 is the first), group (@ for all others) and messages.
    /// Every address begins with warmup. Prints for each day what is sent, the set in force and the
    /// limit that was waited for longest, then the switches, and when each batch would be out.
    Simulate(SimulateArgs),
    /// The route table: which mail goes where in place of the MX
    #[command(subcommand, alias = "route")]
    Routes(RoutesCommand),
    /// The queue: what was taken over, and what happens to it
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Lanes: the mail of one destination, which waits together and can be suspended
    #[command(subcommand)]
    Lane(LaneCommand),
    /// Drop a message from standard input, as `sendmail` does; the server need not run
    ///
    /// Recipients stand on the command line, or with -t in the header. -f SENDER, -F NAME, -i (a dot
    /// alone is text), -N NOTIFY, -R full or hdrs, -V ENVID, -- (no flags behind). Exit codes of
    /// sysexits. A link called `sendmail` to this program does the same; its root is GALERNE_ROOT, else
    /// /srv/galerne.
    #[command(disable_help_flag = true)]
    Sendmail {
        /// Flags and recipients
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "WORDS"
        )]
        words: Vec<OsString>,
    },
    /// Look whether everything in the queue is as it was written
    ///
    /// With a running server each message is read; without, the database and the counters are looked
    /// at, too. Exit 0 when all is sound, 1 when something is damaged.
    Fsck(FsckArgs),
    /// Accounts
    #[command(subcommand)]
    Users(UsersCommand),
    /// Make a DKIM key in keys/ and print its TXT record
    ///
    /// The file is keys/"DOMAIN SELECTOR ID.pem", mode 0600, never over an existing one. A DOMAIN
    /// that begins with a dot, such as .def, makes the key of all domains without their own.
    Keygen(KeygenArgs),
    /// Print the records that a sender domain needs in its zone
    ///
    /// Addresses, MX, SPF, Sender-ID, DKIM, DMARC, MTA-STS and TLS-RPT, from the configuration, as
    /// lines for a zone file.
    Dns(DnsArgs),
    /// Look at this machine and at what others see of us, and say what to do
    ///
    /// Exit 0 when nobody must act, 1 when somebody must. Asks the name servers of [dns] resolver,
    /// a time server, and from each address of [IP] one mail host for its greeting.
    Doctor(DoctorArgs),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Do not ask whether the addresses of [IP] are on this host
    #[arg(long)]
    pub no_bind_check: bool,
    /// Look for changed configuration files every so many seconds, 1 to 60
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub watch: u64,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the demo server takes mail
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "ADDRESS:PORT")]
    pub smtp: SocketAddr,
    /// Where the demo server will serve HTTP (not part of this version)
    #[arg(long, default_value = "127.0.0.1:8025", value_name = "ADDRESS:PORT")]
    pub http: SocketAddr,
    /// End after the messages; exit 0 only if all replies were as they must be
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Do not ask whether the addresses of [IP] are on this host
    #[arg(long)]
    pub no_bind_check: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SendArgs {
    /// Envelope sender; empty for the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,
    /// Recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub to: Vec<String>,
    /// Account name or login; may be left out when there is only one account
    #[arg(long)]
    pub user: Option<String>,
    /// Directive, put in front of the message as X-SMTP-R-API
    #[arg(long, value_name = "JSON")]
    pub directive: Option<String>,
    /// The message with its header; - or nothing: standard input
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Envelope sender; empty for the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,
    /// Recipient
    #[arg(long, value_name = "ADDRESS")]
    pub to: String,
    /// Account name or login; none: an unauthenticated client
    #[arg(long)]
    pub user: Option<String>,
    /// Directive, as in the field X-SMTP-R-API
    #[arg(long, value_name = "JSON")]
    pub directive: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The sender domain
    pub domain: String,
    /// The label before ._domainkey
    pub selector: String,
    /// Local part of the identity that signs (i=ID@DOMAIN)
    #[arg(default_value = "postmaster")]
    pub id: String,
    /// An RSA key of 2048 bits, which every receiver verifies (the default)
    #[arg(long, conflicts_with = "ed25519")]
    pub rsa: bool,
    /// An Ed25519 key: a second signature, for receivers that know it
    #[arg(long)]
    pub ed25519: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DnsArgs {
    /// The sender domain
    pub domain: String,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The mail host to connect to, in place of some well-known ones
    #[arg(long, value_name = "HOST[:PORT]")]
    pub probe: Option<String>,
    /// The time server to compare the clock with
    #[arg(long, value_name = "HOST[:PORT]", default_value = "pool.ntp.org")]
    pub clock: String,
    /// Do not ask whether the addresses of [IP] are on this host
    #[arg(long)]
    pub no_bind_check: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct FsckArgs {
    /// Set aside what is damaged, in system/queue/quarantine; no server may run
    #[arg(long)]
    pub repair: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum PatternsCommand {
    /// Show which pattern of a group matches a reply, and what it would do
    Test(PatternsTestArgs),
    /// Run the patterns of today over recorded replies, and show what would change
    ///
    /// The log is logs/rfmta.csv, or domains/@<group>_log.csv with the replies that no pattern knew.
    Replay(PatternsReplayArgs),
}

#[derive(Debug, Args)]
pub struct PatternsReplayArgs {
    /// The log
    #[arg(value_name = "LOGFILE")]
    pub file: PathBuf,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PatternsTestArgs {
    /// The group, such as @gmail; @ is the catch-all
    pub group: String,
    /// The reply: code and text; \n separates lines
    pub reply: String,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// One line for each address and sender that has sent: its set, since when, and how full it is
    List(FlowListArgs),
    /// Switch a set on demand; without --lock the automatic switches go on
    Set(FlowSetArgs),
}

#[derive(Debug, Args)]
pub struct FlowListArgs {
    /// Only this group, such as @gmail; @ is that of all other domains
    #[arg(long)]
    pub group: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["ip", "sender"])))]
pub struct FlowSetArgs {
    /// The group, such as @gmail; @ is that of all other domains
    pub group: String,
    /// defcon3, defcon2, defcon1, warmup, low, mid, high or full
    pub set: String,
    /// An address of [IP]
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<std::net::IpAddr>,
    /// A sender domain
    #[arg(long, value_name = "DOMAIN")]
    pub sender: Option<String>,
    /// Wait for sleepttl of the set before the next message
    #[arg(long)]
    pub sleep: bool,
    /// No automatic switch until it is set again without --lock
    #[arg(long)]
    pub lock: bool,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The plan
    #[arg(value_name = "PLAN.csv")]
    pub plan: PathBuf,
    /// Sender domain [default: the name of this server]
    #[arg(long, value_name = "DOMAIN")]
    pub sender: Option<String>,
    /// Only from this address of [IP]; may be repeated [default: all]
    #[arg(long, value_name = "ADDRESS")]
    pub outbound: Option<Vec<std::net::IpAddr>>,
    /// Time that a message takes in its session, in milliseconds
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub message_time: u64,
    /// Different recipient domains in the group of all others
    #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub domains: u32,
    /// Also draw volume and set of each day
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// One line per account; with what it has used up of its limits, when the server runs
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Give an account a password: asked for twice, or one line of standard input
    ///
    /// Writes its hash into users/NAME.ini and changes nothing else there. A running server reads
    /// it within seconds.
    Passwd {
        /// The account, as its file is called
        name: String,
    },
}

impl Cli {
    /// `--root`, else GALERNE_ROOT, else the working directory.
    fn root(&self) -> PathBuf {
        let named = self
            .root
            .clone()
            .or_else(|| std::env::var_os("GALERNE_ROOT").map(PathBuf::from));
        named
            .filter(|root| !root.as_os_str().is_empty())
            .unwrap_or_else(|| PathBuf::from("."))
    }
}

/// The program.
pub fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    if let Some(words) = commands::called_as_another(&given) {
        return commands::sendmail(&commands::usual_root(), words);
    }
    let given = routes::with_two_dashes(given);
    let cli = match Cli::try_parse_from(given).map(with_options_file) {
        Ok(Ok(cli)) => cli,
        Ok(Err(code)) => return code,
        Err(error) => return usage(&error),
    };
    let root = cli.root();
    match cli.command {
        Command::Run(args) => run::run(&root, &args),
        Command::Demo(args) => commands::demo(cli.root.as_deref(), &args),
        Command::Init => commands::init(&root),
        Command::Check(args) => commands::check(&root, &args),
        Command::Send(args) => commands::send(&root, &args),
        Command::Explain(args) => commands::explain(&root, &args),
        Command::Patterns(PatternsCommand::Test(args)) => commands::patterns_test(&root, &args),
        Command::Patterns(PatternsCommand::Replay(args)) => commands::patterns_replay(&root, &args),
        Command::Flow(FlowCommand::List(args)) => commands::flow_list(&root, &args),
        Command::Flow(FlowCommand::Set(args)) => commands::flow_set(&root, &args),
        Command::Simulate(args) => commands::simulate(&root, &args),
        Command::Routes(command) => commands::routes(&root, command),
        Command::Queue(command) => commands::queue(&root, command),
        Command::Lane(command) => commands::lane(&root, command),
        Command::Fsck(args) => commands::fsck(&root, &args),
        Command::Sendmail { words } => commands::sendmail(&root, words),
        Command::Users(UsersCommand::List { json }) => commands::users_list(&root, json),
        Command::Users(UsersCommand::Passwd { name }) => commands::users_passwd(&root, &name),
        Command::Keygen(args) => commands::keygen(&root, &args),
        Command::Dns(args) => commands::dns(&root, &args),
        Command::Doctor(args) => commands::doctor(&root, &args),
        Command::Version => print(
            concat!("galerne ", env!("CARGO_PKG_VERSION")),
            ExitCode::SUCCESS,
        ),
    }
}

/// What `galerne sendmail --help` says: its flags are its own, so that clap must not see them.
pub fn sendmail_help() -> String {
    let mut all = Cli::command();
    let command = all.find_subcommand_mut("sendmail");
    command.map_or_else(String::new, |c| c.render_long_help().to_string())
}

fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { WRONG_USAGE } else { 0 })
}

/// `galerne run` also reads `galerne.opts` in the root: one option per line (CONF-9). What the
/// command line says comes last and wins.
fn with_options_file(cli: Cli) -> Result<Cli, ExitCode> {
    let Command::Run(_) = &cli.command else {
        return Ok(cli);
    };
    let Ok(text) = std::fs::read_to_string(cli.root().join(OPTIONS_FILE)) else {
        return Ok(cli);
    };
    let options = parse_options(&text).map_err(|finding| {
        eprintln!("{finding}");
        ExitCode::FAILURE
    })?;
    Cli::try_parse_from(with_options(std::env::args_os(), options)).map_err(|error| {
        eprintln!("{OPTIONS_FILE}: these options do not fit `galerne run`:");
        usage(&error)
    })
}

/// A command line `galerne … run …` with options put in front of all that it says.
fn with_options(given: impl IntoIterator<Item = OsString>, options: Vec<String>) -> Vec<OsString> {
    let mut given: Vec<OsString> = given.into_iter().collect();
    let mut command = 1;
    while given
        .get(command)
        .is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"))
    {
        // `--root DIR` is the only option before a command that takes a word of its own.
        command += if given.get(command).is_some_and(|word| word == "--root") {
            2
        } else {
            1
        };
    }
    let rest = given.split_off(command.min(given.len()));
    let options = options.into_iter().map(OsString::from);
    let named = rest.iter().take(1).cloned();
    let before = given.iter().skip(1).cloned();
    let program = given.iter().take(1).cloned();
    program
        .chain(named)
        .chain(options)
        .chain(before)
        .chain(rest.iter().skip(1).cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, options: &[&str]) -> (Option<PathBuf>, RunArgs) {
        let given = line.split(' ').map(OsString::from);
        let all = with_options(given, options.iter().map(|o| (*o).to_owned()).collect());
        let cli = Cli::try_parse_from(all).unwrap();
        let Command::Run(args) = cli.command else {
            panic!("{line}")
        };
        (cli.root, args)
    }

    #[test]
    fn conf_9_options_of_the_file_are_heard_and_the_command_line_wins() {
        let options = ["--no-bind-check", "--watch", "20"];
        for line in [
            "galerne --root run run",
            "galerne run --root run",
            "galerne --root=run run",
        ] {
            let (root, args) = run(line, &options);
            assert_eq!(
                (root, args.no_bind_check, args.watch),
                (Some("run".into()), true, 20),
                "{line}"
            );
        }
        let (root, args) = run("galerne run --watch 5", &options);
        assert_eq!((root, args.no_bind_check, args.watch), (None, true, 5));
        let (root, _) = run("galerne --root b run", &["--root=a"]);
        assert_eq!(root, Some("b".into()));
    }

    #[test]
    fn conf_12_files_are_looked_at_once_a_minute_at_least() {
        assert_eq!(run("galerne run", &[]).1.watch, 10);
        assert!(Cli::try_parse_from(["galerne", "run", "--watch", "60"]).is_ok());
        assert!(Cli::try_parse_from(["galerne", "run", "--watch", "61"]).is_err());
        assert!(Cli::try_parse_from(["galerne", "run", "--watch", "0"]).is_err());
    }

    #[test]
    fn if_5_recipients_may_be_repeated() {
        let line = [
            "galerne", "send", "--from", "", "--to", "a@x", "--to", "b@x",
        ];
        let Command::Send(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!()
        };
        assert_eq!(
            (args.from.as_str(), args.to.len(), args.file),
            ("", 2, None)
        );
    }
}
