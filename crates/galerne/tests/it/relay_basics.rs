//! The principle: the remote's own reply in the client's session (RELAY-1 to RELAY-29).

use galerne_sim::sink::{Rule, Stage};

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn relay_1_relay_73_the_remote_speaks_in_the_clients_session() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).reply("250 2.0.0 Queued as 7F31"));
    assert_eq!(world.relay("anna@example.org").await, "250 2.0.0 Queued as 7F31");
    assert_eq!(mx.messages()[0].recipients, ["anna@example.org"]);
}
