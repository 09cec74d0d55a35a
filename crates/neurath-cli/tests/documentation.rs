//! The committed reference of the commands is what the commands say of themselves.

use std::path::Path;

#[test]
fn the_reference_of_the_commands_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let fresh = neurath_cli::cli::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).expect("docs/commands.md can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "docs/commands.md is stale: UPDATE_DOCS=1 cargo test -p neurath-cli"
    );
}
