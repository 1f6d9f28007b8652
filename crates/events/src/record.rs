//! What travels from the caller to the thread that writes: values, not yet formatted.

use std::fmt::{self, Write};
use std::time::SystemTime;

use galerne_core::ports::Module;

use crate::text::escape_value;

/// One thing to write.
#[derive(Debug)]
pub(crate) enum Record {
    /// A line of `logs/<module>.csv`; its first value is the moment.
    Row {
        module: Module,
        at: SystemTime,
        values: Values,
    },
    /// A line of `logs/<module>.txt`.
    Line {
        module: Module,
        at: SystemTime,
        text: String,
    },
    /// A line of `domains/@<group>_log.csv`; its first value is the moment.
    Group {
        group: String,
        at: SystemTime,
        values: Values,
    },
}

/// Values of one line in a single allocation each for text and ends.
#[derive(Debug)]
pub(crate) struct Values {
    text: String,
    ends: Vec<u32>,
}

impl Values {
    pub(crate) fn with_capacity(octets: usize, count: usize) -> Self {
        Values {
            text: String::with_capacity(octets),
            ends: Vec::with_capacity(count),
        }
    }

    /// A value of others: escaped and cut.
    pub(crate) fn push(&mut self, value: &str) {
        escape_value(value, &mut self.text);
        self.end();
    }

    /// A word of our own.
    pub(crate) fn word(&mut self, value: &str) {
        self.text.push_str(value);
        self.end();
    }

    /// A value of our own.
    pub(crate) fn show(&mut self, value: impl fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
        self.end();
    }

    pub(crate) fn empty(&mut self) {
        self.end();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let value = self.text.get(start..end as usize).unwrap_or("");
            start = end as usize;
            value
        })
    }

    fn end(&mut self) {
        self.ends
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}
