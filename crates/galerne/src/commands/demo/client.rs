//! The demo's own client: plain SMTP over a TCP connection, one session per message.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use galerne_sim::client::{TestClient, TestReply};
use galerne_smtp::sasl_client::{ClientAuth, Mechanism, SaslClient};
use tokio::net::TcpStream;

use super::scenario::Scenario;
use super::story::clean;
use super::world::{LOGIN, PASSWORD, SENDER};

/// Longer than the server may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// The reply that decided about a message, as read from the socket.
pub struct Heard {
    /// Where it came, if not at the end of data.
    pub stage: &'static str,
    pub lines: Vec<String>,
    /// From the command or the final dot to the reply.
    pub took: Duration,
}

/// The message of a scenario, directive in front.
pub fn message(number: usize, scenario: &Scenario) -> Vec<u8> {
    let directive = scenario
        .directive
        .map_or(String::new(), |json| format!("X-SMTP-R-API: {json}\r\n"));
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
    let to: Vec<String> = scenario.to.iter().map(|to| format!("<{to}>")).collect();
    format!(
        "{directive}\
         From: Shop <{SENDER}>\r\n\
         To: {}\r\n\
         Subject: {number}. {}\r\n\
         Date: {date}\r\n\
         Message-ID: <demo-{number}@news.example>\r\n\
         \r\n\
         {}\r\n\
         .a line that begins with a dot, and trailing blanks   \r\n",
        to.join(", "),
        scenario.title,
        scenario.lesson,
    )
    .into_bytes()
}

/// What must arrive of a message.
pub fn without_directive(message: &[u8]) -> &[u8] {
    let end = message
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .map_or(0, |at| at + 2);
    if message.starts_with(b"X-SMTP-R-API:") {
        &message[end..]
    } else {
        message
    }
}

/// Sends one message and gives the reply that decided about it.
pub async fn submit(server: SocketAddr, to: &[&str], message: &[u8]) -> io::Result<Heard> {
    let mut client =
        TestClient::new(TcpStream::connect(reachable(server)).await?).patience(PATIENCE);
    expect(client.reply().await?, 220)?;
    expect(client.command("EHLO app.news.example").await?, 250)?;
    expect(client.command(&login()).await?, 235)?;
    expect(client.command(&format!("MAIL FROM:<{SENDER}>")).await?, 250)?;
    for recipient in to {
        let began = Instant::now();
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).await?;
        if reply.code != 250 {
            let _ = client.command("QUIT").await;
            return Ok(heard("at RCPT", &reply, began));
        }
    }
    expect(client.command("DATA").await?, 354)?;
    let began = Instant::now();
    let reply = client.content(message).await?;
    let heard = heard("", &reply, began);
    let _ = client.command("QUIT").await;
    Ok(heard)
}

/// Where a listener on all addresses can be reached.
fn reachable(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}

fn heard(stage: &'static str, reply: &TestReply, began: Instant) -> Heard {
    Heard {
        stage,
        lines: reply.lines.iter().map(|line| clean(line)).collect(),
        took: began.elapsed(),
    }
}

fn expect(reply: TestReply, code: u16) -> io::Result<()> {
    if reply.code == code {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "expected {code}, got {:?}",
        reply.text()
    )))
}

/// The command that logs in.
fn login() -> String {
    let auth = ClientAuth {
        login: LOGIN.to_owned(),
        password: PASSWORD.to_owned(),
    };
    SaslClient::begin(Mechanism::Plain, &auth).1
}
