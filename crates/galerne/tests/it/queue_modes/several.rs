//! Three recipients at two destinations, with mixed results (T-45).

use galerne_sim::sink::{Rule, Sink, Stage};

use super::{AUTO, queued};
use crate::world::{MESSAGE, World};

const ALL: [&str; 3] = ["anna@example.org", "bert@example.org", "carl@example.net"];

/// The sender's own server, and where the message goes: one recipient is taken, one refused, one
/// put off.
fn mixed(world: &World) -> [Sink; 3] {
    let org = world.mx("example.org", "198.51.100.25");
    let net = world.mx("example.net", "198.51.100.26");
    let home = world.mx("example.com", "198.51.100.27");
    let refuse = Rule::at(Stage::Rcpt).recipient("bert@example.org");
    org.rule(refuse.reply("550 5.1.1 No such user"));
    net.rule(Rule::at(Stage::Rcpt).times(1).reply("451 4.2.0 Later"));
    [org, net, home]
}

/// The recipients that notifications name as failed.
fn told(home: &Sink) -> Vec<String> {
    let mut failed = Vec::new();
    for message in home.messages() {
        let text = String::from_utf8_lossy(&message.content).into_owned();
        let fields = text.lines().map(str::trim);
        let found = fields.filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
        failed.extend(found.map(str::to_owned));
    }
    failed.sort_unstable();
    failed
}

#[tokio::test(start_paused = true)]
async fn t_45_relay_20_three_at_two_places_have_one_transaction_each_place_and_one_fate_each() {
    let world = queued("");
    let [org, net, home] = mixed(&world);
    let reply = world.send(&ALL, MESSAGE).await;
    assert!(reply.starts_with("250-"), "{reply}");
    assert!(reply.contains("<bert@example.org> 550 5.1.1"), "{reply}");
    assert!(reply.contains("<carl@example.net> 451 4.2.0"), "{reply}");
    world.queued().empty().await;
    assert_eq!((org.sessions().len(), net.sessions().len()), (1, 1));
    assert_eq!(org.messages()[0].recipients, ["anna@example.org"]);
    assert_eq!((org.messages().len(), net.messages().len()), (1, 0));
    assert_eq!(told(&home), ["bert@example.org", "carl@example.net"]);
}

#[tokio::test(start_paused = true)]
async fn t_45_queue_3_what_is_put_off_is_queued_and_who_has_it_gets_it_once() {
    let world = queued(AUTO);
    let [org, net, home] = mixed(&world);
    let reply = world.send(&ALL, MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    world.queued().empty().await;
    assert_eq!(org.messages().len(), 1);
    assert_eq!(org.messages()[0].recipients, ["anna@example.org"]);
    assert_eq!(net.messages().len(), 1);
    assert_eq!(net.messages()[0].recipients, ["carl@example.net"]);
    assert_eq!(told(&home), ["bert@example.org"]);
}
