//! A layer under the file system calls of a test process (`LD_PRELOAD`): it records what happens
//! below one folder, in order, with its syncs, and lets calls fail. From the record a test builds
//! the folder as a power cut would have left it (crates/store/tests/it/power.rs).
//!
//! | variable | |
//! |---|---|
//! | `FAULTFS_ROOT` | the folder; without it nothing is done |
//! | `FAULTFS_LOG` | the record, outside the folder; without it nothing is recorded |
//! | `FAULTFS_RULES` | a file with what fails; read at each call, and may come and go |
//! | `FAULTFS_CLOCK` | a file with the seconds by which the clock is wrong; as the rules |
//!
//! A rule is a line `CALL PART ERRNO COUNT`: calls whose path contains PART fail with that number,
//! so many times; `*` stands for all calls, for all paths, and for ever. CALL is one of open, write,
//! truncate, sync, rename, unlink, mkdir.
//!
//! A record is: one octet for the kind, then path, second path or data, each with its length in
//! four octets, and two numbers of eight octets; all little-endian. Kinds: `C` a file was made, `D`
//! a folder, `W` data at an offset, `T` a new length, `S` a sync begins, `R` renamed, `U` unlinked. A
//! sync is recorded when it begins: what was written before is in it.
//!
//! While it records nothing is synced in truth: the record is what counts.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const AT_FDCWD: c_int = -100;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const SEEK_CUR: c_int = 1;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn lseek(fd: c_int, offset: c_long, whence: c_int) -> c_long;
    fn __errno_location() -> *mut c_int;
}

/// The function of libc that ours stands for.
macro_rules! real {
    ($name:literal, $type:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut found = FOUND.load(Relaxed);
        if found.is_null() {
            // SAFETY: the name is a C string; libc has the function, or the test ends here.
            found = unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) };
            assert!(!found.is_null(), $name);
            FOUND.store(found, Relaxed);
        }
        // SAFETY: the type is that of the function of this name in libc.
        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
    }};
}

mod clock;

type Open = unsafe extern "C" fn(*const c_char, c_int, c_uint) -> c_int;
type OpenAt = unsafe extern "C" fn(c_int, *const c_char, c_int, c_uint) -> c_int;
type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;
type PWrite = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
type Truncate = unsafe extern "C" fn(c_int, i64) -> c_int;
type OfFd = unsafe extern "C" fn(c_int) -> c_int;
type Rename = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type OfPath = unsafe extern "C" fn(*const c_char) -> c_int;
type MakeDir = unsafe extern "C" fn(*const c_char, c_uint) -> c_int;

struct Layer {
    root: Vec<u8>,
    /// File descriptor of the record.
    log: Option<c_int>,
    rules: Option<CString>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paths: HashMap<c_int, Vec<u8>>,
    /// How often a rule has struck.
    struck: HashMap<Vec<u8>, u64>,
}

