//! A small real DNS server on loopback: UDP and TCP on one port, answering from a text zone.
//!
//! It misbehaves on request: per name by the zone (`SERVFAIL`, `SILENT`), or as a whole by
//! [`Behaviour`]. It remembers the questions it was asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galerne_dns::zone::{Data, Kind, Zone, ZoneAnswer, ZoneError, ZoneRecord};
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};

/// Questions remembered; older ones are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// TCP connections served at once.
const MAX_CONNECTIONS: usize = 64;
/// An idle TCP connection is closed after this.
const IDLE: Duration = Duration::from_secs(30);
/// Tries to find a port that is free for UDP and TCP.
const PORT_TRIES: usize = 50;

/// How the server answers, whatever its zone says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As the zone says; what does not fit in a UDP answer is truncated.
    #[default]
    Honest,
    /// SERVFAIL to everything.
    ServFail,
    /// REFUSED to everything.
    Refused,
    /// No answer at all; TCP connections are accepted and say nothing.
    Silent,
    /// Empty truncated answers over UDP, honest ones over TCP.
    Truncate,
    /// As the zone says, with forged records for other names put beside: an MX, and A records for
    /// `victim.example`.
    Poison,
}

/// One question it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Lower case, no dot at the end.
    pub name: String,
    /// `MX`, `A`, …
    pub kind: String,
    pub tcp: bool,
}

/// A running name server; it stops when dropped.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    zone: Zone,
    behaviour: Behaviour,
    questions: Vec<Question>,
}

impl NameServer {
    /// Starts a server on 127.0.0.1, on a port the system chooses.
    ///
    /// # Errors
    /// The zone cannot be read (`InvalidData`), or no socket can be had.
    pub async fn start(zone: &str) -> io::Result<NameServer> {
        NameServer::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), zone).await
    }

    /// Starts a server on one of our own addresses.
    pub async fn start_on(ip: IpAddr, zone: &str) -> io::Result<NameServer> {
        let zone = Zone::parse(zone).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let (udp, tcp) = sockets(ip).await?;
        let address = tcp.local_addr()?;
        let state = State {
            zone,
            behaviour: Behaviour::Honest,
            questions: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
        });
        let tasks = vec![
            tokio::spawn(serve_udp(udp, shared.clone())).abort_handle(),
            tokio::spawn(serve_tcp(tcp, shared.clone())).abort_handle(),
        ];
        Ok(NameServer {
            address,
            shared,
            tasks,
        })
    }

    /// Where it listens, for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the zone.
    pub fn set_zone(&self, zone: &str) -> Result<(), ZoneError> {
        self.shared.lock().zone = Zone::parse(zone)?;
        Ok(())
    }

    /// Changes how it answers from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
    }

    /// The questions so far, in order.
    pub fn questions(&self) -> Vec<Question> {
        self.shared.lock().questions.clone()
    }

    /// Stops; later questions meet closed ports.
    pub fn stop(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to one message; `None`: say nothing.
    fn answer(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = Message::from_vec(packet).ok()?;
        let query = request.queries.first()?.clone();
        let mut state = self.lock();
        state.remember(Question {
            name: query
                .name()
                .to_ascii()
                .trim_end_matches('.')
                .to_ascii_lowercase(),
            kind: query.query_type().to_string(),
            tcp: transport == Transport::Tcp,
        });
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_query(query.clone());
        if request.edns.is_some() {
            response.set_edns(Edns::new());
        }
        match state.behaviour {
            Behaviour::Silent => return None,
            Behaviour::ServFail => response.metadata.response_code = ResponseCode::ServFail,
            Behaviour::Refused => response.metadata.response_code = ResponseCode::Refused,
            Behaviour::Truncate if transport == Transport::Udp => {
                response.metadata.truncation = true
            }
            Behaviour::Honest | Behaviour::Truncate | Behaviour::Poison => {
                let answer = state
                    .zone
                    .answer(&query.name().to_ascii(), kind(query.query_type()));
                fill(&mut response, answer, query.name())?;
            }
        }
        if state.behaviour == Behaviour::Poison {
            poison(&mut response)?;
        }
        let octets = response.to_vec().ok()?;
        let room = usize::from(request.max_payload().max(512));
        if transport == Transport::Udp && octets.len() > room {
            response.answers.clear();
            response.authorities.clear();
            response.metadata.truncation = true;
            return response.to_vec().ok();
        }
        Some(octets)
    }
}

