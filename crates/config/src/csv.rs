//! CSV tables: header row, RFC 4180 quoting, lenient reading (CONF-19).
//!
//! The separator (`,` `;` or tab) is recognised from the header row, a byte order mark is ignored,
//! columns are found by name in any order, unknown columns are kept. Writing uses commas.

use ::csv::{ReaderBuilder, Terminator, WriterBuilder};

/// A table in memory: a header and rows of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names as written, blanks around them cut.
    pub columns: Vec<String>,
    /// Each as long as `columns`.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Line in the file, from 1; 0 for a new row.
    pub line: u64,
    pub fields: Vec<String>,
}

/// Why a file is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTable {
    pub line: u64,
    pub why: String,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| c.to_string()).collect();
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// Reads a file. Rows shorter than the header are filled up with empty fields; longer ones are
    /// an error, because their columns cannot be told apart. Blank lines are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTable> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = ReaderBuilder::new()
            .delimiter(separator(bytes))
            .flexible(true)
            .from_reader(bytes);
        let header = reader.headers().map_err(bad)?;
        let columns: Vec<_> = header.iter().map(|c| c.trim().to_string()).collect();
        let mut rows = Vec::new();
        let mut lines = Lines {
            bytes,
            at: 0,
            line: 1,
        };
        for record in reader.records() {
            let record = record.map_err(bad)?;
            let line = lines.line_at(record.position().map_or(0, |p| p.byte()));
            let mut fields: Vec<_> = record.iter().map(str::to_string).collect();
            if fields.len() > columns.len() {
                let why = format!("{} fields under {} columns", fields.len(), columns.len());
                return Err(BadTable { line, why });
            }
            fields.resize(columns.len(), String::new());
            rows.push(Row { line, fields });
        }
        Ok(Table { columns, rows })
    }

    /// Index of a column by name, without regard to case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| c.eq_ignore_ascii_case(name))
    }

    /// The fields of one column with their lines.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = (u64, &'a str)> {
        let column = self.column(name);
        self.rows.iter().filter_map(move |row| {
            let field = row.fields.get(column?)?;
            Some((row.line, field.as_str()))
        })
    }

    /// The text of the file: commas, CRLF, quotes where needed.
    pub fn print(&self) -> String {
        let mut text = print_row(&self.columns);
        for row in &self.rows {
            text.push_str(&print_row(&row.fields));
        }
        text
    }
}

/// Counts lines: the reader's own count stops before the LF of a CRLF.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that begins at this offset or behind the line ends there.
    fn line_at(&mut self, offset: u64) -> u64 {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        while let Some(&byte) = self.bytes.get(self.at)
            && (self.at < offset || byte == b'\r' || byte == b'\n')
        {
            self.line += u64::from(byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// One line of a CSV file with its CRLF.
pub fn print_row<S: AsRef<str>>(fields: &[S]) -> String {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing to memory cannot fail; an empty line would be the harmless result.
    let _ = writer.write_record(fields.iter().map(|f| f.as_ref()));
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// The separator that stands most often in the header row, outside quotes.
fn separator(bytes: &[u8]) -> u8 {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let mut quoted = false;
    let mut counts = [(0, b','), (0, b';'), (0, b'\t')];
    for &byte in line {
        quoted ^= byte == b'"';
        for (count, separator) in &mut counts {
            *count += usize::from(!quoted && byte == *separator);
        }
    }
    let best = counts.iter().rev().max_by_key(|(count, _)| *count);
    best.map_or(b',', |(_, separator)| *separator)
}

fn bad(error: ::csv::Error) -> BadTable {
    let line = error.position().map_or(1, |p| p.line());
    let why = match error.kind() {
        ::csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_string(),
        _ => "not a CSV table".to_string(),
    };
    BadTable { line, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_19_separator_order_and_unknown_columns() {
        for text in [
            "\u{feff}date,domain,extra\r\n260101000000,example.org,\"a, \"\"b\"\"\"\r\n",
            "\u{feff}extra;domain;date\n\"a, \"\"b\"\"\";example.org;260101000000\n",
            "domain\tDATE\textra\nexample.org\t260101000000\t\"a, \"\"b\"\"\"",
        ] {
            let table = Table::parse(text.as_bytes()).unwrap();
            let domains: Vec<_> = table.values("domain").collect();
            assert_eq!(domains, [(2, "example.org")], "{text}");
            assert_eq!(table.values("date").next(), Some((2, "260101000000")));
            assert_eq!(table.values("extra").next(), Some((2, "a, \"b\"")));
        }
    }

    #[test]
    fn conf_19_what_is_read_is_written_back_whole() {
        let text = "email;note;own\n a@b.c ;\"two\nlines\";x\nshort\n";
        let table = Table::parse(text.as_bytes()).unwrap();
        assert_eq!(
            table.print(),
            "email,note,own\r\n a@b.c ,\"two\nlines\",x\r\nshort,,\r\n"
        );
        let again = Table::parse(table.print().as_bytes()).unwrap();
        assert_eq!(again.print(), table.print());
    }

    #[test]
    fn conf_19_one_column_and_empty_files() {
        let table = Table::parse(b"email\nx@example.org\n").unwrap();
        assert_eq!(table.values("EMAIL").count(), 1);
        assert_eq!(Table::parse(b"").unwrap().rows.len(), 0);
        assert_eq!(table.values("nothing").count(), 0);
    }

    #[test]
    fn conf_19_bad_tables_are_named_by_line() {
        let error = Table::parse(b"a,b\n1,2\n1,2,3\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(
            Table::parse(b"a,b\n1,\xff\n")
                .unwrap_err()
                .why
                .contains("UTF-8")
        );
    }
}
