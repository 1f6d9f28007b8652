use super::*;

fn keys(group: Option<&str>, user: Option<&str>) -> settings::Maildrop {
    settings::Maildrop {
        group: group.map(str::to_owned),
        user: user.map(str::to_owned),
        origin: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn queue_24_the_folder_is_for_its_group_to_write_and_not_to_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(FOLDER);
    assert_eq!(
        prepare(root.path(), &keys(None, None), None, None).unwrap(),
        [""; 0]
    );
    assert!(!folder.exists());
    assert_eq!(
        prepare(root.path(), &keys(None, Some("shop")), None, None).unwrap(),
        [""; 0]
    );
    assert_eq!(
        (mode(&folder), mode(&folder.join(REJECTED))),
        (0o700, 0o700)
    );
    let own = rustix::process::getegid().as_raw();
    for _ in 0..2 {
        let said = prepare(
            root.path(),
            &keys(Some("drop"), Some("shop")),
            None,
            Some(own),
        )
        .unwrap();
        assert_eq!(said, [""; 0]);
        assert_eq!(
            (mode(&folder), mode(&folder.join(REJECTED))),
            (0o1730, 0o700)
        );
        // Somebody opened it too far.
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    }
    prepare(root.path(), &keys(None, Some("shop")), None, None).unwrap();
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn queue_24_a_link_in_its_place_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.path().join(FOLDER)).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let keys = keys(Some("drop"), Some("shop"));
    assert!(prepare(root.path(), &keys, Some(own), Some(own)).is_err());
    assert_eq!(mode(&elsewhere), 0o755);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn queue_24_a_look_finds_what_is_whole_and_removes_what_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
    for name in ["b", "a", "c.new", ".hidden", "old.new", "known"] {
        write(name);
    }
    fs::create_dir(folder.path().join(REJECTED)).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(25 * 3600);
    let old = fs::File::options()
        .write(true)
        .open(folder.path().join("old.new"))
        .unwrap();
    old.set_modified(long_ago).unwrap();
    let known = HashSet::from([OsString::from("known")]);
    let found = round(folder.path(), &known).unwrap();
    assert_eq!(
        (found.names, found.more),
        (vec!["a".into(), "b".into()], false)
    );
    let left = |name: &str| folder.path().join(name).exists();
    assert_eq!(
        ["c.new", ".hidden", "old.new"].map(left),
        [true, true, false]
    );
    (0..AT_A_LOOK + 10).for_each(|number| write(&number.to_string()));
    let found = round(folder.path(), &known).unwrap();
    assert_eq!((found.names.len(), found.more), (AT_A_LOOK, true));
}

#[tokio::test(start_paused = true)]
async fn queue_24_a_file_that_waits_is_tried_less_and_less_often() {
    let mut looked = Looked::default();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        looked.after("a".into(), After::Later);
        pauses.push(looked.later[&OsString::from("a")].1.as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
    looked.after("a".into(), After::Gone);
    looked.after("b".into(), After::Stuck);
    assert!(looked.later.is_empty() && looked.stuck.len() == 1);
}
