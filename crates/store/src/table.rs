//! Reading CSV files as people leave them (CONF-19): the separator is seen in the header row, a
//! byte order mark is ignored, the order of columns is free and unknown ones do no harm.
//!
//! Only reading, and forming one line that fits a file that stands already. Writing to disk is
//! `writer`.

use std::io;

/// The header row of a file: its separator and its column names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    separator: u8,
    columns: Vec<String>,
}

impl Header {
    /// A header of our own: commas, these columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Header {
            separator: b',',
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        }
    }

    /// Reads the header row at the start of `octets`. `None`: the file is empty.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let octets = without_mark(octets);
        let separator = separator(octets);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .trim(csv::Trim::All)
            .from_reader(octets);
        let mut row = csv::ByteRecord::new();
        if !reader.read_byte_record(&mut row).unwrap_or(false) {
            return None;
        }
        let columns = row
            .iter()
            .map(|c| String::from_utf8_lossy(c).to_ascii_lowercase())
            .collect();
        Some(Header { separator, columns })
    }

    /// The place of a column; names are compared without case.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }

    /// The header row itself, with its line end.
    pub(crate) fn row(&self) -> io::Result<Vec<u8>> {
        write_row(self.separator, self.columns.iter().map(String::as_str))
    }

    /// One line of values by column name, in the order of this header. Values of columns that
    /// the file does not have are left out; columns that we have no value for stay empty.
    pub(crate) fn line(&self, values: &[(&str, String)]) -> io::Result<Vec<u8>> {
        let value = |column: &String| {
            values
                .iter()
                .find(|(name, _)| name == column)
                .map_or("", |(_, v)| v.as_str())
        };
        write_row(self.separator, self.columns.iter().map(value))
    }
}

/// Calls `each` with the values of `columns` in every row of `octets`, header row aside. Blanks
/// around values are removed; a value that the row does not have is empty.
///
/// Returns `false` when the first of `columns` is missing from a header that is there.
pub(crate) fn for_each_row<const N: usize>(
    octets: &[u8],
    columns: [&str; N],
    mut each: impl FnMut([&str; N]),
) -> bool {
    let Some(header) = Header::read(octets) else {
        return true;
    };
    let places = columns.map(|c| header.column(c));
    if places.first().is_some_and(Option::is_none) {
        return false;
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .flexible(true)
        .delimiter(header.separator)
        .trim(csv::Trim::Fields)
        .from_reader(without_mark(octets));
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).unwrap_or(false) {
        let texts =
            places.map(|p| String::from_utf8_lossy(p.and_then(|p| row.get(p)).unwrap_or_default()));
        each(std::array::from_fn(|i| texts[i].trim()));
    }
    true
}

fn write_row<'a>(separator: u8, values: impl Iterator<Item = &'a str>) -> io::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(separator)
        .from_writer(Vec::with_capacity(128));
    writer.write_record(values)?;
    writer.into_inner().map_err(|e| e.into_error())
}

fn without_mark(octets: &[u8]) -> &[u8] {
    octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets)
}

/// The most frequent of comma, semicolon and tab in the first line, outside quotes.
fn separator(octets: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for &octet in octets.iter().skip_while(|o| matches!(o, b'\r' | b'\n')) {
        match octet {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if quoted => {}
            _ => counts
                .iter_mut()
                .filter(|(s, _)| *s == octet)
                .for_each(|(_, n)| *n += 1),
        }
    }
    let mut best = counts[0];
    for candidate in counts {
        if candidate.1 > best.1 {
            best = candidate;
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emails(octets: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        assert!(for_each_row(octets, ["email"], |[email]| found.push(email.to_owned())));
        found
    }

    #[test]
    fn conf_19_separator_is_recognised_from_the_header_row() {
        assert_eq!(emails(b"email,date\na@x,1\nb@x,2\n"), ["a@x", "b@x"]);
        assert_eq!(emails(b"date;email\r\n1;a@x\r\n2,5;b@x"), ["a@x", "b@x"]);
        assert_eq!(emails(b"email\tdate\na@x\t1\n"), ["a@x"]);
        assert_eq!(
            emails(b"\"a;b;c\",email\n1,a@x\n"),
            ["a@x"],
            "separators within quotes do not count"
        );
    }

    #[test]
    fn conf_19_mark_is_ignored_order_is_free_quotes_are_read() {
        assert_eq!(emails(b"\xef\xbb\xbfEmail\nA@x\n"), ["A@x"]);
        assert_eq!(
            emails(b"note, EMAIL ,x\n\"line\nbreak, \"\"q\"\"\", a@x ,1\n"),
            ["a@x"]
        );
        assert_eq!(emails(b""), Vec::<String>::new());
        assert_eq!(
            emails(b"email\n\n\na@x\nb@x;extra,columns,here\n"),
            ["a@x", "b@x;extra"]
        );
    }

    #[test]
    fn conf_56_a_file_without_the_column_is_told_apart() {
        assert!(!for_each_row(b"address\na@x\n", ["email"], |_| {}));
        assert!(for_each_row(
            b"address;email\n",
            ["email", "nothing"],
            |_| {}
        ));
    }

    #[test]
    fn conf_19_a_line_fits_the_header_that_stands() {
        let header = Header::read(b"reason;memo;email\nx;y;z\n").unwrap();
        let line = header.line(&[
            ("email", "a@x".into()),
            ("date", "1".into()),
            ("reason", "b;c\n\"d\"".into()),
        ]);
        assert_eq!(
            String::from_utf8(line.unwrap()).unwrap(),
            "\"b;c\n\"\"d\"\"\";;a@x\n"
        );
        assert_eq!(
            Header::new(&["email", "date"]).row().unwrap(),
            b"email,date\n"
        );
    }
}