thread_local! {
    /// Our own calls go straight through.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Nothing of ours is watched while this lives.
struct Inside;

impl Inside {
    fn enter() -> Option<Inside> {
        match INSIDE.try_with(|inside| inside.replace(true)) {
            Ok(false) => Some(Inside),
            // Ours, or the thread is ending.
            Ok(true) | Err(_) => None,
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

fn layer() -> Option<&'static Layer> {
    static LAYER: OnceLock<Option<Layer>> = OnceLock::new();
    LAYER.get_or_init(Layer::from_environment).as_ref()
}

impl Layer {
    fn from_environment() -> Option<Layer> {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.as_bytes().to_vec());
        let c = |path: Vec<u8>| CString::new(path).ok();
        let log = variable("FAULTFS_LOG").and_then(c).map(|path| {
            let flags = 0o1 | O_CREAT | 0o2000; // write only, append
            {
                // SAFETY: a C string that lives through the call.
                let real = real!("open", Open);
                unsafe { real(path.as_ptr(), flags, 0o600) }
            }
        });
        Some(Layer {
            root: variable("FAULTFS_ROOT")?,
            log,
            rules: variable("FAULTFS_RULES").and_then(c),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self, path: &[u8]) -> bool {
        // The index of the log is shared memory; nothing of it is read after a crash.
        path.starts_with(&self.root) && !path.ends_with(b"-shm")
    }

    fn record(&self, kind: u8, path: &[u8], data: &[u8], numbers: [u64; 2]) {
        let Some(log) = self.log else { return };
        let mut record = vec![kind];
        for part in [path, data] {
            record.extend_from_slice(&(part.len() as u32).to_le_bytes());
            record.extend_from_slice(part);
        }
        for number in numbers {
            record.extend_from_slice(&number.to_le_bytes());
        }
        let mut left = &record[..];
        while !left.is_empty() {
            // SAFETY: the buffer lives through the call, and has this length.
            let wrote = {
                let real = real!("write", Write);
                unsafe { real(log, left.as_ptr().cast(), left.len()) }
            };
            assert!(wrote > 0, "the record cannot be written");
            left = &left[wrote as usize..];
        }
    }

    /// The number of the error with which a call is to fail.
    fn failure(&self, state: &mut State, call: &str, path: &[u8]) -> Option<c_int> {
        let rules = self.rules.as_ref()?;
        let path_of_rules = std::path::Path::new(OsStr::from_bytes(rules.as_bytes()));
        let rules = std::fs::read(path_of_rules).ok()?;
        for rule in rules.split(|&octet| octet == b'\n') {
            let words: Vec<_> = rule.split(|&octet| octet == b' ').collect();
            let [name, part, error, count] = words[..] else {
                continue;
            };
            let named = name == b"*" || name == call.as_bytes();
            let meant = part == b"*" || path.windows(part.len()).any(|window| window == part);
            if !named || !meant {
                continue;
            }
            let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
            let struck = state.struck.entry(rule.to_vec()).or_default();
            if number(count).is_none_or(|count| *struck < count) {
                *struck += 1;
                return number(error).map(|error| error as c_int);
            }
        }
        None
    }
}

/// The call failed by a rule.
fn fail(error: c_int) -> c_int {
    // SAFETY: libc gives the address of this thread's own errno.
    unsafe { *__errno_location() = error };
    -1
}

fn octets<'a>(path: *const c_char) -> &'a [u8] {
    // SAFETY: the caller gave a C string, as the call wants it.
    unsafe { CStr::from_ptr(path) }.to_bytes()
}

/// Opens by `go`, and remembers the path of what is ours.
fn opened(path: *const c_char, flags: c_int, go: impl Fn() -> c_int) -> c_int {
    let Some(_inside) = Inside::enter() else {
        return go();
    };
    let name = octets(path);
    let Some(layer) = layer().filter(|layer| layer.is_ours(name)) else {
        return go();
    };
    let mut state = layer.state();
    let changes = flags & (O_CREAT | O_TRUNC | 3) != 0;
    if let (true, Some(error)) = (changes, layer.failure(&mut state, "open", name)) {
        return fail(error);
    }
    // SAFETY: a C string.
    let is_new = flags & O_CREAT != 0 && unsafe { access(path, 0) } != 0;
    let fd = go();
    if fd >= 0 {
        if is_new {
            layer.record(b'C', name, &[], [0, 0]);
        } else if flags & O_TRUNC != 0 {
            layer.record(b'T', name, &[], [0, 0]);
        }
        state.paths.insert(fd, name.to_vec());
    }
    fd
}

/// # Safety
/// As open(2). The mode is passed as a variable argument; on the machines we test on it comes in
/// the same register as a fixed one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: as the caller promised, here and in all functions below.
    opened(path, flags, || {
        let real = real!("open", Open);
        unsafe { real(path, flags, mode) }
    })
}

/// # Safety
/// As `open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    opened(path, flags, || {
        let real = real!("open64", Open);
        unsafe { real(path, flags, mode) }
    })
}

/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    fd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    let go = || {
        let real = real!("openat", OpenAt);
        unsafe { real(fd, path, flags, mode) }
    };
    if fd == AT_FDCWD {
        opened(path, flags, go)
    } else {
        go()
    }
}

/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    fd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    let go = || {
        let real = real!("openat64", OpenAt);
        unsafe { real(fd, path, flags, mode) }
    };
    if fd == AT_FDCWD {
        opened(path, flags, go)
    } else {
        go()
    }
}

/// # Safety
/// As close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(_inside) = Inside::enter()
        && let Some(layer) = layer()
    {
        layer.state().paths.remove(&fd);
    }
    {
        let real = real!("close", OfFd);
        unsafe { real(fd) }
    }
}

