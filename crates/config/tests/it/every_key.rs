//! Each parameter of each file, one by one: written by its name and read back (CONF-4).

use galerne_config::document::Document;
use galerne_config::registry::{File, KeySpec, Kind, find};

/// A file that has everything but keys: comments, sections, CRLF, no end of the last line.
const BEFORE: &str = "; mine\r\n[Account]\r\n# a word\r\n[rfrelay]\r\n\r\n; last";

/// A section and a key that this entry of the registry is for.
fn place(spec: &KeySpec) -> (String, String) {
    let name = |text: &str| text.replace('*', "192.0.2.10");
    (name(spec.sections[0]), name(spec.key))
}

/// A value that its kind takes, and that the default is not.
fn sample(spec: &KeySpec) -> String {
    let candidates = [
        "1",
        "0",
        "7",
        "65536",
        "30",
        "queue",
        "sync",
        "json",
        "text",
        "both",
        "verp",
        "required",
        "@next",
        "mx.example.org",
        "192.0.2.10",
        "192.0.2.0/24",
        "0.0.0.0:2525",
        "https://example.org/x",
        "\"a b\" \"c\"",
        "5m 10m",
        "a@example.org",
        "normalise",
        "from",
        "short",
        "link",
        "pass",
        "image",
        "local",
        "off",
        "basic",
        "{argon2}x",
        "warmup",
    ];
    if let Kind::Words(words) = spec.kind {
        let other = words.iter().find(|word| **word != spec.default);
        return other.unwrap().to_string();
    }
    let fits = |value: &&&str| **value != spec.default && spec.kind.check(value).is_ok();
    let found = candidates.iter().find(fits);
    found
        .unwrap_or_else(|| panic!("no sample for {spec:?}"))
        .to_string()
}

#[test]
fn conf_4_every_parameter_of_the_files_can_be_written_and_read_by_its_name() {
    let mut count = 0;
    for file in File::ALL {
        let mut document = Document::parse(BEFORE);
        let mut expected: Vec<(String, String, String)> = Vec::new();
        for spec in file.keys() {
            let ((section, key), value) = (place(spec), sample(spec));
            let known = find(file, &section, &key);
            assert!(known.is_some(), "{file:?} [{section}] {key}");
            document.set(&section, &key, &value).unwrap();
            expected.retain(|(s, k, _)| (s, k) != (&section, &key));
            expected.push((section, key, value));
            count += 1;
        }
        // All of them, from the text as it stands on disk, and what stood there before.
        let text = document.to_string();
        let read = Document::parse(&text);
        for (section, key, value) in &expected {
            assert_eq!(
                read.get(section, key),
                Some(&**value),
                "[{section}] {key} in:\n{text}"
            );
        }
        for line in ["; mine", "# a word", "; last"] {
            assert!(text.lines().any(|l| l == line), "{line:?} is gone:\n{text}");
        }
    }
    assert!(count > 100, "{count} parameters");
}
