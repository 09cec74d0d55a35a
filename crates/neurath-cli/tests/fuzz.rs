//! The short form of `neurath fuzz manifests`.

use neurath_cli::fuzz::manifests::{Corpus, case};
use neurath_cli::fuzz::{Until, run};
use std::path::Path;

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