/// Does something to an open file: fails by a rule, or goes and records.
fn on_fd<T>(
    fd: c_int,
    call: &str,
    failed: impl Fn(c_int) -> T,
    go: impl Fn() -> T,
    record: impl Fn(&Layer, &[u8], &T),
) -> T {
    let Some(_inside) = Inside::enter() else {
        return go();
    };
    let Some(layer) = layer() else { return go() };
    let mut state = layer.state();
    let Some(path) = state.paths.get(&fd).cloned() else {
        drop(state);
        return go();
    };
    if let Some(error) = layer.failure(&mut state, call, &path) {
        return failed(error);
    }
    let done = go();
    record(layer, &path, &done);
    done
}

fn wrote(fd: c_int, data: *const c_void, at: i64, go: impl Fn() -> isize) -> isize {
    let record = |layer: &Layer, path: &[u8], done: &isize| {
        if *done > 0 {
            // SAFETY: the caller's buffer has at least as many octets as were written.
            let data = unsafe { std::slice::from_raw_parts(data.cast(), *done as usize) };
            layer.record(b'W', path, data, [at as u64, 0]);
        }
    };
    on_fd(fd, "write", |error| fail(error) as isize, go, record)
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: usize) -> isize {
    // Only a file has a place; what has none is not ours.
    let at = unsafe { lseek(fd, 0, SEEK_CUR) };
    wrote(fd, data, at, || {
        let real = real!("write", Write);
        unsafe { real(fd, data, length) }
    })
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    wrote(fd, data, at, || {
        let real = real!("pwrite", PWrite);
        unsafe { real(fd, data, length, at) }
    })
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    wrote(fd, data, at, || {
        let real = real!("pwrite64", PWrite);
        unsafe { real(fd, data, length, at) }
    })
}

fn truncated(fd: c_int, length: i64, go: impl Fn() -> c_int) -> c_int {
    let record = |layer: &Layer, path: &[u8], done: &c_int| {
        if *done == 0 {
            layer.record(b'T', path, &[], [length as u64, 0]);
        }
    };
    on_fd(fd, "truncate", fail, go, record)
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    truncated(fd, length, || {
        let real = real!("ftruncate", Truncate);
        unsafe { real(fd, length) }
    })
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    truncated(fd, length, || {
        let real = real!("ftruncate64", Truncate);
        unsafe { real(fd, length) }
    })
}

fn synced(fd: c_int, go: impl Fn() -> c_int) -> c_int {
    let records = layer().is_some_and(|layer| layer.log.is_some());
    let record = |layer: &Layer, path: &[u8], _: &c_int| layer.record(b'S', path, &[], [0, 0]);
    let go = || if records { 0 } else { go() };
    on_fd(fd, "sync", fail, go, record)
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    synced(fd, || {
        let real = real!("fsync", OfFd);
        unsafe { real(fd) }
    })
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(fd, || {
        let real = real!("fdatasync", OfFd);
        unsafe { real(fd) }
    })
}

/// Does something to a name.
fn on_path(path: *const c_char, call: &str, kind: u8, to: &[u8], go: impl Fn() -> c_int) -> c_int {
    let Some(_inside) = Inside::enter() else {
        return go();
    };
    let name = octets(path);
    let Some(layer) = layer().filter(|layer| layer.is_ours(name)) else {
        return go();
    };
    let mut state = layer.state();
    if let Some(error) = layer.failure(&mut state, call, name) {
        return fail(error);
    }
    let done = go();
    if done == 0 {
        layer.record(kind, name, to, [0, 0]);
        if kind == b'R' {
            for path in state.paths.values_mut().filter(|path| path == &name) {
                *path = to.to_vec();
            }
        }
    }
    done
}

/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let go = || {
        let real = real!("rename", Rename);
        unsafe { real(from, to) }
    };
    on_path(from, "rename", b'R', octets(to), go)
}

/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    on_path(path, "unlink", b'U', &[], || {
        let real = real!("unlink", OfPath);
        unsafe { real(path) }
    })
}

/// # Safety
/// As mkdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    on_path(path, "mkdir", b'D', &[], || {
        let real = real!("mkdir", MakeDir);
        unsafe { real(path, mode) }
    })
}
