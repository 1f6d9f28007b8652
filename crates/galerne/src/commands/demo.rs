//! `galerne demo` (IF-3): the relay at work on this machine, without any configuration.
//!
//! Messages go through the real server by SMTP on real sockets. What is shown of them is the reply
//! read from the client's socket, the route that the server recorded, and what the test servers
//! hold. Each is compared with what must come of it.

mod client;
mod page;
mod scenario;
mod story;
mod world;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use galerne_sim::sink::MessageRecord;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::fail;
use crate::cli::DemoArgs;
use client::Heard;
use page::{Ink, Page, Style};
use scenario::{BY_HAND, SCENARIOS, Scenario, Seen, judge};
use story::Story;
use world::{LOGIN, PASSWORD, SENDER, World};

const NOTHING: (Ink, &str) = (Ink::Normal, "");
/// How long a notification may take to be delivered.
const NOTICE: Duration = Duration::from_secs(5);

/// Shows the relay at work. Exit 0 if all replies were as they must be.
pub fn demo(root: Option<&Path>, args: &DemoArgs) -> ExitCode {
    // The page tells what happens; the log on standard error only for those who ask.
    let filter = std::env::var("GALERNE_LOG").ok();
    if let Some(Err(text)) =
        filter.map(|filter| galerne_events::journal::init(Some(&filter), false))
    {
        return fail(&text);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime does not start: {error}")),
    };
    let mut page = Page::new(std::io::stdout(), Style::of_stdout());
    let shown = runtime.block_on(run(root, args, &mut page));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => fail(&text),
    }
}

async fn run<W: Write>(
    root: Option<&Path>,
    args: &DemoArgs,
    page: &mut Page<W>,
) -> Result<bool, String> {
    let mut stop = Stop::new()?;
    let mut world = World::open(root, args.smtp).await?;
    head(page, &world, args.http);
    let good = tokio::select! {
        good = show(&mut world, page) => good,
        () = stop.wait() => false,
    };
    if !args.once && !stop.came {
        invite(page, &world);
        tokio::select! {
            () = look_on(&mut world, page) => {}
            () = stop.wait() => {}
        }
    }
    let kept = (!world.is_temporary()).then(|| world.root().display().to_string());
    world.close().await?;
    if stop.came {
        page.line("");
        page.line(&match kept {
            Some(root) => format!("The demo has ended; {root} stays."),
            None => "The demo has ended; its temporary directory is removed.".to_owned(),
        });
    }
    Ok(good)
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    came: bool,
}

impl Stop {
    fn new() -> Result<Stop, String> {
        let listen = |kind| signal(kind).map_err(|e| format!("signals: {e}"));
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            came: false,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.came = true;
    }
}

fn head<W: Write>(page: &mut Page<W>, world: &World, http: SocketAddr) {
    page.rule();
    let version = format!(" Galerne {}", env!("CARGO_PKG_VERSION"));
    page.ends((Ink::Bold, &version), (Ink::Dim, "demo "));
    page.line(" The mail relay that answers with the truth: your client waits while the message");
    page.line(" is delivered, and gets the final reply of the recipient's own server.");
    page.rule();
    let arrow = page.arrow();
    let way = format!(
        "a client {arrow} Galerne {} {arrow} test servers, port {}",
        world.smtp, world.port
    );
    page.row("way", Ink::Normal, &way, NOTHING);
    page.row(
        "hop",
        Ink::Normal,
        "an attempt, with the words of the server that was tried",
        NOTHING,
    );
    page.row(
        "client",
        Ink::Normal,
        "the reply that the client read from its socket",
        NOTHING,
    );
    let files = format!("{} (configuration and logs)", world.root().display());
    page.row("files", Ink::Normal, &files, NOTHING);
    page.row(
        "http",
        Ink::Dim,
        &format!("{http} stays closed: HTTP is not part of this version"),
        NOTHING,
    );
    if world.narrow {
        let text = "This system lets us use no other loopback address than 127.0.0.1. \
                    What takes several addresses is left out.";
        page.row("note", Ink::Yellow, text, NOTHING);
    }
}

