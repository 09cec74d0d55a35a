//! `docs/manifests.md` has every code with its line.

mod common;

#[test]
fn every_code_is_documented() {
    let file = common::root().join("docs/manifests.md");
    let text = std::fs::read_to_string(file).expect("docs/manifests.md");
    for (code, title) in neurath_manifest::codes::ALL
        .iter()
        .chain(neurath_plan::codes::ALL)
    {
        assert!(
            text.contains(&format!("| {code} | {title} |")),
            "{code} is missing"
        );
    }
}
