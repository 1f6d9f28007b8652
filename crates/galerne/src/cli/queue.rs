//! The words of `galerne queue` and `galerne lane` (QUEUE-16 to QUEUE-18).

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use galerne_core::queue::Filter;
use galerne_core::queue::shown::Shown;
use galerne_outbound::queue::Selection;

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// One line for each undecided delivery, oldest first
    ///
    /// Works without a running server, too; then it is not known what is active or suspended.
    List(QueueListArgs),
    /// Show a message: its envelope, and how each of its recipients stands
    Show(QueueShowArgs),
    /// Say how the queue stands: counts, the oldest undecided delivery, bounds, suspensions
    Status {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Try deliveries now; what is held stays so
    Retry(QueueActArgs),
    /// Keep deliveries back until they are released
    ///
    /// What is being tried now is held when that attempt leaves it undecided. The age limit ([queue]
    /// maxage) holds for held mail, too.
    Hold(QueueActArgs),
    /// Take `hold` back
    Release(QueueActArgs),
    /// End deliveries as failed: their senders are told
    Bounce(QueueEndArgs),
    /// End deliveries without a word to anybody
    Delete(QueueEndArgs),
    /// Have deliveries go on by another way
    ///
    /// As if the directive of the message had named it: the rights of the account hold, and what its
    /// user file sets cannot be changed so. What is being tried now stays where it is.
    Move(QueueMoveArgs),
    /// Tell the story of a message: received, each attempt with its route and reply, what comes next
    ///
    /// Of messages that wait and of those that have ended ([queue] tracekeep, 7d), with and without a
    /// running server. Exit 1 when nothing is known.
    Trace(QueueTraceArgs),
}

#[derive(Debug, Args)]
pub struct QueueTraceArgs {
    /// Id, reference, Message-ID or recipient
    #[arg(value_name = "ID")]
    pub id: String,
    /// The latest messages, at most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub most: u32,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Which deliveries are meant: those to which everything applies that is named.
#[derive(Debug, Default, Args)]
pub struct SelectArgs {
    /// Ids, references or Message-IDs
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Of this account
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// With this envelope sender; empty for the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// To this recipient
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// To recipients of this domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// To this group, such as @gmail, as far as it is known: at the latest after the first attempt
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// With this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// With this reference
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// waiting, deferred, unknown, held, active or suspended
    #[arg(long, value_name = "STATE")]
    pub state: Option<Shown>,
    /// Taken over longer ago than this, such as 90s, 15m, 12h or 7d
    #[arg(long, value_name = "DURATION", value_parser = galerne_config::values::duration)]
    pub older: Option<Duration>,
    /// Last tried by this route, as `queue list --json` shows it
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
}

impl SelectArgs {
    /// Whether nothing is named: everything is meant.
    pub fn is_empty(&self) -> bool {
        self.selection(0) == Selection::default()
    }

    /// What is meant, at a moment in milliseconds since 1970.
    pub fn selection(&self, now: u64) -> Selection {
        let before = self.older.map(|older| {
            let older = u64::try_from(older.as_millis()).unwrap_or(u64::MAX);
            now.saturating_sub(older)
        });
        let group = self.group.as_deref();
        Selection {
            ids: self.ids.clone(),
            filter: Filter {
                user: self.user.clone(),
                sender: self.sender.clone(),
                recipient: self.recipient.clone(),
                domain: self.domain.clone(),
                group: group.map(|group| group.trim_start_matches('@').to_owned()),
                tag: self.tag.clone(),
                reference: self.reference.clone(),
                received_before: before,
                route: self.route.clone(),
                ..Filter::default()
            },
            state: self.state,
        }
    }
}

#[derive(Debug, Args)]
pub struct QueueListArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    /// At most so many lines; 0: all
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub limit: u64,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct QueueShowArgs {
    /// Id, reference or Message-ID
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print the message as it is stored, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub content: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct QueueActArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    /// The whole queue
    #[arg(long)]
    pub all: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct QueueEndArgs {
    #[command(flatten)]
    pub act: QueueActArgs,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct QueueMoveArgs {
    /// Addresses of [IP] and relay hosts, in the order of preference; separated by commas
    #[arg(long, required = true, value_name = "IP|@HOST", value_delimiter = ',')]
    pub outbound: Vec<String>,
    #[command(flatten)]
    pub act: QueueActArgs,
}

#[derive(Debug, Subcommand)]
pub enum LaneCommand {
    /// One line for each lane: what waits for the same destination, and the suspensions in force
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Stop trying some of the mail, until it is resumed or the time is over
    ///
    /// What is being tried now goes on, new mail is taken over and waits; the age limit ([queue]
    /// maxage) holds for suspended mail, too. A suspension survives a restart.
    Suspend(Box<LaneSuspendArgs>),
    /// Take a suspension back
    Resume {
        /// As `lane list` shows it
        number: u64,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("to").args(["lane", "group", "host", "domain"])))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["lane", "group", "host", "domain", "sender", "account", "outbound"])))]
