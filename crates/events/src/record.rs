//! What travels from the caller to the thread that writes: values, not yet formatted.

use std::fmt::{self, Write};
use std::net::IpAddr;
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

    /// A number. Every line has several; this is some twenty times cheaper than `Display`.
    pub(crate) fn number(&mut self, value: u64) {
        push_number(value, &mut self.text);
        self.end();
    }

    /// An address.
    pub(crate) fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                for (n, octet) in address.octets().into_iter().enumerate() {
                    if n > 0 {
                        self.text.push('.');
                    }
                    push_number(octet.into(), &mut self.text);
                }
                self.end();
            }
            IpAddr::V6(address) => self.show(address),
        }
    }

    /// A value of our own.
    fn show(&mut self, value: impl fmt::Display) {
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

fn push_number(mut value: u64, text: &mut String) {
    let mut digits = ['0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = char::from(b'0' + (value % 10) as u8);
        used += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend(digits.iter().skip(digits.len() - used));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_read_as_display_shows_them() {
        let mut values = Values::with_capacity(8, 2);
        let numbers = [0, 7, 10, 255, 1_000_000, u64::MAX];
        let addresses = ["127.0.0.1", "255.255.255.255", "10.0.200.9", "2001:db8::1"];
        numbers.into_iter().for_each(|n| values.number(n));
        let parsed = addresses.map(|a| a.parse::<IpAddr>().unwrap());
        parsed.into_iter().for_each(|a| values.ip(a));
        let expected = numbers.map(|n| n.to_string());
        let expected = expected.iter().map(String::as_str).chain(addresses);
        assert!(values.iter().eq(expected));
    }
}
