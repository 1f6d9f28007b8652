//! The names of loopback addresses, asked of the name servers themselves: hickory-resolver answers
//! these alone, with `localhost`. Outbounds may be loopback addresses (IF-12); what the name
//! servers say of them is what a remote on this host would hear.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

use crate::{LookupFailure, normal};

/// Largest answer by UDP that is read.
const LARGEST: usize = 4096;

/// The PTR records at `name`, by the first server that answers.
pub async fn names(
    servers: &[SocketAddr],
    name: &Name,
    patience: Duration,
) -> Result<Vec<String>, LookupFailure> {
    let mut last = "no name server".to_owned();
    for server in servers {
        match tokio::time::timeout(patience, ask(*server, name)).await {
            Ok(Ok(answer)) => return read(&answer, name),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "timed out".to_owned(),
        }
    }
    Err(LookupFailure::Temporary(format!("PTR {name}: {last}")))
}

async fn ask(server: SocketAddr, name: &Name) -> std::io::Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), RecordType::PTR));
    let octets = question.to_vec().map_err(std::io::Error::other)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(&octets).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(buffer.get(..length).unwrap_or_default());
        // Whatever is no answer to this question is somebody else's.
        if let Ok(answer) = answer
            && answer.metadata.id == question.metadata.id
            && answer.queries == question.queries
        {
            return Ok(answer);
        }
    }
}

fn read(answer: &Message, name: &Name) -> Result<Vec<String>, LookupFailure> {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(LookupFailure::NoSuchName),
        code => return Err(LookupFailure::Temporary(format!("PTR {name}: {code}"))),
    }
    let names = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::PTR(name) => Some(normal(&name.0.to_ascii())),
            _ => None,
        });
    Ok(names.collect())
}
