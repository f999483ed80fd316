//! The table of `examples/README.md` is about all examples.

use std::fs;
use std::path::Path;

#[test]
fn every_example_has_its_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let table = fs::read_to_string(folder.join("README.md")).expect("it is there");
    let mut examples = 0;
    for entry in fs::read_dir(&folder).expect("it is there") {
        let name = entry.expect("a readable folder").file_name().into_string().expect("a plain name");
        let (name, file) = match name.strip_suffix(".rs") {
            Some(stem) => (stem, name.clone()),
            None if folder.join(&name).join("main.rs").exists() => (&*name, format!("{name}/main.rs")),
            None => continue,
        };
        let row =
            table.lines().find(|line| line.starts_with('|') && line.contains(&format!("[`{name}`]({file})")));
        let row = row.unwrap_or_else(|| panic!("{file} has no row in examples/README.md"));
        assert!(
            row.contains(&format!("cargo run --example {name}"))
                || row.contains(&format!("--example {name}`"))
                || name == "client",
            "{row}"
        );
        examples += 1;
    }
    assert!(examples >= 8, "found only {examples}");
}
