//! The messages of the corpora that the relay takes.

use std::path::{Path, PathBuf};

/// A message with its name, which says where it comes from.
pub struct Message {
    pub name: String,
    pub octets: Vec<u8>,
}

pub fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    root.join(name)
}

/// All messages that are relayed; those of the second corpus are turned into CRLF where they are
/// stored with LF alone.
pub fn messages() -> Vec<Message> {
    let mut messages = Vec::new();
    let table = std::fs::read_to_string(folder("messages/expected.tsv")).unwrap();
    for line in table.lines().skip(1) {
        let (file, code) = line.split_once('\t').unwrap();
        // Those of `irregular/` have bare line ends, and are refused unless configured otherwise.
        if code == "relay" && file.starts_with("wire/") {
            let octets = std::fs::read(folder("messages").join(file)).unwrap();
            let name = file.replace('/', "_");
            messages.push(Message { name, octets });
        }
    }
    for part in ["canonicalization-flanker", "dkimpy", "kumomta", "mimekit"] {
        let mut files: Vec<_> = std::fs::read_dir(folder("dkim").join(part))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_message(path))
            .collect();
        files.sort();
        for path in files {
            let mut octets = crlf(&std::fs::read(&path).unwrap());
            // DATA ends each message with a line end.
            if !octets.ends_with(b"\r\n") {
                octets.extend_from_slice(b"\r\n");
            }
            let file = path.file_name().unwrap().to_string_lossy();
            let name = format!("{part}_{file}");
            messages.push(Message { name, octets });
        }
    }
    messages
}

fn is_message(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.starts_with("email.")
        || [".msg", ".message", ".eml", ".mbox"]
            .iter()
            .any(|part| name.contains(part))
}

fn crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for &octet in octets {
        if octet == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
    }
    out
}
