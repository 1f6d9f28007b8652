//! The files themselves: one per module and form, new every day, removed when old (CONF-87,
//! CONF-88), and the error logs of groups. Used by the writer thread alone.
//!
//! A disk that refuses costs log lines, never mail: it is said once and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use galerne_core::ports::Module;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::record::{Record, Values};
use crate::rows::{GROUP_COLUMNS, columns};
use crate::text::csv_line;

/// Where the present comes from; a test brings its own.
pub(crate) type Clock = Arc<dyn Fn() -> Zoned + Send + Sync>;

/// The name of a module's log files.
pub(crate) fn name(module: Module) -> &'static str {
    match module {
        Module::RfUser => "rfuser",
        Module::RfMail => "rfmail",
        Module::RfMta => "rfmta",
        Module::RfTrack => "rftrack",
        Module::RfRelay => "rfrelay",
        Module::Galerne => "galerne",
    }
}

const MODULES: [Module; 6] = [
    Module::RfUser,
    Module::RfMail,
    Module::RfMta,
    Module::RfTrack,
    Module::RfRelay,
    Module::Galerne,
];

/// All files that the writer keeps.
pub(crate) struct Files {
    logs: PathBuf,
    domains: PathBuf,
    age_days: u32,
    clock: Clock,
    today: Date,
    open: BTreeMap<(&'static str, &'static str), LogFile>,
    groups: BTreeMap<String, Vec<u8>>,
    stamp: (i64, String),
    trouble: Trouble,
}

impl Files {
    /// Makes the folders, sets yesterday's files aside and begins those that have columns.
    pub(crate) fn open(root: &Path, age_days: u32, clock: Clock) -> io::Result<Self> {
        let (logs, domains) = (root.join("logs"), root.join("domains"));
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir_all(&domains)?;
        let today = clock().date();
        let mut files = Files {
            logs,
            domains,
            age_days,
            clock,
            today,
            open: BTreeMap::new(),
            groups: BTreeMap::new(),
            stamp: (i64::MIN, String::new()),
            trouble: Trouble::default(),
        };
        for module in MODULES {
            for ending in ["txt", "csv"] {
                files.set_aside_old(module, ending)?;
            }
            if !columns(module).is_empty() {
                files.file(module, "csv").write()?;
            }
        }
        files.remove_old();
        Ok(files)
    }

    /// Formats a record into the buffer of its file.
    pub(crate) fn take(&mut self, record: Record) {
        match record {
            Record::Row { module, at, values } => {
                self.stamp(at);
                let stamp = std::mem::take(&mut self.stamp.1);
                let buffer = &mut self.file(module, "csv").buffer;
                line(&stamp, &values, buffer);
                self.stamp.1 = stamp;
            }
            Record::Line { module, at, text } => {
                let moment = Timestamp::try_from(at).unwrap_or_default();
                let buffer = &mut self.file(module, "txt").buffer;
                // Writing to a Vec cannot fail.
                let _ = writeln!(buffer, "{moment:.3} {text}");
            }
            Record::Group { group, at, values } => {
                self.stamp(at);
                let buffer = self.groups.entry(group).or_default();
                line(&self.stamp.1, &values, buffer);
            }
        }
    }

    /// Writes all buffers, after a look at the calendar.
    pub(crate) fn write(&mut self) {
        self.turn_the_page();
        for file in self.open.values_mut().filter(|f| !f.buffer.is_empty()) {
            let result = file.write();
            let lines = match result {
                Ok(()) => 1,
                Err(_) => file.buffer.iter().filter(|&&b| b == b'\n').count() as u64,
            };
            file.buffer.clear();
            file.buffer.shrink_to(1 << 20);
            self.trouble.note(&file.path, result, lines);
        }
        for (group, octets) in std::mem::take(&mut self.groups) {
            let path = self.domains.join(format!("@{group}_log.csv"));
            let result = append_group(&path, &octets);
            self.trouble.note(&path, result, 1);
        }
    }

    /// Lines that the disk refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.trouble.lines
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)().timestamp().into()
    }

    /// Rotates every file when the day has changed.
    fn turn_the_page(&mut self) {
        let today = (self.clock)().date();
        if today == self.today {
            return;
        }
        self.today = today;
        for file in self.open.values_mut() {
            let result = file.set_aside().map(|()| file.day = today);
            self.trouble.note(&file.path, result, 0);
        }
        for module in MODULES.into_iter().filter(|m| !columns(*m).is_empty()) {
            let file = self.file(module, "csv");
            if let Err(error) = file.begin() {
                tracing::error!(file = %file.path.display(), %error, "log cannot be begun");
            }
        }
        self.remove_old();
    }

    /// A file left by an earlier run, if it is of another day.
    fn set_aside_old(&mut self, module: Module, ending: &'static str) -> io::Result<()> {
        let path = self.logs.join(format!("{}.{ending}", name(module)));
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Ok(());
        };
        let day = Timestamp::try_from(metadata.modified()?)
            .map_or(self.today, |t| t.to_zoned(self.zone()).date());
        if day < self.today {
            let today = self.today;
            let file = self.file(module, ending);
            file.day = day;
            file.set_aside()?;
            file.day = today;
        }
        Ok(())
    }

    /// Removes rotated files older than the days that they are kept.
    fn remove_old(&self) {
        if self.age_days == 0 {
            return;
        }
        let Ok(oldest) = self.today.checked_sub(i64::from(self.age_days).days()) else {
            return;
        };
        let Ok(entries) = std::fs::read_dir(&self.logs) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if rotated_on(&path).is_some_and(|day| day < oldest)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), %error, "old log not removed");
            }
        }
    }

    fn file(&mut self, module: Module, ending: &'static str) -> &mut LogFile {
        let (logs, day) = (&self.logs, self.today);
        self.open.entry((name(module), ending)).or_insert_with(|| {
            let header = if ending == "csv" {
                columns(module)
            } else {
                &[]
            };
            LogFile::new(logs.join(format!("{}.{ending}", name(module))), header, day)
        })
    }

    /// Makes `self.stamp` that of a moment: `YYMMDDhhmmss`, local time (CONF-20).
    fn stamp(&mut self, at: SystemTime) {
        let moment = Timestamp::try_from(at).unwrap_or_default();
        if self.stamp.0 != moment.as_second() {
            let local = moment.to_zoned(self.zone());
            self.stamp = (
                moment.as_second(),
                local.strftime("%y%m%d%H%M%S").to_string(),
            );
        }
    }

    fn zone(&self) -> TimeZone {
        (self.clock)().time_zone().clone()
    }
}

