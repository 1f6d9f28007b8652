//! Golden dialogues over a stream.

use galerne_sim::client::{TestClient, run_dialogue};
use galerne_sim::sink::{Sink, SinkOptions};
use tokio::io::DuplexStream;

fn sink() -> (Sink, DuplexStream) {
    let sink = Sink::new(SinkOptions::default());
    let (near, far) = tokio::io::duplex(65_536);
    let server = sink.clone();
    tokio::spawn(async move {
        server
            .serve(far, "192.0.2.1:4000".parse().expect("peer"))
            .await
    });
    (sink, near)
}

#[tokio::test(start_paused = true)]
async fn a_dialogue_is_played_to_its_end() {
    let (sink, stream) = sink();
    let dialogue =
        "# greeting\nS: 220 *ESMTP\n\nC: EHLO client.example\nS: 250-sink.example\nS: 250*\n";
    let mut client = TestClient::new(stream);
    assert!(client.run_dialogue(dialogue).await.is_ok());
    while client.line().await.expect("a line").as_bytes()[3] == b'-' {}
    let rest = "C: MAIL FROM:<a@example.org>\nS: 250 2.1.0*\nC> RCPT TO:<b@example.org>\\r\\x0a\nS: 250\n\
                C: DATA\nS: 354\nC: A: b\nC: .\nS: 250 2.0.0 Ok: queued*\nC: QUIT\nS: 221\nS!";
    client.run_dialogue(rest).await.expect("the dialogue");
    assert_eq!(sink.messages()[0].content, b"A: b\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_dialogue_that_goes_another_way_names_its_line() {
    let (_sink, stream) = sink();
    let error = run_dialogue(stream, "S: 220\nC: NONSENSE\nS: 250")
        .await
        .expect_err("a wrong reply");
    assert_eq!(error.line, 3);
    assert!(error.problem.contains("500"), "{error}");
    let (_sink, stream) = self::sink();
    let error = run_dialogue(stream, "S: 220\nS!")
        .await
        .expect_err("it stays open");
    assert_eq!(error.line, 2);
}
