//! The log on standard error (IF-13): what an operator sees while the program runs.
//!
//! It is `tracing`, filtered by `GALERNE_LOG`. The log files are `logs`; both may say the same.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The filter when `GALERNE_LOG` says nothing.
pub const DEFAULT_FILTER: &str = "info";

/// Sends `tracing` events to standard error, as text or as JSON lines (`[rafale] log = json`).
///
/// `filter` is the value of `GALERNE_LOG`, such as `info` or `galerne=debug`; `None` or an empty
/// one: [`DEFAULT_FILTER`]. Fails on a filter that cannot be read, and when called twice.
pub fn init(filter: Option<&str>, json: bool) -> Result<(), String> {
    let filter = parse(filter)?;
    let result = if json {
        tracing::subscriber::set_global_default(lines(filter, std::io::stderr))
    } else {
        tracing::subscriber::set_global_default(text(filter, std::io::stderr))
    };
    result.map_err(|e| e.to_string())
}

/// The filter itself. `galerne=debug` speaks of the whole program: its crates are named
/// `galerne_…`, and a filter matches the beginning of a name.
fn parse(filter: Option<&str>) -> Result<EnvFilter, String> {
    let filter = filter
        .map(str::trim)
        .filter(|f| !f.is_empty())
        .unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| format!("GALERNE_LOG: `{}`: {e}", filter.escape_debug()))
}

fn text<W>(filter: EnvFilter, to: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(to)
        .finish()
}

fn lines<W>(filter: EnvFilter, to: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(to)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Page;
        fn make_writer(&self) -> Page {
            self.clone()
        }
    }

    fn said(filter: Option<&str>, json: bool) -> String {
        let page = Page::default();
        let speak = || {
            tracing::info!(target: "galerne_inbound", account = "shop", "listening\n\x1b[31m");
            tracing::debug!(target: "galerne_inbound", "dialogue");
            tracing::debug!(target: "other", "noise");
        };
        let filter = parse(filter).unwrap();
        if json {
            tracing::subscriber::with_default(lines(filter, page.clone()), speak);
        } else {
            tracing::subscriber::with_default(text(filter, page.clone()), speak);
        }
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn if_13_the_filter_is_info_unless_said() {
        let text = said(None, false);
        assert!(
            text.contains("listening") && !text.contains("dialogue"),
            "{text}"
        );
        assert!(said(Some(" "), false).contains("listening"));
        assert_eq!(said(Some("warn"), false), "");
        let text = said(Some("galerne=debug"), false);
        assert!(
            text.contains("dialogue") && !text.contains("noise"),
            "{text}"
        );
        assert!(
            parse(Some("galerne=loud"))
                .unwrap_err()
                .contains("GALERNE_LOG")
        );
    }

    #[test]
    fn if_13_json_is_one_object_a_line() {
        let text = said(None, true);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with('{') && text.ends_with("}\n"));
        assert!(
            text.contains("\"account\":\"shop\"") && text.contains("\"message\":\"listening\\n")
        );
    }
}
