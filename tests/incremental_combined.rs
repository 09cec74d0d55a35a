//! A state that is converted while it is served, together with what else an upgrade may be: through versions
//! between, of several instances, of durability `power`, rehearsed first.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use neurath_pmem::history::Strategy;
use neurath_pmem::inspect::{Level, check_file};
use serde_json::Value;
use support::{
    Lines, assert_all_ended, assert_no_orphans, at_rest, catalog, everything, folder_on_disk,
    journal, neurath, quiet, stderr, wait_until,
};

const INSTANCES: u32 = 2;
const NOTES: usize = 2500;

fn book(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// Three versions, each converted from the one before segment by segment, in two instances.
fn stage(durability: &str) -> Stage {
    support::book_of_three_edited("notebook_2", |folder| {
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let path = folder.join(format!("manifests/notebook/{version}.toml"));
            let text = std::fs::read_to_string(&path).expect("the manifest");
            let many = text.replacen("instances = 1", &format!("instances = {INSTANCES}"), 1);
            let wanted = format!("durability = \"{durability}\"");
            let edited = many.replacen("durability = \"process\"", &wanted, 1);
            assert_ne!(many, text);
            assert!(edited.contains(&wanted), "{edited}");
            std::fs::write(&path, edited).expect("written");
        }
        for version in ["1.1.0", "1.2.0"] {
            let path = folder.join(format!("manifests/notebook/{version}.appup.toml"));
            let text = std::fs::read_to_string(&path).expect("the appup");
            let plain = "change = { advanced = {} }";
            let asked = format!("{plain}, strategy = \"incremental\"");
            std::fs::write(&path, text.replace(plain, &asked)).expect("written");
        }
    })
}

fn text(instance: u32, number: usize) -> String {
    format!(
        "note {number} of {instance} {}",
        "x".repeat(number % 60 + 1)
    )
}

fn add(client: &mut Lines, numbers: std::ops::Range<usize>) {
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(50) {
        for instance in 0..INSTANCES {
            for &number in some {
                client.send(&format!("to {instance} add {}", text(instance, number)));
            }
            for number in some {
                assert_eq!(client.receive(), Some(number.to_string()));
            }
        }
    }
}

#[track_caller]
fn assert_notes(client: &mut Lines, version: &str, count: usize) {
    for instance in 0..INSTANCES {
        assert_eq!(client.ask(&format!("to {instance} version")), version);
        assert_eq!(
            client.ask(&format!("to {instance} count")),
            count.to_string()
        );
        for number in (0..count).step_by(3).chain([count - 1]) {
            let answer = client.ask(&format!("to {instance} get {number}"));
            assert_eq!(answer, text(instance, number));
        }
    }
}

fn wait_for_the_end(directory: &Path) {
    wait_until("the conversion has ended", || {
        catalog(directory).sweeps.is_empty()
    });
}

/// Two hops as one, in both instances, there and back in the midst of it, killed, and there again.
fn through_two_versions(durability: &str) {
    let stage = stage(durability);
    let place = folder_on_disk();
    let program = neurath_suite::program();
    let command = NodeCommand::new(
        &program,
        &place.path().join("node"),
        Some("book-1.0.0"),
        stage.built(),
    );
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_path_buf();
    for version in ["1.1.0", "1.2.0"] {
        control::install(&directory, &book(version), stage.built()).expect("installed");
    }
    let mut client = Lines::open(node.address());
    add(&mut client, 0..NOTES);

    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("upgraded");
    let state = catalog(&directory);
    // Some may have ended by now, or all.
    let hops = state.sweeps.iter().map(|sweep| sweep.links.len());
    assert!(hops.clone().all(|hops| hops == 2), "{state:#?}");
    assert!(hops.count() <= INSTANCES as usize, "{state:#?}");
    assert_notes(&mut client, "1.2.0", NOTES);
    add(&mut client, NOTES..NOTES + 100);
    control::rollback(&directory, false, &quiet()).expect("back");
    assert_notes(&mut client, "1.0.0", NOTES + 100);
    wait_for_the_end(&directory);

    // Killed before it is confirmed, it goes back; with all that was acknowledged.
    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("again");
    add(&mut client, NOTES + 100..NOTES + 150);
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    let mut client = Lines::open(node.address());
    assert_notes(&mut client, "1.0.0", NOTES + 150);
    wait_for_the_end(&directory);

    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("for good");
    control::confirm(&directory, &quiet()).expect("confirmed");
    wait_for_the_end(&directory);
    add(&mut client, NOTES + 150..NOTES + 200);
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    assert_notes(&mut Lines::open(node.address()), "1.2.0", NOTES + 200);
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
    node.stop().expect("stopped");
    for entry in catalog(&directory).regions {
        let report = check_file(&directory.join("regions").join(entry.file), Level::L3);
        let report = report.expect("a region");
        assert!(report.is_clean(), "{report:?}");
        // Two hops there, back, there, back and there.
        let all = &report.history.migrations;
        assert_eq!(all.len(), 10, "{all:#?}");
        assert!(all.iter().all(|one| one.strategy == Strategy::Incremental));
    }
}

#[test]
fn through_two_versions_of_durability_process() {
    through_two_versions("process");
}

#[test]
fn through_two_versions_of_durability_power() {
    through_two_versions("power");
}

/// What a rehearsal predicts of it, and that it touches nothing; also in the midst of a conversion.
#[test]
fn it_is_rehearsed_through_two_versions() {
    let stage = stage("process");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory().to_path_buf();
    for version in ["1.1.0", "1.2.0"] {
        control::install(&directory, &book(version), stage.built()).expect("installed");
    }
    let mut client = Lines::open(node.address());
    add(&mut client, 0..500);
    let before = at_rest(&directory);
    let dir = directory.display().to_string();
    let rehearsal = neurath(&["relup", "rehearse", "book-1.2.0", "--dir", &dir, "--json"]);
    assert_eq!(rehearsal.status.code(), Some(0), "{}", stderr(&rehearsal));
    assert_eq!(everything(&directory), before, "something changed");
    let text_of = String::from_utf8_lossy(&rehearsal.stdout).into_owned();
    let told = text_of.lines().find(|line| line.contains("\"rehearsed\""));
    let told: Value = serde_json::from_str(told.expect("it tells")).expect("JSON");
    let rehearsal = &told["rehearsal"];
    let states = rehearsal["states"].as_array().expect("states");
    assert_eq!(states.len(), INSTANCES as usize, "{told:#}");
    for state in states {
        assert_eq!(
            (&state["from"], &state["to"]),
            (&"1.0.0".into(), &"1.2.0".into())
        );
        assert_eq!(state["leaked"], 0, "{told:#}");
    }
    let same = rehearsal["way_back"]["same"]["stop_us"].as_u64();
    assert!(same > Some(0), "{:#}", rehearsal["way_back"]);
    assert_notes(&mut client, "1.0.0", 500);
    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("and the upgrade itself");
    assert_notes(&mut client, "1.2.0", 500);
    node.stop().expect("stopped");
}
