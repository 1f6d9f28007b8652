//! Resumption, and what a configuration may be shared for.

use galerne_core::tls_policy::tlsa::{TlsaRecord, TlsaSet, usable};
use galerne_sim::tls::TestCa;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A session with a server, long enough for its tickets to come; gives how it began.
async fn session(
    tls: &ClientTls,
    proof: &Proof,
    server: &Arc<rustls::ServerConfig>,
) -> HandshakeKind {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(server.clone());
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let _ = stream.read_u8().await;
    });
    let name = ServerName::try_from("mx.example.org").unwrap();
    let config = tls.config(proof).unwrap();
    let mut stream = TlsConnector::from(config)
        .connect(name, near)
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    drop(stream);
    serving.await.unwrap();
    kind
}

fn set(data: Vec<u8>) -> Arc<TlsaSet> {
    let record = TlsaRecord {
        usage: 3,
        selector: 0,
        matching: 0,
        data,
    };
    Arc::new(usable(&[record], vec!["mx.example.org".into()]).unwrap())
}

#[tokio::test]
async fn relay_55_sessions_are_resumed_and_never_where_more_must_be_proved() {
    let ca = TestCa::new();
    let folder = std::env::temp_dir().join(format!("galerne-tls-{}", std::process::id()));
    std::fs::write(&folder, ca.pem()).unwrap();
    let tls = ClientTls::new(Some(&folder)).unwrap();
    std::fs::remove_file(&folder).unwrap();
    let certificate = ca.certificate(&["mx.example.org"]);
    let server = certificate.server();
    let der = CertificateDer::from_pem_slice(certificate.chain_pem.as_bytes()).unwrap();
    let dane = Proof::Dane(set(der.to_vec()));
    for proof in [Proof::None, Proof::Authority, dane] {
        let first = session(&tls, &proof, &server).await;
        assert_eq!(first, HandshakeKind::Full, "{}", proof.word());
        let second = session(&tls, &proof, &server).await;
        assert_eq!(second, HandshakeKind::Resumed, "{}", proof.word());
    }
}

#[test]
fn t_16_other_records_are_another_configuration() {
    let tls = ClientTls::new(None).unwrap();
    let of = |data: &[u8]| tls.config(&Proof::Dane(set(data.to_vec()))).unwrap();
    let one = of(b"one");
    assert!(Arc::ptr_eq(&one, &of(b"one")));
    assert!(!Arc::ptr_eq(&one, &of(b"two")));
    for number in 0..1_000u32 {
        of(&number.to_be_bytes());
    }
    assert!(tls.0.dane.len() <= 256, "bounded");
}