impl State {
    fn remember(&mut self, question: Question) {
        if self.questions.len() >= MAX_REMEMBERED {
            self.questions.remove(0);
        }
        self.questions.push(question);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// One port for both transports: the system chooses for TCP, UDP must be free there too.
async fn sockets(ip: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::other("no port");
    for _ in 0..PORT_TRIES {
        let tcp = TcpListener::bind((ip, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is an ICMP message about an earlier answer; the socket stays good.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(answer) = shared.answer(&buffer[..length], Transport::Udp) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve_stream(stream, shared.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_stream(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut packet = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            packet.resize(usize::from(length), 0);
            stream.read_exact(&mut packet).await
        };
        if !matches!(tokio::time::timeout(IDLE, read).await, Ok(Ok(_))) {
            return;
        }
        let Some(answer) = shared.answer(&packet, Transport::Tcp) else {
            continue;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

fn kind(asked: RecordType) -> Kind {
    match asked {
        RecordType::MX => Kind::Mx,
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::CNAME => Kind::Cname,
        RecordType::TXT => Kind::Txt,
        RecordType::PTR => Kind::Ptr,
        RecordType::TLSA => Kind::Tlsa,
        _ => Kind::Other,
    }
}

/// Puts the zone's answer into a message; `None`: say nothing.
fn fill(response: &mut Message, answer: ZoneAnswer, asked: &Name) -> Option<()> {
    let records = match answer {
        ZoneAnswer::Silent => return None,
        ZoneAnswer::ServFail => {
            response.metadata.response_code = ResponseCode::ServFail;
            return Some(());
        }
        ZoneAnswer::NoSuchName(records) => {
            response.metadata.response_code = ResponseCode::NXDomain;
            records
        }
        ZoneAnswer::Found(records) => records,
    };
    let is_answered = records.iter().any(|r| !matches!(r.data, Data::Cname(_)));
    let is_loop =
        records.len() > 2 && records.first().map(|r| &r.owner) == records.get(2).map(|r| &r.owner);
    for record in records {
        response.add_answer(message_record(record)?);
    }
    if !is_answered && !is_loop {
        response.add_authority(soa(asked));
    }
    Some(())
}

/// Puts forged records into the answer and beside it.
fn poison(response: &mut Message) -> Option<()> {
    let victim = name("victim.example")?;
    let forged = RData::A(A::new(203, 0, 113, 66));
    let other = RData::MX(MX::new(0, name("evil.example")?));
    response.add_answer(Record::from_rdata(victim.clone(), 3600, forged.clone()));
    response.add_answer(Record::from_rdata(victim.clone(), 3600, other));
    response.add_additional(Record::from_rdata(victim, 3600, forged));
    Some(())
}

/// The SOA of a negative answer: kept for a minute (RFC 2308).
fn soa(asked: &Name) -> Record {
    let zone = if asked.num_labels() > 1 {
        asked.base_name()
    } else {
        asked.clone()
    };
    let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86_400, 60);
    Record::from_rdata(zone, 60, RData::SOA(soa))
}

fn message_record(record: ZoneRecord) -> Option<Record> {
    let data = match record.data {
        Data::Mx(preference, host) => RData::MX(MX::new(preference, name(&host)?)),
        Data::A(address) => RData::A(A(address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(address)),
        Data::Cname(target) => RData::CNAME(CNAME(name(&target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(&target)?)),
        // A string has 255 octets at most (RFC 1035 §3.3).
        Data::Txt(text) => {
            let strings = text.as_bytes().chunks(255);
            RData::TXT(TXT::from_bytes(strings.collect()))
        }
        Data::Tlsa(record) => RData::TLSA(TLSA::new(
            record.usage.into(),
            record.selector.into(),
            record.matching.into(),
            record.data,
        )),
    };
    Some(Record::from_rdata(name(&record.owner)?, record.ttl, data))
}

fn name(text: &str) -> Option<Name> {
    let mut name = if text.is_empty() {
        Name::root()
    } else {
        Name::from_ascii(text).ok()?
    };
    name.set_fqdn(true);
    Some(name)
}
