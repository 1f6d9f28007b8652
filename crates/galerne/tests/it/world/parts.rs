//! The parts of a world in memory: the way out, lists, what groups learn, simple servers.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galerne_core::ports::{BoxFuture, GroupBook, ListEntry, Lists};
use galerne_outbound::Dial;
use galerne_outbound::dial::BoxStream;
use galerne_sim::net::SimNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Connections over the network in memory.
pub struct SimDial(pub SimNet);

impl Dial for SimDial {
    fn dial(&self, local: IpAddr, remote: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = self.0.connect(local, remote).await?;
            Ok(Box::pin(stream) as BoxStream)
        })
    }
}

/// What came over the wire to a simple server.
#[derive(Clone, Default)]
pub struct Wiretap(Arc<Mutex<Vec<u8>>>);

impl Wiretap {
    pub fn octets(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub async fn get_stuck(&self, mut stream: tokio::io::DuplexStream, then: &str) {
        stream.write_all(b"220 stuck\r\n").await.unwrap();
        while !self.octets().ends_with("DATA\r\n") {
            let octet = stream.read_u8().await.unwrap();
            self.0.lock().unwrap().push(octet);
            if octet == b'\n' {
                let answer: &[u8] = if self.octets().ends_with("DATA\r\n") {
                    b"354 go\r\n"
                } else {
                    b"250 ok\r\n"
                };
                stream.write_all(answer).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        match then {
            "" => {
                let mut octets = Vec::new();
                tokio::time::sleep(Duration::from_secs(3600)).await;
                let _ = stream.read_to_end(&mut octets).await;
                self.0.lock().unwrap().extend(octets);
            }
            "!" => {}
            then => {
                let _ = stream
                    .write_all(then.trim_end_matches('!').as_bytes())
                    .await;
                if !then.ends_with('!') {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
            }
        }
    }

    pub async fn answer(&self, mut stream: tokio::io::DuplexStream) {
        let mut inside = false;
        let mut line = Vec::new();
        stream.write_all(b"220 simple\r\n").await.unwrap();
        while let Ok(octet) = stream.read_u8().await {
            self.0.lock().unwrap().push(octet);
            line.push(octet);
            if !line.ends_with(b"\r\n") {
                continue;
            }
            let answer: &[u8] = match (inside, line.as_slice()) {
                (true, b".\r\n") => {
                    inside = false;
                    b"250 taken\r\n"
                }
                (true, _) => b"",
                (false, b"DATA\r\n") => {
                    inside = true;
                    b"354 go\r\n"
                }
                _ => b"250 ok\r\n",
            };
            line.clear();
            stream.write_all(answer).await.unwrap();
        }
    }
}

/// Lists without files.
#[derive(Default)]
pub struct MemoryLists(Mutex<HashMap<String, Vec<ListEntry>>>);

impl MemoryLists {
    /// The addresses of a list, in the order of adding.
    pub fn list(&self, name: &str) -> Vec<String> {
        let lists = self.0.lock().unwrap();
        lists
            .get(name)
            .map(|l| l.iter().map(|e| e.email.clone()).collect())
            .unwrap_or_default()
    }
}

impl Lists for MemoryLists {
    fn listed_in(&self, address: &str, names: &[String]) -> Option<String> {
        let lists = self.0.lock().unwrap();
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let holds = |entry: &ListEntry| {
            let entry = entry.email.trim_start_matches('@');
            entry.eq_ignore_ascii_case(address) || entry.eq_ignore_ascii_case(domain)
        };
        names
            .iter()
            .find(|name| lists.get(*name).is_some_and(|list| list.iter().any(holds)))
            .cloned()
    }

    fn add(&self, list: &str, entry: ListEntry) {
        self.0
            .lock()
            .unwrap()
            .entry(list.to_owned())
            .or_default()
            .push(entry);
    }
}

/// What groups learned, without files.
#[derive(Default)]
pub struct MemoryBook {
    aliases: Mutex<BTreeSet<(String, String)>>,
    exchangers: Mutex<BTreeSet<(String, String, IpAddr)>>,
}

impl MemoryBook {
    /// Pairs of group and domain.
    pub fn aliases(&self) -> Vec<(String, String)> {
        self.aliases.lock().unwrap().iter().cloned().collect()
    }

    /// `group host address`.
    pub fn exchangers(&self) -> Vec<String> {
        self.exchangers
            .lock()
            .unwrap()
            .iter()
            .map(|(g, h, a)| format!("{g} {h} {a}"))
            .collect()
    }
}

impl GroupBook for MemoryBook {
    fn alias(&self, group: &str, domain: &str) {
        self.aliases
            .lock()
            .unwrap()
            .insert((group.to_owned(), domain.to_owned()));
    }

    fn mx(&self, group: &str, host: &str, address: IpAddr) {
        self.exchangers
            .lock()
            .unwrap()
            .insert((group.to_owned(), host.to_owned(), address));
    }
}