/// The day of a rotated file by its name, if it is one of ours.
fn rotated_on(path: &Path) -> Option<Date> {
    let (module, day) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    let ours = MODULES.iter().any(|m| name(*m) == module)
        && path.extension().is_some_and(|e| e == "txt" || e == "csv");
    let digits = day.len() == 6 && day.bytes().all(|b| b.is_ascii_digit());
    if !ours || !digits {
        return None;
    }
    let number = |range: std::ops::Range<usize>| day[range].parse::<i8>().ok();
    Date::new(
        2000 + i16::from(number(0..2)?),
        number(2..4)?,
        number(4..6)?,
    )
    .ok()
}

/// One log file and what waits to be written to it.
struct LogFile {
    path: PathBuf,
    header: &'static [&'static str],
    /// The day of what stands in it.
    day: Date,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl LogFile {
    fn new(path: PathBuf, header: &'static [&'static str], day: Date) -> Self {
        LogFile {
            path,
            header,
            day,
            file: None,
            buffer: Vec::new(),
        }
    }

    /// Writes the buffer with one write. The buffer stays for the caller to clear.
    fn write(&mut self) -> io::Result<()> {
        self.begin()?;
        match &mut self.file {
            Some(file) => file
                .write_all(&self.buffer)
                .inspect_err(|_| self.file = None),
            None => Ok(()),
        }
    }

    /// Opens the file if it is not open, or is no longer the one of that name.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            let here = file.metadata()?;
            let there = std::fs::metadata(&self.path);
            if there.is_ok_and(|t| t.ino() == here.ino() && t.dev() == here.dev()) {
                return Ok(());
            }
            self.file = None;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        if file.metadata()?.len() == 0 && !self.header.is_empty() {
            let mut header = Vec::new();
            csv_line(self.header.iter().copied(), &mut header);
            file.write_all(&header)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Gives the file the name of its day. If that exists already, the lines join it.
    fn set_aside(&mut self) -> io::Result<()> {
        self.file = None;
        let (Some(stem), Some(ending)) = (self.path.file_stem(), self.path.extension()) else {
            return Ok(());
        };
        let (stem, ending) = (stem.to_string_lossy(), ending.to_string_lossy());
        let aside = self
            .path
            .with_file_name(format!("{stem}-{}.{ending}", self.day.strftime("%y%m%d")));
        if !self.path.exists() {
            return Ok(());
        }
        if !aside.exists() {
            return std::fs::rename(&self.path, &aside);
        }
        let lines = std::fs::read(&self.path)?;
        let mut header = Vec::new();
        if !self.header.is_empty() {
            csv_line(self.header.iter().copied(), &mut header);
        }
        let lines = lines.strip_prefix(&header[..]).unwrap_or(&lines);
        OpenOptions::new()
            .append(true)
            .open(&aside)?
            .write_all(lines)?;
        std::fs::remove_file(&self.path)
    }
}

/// Appends to the error log of a group; people read and edit it, so it is not kept open.
/// Appends a line that begins with the moment.
fn line(stamp: &str, values: &Values, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(stamp.as_bytes());
    buffer.push(b',');
    buffer.extend_from_slice(values.line().as_bytes());
    buffer.push(b'\n');
}

fn append_group(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut octets = Vec::with_capacity(lines.len() + 128);
    let length = file.metadata()?.len();
    if length == 0 {
        csv_line(GROUP_COLUMNS, &mut octets);
    } else {
        let mut last = [b'\n'];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            octets.push(b'\n');
        }
    }
    octets.extend_from_slice(lines);
    file.write_all(&octets)
}

/// Says once per file that it cannot be written, and once that it can again.
#[derive(Default)]
struct Trouble {
    lines: u64,
    said: BTreeSet<PathBuf>,
}

impl Trouble {
    fn note(&mut self, path: &Path, result: io::Result<()>, lines: u64) {
        match result {
            Ok(()) => {
                if !self.said.is_empty() && lines > 0 && self.said.remove(path) {
                    tracing::warn!(file = %path.display(), lost = self.lines, "log is written again");
                }
            }
            Err(error) => {
                self.lines += lines;
                if self.said.insert(path.to_owned()) {
                    tracing::error!(file = %path.display(), %error, "log not written; mail goes on, lines are lost");
                }
            }
        }
    }
}
