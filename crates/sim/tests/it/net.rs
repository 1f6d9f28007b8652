//! The network in memory.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use galerne_sim::net::{Fate, SimNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn to() -> SocketAddr {
    "198.51.100.1:25".parse().expect("an address")
}

#[tokio::test(start_paused = true)]
async fn reaches_a_listener_that_sees_the_local_address() {
    let net = SimNet::new();
    net.listen(to(), |mut stream, peer| async move {
        let _ = stream.write_all(peer.ip().to_string().as_bytes()).await;
    });
    let mut stream = net.connect(FROM, to()).await.expect("a stream");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "192.0.2.1");
    assert_eq!(net.connections().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_fate_shows_as_it_would_on_a_wire() {
    let net = SimNet::new();
    let refused = net.connect(FROM, to()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    net.decide(None, to(), Fate::Unreachable);
    let lost = net.connect(FROM, to()).await.expect_err("no route");
    assert_eq!(lost.kind(), ErrorKind::HostUnreachable);
    net.decide(None, to(), Fate::BlackHole);
    let waiting = tokio::time::timeout(Duration::from_secs(3600), net.connect(FROM, to())).await;
    assert!(waiting.is_err(), "a black hole never answers");
    net.decide(Some(FROM), to(), Fate::Reset);
    let mut reset = net.connect(FROM, to()).await.expect("a stream");
    assert_eq!(reset.read(&mut [0; 8]).await.expect("the end"), 0);
    net.decide(Some(FROM), to(), Fate::Mute);
    let mut mute = net.connect(FROM, to()).await.expect("a stream");
    let mut buffer = [0; 8];
    let heard = tokio::time::timeout(Duration::from_secs(3600), mute.read(&mut buffer)).await;
    assert!(heard.is_err(), "nothing is ever heard");
}
