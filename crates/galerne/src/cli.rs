//! The command line (IF-1, CONF-91): what can be called, and with what.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{commands, run};

/// Exit code for wrong usage.
const WRONG_USAGE: u8 = 2;

/// A mail relay that answers with the truth: the remote server's own final reply.
#[derive(Debug, Parser)]
#[command(name = "galerne", version, about, disable_help_subcommand = true)]
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
    Run(RunArgs),
    /// See Galerne at work on this machine, without any configuration
    Demo(DemoArgs),
    /// Write the sample configuration into the root, never over an existing file
    Init,
    /// Read the whole configuration and print what is wrong or worth knowing
    Check(CheckArgs),
    /// Submit a message to the running server and print the reply
    Send(SendArgs),
    /// Say what would be decided for a message, and by which rule; nothing is sent
    Explain(ExplainArgs),
    /// Reply patterns
    #[command(subcommand)]
    Patterns(PatternsCommand),
    /// Accounts
    #[command(subcommand)]
    Users(UsersCommand),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Do not ask whether the addresses of [IP] are on this host
    #[arg(long)]
    pub no_bind_check: bool,
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
    #[arg(long, value_name = "JSON")]
    pub directive: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum PatternsCommand {
    /// Show which pattern of a group matches a reply, and what it would do
    Test(PatternsTestArgs),
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
pub enum UsersCommand {
    /// One line per account
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

impl Cli {
    /// `--root`, else GALERNE_ROOT, else the working directory.
    fn root(&self) -> PathBuf {
        let named = self.root.clone().or_else(|| std::env::var_os("GALERNE_ROOT").map(PathBuf::from));
        named.filter(|root| !root.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."))
    }
}

/// The program.
pub fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(with_options_file(given)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { WRONG_USAGE } else { 0 });
        }
    };
    let root = cli.root();
    match cli.command {
        Command::Run(args) => run::run(&root, args.no_bind_check),
        Command::Demo(args) => commands::demo(cli.root.as_deref(), &args),
        Command::Init => commands::init(&root),
        Command::Check(args) => commands::check(&root, &args),
        Command::Send(args) => commands::send(&root, &args),
        Command::Explain(args) => commands::explain(&root, &args),
        Command::Patterns(PatternsCommand::Test(args)) => commands::patterns_test(&root, &args),
        Command::Users(UsersCommand::List { json }) => commands::users_list(&root, json),
        Command::Version => {
            println!("galerne {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// `galerne run` also reads `galerne.opts` in the root: one option per line (CONF-9). The command
/// line comes last, so that it can say otherwise.
fn with_options_file(given: Vec<OsString>) -> Vec<OsString> {
    let Ok(cli) = Cli::try_parse_from(&given) else { return given };
    if !matches!(cli.command, Command::Run(_)) {
        return given;
    }
    let Ok(text) = std::fs::read_to_string(cli.root().join("galerne.opts")) else { return given };
    let options = match galerne_config::options::parse_options(&text) {
        Ok(options) => options,
        Err(finding) => {
            eprintln!("{finding}");
            return given;
        }
    };
    let mut all = given;
    let present: Vec<OsString> = options.into_iter().map(OsString::from).filter(|o| !all.contains(o)).collect();
    all.extend(present);
    all
}
