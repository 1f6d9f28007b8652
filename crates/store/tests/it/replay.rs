//! Reads the record of the layer, and builds the folder as a power cut at some moment would have
//! left it: what was not synced is lost in part, the last write is torn, and so are names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::help::Chance;

const SECTOR: usize = 512;

/// What was done, in order.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: u8,
    pub path: PathBuf,
    pub data: Vec<u8>,
    pub number: u64,
}

/// Reads a record.
pub fn read(record: &[u8]) -> Vec<Operation> {
    let mut left = record;
    let mut take = |length: usize| {
        let (now, later) = left.split_at_checked(length)?;
        left = later;
        Some(now.to_vec())
    };
    let mut operations = Vec::new();
    let mut one = || {
        let kind = take(1)?[0];
        let mut text = || {
            let length = u32::from_le_bytes(take(4)?.try_into().ok()?);
            take(length as usize)
        };
        let path = PathBuf::from(String::from_utf8(text()?).ok()?);
        let data = text()?;
        let number = u64::from_le_bytes(take(8)?.try_into().ok()?);
        take(8)?;
        Some(Operation {
            kind,
            path,
            data,
            number,
        })
    };
    while let Some(operation) = one() {
        operations.push(operation);
    }
    operations
}

/// How much of what was not synced survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Nothing,
    Everything,
    Some,
}

/// A folder, and the names in it that are not on disk yet.
type Pending = (PathBuf, Vec<(PathBuf, Option<Name>)>);

/// A disk: what is durable of it, and what is not yet.
#[derive(Default)]
pub struct Disk {
    files: Vec<FileState>,
    /// Names as the process sees them, and as they are durable.
    names: BTreeMap<PathBuf, Name>,
    durable: BTreeMap<PathBuf, Name>,
    pending: Vec<Pending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Folder,
    File(usize),
}

#[derive(Default)]
struct FileState {
    durable: Vec<u8>,
    pending: Vec<(Option<u64>, Vec<u8>, u64)>,
}

impl Disk {
    /// Does what was done.
    pub fn apply(&mut self, operation: &Operation) {
        let path = &operation.path;
        match operation.kind {
            b'C' => {
                self.files.push(FileState::default());
                let name = Name::File(self.files.len() - 1);
                self.name(vec![(path.clone(), Some(name))]);
            }
            b'D' => self.name(vec![(path.clone(), Some(Name::Folder))]),
            b'U' => self.name(vec![(path.clone(), None)]),
            b'R' => {
                let to = PathBuf::from(String::from_utf8(operation.data.clone()).unwrap());
                let moved = self.names.get(path).copied();
                self.name(vec![(path.clone(), None), (to, moved)]);
            }
            b'W' | b'T' => {
                if let Some(Name::File(file)) = self.names.get(path) {
                    let at = (operation.kind == b'W').then_some(operation.number);
                    let pending = &mut self.files[*file].pending;
                    pending.push((at, operation.data.clone(), operation.number));
                }
            }
            b'S' => self.sync(path),
            other => panic!("{other}"),
        }
    }

    fn name(&mut self, changes: Vec<(PathBuf, Option<Name>)>) {
        for (path, name) in &changes {
            set(&mut self.names, path, *name);
        }
        let folder = changes[0].0.parent().unwrap().to_owned();
        self.pending.push((folder, changes));
    }

    fn sync(&mut self, path: &Path) {
        if let Some(Name::File(file)) = self.names.get(path) {
            let file = &mut self.files[*file];
            for (at, data, length) in std::mem::take(&mut file.pending) {
                change(&mut file.durable, at, &data, length);
            }
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        for (folder, changes) in pending {
            if folder == path {
                for (path, name) in &changes {
                    set(&mut self.durable, path, *name);
                }
            } else {
                self.pending.push((folder, changes));
            }
        }
    }

    /// Builds in `to` what a power cut now would leave of `from`.
    pub fn build(&self, from: &Path, to: &Path, fate: Fate, chance: &mut Chance) {
        let mut survives = |chance: &mut Chance| match fate {
            Fate::Nothing => false,
            Fate::Everything => true,
            Fate::Some => chance.one_in(2),
        };
        let mut names = self.durable.clone();
        for (_, changes) in &self.pending {
            if survives(chance) {
                for (path, name) in changes {
                    set(&mut names, path, *name);
                }
            }
        }
        for (path, name) in &names {
            let place = to.join(path.strip_prefix(from).unwrap());
            // Whatever the folder was lost with is lost.
            if place.parent().is_none_or(|folder| !folder.is_dir()) {
                continue;
            }
            match name {
                Name::Folder => fs::create_dir_all(&place).unwrap(),
                Name::File(file) => {
                    let octets = self.files[*file].after_cut(&mut survives, fate, chance);
                    fs::write(&place, octets).unwrap();
                }
            }
        }
    }
}

impl FileState {
    fn after_cut(
        &self,
        survives: &mut impl FnMut(&mut Chance) -> bool,
        fate: Fate,
        chance: &mut Chance,
    ) -> Vec<u8> {
        let mut octets = self.durable.clone();
        for (n, (at, data, length)) in self.pending.iter().enumerate() {
            let is_last = n + 1 == self.pending.len();
            if is_last && fate != Fate::Nothing && at.is_some() && chance.one_in(2) {
                tear(&mut octets, *length, data, chance);
            } else if survives(chance) {
                change(&mut octets, *at, data, *length);
            }
        }
        octets
    }
}

/// Writes those sectors of a write that chance lets through.
fn tear(octets: &mut Vec<u8>, at: u64, data: &[u8], chance: &mut Chance) {
    let mut from = 0;
    while from < data.len() {
        let place = at as usize + from;
        let to = (from + SECTOR - place % SECTOR).min(data.len());
        if chance.one_in(2) {
            change(octets, Some(place as u64), &data[from..to], 0);
        }
        from = to;
    }
}

fn change(octets: &mut Vec<u8>, at: Option<u64>, data: &[u8], length: u64) {
    match at {
        None => octets.resize(length as usize, 0),
        Some(at) => {
            let end = at as usize + data.len();
            if octets.len() < end {
                octets.resize(end, 0);
            }
            octets[at as usize..end].copy_from_slice(data);
        }
    }
}

fn set(names: &mut BTreeMap<PathBuf, Name>, path: &Path, name: Option<Name>) {
    match name {
        Some(name) => drop(names.insert(path.to_owned(), name)),
        None => drop(names.remove(path)),
    }
}