pub struct LaneSuspendArgs {
    /// This lane, as `lane list` shows it: "group gmail"
    #[arg(long, value_name = "NAME")]
    pub lane: Option<String>,
    /// Mail to this group, such as @gmail
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Mail by this relay host, such as @next
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Mail to this domain, if it is in no group
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Mail with an envelope sender of this domain; empty for the null sender
    #[arg(long, value_name = "DOMAIN")]
    pub sender: Option<String>,
    /// Mail of this account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Only from this address of [IP]: the mail goes from others, where it may
    #[arg(long, value_name = "ADDRESS")]
    pub outbound: Option<IpAddr>,
    /// Why, for whoever looks next
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// It ends by itself after this time, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = galerne_config::values::duration, conflicts_with = "until")]
    pub length: Option<Duration>,
    /// It ends by itself at this time: 2026-05-31T06:00:00Z, or local 2026-05-31T06:00
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<jiff::Timestamp>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

impl LaneSuspendArgs {
    /// The name of the lane that is meant.
    pub fn lane(&self) -> Option<String> {
        let named = |kind: &str, name: &Option<String>| {
            let name = name.as_deref()?;
            Some(format!("{kind} {}", name.trim_start_matches('@')))
        };
        let lane = self.lane.clone();
        lane.or_else(|| named("group", &self.group))
            .or_else(|| named("host", &self.host))
            .or_else(|| named("domain", &self.domain))
    }
}

/// A moment with its zone, or in the time of this machine.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let local = text.parse::<jiff::civil::DateTime>();
    let zoned = local.and_then(|local| local.to_zoned(jiff::tz::TimeZone::system()));
    zoned
        .map(|zoned| zoned.timestamp())
        .map_err(|_| "expected a time such as 2026-05-31T06:00:00Z or 2026-05-31T06:00".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: QueueCommand,
    }

    #[derive(Debug, Parser)]
    struct Lanes {
        #[command(subcommand)]
        command: LaneCommand,
    }

    fn held(line: &str) -> QueueActArgs {
        match Program::try_parse_from(line.split(' ')).unwrap().command {
            QueueCommand::Hold(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn queue_16_filters_and_ids_are_one_selection() {
        let args = held(
            "queue hold a1 b2 --user shop --sender s@x.example --recipient r@y.example --domain y.example --group @gmail --tag t --ref r1 --state deferred --older 2h --route MX",
        );
        let selection = args.select.selection(10_000_000);
        assert_eq!(selection.ids, ["a1", "b2"]);
        assert_eq!(selection.state, Some(Shown::Deferred));
        let filter = Filter {
            user: Some("shop".into()),
            sender: Some("s@x.example".into()),
            recipient: Some("r@y.example".into()),
            domain: Some("y.example".into()),
            group: Some("gmail".into()),
            tag: Some("t".into()),
            reference: Some("r1".into()),
            received_before: Some(10_000_000 - 7_200_000),
            route: Some("MX".into()),
            ..Filter::default()
        };
        assert_eq!(selection.filter, filter);
        assert!(!args.select.is_empty());
        assert!(held("queue hold --all").select.is_empty());
        assert!(!held("queue hold --older 1h").select.is_empty());
        assert!(Program::try_parse_from(["queue", "hold", "--state", "dead"]).is_err());
    }

    #[test]
    fn queue_18_a_lane_is_named_one_way_and_a_reason_is_a_must() {
        let lane = |line: &str| {
            let given = line.split(' ');
            match Lanes::try_parse_from(given).map(|lanes| lanes.command) {
                Ok(LaneCommand::Suspend(args)) => Some(args.lane()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            }
        };
        let some = |name: &str| Some(Some(name.to_owned()));
        assert_eq!(
            lane("lane suspend --group @gmail --reason x"),
            some("group gmail")
        );
        assert_eq!(
            lane("lane suspend --host next --reason x"),
            some("host next")
        );
        assert_eq!(
            lane("lane suspend --domain a.example --outbound 192.0.2.1 --reason x --for 2h"),
            some("domain a.example")
        );
        assert_eq!(lane("lane suspend --account shop --reason x"), Some(None));
        for wrong in [
            "lane suspend --group gmail",
            "lane suspend --reason x",
            "lane suspend --group a --host b --reason x",
            "lane suspend --group a --reason x --for 2h --until 2026-05-31T06:00:00Z",
            "lane suspend --group a --reason x --until soon",
        ] {
            assert_eq!(lane(wrong), None, "{wrong}");
        }
        assert!(moment("2026-05-31T06:00").is_ok());
    }
}