/// Sends all messages and shows what came of each. True if all was as it must be.
async fn show<W: Write>(world: &mut World, page: &mut Page<W>) -> bool {
    let narrow = world.narrow;
    let scenarios = SCENARIOS
        .iter()
        .filter(|scenario| !(scenario.wide && narrow));
    let mut wrong = Vec::new();
    let mut count = 0;
    for scenario in scenarios {
        count += 1;
        if !one(world, page, count, scenario).await {
            wrong.push(format!("{count} ({})", scenario.title));
        }
    }
    page.line("");
    page.rule();
    if wrong.is_empty() {
        let text = format!(" {count} messages, {count} replies: all as they must be");
        page.ends((Ink::Bold, &text), page.mark(true));
    } else {
        let text = format!(
            " {} of {count} messages did not come out as they must: {}",
            wrong.len(),
            wrong.join(", ")
        );
        page.ends((Ink::Bold, &text), page.mark(false));
    }
    page.rule();
    wrong.is_empty()
}

/// One message: sent, awaited, shown and judged.
async fn one<W: Write>(
    world: &mut World,
    page: &mut Page<W>,
    number: usize,
    scenario: &Scenario,
) -> bool {
    world.arrived();
    let message = client::message(number, scenario);
    let heard = match client::submit(world.smtp, scenario.to, &message).await {
        Ok(heard) => heard,
        Err(error) => {
            title(page, number, scenario, false, "");
            page.row("client", Ink::Red, &format!("no reply: {error}"), NOTHING);
            return false;
        }
    };
    let (mut story, mut notice) = (None, None);
    while let Ok(told) = world.stories.try_recv() {
        match told.is_notice {
            true => notice = Some(told),
            false if told.from == SENDER => story = Some(told),
            false => {}
        }
    }
    // A notification is in the queue when the client has its answer, and leaves at once.
    if scenario.expect.notice && notice.is_none() {
        let told = tokio::time::timeout(NOTICE, world.stories.recv()).await;
        notice = told.ok().flatten().filter(|told| told.is_notice);
    }
    let plain = client::without_directive(&message);
    let (copies, others): (Vec<_>, Vec<_>) = world
        .arrived()
        .into_iter()
        .partition(|(_, m)| m.content == plain);
    let altered = others
        .iter()
        .filter(|(_, message)| message.sender == SENDER)
        .count();
    let seen = Seen {
        reply: &heard.lines,
        story: story.as_ref(),
        notice: notice.as_ref(),
        copies: copies.len(),
        altered,
    };
    let wrong = judge(scenario, &seen);
    title(
        page,
        number,
        scenario,
        wrong.is_empty(),
        &page::duration(heard.took),
    );
    details(page, scenario, &seen, &heard, &copies);
    for text in &wrong {
        page.row("WRONG", Ink::Red, text, NOTHING);
    }
    wrong.is_empty()
}

fn title<W: Write>(page: &mut Page<W>, number: usize, scenario: &Scenario, good: bool, time: &str) {
    page.line("");
    let (ink, mark) = page.mark(good);
    page.ends(
        (Ink::Bold, &format!(" {number}  {}", scenario.title)),
        (ink, &format!("{mark} {time}")),
    );
    page.indented(Ink::Dim, scenario.lesson);
}

