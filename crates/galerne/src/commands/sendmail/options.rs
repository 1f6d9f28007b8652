//! The command line of `sendmail`, as programs have called it for forty years. Flags may stand
//! together (`-ti`) and behind recipients; what means nothing here is heard and passed over.

use std::ffi::OsString;

use super::{EX_UNAVAILABLE, EX_USAGE, Ended};

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `-t`: the recipients stand in the header, too.
    pub from_header: bool,
    /// `-i`: a line with a dot alone is text, not the end.
    pub dots_are_text: bool,
    /// `-f`, `-r`; empty: the null sender.
    pub sender: Option<String>,
    /// `-F`: the name of a person.
    pub name: Option<String>,
    /// `-N`.
    pub notify: Option<String>,
    /// `-R`: `FULL` or `HDRS`.
    pub ret: Option<String>,
    /// `-V`.
    pub envid: Option<String>,
    /// As given, each may hold several.
    pub recipients: Vec<String>,
    /// `-bi`, `-I`: the aliases are to be read anew; there are none.
    pub aliases: bool,
}

/// Flags with a value, in the same word or in the next.
const WITH_VALUE: &str = "ABCDFLNOQRVXbefhopr";
/// Flags whose value can only stand in the same word.
const ATTACHED: &str = "dq";
/// Flags without a value that mean nothing here.
const IGNORED: &str = "EGUcmnsvx";

impl Asked {
    /// Reads the words behind the name of the program.
    ///
    /// # Errors
    /// It cannot be done, or is not understood.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Asked, Ended> {
        let mut asked = Asked::default();
        let mut words = words.into_iter();
        let mut flags_end = false;
        while let Some(word) = words.next() {
            let word = text(word)?;
            let flags = word.strip_prefix('-').filter(|flags| !flags.is_empty());
            match flags {
                Some("-") if !flags_end => flags_end = true,
                Some(flags) if !flags_end => asked.flags(flags, &mut words)?,
                _ => asked.recipients.push(word),
            }
        }
        Ok(asked)
    }

    /// Reads the flags of one word.
    fn flags(
        &mut self,
        flags: &str,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Ended> {
        let mut rest = flags.chars();
        while let Some(flag) = rest.next() {
            if ATTACHED.contains(flag) {
                return self.attached(flag);
            }
            if WITH_VALUE.contains(flag) {
                let value =
                    match rest.as_str() {
                        "" => text(words.next().ok_or_else(|| {
                            Ended::new(EX_USAGE, format!("-{flag} wants a value"))
                        })?)?,
                        value => value.to_owned(),
                    };
                return self.with_value(flag, value);
            }
            match flag {
                't' => self.from_header = true,
                'i' => self.dots_are_text = true,
                'I' => self.aliases = true,
                flag if IGNORED.contains(flag) => {}
                flag => {
                    let text = format!(
                        "-{} is not known; `galerne sendmail --help` says what is",
                        flag.escape_debug()
                    );
                    return Err(Ended::new(EX_USAGE, text));
                }
            }
        }
        Ok(())
    }

    fn attached(&self, flag: char) -> Result<(), Ended> {
        match flag {
            'q' => Err(Ended::new(
                EX_UNAVAILABLE,
                "-q: `galerne queue retry` tries what waits",
            )),
            _ => Ok(()),
        }
    }

    fn with_value(&mut self, flag: char, value: String) -> Result<(), Ended> {
        match flag {
            'f' | 'r' => self.sender = Some(value),
            'F' => self.name = Some(value),
            'N' => self.notify = Some(notify(&value)?),
            'R' => self.ret = Some(ret(&value)?),
            'V' => self.envid = Some(envid(value)?),
            'o' if value == "i" => self.dots_are_text = true,
            'b' => match value.as_str() {
                "m" => {}
                "i" => self.aliases = true,
                "p" => {
                    let text = "-bp: `galerne queue list` shows what waits";
                    return Err(Ended::new(EX_UNAVAILABLE, text));
                }
                "s" => {
                    let text = "-bs: no SMTP by standard input; connect to [rfrelay] listen";
                    return Err(Ended::new(EX_UNAVAILABLE, text));
                }
                other => {
                    let text = format!("-b{}: not here", other.escape_debug());
                    return Err(Ended::new(EX_UNAVAILABLE, text));
                }
            },
            _ => {}
        }
        Ok(())
    }
}

