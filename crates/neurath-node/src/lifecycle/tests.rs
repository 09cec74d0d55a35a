use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::catalog::{Previous, ReleaseId, State};

/// All phases that can be come to from a new node.
fn reachable() -> BTreeSet<Phase> {
    let mut found = BTreeSet::from([Phase::Stopped]);
    let mut open = vec![Phase::Stopped];
    while let Some(phase) = open.pop() {
        for next in Cause::all().filter_map(|cause| phase.after(cause)) {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// How many steps it is to idle, by what is asked for and what ends by itself, from each phase that has
/// such a way. Nobody's death is counted on.
fn steps_to_idle() -> BTreeMap<Phase, usize> {
    let helpful = |cause: Cause| !matches!(cause, Cause::Event(Event::Died | Event::Edited));
    let mut steps = BTreeMap::from([(Phase::Idle, 0)]);
    for round in 1..=Phase::ALL.len() {
        for (from, cause, to) in arrows() {
            let leads = helpful(cause) && steps.get(&to) == Some(&(round - 1));
            if leads && !steps.contains_key(&from) {
                steps.insert(from, round);
            }
        }
    }
    steps
}

#[test]
fn every_state_is_reached_and_has_a_way_to_idle() {
    let reachable = reachable();
    let all: BTreeSet<Phase> = Phase::ALL.into_iter().collect();
    assert_eq!(reachable, all, "no state that nothing leads to");
    let steps = steps_to_idle();
    for phase in reachable {
        let count = steps.get(&phase);
        assert!(count.is_some(), "{phase:?} has no way to idle");
        assert!(count < Some(&5), "{phase:?}: {count:?} steps");
    }
}

/// Whatever fails: a state that does not pass by itself has something to be asked for, and one that does
/// ends well and badly.
#[test]
fn no_state_is_a_dead_end() {
    for phase in Phase::ALL {
        if phase.is_passing() {
            for event in [Event::Done, Event::Failed] {
                assert!(phase.happened(event).is_some(), "{phase:?} {event:?}");
            }
        } else {
            let out = phase
                .commands()
                .into_iter()
                .filter_map(|one| phase.asked(one));
            assert!(out.into_iter().any(|next| next != phase), "{phase:?}");
        }
    }
}

/// A process may die in every state that has one, and then there is none.
#[test]
fn every_running_state_survives_a_death() {
    let dead = [
        Phase::Stopped,
        Phase::StoppedUnconfirmed,
        Phase::HistoryEdited,
        Phase::HistoryEditedUnconfirmed,
    ];
    for phase in Phase::ALL {
        let after = phase.happened(Event::Died);
        if dead.contains(&phase) {
            assert_eq!(after, None, "{phase:?}");
        } else {
            assert!(dead.contains(&after.expect("it can die")), "{phase:?}");
        }
    }
}

#[test]
fn resume_and_abort_are_legal_or_explained_everywhere() {
    for phase in Phase::ALL {
        for command in [Command::Resume, Command::Abort] {
            match phase.refusal(command) {
                None => assert!(phase.commands().contains(&command)),
                Some(text) => {
                    assert!(!phase.commands().contains(&command));
                    assert!(text.contains("possible now: "), "{phase:?}: {text}");
                    let resumes = text.contains("relup resume");
                    assert!(!resumes || phase != Phase::Idle, "{text}");
                }
            }
        }
    }
}

#[test]
fn the_catalog_tells_the_phase_of_a_node_at_rest() {
    let mut state = State::default();
    assert_eq!(Phase::resting(&state), Phase::Idle);
    state.previous = Some(Previous {
        release: ReleaseId::new("kv", "1.0.0"),
        regions: Vec::new(),
        plan_id: String::new(),
        reset: Vec::new(),
    });
    assert_eq!(Phase::resting(&state), Phase::Stuck);
    state.unconfirmed_since_ms = Some(1);
    assert_eq!(Phase::resting(&state), Phase::Unconfirmed);
}

/// `NEURATH_BLESS=1 cargo test -p neurath-node lifecycle` renews them.
#[test]
fn the_page_and_the_picture_are_fresh() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, fresh) in [
        ("states.md", picture::page()),
        ("states.svg", picture::svg()),
    ] {
        let path = docs.join(name);
        if std::env::var_os("NEURATH_BLESS").is_some() {
            std::fs::write(&path, &fresh).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "docs/{name} is stale: NEURATH_BLESS=1 cargo test -p neurath-node lifecycle"
        );
    }
}
