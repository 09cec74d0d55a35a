//! Plans over many components: in order, and the same each time.

mod common;

use common::{appup, catalogue, manifest, release, version};
use neurath_plan::{Plan, Step, plan};
use proptest::prelude::*;

/// Components `c0`, `c1`, …, all of which change; `edges` are dependant and dependency.
fn plan_of(count: usize, edges: &[(usize, usize)], up: bool, reverse_inputs: bool) -> Plan {
    let names: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
    let mut files = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut needs: Vec<(&str, &str)> = edges
            .iter()
            .filter(|(a, _)| *a == number)
            .map(|(_, b)| (names[*b].as_str(), "^1"))
            .collect();
        needs.sort();
        needs.dedup();
        files.push(manifest(name, "1.0.0", &needs));
        files.push(manifest(name, "1.1.0", &needs));
        let update = format!("{{ update = \"{name}\", change = {{ advanced = {{}} }} }}");
        files.push(appup(name, "1.1.0", "=1.0.0", &update));
    }
    for ver in ["1.0.0", "1.1.0"] {
        let parts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), ver)).collect();
        files.push(release(ver, &parts));
    }
    if reverse_inputs {
        files.reverse();
    }
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let (from, to) = if up { (&old, &new) } else { (&new, &old) };
    plan(&catalogue(&files), ("app", from), ("app", to)).unwrap_or_else(|found| panic!("{found}"))
}

/// The components of the only step of this kind.
fn listed(plan: &Plan, suspend: bool) -> Vec<String> {
    let mut found = plan.steps.iter().filter_map(|step| match step {
        Step::Suspend { components, .. } if suspend => Some(components.clone()),
        Step::Resume { components } if !suspend => Some(components.clone()),
        _ => None,
    });
    let first = found.next().expect("one");
    assert!(found.next().is_none());
    first
}

fn loads(plan: &Plan) -> Vec<String> {
    let loads = plan.steps.iter().filter_map(|step| match step {
        Step::Load { component, .. } => Some(component.clone()),
        _ => None,
    });
    loads.collect()
}

proptest! {
    #![proptest_config(common::seed::config(48))]
    #[test]
    fn plans_are_topological_and_the_same_each_time(count in 1_usize..12, raw in prop::collection::vec((0_usize..12, 0_usize..12), 0..30), up: bool) {
        let edges: Vec<(usize, usize)> = raw.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a > b).collect();
        let plan = plan_of(count, &edges, up, false);
        let again = plan_of(count, &edges, up, true);
        prop_assert_eq!(plan.to_text(), again.to_text());
        let (suspended, resumed, loaded) = (listed(&plan, true), listed(&plan, false), loads(&plan));
        prop_assert_eq!(suspended.len(), count);
        prop_assert_eq!(suspended.iter().rev().collect::<Vec<_>>(), resumed.iter().collect::<Vec<_>>());
        for (dependant, dependency) in edges {
            let before = |list: &[String], a: usize, b: usize| {
                let place = |n: usize| list.iter().position(|name| *name == format!("c{n}"));
                place(a) < place(b)
            };
            prop_assert!(before(&suspended, dependant, dependency));
            prop_assert!(before(&resumed, dependency, dependant));
            prop_assert!(before(&loaded, dependency, dependant) == up);
        }
    }
}

#[test]
fn a_chain_of_500_components() {
    let edges: Vec<(usize, usize)> = (1..500).map(|n| (n - 1, n)).collect();
    let plan = plan_of(500, &edges, true, false);
    let suspended = listed(&plan, true);
    assert_eq!(suspended.first().map(String::as_str), Some("c0"));
    assert_eq!(suspended.last().map(String::as_str), Some("c499"));
    assert_eq!(plan.steps.len(), 500 * 4 + 3);
}

#[test]
fn order_goes_through_what_does_not_change() {
    // top -> middle -> bottom, and middle stays: top is suspended before bottom all the same.
    let mut files = vec![
        manifest("middle", "1.0.0", &[("bottom", "^1")]),
        release(
            "1.0.0",
            &[("bottom", "1.0.0"), ("middle", "1.0.0"), ("top", "1.0.0")],
        ),
        release(
            "1.1.0",
            &[("top", "1.1.0"), ("middle", "1.0.0"), ("bottom", "1.1.0")],
        ),
    ];
    for ver in ["1.0.0", "1.1.0"] {
        files.push(manifest("top", ver, &[("middle", "^1")]));
        files.push(manifest("bottom", ver, &[]));
    }
    files.push(appup(
        "top",
        "1.1.0",
        "^1",
        "{ load = \"top\", timeout = \"3s\" }",
    ));
    files.push(appup(
        "bottom",
        "1.1.0",
        "^1",
        "{ load = \"bottom\", post_purge = \"brutal\" }",
    ));
    let plan = plan(
        &catalogue(&files),
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"));
    insta::assert_snapshot!(plan.to_text());
}

#[test]
fn instructions_that_depend_on_each_other_stay_together() {
    let mut files = Vec::new();
    for name in ["a", "b", "c"] {
        files.extend(["1.0.0", "1.1.0"].map(|ver| manifest(name, ver, &[])));
    }
    for (name, needs) in [("a", "c"), ("b", "a"), ("c", "a")] {
        files.push(appup(
            name,
            "1.1.0",
            "^1",
            &format!("{{ update = \"{name}\", depends_on = [\"{needs}\"] }}"),
        ));
    }
    files.extend(["1.0.0", "1.1.0"].map(|ver| release(ver, &[("a", ver), ("b", ver), ("c", ver)])));
    let plan = plan(
        &catalogue(&files),
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(loads(&plan), ["c", "a", "b"]);
}

#[test]
fn an_instruction_cannot_turn_the_manifests_round() {
    // gateway needs store by its manifest; store's instruction says the opposite. Dependants are suspended first all the same.
    let mut files = Vec::new();
    for ver in ["1.0.0", "1.1.0"] {
        files.push(manifest("gateway", ver, &[("store", "^1")]));
        files.push(manifest("store", ver, &[]));
        files.push(release(ver, &[("gateway", ver), ("store", ver)]));
    }
    files.push(appup("gateway", "1.1.0", "^1", "{ load = \"gateway\" }"));
    files.push(appup(
        "store",
        "1.1.0",
        "^1",
        "{ update = \"store\", depends_on = [\"gateway\"] }",
    ));
    let plan = plan(
        &catalogue(&files),
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(listed(&plan, true), ["gateway", "store"]);
    assert_eq!(loads(&plan), ["store", "gateway"]);
}
