//! What reading the configuration found: one line each, with file, line and key (IF-4).

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The file cannot be used as it stands (CONF-11).
    Error,
    /// Something is not as it probably was meant.
    Warning,
    /// Worth knowing.
    Notice,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
        })
    }
}

/// One finding. Never holds a password or key (CONF-90).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root, with `/`.
    pub file: String,
    /// From 1; 1 also for what concerns the file as a whole.
    pub line: usize,
    pub level: Level,
    /// Without brackets; `-` where there is none.
    pub section: String,
    /// `-` where there is none.
    pub key: String,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            file,
            line,
            level,
            section,
            key,
            text,
        } = self;
        write!(f, "{file}:{line}: {level}: [{section}] {key}: {text}")
    }
}
