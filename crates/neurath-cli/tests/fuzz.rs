//! The short forms of `neurath fuzz manifests` and `neurath fuzz regions`.

use neurath_cli::fuzz::manifests::{Corpus, case};
use neurath_cli::fuzz::{Until, Verdict, run};
use neurath_pmem::fuzz as regions;
use std::path::Path;
use std::process::Command;

const SEED: u64 = 1;

#[test]
fn damaged_manifests_and_made_up_projects_are_borne() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../neurath-manifest/corpus");
    let corpus = Corpus::read(&folder).expect("the corpus");
    let outcome = run(
        SEED,
        Until::Cases(1000),
        |number| case(&corpus, SEED, number),
        &|_| {},
    );
    assert_eq!(outcome.failures, 0, "{:#?}", outcome.first_failures);
    assert!(outcome.accepted > 200, "{outcome:?}");
    assert!(outcome.refused > 200, "{outcome:?}");
}

#[test]
fn damaged_regions_and_schemas_are_borne() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = regions::Corpus::new(folder.path()).expect("the corpus");
    let case = |number| {
        regions::case(&corpus, SEED, number).map(|taken| match taken {
            true => Verdict::Accepted,
            false => Verdict::Refused,
        })
    };
    let outcome = run(SEED, Until::Cases(600), case, &|_| {});
    assert_eq!(outcome.failures, 0, "{:#?}", outcome.first_failures);
    assert!(outcome.accepted > 60, "{outcome:?}");
    assert!(outcome.refused > 200, "{outcome:?}");
}

#[test]
fn damaged_regions_are_borne_under_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("not tried: valgrind is not installed");
        return;
    }
    let tried = Command::new(env!("CARGO_BIN_EXE_neurath"))
        .args(["fuzz", "regions", "--cases", "4", "--seed", "1"])
        .args(["--valgrind", "--json"])
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(tried.status.success(), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&tried.stdout).expect("one object, and no words of valgrind's");
    assert_eq!(
        (&report["cases"], &report["failures"]),
        (&4.into(), &0.into())
    );
}