fn text(word: OsString) -> Result<String, Ended> {
    word.into_string()
        .map_err(|_| Ended::new(EX_USAGE, "a word of the command line is not UTF-8"))
}

fn notify(value: &str) -> Result<String, Ended> {
    match galerne_smtp::command::notify(value) {
        Some(_) => Ok(value.to_ascii_uppercase()),
        None => Err(Ended::new(
            EX_USAGE,
            "-N wants never, or a list of success, failure and delay",
        )),
    }
}

fn ret(value: &str) -> Result<String, Ended> {
    let value = value.to_ascii_uppercase();
    match value.as_str() {
        "FULL" | "HDRS" => Ok(value),
        _ => Err(Ended::new(EX_USAGE, "-R wants full or hdrs")),
    }
}

fn envid(value: String) -> Result<String, Ended> {
    let printable = value.bytes().all(|b| matches!(b, b' '..=b'~'));
    if (1..=100).contains(&value.len()) && printable {
        return Ok(value);
    }
    let text = "-V wants at most 100 characters of printable ASCII";
    Err(Ended::new(EX_USAGE, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, Ended> {
        Asked::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn queue_24_flags_are_read_as_programs_give_them() {
        let plain = |recipients: &[&str]| Asked {
            recipients: recipients.iter().map(|&r| r.to_owned()).collect(),
            ..Asked::default()
        };
        let header = Asked {
            from_header: true,
            dots_are_text: true,
            ..Asked::default()
        };
        for line in [
            "-t -i",
            "-ti",
            "-oi -t",
            "-t -o i -oem -odb",
            "-it -bm -v -B8BITMIME -e m",
        ] {
            assert_eq!(read(line).unwrap(), header, "{line}");
        }
        for line in [
            "-fa@x b@y",
            "-f a@x b@y",
            "-r a@x b@y",
            "b@y -f a@x",
            "-i -fa@x -- b@y",
        ] {
            let found = read(line).unwrap();
            assert_eq!(
                (found.sender.as_deref(), &*found.recipients),
                (Some("a@x"), &["b@y".to_owned()][..]),
                "{line}"
            );
        }
        assert_eq!(
            read("-- -t a@x -- b").unwrap(),
            plain(&["-t", "a@x", "--", "b"])
        );
        assert_eq!(
            read("-FAnna -NNever -R hdrs -Vabc -oA/etc/aliases -C /x -L tag root").unwrap(),
            Asked {
                name: Some("Anna".into()),
                notify: Some("NEVER".into()),
                ret: Some("HDRS".into()),
                envid: Some("abc".into()),
                ..plain(&["root"])
            }
        );
        assert_eq!(
            read("-N success,delay x").unwrap().notify.as_deref(),
            Some("SUCCESS,DELAY")
        );
        let null = Asked::read(["-f", "", "x"].map(OsString::from)).unwrap();
        assert_eq!(null.sender.as_deref(), Some(""));
        assert!(read("-bi").unwrap().aliases && read("-I").unwrap().aliases);
    }

    #[test]
    fn queue_24_what_cannot_be_done_is_said_with_the_code_of_sysexits() {
        for (line, code) in [
            ("-bs", EX_UNAVAILABLE),
            ("-bp", EX_UNAVAILABLE),
            ("-bd", EX_UNAVAILABLE),
            ("-q", EX_UNAVAILABLE),
            ("-q15m", EX_UNAVAILABLE),
            ("-k", EX_USAGE),
            ("x -f", EX_USAGE),
            ("-N sometimes x", EX_USAGE),
            ("-R half x", EX_USAGE),
            ("-V é x", EX_USAGE),
        ] {
            assert_eq!(read(line).unwrap_err().code, code, "{line}");
        }
    }
}
