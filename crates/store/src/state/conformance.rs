//! What every way of keeping state must do, and what only a file can.

use std::sync::Arc;

use galerne_core::ports::{FlowEntry, FlowKey, Others, StateStore};
use galerne_core::routes::{Fields, Passwords, RouteRow};

use super::*;

/// Runs a test on both.
fn on_both(test: fn(&dyn StateStore)) {
    test(&MemoryState::default());
    let folder = tempfile::tempdir().unwrap();
    test(&SqliteState::open(&folder.path().join("state.db")).unwrap());
}

fn row(json: &str) -> RouteRow {
    serde_json::from_str::<Fields>(json)
        .unwrap()
        .check()
        .unwrap()
}

fn full() -> RouteRow {
    row(
        r#"{"destination": "Example.org", "remoteHost": "In.example.net", "remotePort": 587,
        "priority": 2, "localIp": "192.0.2.1&2001:db8::1", "smtpUser": "VIP@example.com",
        "mailFrom": "a@b.example", "remoteLogin": "login", "remotePasswd": "secret"}"#,
    )
}

fn plain() -> RouteRow {
    row(r#"{"remoteHost": "192.0.2.25"}"#)
}

fn ids(store: &dyn StateStore) -> Vec<u64> {
    store.routes().unwrap().iter().map(|row| row.id).collect()
}

fn entry(key: &str, value: Option<&[u8]>) -> FlowEntry {
    FlowEntry {
        key: FlowKey {
            group: "isp".into(),
            kind: "ip".into(),
            key: key.into(),
        },
        value: value.map(<[u8]>::to_vec),
    }
}

#[test]
fn route_5_route_11_route_12_rows_come_back_as_they_were_given() {
    on_both(|store| {
        assert_eq!(store.routes().unwrap(), []);
        let given = [full(), plain(), plain()];
        assert_eq!(store.add_routes(&given, Others::Keep).unwrap(), [1, 2, 3]);
        let kept = store.routes().unwrap();
        for (number, (kept, given)) in kept.iter().zip(&given).enumerate() {
            let id = number as u64 + 1;
            assert_eq!(
                *kept,
                RouteRow {
                    id,
                    ..given.clone()
                }
            );
        }
        assert_eq!(
            kept[0].fields(Passwords::Shown).remote_passwd.unwrap().0,
            "secret"
        );
    });
}

#[test]
fn route_20_an_id_is_never_used_again() {
    on_both(|store| {
        store
            .add_routes(&[plain(), plain(), plain()], Others::Keep)
            .unwrap();
        assert!(store.remove_route(3).unwrap());
        assert!(!store.remove_route(3).unwrap());
        assert!(!store.remove_route(u64::MAX).unwrap());
        assert_eq!(ids(store), [1, 2]);
        assert_eq!(store.add_routes(&[plain()], Others::Keep).unwrap(), [4]);
        assert_eq!(store.add_routes(&[plain()], Others::Remove).unwrap(), [5]);
        assert_eq!(ids(store), [5]);
    });
}

#[test]
fn conf_36_flow_states_are_put_replaced_and_removed_in_batches() {
    on_both(|store| {
        assert_eq!(store.load_flow().unwrap(), []);
        let batch = [
            entry("a", Some(b"1")),
            entry("b", Some(b"2")),
            entry("a", Some(b"3")),
        ];
        store.put_flow(&batch).unwrap();
        store
            .put_flow(&[entry("b", None), entry("c", None), entry("d", Some(b"\0"))])
            .unwrap();
        let kept: Vec<_> = store
            .load_flow()
            .unwrap()
            .into_iter()
            .map(|(k, v)| (k.key, v))
            .collect();
        assert_eq!(
            kept,
            [
                ("a".to_owned(), b"3".to_vec()),
                ("d".to_owned(), b"\0".to_vec())
            ]
        );
    });
}

#[test]
fn route_12_conf_36_a_file_survives_its_process_and_keeps_its_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteState::open(&path).unwrap();
    store.add_routes(&[full(), plain()], Others::Keep).unwrap();
    store.remove_route(2).unwrap();
    store.put_flow(&[entry("a", Some(b"1"))]).unwrap();
    // A second process reads and writes while the first has it open.
    let other = SqliteState::open(&path).unwrap();
    assert_eq!(ids(&other), [1]);
    assert_eq!(other.add_routes(&[plain()], Others::Keep).unwrap(), [3]);
    assert_eq!(ids(&store), [1, 3]);
    drop((store, other));
    let again = SqliteState::open(&path).unwrap();
    assert_eq!(ids(&again), [1, 3]);
    assert_eq!(again.load_flow().unwrap().len(), 1);
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn route_12_two_that_open_a_new_file_at_once_make_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = Arc::new(folder.path().join("state.db"));
    let open = || {
        let path = path.clone();
        std::thread::spawn(move || {
            SqliteState::open(&path)
                .unwrap()
                .add_routes(&[plain()], Others::Keep)
                .unwrap()
        })
    };
    let threads: Vec<_> = (0..8).map(|_| open()).collect();
    let mut ids: Vec<u64> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn route_12_what_is_no_database_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(
        &path,
        "no database, but a text that is long enough to be taken for one",
    )
    .unwrap();
    assert!(SqliteState::open(&path).is_err());
    std::fs::remove_file(&path).unwrap();
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    let error = SqliteState::open(&path).err().unwrap().to_string();
    assert!(error.contains("later version"), "{error}");
}
