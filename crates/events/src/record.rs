//! What travels from the caller to the thread that writes: values, not yet formatted.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::SystemTime;

use galerne_core::ports::Module;

use crate::text::text_value;

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

/// Values of one line, as they will stand in the file: every line of the log costs its caller as
/// little as possible, and the writer nothing but a copy.
#[derive(Debug)]
pub(crate) struct Values {
    line: String,
}

impl Values {
    pub(crate) fn with_capacity(octets: usize) -> Self {
        Values {
            line: String::with_capacity(octets),
        }
    }

    /// A value of others: escaped, cut, and quoted where it must be.
    pub(crate) fn push(&mut self, value: &str) {
        text_value(value, &mut self.line);
        self.end();
    }

    /// A word of our own.
    pub(crate) fn word(&mut self, value: &str) {
        self.line.push_str(value);
        self.end();
    }

    /// A number. Every line has several; this is some twenty times cheaper than `Display`.
    pub(crate) fn number(&mut self, value: u64) {
        push_number(value, &mut self.line);
        self.end();
    }

    /// An address.
    pub(crate) fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                for (n, octet) in address.octets().into_iter().enumerate() {
                    if n > 0 {
                        self.line.push('.');
                    }
                    push_number(octet.into(), &mut self.line);
                }
                self.end();
            }
            IpAddr::V6(address) => self.show(address),
        }
    }

    /// A value of our own.
    fn show(&mut self, value: impl fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.line, "{value}");
        self.end();
    }

    pub(crate) fn empty(&mut self) {
        self.end();
    }

    /// The line, values separated by commas, without line end.
    pub(crate) fn line(&self) -> &str {
        self.line.strip_suffix(',').unwrap_or(&self.line)
    }

    fn end(&mut self) {
        self.line.push(',');
    }
}

fn push_number(mut value: u64, text: &mut String) {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    if value < 10 {
        return text.push(char::from(digit(value)));
    }
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while value > 0 {
        first -= 1;
        digits[first] = digit(value);
        value /= 10;
    }
    // Digits are ASCII.
    text.push_str(std::str::from_utf8(&digits[first..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_read_as_display_shows_them() {
        let mut values = Values::with_capacity(8);
        let numbers = [0, 7, 10, 255, 1_000_000, u64::MAX];
        let addresses = ["127.0.0.1", "255.255.255.255", "10.0.200.9", "2001:db8::1"];
        numbers.into_iter().for_each(|n| values.number(n));
        let parsed = addresses.map(|a| a.parse::<IpAddr>().unwrap());
        parsed.into_iter().for_each(|a| values.ip(a));
        let numbers = numbers.map(|n| n.to_string()).join(",");
        assert_eq!(values.line(), format!("{numbers},{}", addresses.join(",")));
    }
}
