//! P1: killed at any durable step, forward, back, or during recovery, a node is wholly in one
//! release or wholly in the other, and everything acknowledged is there.
//!
//! A part of the campaign that `cargo xtask crash upgrade` makes whole. What is asserted after each
//! kill is in `crates/neurath-cli/src/crash/check.rs`; it covers P2, P4, P14 and P16 as well.

use std::os::unix::fs::PermissionsExt;

use neurath_cli::cli::Folders;
use neurath_cli::crash::{self, Options, Report};

fn options() -> Options {
    Options {
        seed: 1,
        kills: 6,
        most: Some(5),
        every_start: false,
        only: None,
        threads: 2,
        folders: Folders::default(),
        program: neurath_suite::program(),
    }
}

fn campaign(options: &Options) -> Report {
    crash::run(options, &|text| println!("{text}")).expect("a campaign")
}

#[test]
fn killed_at_a_part_of_all_points() {
    let options = options();
    let report = campaign(&options);
    let place = "cargo xtask crash upgrade --replay PLACE tries one alone";
    assert!(report.is_good(), "{place}: {report:#?}");
    // Six stories with three phases each, and the starts after them.
    assert!(report.points > 18 * 5, "{report:#?}");
    assert!(report.kills > report.points, "{report:#?}");
    assert!(report.old > 10 && report.new > 10, "{report:#?}");
    assert!(report.courses >= 6, "{report:#?}");
    assert!(report.requests > 100 * report.points, "{report:#?}");
}

/// The same campaign notices a node that is not as it must be: one whose start puts the regions
/// back as they were before the node was killed.
#[test]
fn a_node_that_loses_writes_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("forgetful");
    let node = neurath_suite::program().display().to_string();
    let script = format!(
        "#!/bin/sh\n\
         for dir; do [ \"$last\" = --dir ] && break; last=$dir; done\n\
         if [ -n \"$NEURATH_FAULT_KILL\" ]; then cp -r $dir/regions $dir/kept\n\
         elif [ -d $dir/kept ]; then cp -r $dir/kept/. $dir/regions; fi\n\
         exec {node} \"$@\"\n"
    );
    std::fs::write(&program, script).expect("a script");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("a program");
    let report = campaign(&Options {
        only: Some("kv:apply:1".parse().expect("a place")),
        program,
        ..options()
    });
    assert!(!report.is_good(), "{report:#?}");
    assert!(report.lost + report.wrong > 0, "{report:#?}");
    let named = |text: &String| text.starts_with("kv:apply:1: P16");
    assert!(report.failures.iter().any(named), "{report:#?}");
}
