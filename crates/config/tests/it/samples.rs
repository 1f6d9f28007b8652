//! The sample tree and the directories of a root.

use std::fs;
use std::path::Path;

use galerne_config::{Written, create_directories, write_samples};

use crate::world::{World, lines};

#[test]
fn conf_5_the_sample_tree_has_no_errors() {
    let world = World::empty();
    let written = write_samples(world.root()).unwrap();
    assert!(written.iter().all(|(_, w)| *w == Written::Written));
    let loaded = world.load();
    assert_eq!(loaded.errors(), 0, "{:#?}", lines(&loaded));
    let settings = loaded.settings.unwrap();
    let groups: Vec<_> = settings.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups, ["aol", "gmail", "hotmail", "yahoo"]);
    for group in &settings.groups {
        assert!(
            !group.mx.is_empty() || !group.aliases.is_empty(),
            "{}",
            group.name
        );
        assert!(group.patterns.iter().count() > 5, "{}", group.name);
    }
    assert_eq!(settings.accounts[0].name, "demo");
    assert!(
        settings
            .rfrelay
            .listen
            .iter()
            .all(|l| l.address.ip().is_loopback())
    );
    let other: Vec<_> = lines(&world.load());
    let other: Vec<_> = other
        .iter()
        .filter(|l| !l.contains("flow control is not part"))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    for page in ["wwws/unsub.htm", "wwws/uncfm.htm"] {
        assert!(world.path(page).is_file(), "{page}");
    }
}

#[test]
fn conf_5_existing_files_are_never_touched() {
    let world = World::empty();
    world
        .write("users/demo.ini", "mine")
        .write("galerne.ini", "mine too");
    let written = write_samples(world.root()).unwrap();
    let kept: Vec<_> = written
        .iter()
        .filter(|(_, w)| *w == Written::Kept)
        .map(|(p, _)| p.as_path())
        .collect();
    assert_eq!(
        kept,
        [Path::new("galerne.ini"), Path::new("users/demo.ini")]
    );
    assert_eq!(
        fs::read_to_string(world.path("users/demo.ini")).unwrap(),
        "mine"
    );
    let again = write_samples(world.root()).unwrap();
    assert!(again.iter().all(|(_, w)| *w == Written::Kept));
}

#[test]
fn conf_5_each_installation_has_its_own_password() {
    let password = || {
        let world = World::empty();
        write_samples(world.root()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let mode = world.path("users/demo.ini").metadata().unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let password = world.settings().accounts[0].password.clone().unwrap().0;
        assert_eq!(password.len(), 24);
        password
    };
    assert_ne!(password(), password());
}

#[test]
fn conf_2_conf_3_everything_lies_under_the_root_as_text() {
    let world = World::empty();
    let written = write_samples(world.root()).unwrap();
    for (path, _) in written {
        assert!(path.is_relative());
        let text = fs::read_to_string(world.path(path.to_str().unwrap()));
        assert!(text.is_ok_and(|t| !t.contains('\0')), "{}", path.display());
    }
    let copy = World::empty();
    copy_tree(world.root(), copy.root());
    assert_eq!(
        format!("{:?}", copy.settings().accounts),
        format!("{:?}", world.settings().accounts)
    );
    assert!(copy.settings().spool.starts_with(copy.root()));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn conf_6_conf_7_conf_33_conf_38_missing_directories_are_created() {
    let world = World::new();
    world.write("users/shop.ini", "[account]\nsmtpip = 192.0.2.1\n");
    let settings = world.settings();
    let created = create_directories(world.root(), &settings).unwrap();
    assert!(!created.contains(&world.path("users")), "it was there");
    for name in
        "users domains hosts lists keys relays logs wwws mails queues system certs spool".split(' ')
    {
        assert!(world.path(name).is_dir(), "{name}");
    }
    for name in "REQUEST RESPONSE LOG REPLY DATA".split(' ') {
        assert!(world.path("spool/shop").join(name).is_dir(), "{name}");
    }
    assert!(
        create_directories(world.root(), &settings)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn conf_7_the_spool_may_lie_elsewhere() {
    let world = World::empty();
    let spool = tempfile::tempdir().unwrap();
    let place = spool.path().join("deep/spool");
    let main = format!(
        "[IP]\n127.0.0.1 = a.example.com\n[rfuser]\nspool = {}\n",
        place.display()
    );
    world.write("galerne.ini", main);
    create_directories(world.root(), &world.settings()).unwrap();
    assert!(place.is_dir() && !world.path("spool").exists());
}
