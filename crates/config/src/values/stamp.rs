//! Times in files: `YYMMDDhhmmss` in the local time of the host (CONF-20).

use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Read;

const FORM: &str = "%y%m%d%H%M%S";

/// Reads `YYMMDDhhmmss`. The years are 2000 to 2099.
pub fn stamp(value: &str) -> Read<DateTime> {
    let bad = || "expected a time as YYMMDDhhmmss".to_string();
    if value.len() != 12 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    DateTime::strptime("%Y%m%d%H%M%S", format!("20{value}")).map_err(|_| bad())
}

/// Writes `YYMMDDhhmmss`.
pub fn print_stamp(time: DateTime) -> String {
    time.strftime(FORM).to_string()
}

/// The stamp of a moment in a time zone; files use the host's, [`TimeZone::system`].
pub fn stamp_at(moment: SystemTime, zone: TimeZone) -> String {
    match jiff::Timestamp::try_from(moment) {
        Ok(moment) => print_stamp(moment.to_zoned(zone).datetime()),
        Err(_) => "000101000000".to_string(),
    }
}
