//! What `#[derive(Pmem)]` refuses. By itself, as it starts compilers: a process that is started
//! holds the lock of each region that is open then, until it runs its own program.

#[test]
fn types_that_cannot_live_in_a_region_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/derive/good.rs");
    for entry in std::fs::read_dir("tests/derive").expect("the cases") {
        let path = entry.expect("a case").path();
        if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("good.rs") {
            cases.compile_fail(path);
        }
    }
}