fn details<W: Write>(
    page: &mut Page<W>,
    scenario: &Scenario,
    seen: &Seen<'_>,
    heard: &Heard,
    copies: &[(&'static str, MessageRecord)],
) {
    page.row("to", Ink::Cyan, &scenario.to.join(" "), NOTHING);
    if let Some(directive) = scenario.directive {
        page.row(
            "with",
            Ink::Normal,
            &format!("X-SMTP-R-API: {directive}"),
            NOTHING,
        );
    }
    if let Some(story) = seen.story {
        page.hops(story);
        if story.hops.is_empty() {
            page.row(
                "route",
                Ink::Dim,
                "none: refused by Galerne, no server was asked",
                NOTHING,
            );
        }
    }
    if let Some(notice) = seen.notice {
        let text = format!("to {}: {}", notice.to.join(" "), notice.answer.join(" / "));
        page.row("notice", Ink::Normal, &text, NOTHING);
    }
    page.reply("client", &heard.lines, heard.stage);
    for (host, message) in copies {
        let how = if message.tls { ", TLS" } else { "" };
        let how_sent = if scenario.directive.is_some() {
            "as sent less the directive"
        } else {
            "exactly as sent"
        };
        let text = format!("at {host}{how}: {} octets, {how_sent}", message.size);
        page.row("arrived", Ink::Dim, &text, NOTHING);
    }
}

/// How to try it by hand.
fn invite<W: Write>(page: &mut Page<W>, world: &World) {
    let (ip, port) = (world.smtp.ip(), world.smtp.port());
    let text = format!(
        " Your turn. Server {}, login {LOGIN}, password {PASSWORD}.",
        world.smtp
    );
    page.line("");
    page.ends((Ink::Bold, &text), (Ink::Dim, "Ctrl-C ends it"));
    page.line("");
    for (to, does, _) in BY_HAND
        .iter()
        .filter(|(to, ..)| !world.narrow || to.ends_with("@inbox.example"))
    {
        page.line(&format!("    {to:<23}{does}"));
    }
    page.line("");
    page.line(&format!(
        "  swaks --server {ip} --port {port} --auth-user {LOGIN} --auth-password {PASSWORD} \\"
    ));
    page.line(&format!("    --from {SENDER} --to full@inbox.example"));
    page.line("");
    page.line(&format!(
        "  printf 'From: {SENDER}\\n\\nHello\\n' | curl -sv --crlf -T - \\"
    ));
    page.line(&format!(
        "    -u {LOGIN}:{PASSWORD} --mail-from {SENDER} \\"
    ));
    page.line(&format!(
        "    --mail-rcpt full@inbox.example smtp://{}",
        world.smtp
    ));
    page.line("");
    page.line(&format!(
        "  python3 -c \"import smtplib; s = smtplib.SMTP('{ip}', {port}); \\"
    ));
    page.line(&format!(
        "    s.login('{LOGIN}', '{PASSWORD}'); s.mail('{SENDER}'); \\"
    ));
    page.line("    s.rcpt('full@inbox.example'); \\");
    page.line(&format!("    print(s.data('From: {SENDER}\\n\\nHello'))\""));
    page.line("");
    page.ends((Ink::Bold, " What comes in is shown here."), NOTHING);
}

/// Shows what others send, until aborted.
async fn look_on<W: Write>(world: &mut World, page: &mut Page<W>) {
    while let Some(story) = world.stories.recv().await {
        // Their content need not be kept.
        world.arrived();
        other(page, &story);
        let missed = world.feed.missed();
        if missed > 0 {
            page.line(&format!("    … and {missed} more than could be shown"));
        }
    }
}

fn other<W: Write>(page: &mut Page<W>, story: &Story) {
    let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    let who = match (&*story.account, story.is_notice) {
        (_, true) => "a notification of Galerne".to_owned(),
        ("", _) => format!("from {}, without login", story.from),
        (account, _) => format!("from {}, account {account}", story.from),
    };
    let time = story.took.map_or(String::new(), page::duration);
    page.line("");
    page.ends((Ink::Bold, &format!(" {now}  {who}")), (Ink::Dim, &time));
    page.row("to", Ink::Cyan, &story.to.join(" "), NOTHING);
    page.hops(story);
    if let Some(rule) = story.rule.as_ref().filter(|_| story.hops.is_empty()) {
        page.row("rule", Ink::Dim, rule, NOTHING);
    }
    page.reply(
        if story.is_notice { "reply" } else { "client" },
        &story.answer,
        "",
    );
}

#[cfg(test)]
mod tests;
