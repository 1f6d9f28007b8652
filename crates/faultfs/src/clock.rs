//! The clock of the host, set while a process runs: `FAULTFS_CLOCK` names a file with so many
//! seconds, which may be negative, and is read each time that the process asks for the time of day.
//! The monotonic clock goes on as it does when an operator, NTP or a virtual machine sets the other.

use std::ffi::{c_int, c_long, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::{Inside, RTLD_NEXT, dlsym};

const CLOCK_REALTIME: c_int = 0;
const CLOCK_REALTIME_COARSE: c_int = 5;

#[repr(C)]
pub struct TimeSpec {
    seconds: c_long,
    nanoseconds: c_long,
}

type ClockGetTime = unsafe extern "C" fn(c_int, *mut TimeSpec) -> c_int;

/// By how many seconds the clock is wrong now.
fn offset() -> c_long {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("FAULTFS_CLOCK").map(PathBuf::from));
    let text = file.as_ref().and_then(|file| {
        let _inside = Inside::enter();
        std::fs::read_to_string(file).ok()
    });
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int {
    let real = real!("clock_gettime", ClockGetTime);
    // SAFETY: as the caller promises.
    let result = unsafe { real(clock, time) };
    if result == 0 && matches!(clock, CLOCK_REALTIME | CLOCK_REALTIME_COARSE) {
        // SAFETY: it has just been filled in.
        unsafe { (*time).seconds += offset() };
    }
    result
}
