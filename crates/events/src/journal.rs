//! The log on standard error (IF-13).

/// Sends `tracing` events to standard error, as text or as JSON lines.
/// `filter` is the value of `GALERNE_LOG`; `None`: `info`.
pub fn init(_filter: Option<&str>, _json: bool) -> Result<(), String> {
    todo!()
}
