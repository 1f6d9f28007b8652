//! The golden dialogues of the protocol (crates/smtp/tests/dialogues, see the README there), played
//! over the whole server: session, decisions, delivery, a real destination behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use galerne_core::ports::{ListEntry, Lists};
use galerne_inbound::View;
use galerne_sim::sink::Sink;

use crate::script::{Dialogue, Step, matches};
use crate::world::{CLIENT, Client, World};

/// The account that clients of the dialogues belong to by their address.
const BY_ADDRESS: &str = "== users/front.ini
[account]
smtpip = 203.0.113.7
smtpssl = 0
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../smtp/tests/dialogues")
}

struct Player {
    world: World,
    /// The destination of `example.net`.
    mx: Sink,
    client: Option<Client>,
    /// Messages that were answered with 250.
    delivered: usize,
}

impl Player {
    async fn new(dialogue: &Dialogue) -> Player {
        let world = World::new(BY_ADDRESS);
        if !dialogue.has("auth") {
            let demo = world.root().join("users/demo.ini");
            let text = fs::read_to_string(&demo)
                .unwrap()
                .replace("smtpssl = 0", "smtpssl = 1");
            fs::write(&demo, text).unwrap();
            world.reload("");
        }
        let email = "refused@example.net".to_owned();
        world.lists.add(
            "rfhard",
            ListEntry {
                email,
                source: "api",
                reason: "policy of the dialogues".into(),
            },
        );
        let mx = world.mx("example.net", "198.51.100.25");
        world.mx("relay.example.com", "198.51.100.26");
        let view = world.gate.view();
        world.gate.renew(View {
            smtp: Arc::new(dialogue.config()),
            snapshot: view.snapshot.clone(),
            tls: view.tls.clone(),
            temporary: view.temporary.clone(),
        });
        let client = if dialogue.has("tls") {
            world.tls_client(CLIENT).await
        } else {
            world.client(CLIENT).await
        };
        Player {
            world,
            mx,
            client: Some(client),
            delivered: 0,
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    async fn send(&mut self, octets: &[u8], piece: usize) {
        for piece in octets.chunks(piece) {
            // The server may have hung up before it was all said.
            let _ = self.client().send_raw(piece).await;
            tokio::task::yield_now().await;
        }
    }

    /// `250 2.0.0 OK <octets>`: what the destination said, and recorded.
    async fn delivered(&mut self, octets: &str) -> Result<(), String> {
        let reply = self.client().reply().await.map_err(|e| e.to_string())?;
        let recorded = self
            .mx
            .messages()
            .get(self.delivered)
            .map_or(0, |message| message.size);
        self.delivered += 1;
        match reply.code {
            250 if recorded.to_string() == octets => Ok(()),
            250 => Err(format!("the destination recorded {recorded} octets")),
            _ => Err(format!("got {reply}")),
        }
    }

    async fn line(&mut self, want: &str) -> Result<(), String> {
        if let Some(octets) = want.strip_prefix("250 2.0.0 OK ") {
            return self.delivered(octets).await;
        }
        let got = self.client().line().await.map_err(|e| e.to_string())?;
        // Who is refused by policy is refused by a list here.
        let listed = want.starts_with("550 ") && got.starts_with("451 9.2.1 X-SMTP-R-API ");
        if listed || matches(want, &got) {
            Ok(())
        } else {
            Err(format!("got {got}"))
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(_) => Ok(()),
            Step::Line(want) => self.line(want).await,
            Step::Reply(code) => {
                let reply = self.client().reply().await.map_err(|e| e.to_string())?;
                if reply.code.to_string() == *code {
                    Ok(())
                } else {
                    Err(format!("got {reply}"))
                }
            }
            Step::Handshake => {
                let clear = self.client.take().unwrap();
                self.client = Some(self.world.start_tls(clear).await);
                Ok(())
            }
            Step::Closed => match self.client().line().await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
                other => Err(format!("expected the end, got {other:?}")),
            },
        }
    }
}

async fn play_in(name: &str, dialogue: &Dialogue, piece: usize) {
    let mut player = Player::new(dialogue).await;
    let mut waiting = Vec::new();
    for (number, step) in &dialogue.steps {
        if let Step::Send(octets) = step {
            waiting.extend_from_slice(octets);
            continue;
        }
        player.send(&std::mem::take(&mut waiting), piece).await;
        let result = player.step(step).await;
        result.unwrap_or_else(|problem| panic!("{name}.smtp, line {number}: {problem}"));
    }
    let more = tokio::time::timeout(Duration::from_secs(1), player.client().line()).await;
    assert!(
        !matches!(more, Ok(Ok(_))),
        "{name}.smtp: {more:?} at the end"
    );
}

async fn play(name: &str) {
    let dialogue = Dialogue::read(&folder(), name);
    play_in(name, &dialogue, usize::MAX).await;
    if !dialogue.has("segments") {
        play_in(name, &dialogue, 1).await;
    }
}

#[test]
fn every_dialogue_is_played() {
    let source = include_str!("front_dialogues.rs");
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let played = source.contains(&format!("play(\"{name}\")"));
        assert!(
            played || path.extension().is_none_or(|e| e != "smtp"),
            "{name}.smtp is not played"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn relay_14_whole_server_ehlo_and_helo() {
    play("ehlo").await;
    play("ehlo_bare").await;
    play("ehlo_tls").await;
    play("ehlo_requiretls").await;
    play("helo").await;
}

#[tokio::test(start_paused = true)]
async fn relay_2_relay_17_whole_server_transactions_and_pipelining() {
    play("transactions").await;
    play("pipelining").await;
}

#[tokio::test(start_paused = true)]
async fn relay_16_whole_server_order_and_syntax() {
    play("order").await;
    play("syntax").await;
    play("errors_reset").await;
}

#[tokio::test(start_paused = true)]
async fn relay_15_t_22_whole_server_sizes() {
    play("size").await;
}

#[tokio::test(start_paused = true)]
async fn relay_19_whole_server_recipients() {
    play("recipients").await;
}

#[tokio::test(start_paused = true)]
async fn relay_78_t_05_t_08_whole_server_paths() {
    play("paths").await;
    play("senders").await;
    play("smtputf8").await;
}

#[tokio::test(start_paused = true)]
async fn ret_26_ret_27_ret_28_ret_30_whole_server_dsn_parameters() {
    play("dsn").await;
}

#[tokio::test(start_paused = true)]
async fn relay_11_relay_12_whole_server_auth() {
    play("auth").await;
    play("auth_plain").await;
    play("auth_clear").await;
}

#[tokio::test(start_paused = true)]
async fn t_10_whole_server_starttls() {
    play("starttls").await;
    play("early_starttls").await;
}

#[tokio::test(start_paused = true)]
async fn t_04_whole_server_early_talkers() {
    play("early_ehlo").await;
    play("early_data").await;
}

#[tokio::test(start_paused = true)]
async fn t_01_relay_18_whole_server_end_of_data() {
    play("end_of_data").await;
    play("normalise").await;
    play("pass").await;
}

#[tokio::test(start_paused = true)]
async fn t_03_whole_server_bare_line_ends() {
    play("bare_commands").await;
    play("bare_lines").await;
}

#[tokio::test(start_paused = true)]
async fn t_06_whole_server_chunks() {
    play("bdat").await;
    play("bdat_after_error").await;
    play("bdat_huge").await;
    play("bdat_negative").await;
}

#[tokio::test(start_paused = true)]
async fn relay_20_whole_server_prdr() {
    play("prdr").await;
}

#[tokio::test(start_paused = true)]
async fn t_21_whole_server_floods() {
    play("flood").await;
    play("flood_rcpt").await;
    play("flood_refused").await;
    play("flood_unknown").await;
}
