//! Stop and reload while mail is under way (QUEUE-19, CONF-12).

use std::time::Duration;

use galerne_core::settings::{Listen, ListenTls};
use galerne_inbound::{Inbound, InboundWorld, View, bind};
use galerne_sim::client::TestClient;
use galerne_sim::sink::{Rule, Stage};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{CLIENT, MESSAGE, Talk, World};

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[tokio::test(start_paused = true)]
async fn queue_19_running_transactions_get_their_answer_and_waiting_sessions_421() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Dot)
            .delay(seconds(20))
            .reply("250 2.0.0 Queued as 7F31"),
    );
    let mut running = world.waiting(&["anna@example.org"], MESSAGE).await;
    let mut writing = world.login().await;
    writing
        .envelope("orders@example.com", &["bert@example.org"])
        .await;
    let mut idle = world.login().await;
    sleep(seconds(1)).await;
    let began = Instant::now();
    world.gate.stop();
    let (quiet, heard, written) = tokio::join!(
        timeout(seconds(30), world.gate.quiet()),
        async {
            let reply = running.hear().await;
            (reply, began.elapsed().as_secs(), running.hear().await)
        },
        async {
            sleep(seconds(2)).await;
            let reply = writing.content(MESSAGE.as_bytes()).await.unwrap().text();
            (reply, writing.hear().await)
        }
    );
    assert!(quiet.is_ok(), "nothing is under way any more");
    let closing = |text: &str| text.starts_with("421 4.3.2 mta10.example.net ");
    assert_eq!(
        (heard.0.as_str(), heard.1),
        ("250 2.0.0 Queued as 7F31", 19)
    );
    assert!(closing(&heard.2), "{heard:?}");
    assert_eq!(written.0, "250 2.0.0 Queued as 7F31");
    assert!(closing(&written.1), "{written:?}");
    assert!(closing(&idle.hear().await));
    assert_eq!(mx.messages().len(), 2);
}

fn open(world: &World, socket: std::net::TcpListener, listen: Listen) -> Inbound {
    let view = world.gate.view();
    let view = View::new(
        view.snapshot.clone(),
        view.tls.clone(),
        view.temporary.clone(),
    );
    let lists = world.lists.clone();
    let parts = InboundWorld {
        reception: world.gate.reception.clone(),
        lists,
    };
    Inbound::open(parts, view, vec![(socket, listen)]).unwrap()
}

#[tokio::test]
async fn queue_19_after_the_stop_nobody_new_is_let_in_and_the_grace_bounds_the_wait() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).hang());
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let inbound = open(
        &world,
        socket,
        Listen {
            address,
            tls: ListenTls::Plain,
        },
    );
    let mut client = TestClient::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(client.reply().await.unwrap().code, 220);
    client.command("EHLO app.example.com").await.unwrap();
    client.command("AUTH PLAIN AGRlbW8Ac2VjcmV0").await.unwrap();
    client
        .command("MAIL FROM:<orders@example.com>")
        .await
        .unwrap();
    client.command("RCPT TO:<anna@example.org>").await.unwrap();
    let began = Instant::now();
    inbound.stop(Duration::from_millis(300)).await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < seconds(5),
        "{took:?}"
    );
    sleep(Duration::from_millis(10)).await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test(start_paused = true)]
async fn conf_12_a_session_keeps_its_settings_and_the_next_one_has_the_new() {
    let world = World::new("[routing]\nehlo = old.example\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut old = world.login().await;
    world.reload("[routing]\nehlo = new.example\n[rfrelay]\nmaxsize = 100000\n== users/demo.ini\n[account]\nsmtppassw = changed\n");
    let reply = old
        .transaction("orders@example.com", &["a@example.org"], MESSAGE.as_bytes())
        .await;
    assert!(reply.unwrap().text().starts_with("250 "));
    let mut new = world.login_as("demo", "changed").await;
    let reply = new
        .transaction("orders@example.com", &["b@example.org"], MESSAGE.as_bytes())
        .await;
    assert!(reply.unwrap().text().starts_with("250 "));
    // Once more in the old session.
    let reply = old
        .transaction("orders@example.com", &["c@example.org"], MESSAGE.as_bytes())
        .await;
    assert!(reply.unwrap().text().starts_with("250 "));
    let names: Vec<_> = mx.messages().into_iter().map(|m| m.ehlo).collect();
    assert_eq!(names, ["old.example", "new.example", "old.example"]);
    let mut offers = world.client(CLIENT).await;
    assert!(offers.hello().await.text().contains("SIZE 100000"));
}

#[tokio::test(start_paused = true)]
async fn conf_12_the_number_of_slots_follows_the_settings() {
    let world = World::new("[rfmta]\nthreadnb = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).delay(seconds(30)));
    let took = async |world: &World| {
        let began = Instant::now();
        let (a, b) = tokio::join!(world.relay("a@example.org"), world.relay("b@example.org"));
        assert!(a.starts_with("250 ") && b.starts_with("250 "), "{a} {b}");
        began.elapsed().as_secs()
    };
    assert_eq!(took(&world).await, 60);
    world.reload("[rfmta]\nthreadnb = 2\n");
    assert_eq!(took(&world).await, 30);
    world.reload("[rfmta]\nthreadnb = 1\n");
    assert_eq!(took(&world).await, 60);
}
