//! Plans through versions between: composed of appups that each lead one version on.

mod common;

use common::{catalogue, manifest, release, state, version};
use neurath_plan::{Catalogue, Plan, Step, plan};

/// `store` in the versions 1.0 to 1.`last`, each with an appup to the one before; and a release of each.
fn chain(last: u64) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for minor in 0..=last {
        let ver = format!("1.{minor}.0");
        files.push(manifest("store", &ver, &[]));
        files.push(release(&ver, &[("store", &ver)]));
        if minor > 0 {
            files.push(appup(&ver, &format!("~1.{}", minor - 1), &advanced(minor)));
        }
    }
    files
}

fn advanced(n: u64) -> String {
    format!("{{ update = \"store\", change = {{ advanced = {{ n = {n} }} }} }}")
}

fn appup(ver: &str, other: &str, instruction: &str) -> (String, String) {
    common::appup("store", ver, other, instruction)
}

fn planned(catalogue: &Catalogue, from: &str, to: &str) -> Plan {
    plan(catalogue, ("app", &version(from)), ("app", &version(to)))
        .unwrap_or_else(|found| panic!("{found}"))
}

fn way(plan: &Plan) -> Vec<String> {
    plan.routes[0]
        .versions
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The hops of the only code_change: from, to and `n`.
fn hops(plan: &Plan) -> Vec<(String, String, i64)> {
    let found: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| matches!(step, Step::CodeChange { .. }))
        .collect();
    let [Step::CodeChange { hops, .. }] = found[..] else {
        panic!("{found:?}")
    };
    hops.iter()
        .map(|hop| {
            let n = hop.extra.as_ref().and_then(|extra| extra["n"].as_integer());
            (hop.from.to_string(), hop.to.to_string(), n.expect("n"))
        })
        .collect()
}

#[test]
fn a_chain_of_ten() {
    let catalogue = catalogue(&chain(10));
    let up = planned(&catalogue, "1.0.0", "1.10.0");
    assert_eq!(way(&up).len(), 11);
    let wanted: Vec<(String, String, i64)> = (0..10)
        .map(|n| (format!("1.{n}.0"), format!("1.{}.0", n + 1), n + 1))
        .collect();
    assert_eq!(hops(&up), wanted);
    // One suspension, one commit; and every library whose conversion is needed is made ready.
    let count =
        |plan: &Plan, verb: &str| plan.steps.iter().filter(|step| step.verb() == verb).count();
    for (verb, times) in [
        ("suspend", 1),
        ("load", 1),
        ("resume", 1),
        ("purge", 1),
        ("load_object_code", 10),
    ] {
        assert_eq!(count(&up, verb), times, "{verb}");
    }
    let down = planned(&catalogue, "1.10.0", "1.0.0");
    let wanted: Vec<(String, String, i64)> = (0..10)
        .rev()
        .map(|n| (format!("1.{}.0", n + 1), format!("1.{n}.0"), n + 1))
        .collect();
    assert_eq!(hops(&down), wanted);
    // The first library on the way down is in use already.
    assert_eq!(count(&down, "load_object_code"), 10);
    let text = up.to_text();
    assert!(text.contains("  store  1.0.0 -> 1.1.0 -> 1.2.0"), "{text}");
    assert!(
        text.contains("composed of 10 appups by way of 1.1.0, 1.2.0"),
        "{text}"
    );
    assert_eq!(Plan::from_json(&up.to_json()), Ok(up));
}

#[test]
fn an_explicit_entry_for_a_longer_hop_wins() {
    let mut files = chain(3);
    let direct = format!(
        "{}\n[[up]]\nfrom = \"=1.0.0\"\ninstructions = [{}]\n\n[[down]]\nto = \"=1.0.0\"\ninstructions = [{}]\n",
        appup("1.3.0", "~1.2", &advanced(3)).1,
        advanced(30),
        advanced(30)
    );
    files.retain(|(file, _)| file != "manifests/store/1.3.0.appup.toml");
    files.push(("manifests/store/1.3.0.appup.toml".into(), direct));
    let catalogue = catalogue(&files);
    for (from, to) in [("1.0.0", "1.3.0"), ("1.3.0", "1.0.0")] {
        let plan = planned(&catalogue, from, to);
        assert_eq!(way(&plan), [from, to]);
        assert!(!plan.to_text().contains("by way of"));
    }
    assert_eq!(
        way(&planned(&catalogue, "1.1.0", "1.3.0")),
        ["1.1.0", "1.2.0", "1.3.0"]
    );
}

/// As in OTP: of two entries that both match, it is the first.
#[test]
fn the_first_entry_that_matches_is_taken() {
    let mut files = chain(2);
    let entry = |way: &str, key: &str, range: &str, n: u64| {
        format!(
            "[[{way}]]\n{key} = \"{range}\"\ninstructions = [{}]\n\n",
            advanced(n)
        )
    };
    for (file, text) in &mut files {
        if file == "manifests/store/1.2.0.appup.toml" {
            *text = [
                "name = \"store\"\nversion = \"1.2.0\"\n\n".into(),
                entry("up", "from", "~1.1", 10),
                entry("up", "from", ">=1.0.0, <1.2", 20),
                entry("down", "to", "~1.1", 30),
                entry("down", "to", ">=1.0.0, <1.2", 40),
            ]
            .concat();
        }
    }
    let catalogue = catalogue(&files);
    let of = |from: &str, to: &str| {
        let plan = planned(&catalogue, from, to);
        let extra = plan.steps.iter().find_map(|step| match step {
            Step::CodeChange { extra, .. } => extra.as_ref(),
            _ => None,
        });
        extra.and_then(|extra| extra["n"].as_integer()).expect("n")
    };
    assert_eq!(of("1.1.0", "1.2.0"), 10);
    assert_eq!(of("1.2.0", "1.1.0"), 30);
    assert_eq!(of("1.0.0", "1.2.0"), 20);
    assert_eq!(of("1.2.0", "1.0.0"), 40);
}

#[test]
fn the_shortest_way_is_taken_and_of_several_that_with_the_longest_first_hop() {
    let mut files = chain(5);
    // 1.3 can be reached from 1.0 in one hop, 1.2 too.
    files.retain(|(file, _)| {
        file != "manifests/store/1.3.0.appup.toml" && file != "manifests/store/1.2.0.appup.toml"
    });
    files.push(appup("1.3.0", ">=1.0, <1.3", &advanced(3)));
    files.push(appup("1.2.0", ">=1.0, <1.2", &advanced(2)));
    files.retain(|(file, _)| file != "manifests/store/1.4.0.appup.toml");
    files.push(appup("1.4.0", ">=1.2, <1.4", &advanced(4)));
    let catalogue = catalogue(&files);
    let up = planned(&catalogue, "1.0.0", "1.5.0");
    assert_eq!(way(&up), ["1.0.0", "1.3.0", "1.4.0", "1.5.0"]);
    let down = planned(&catalogue, "1.5.0", "1.0.0");
    assert_eq!(way(&down), ["1.5.0", "1.4.0", "1.2.0", "1.0.0"]);
}

#[test]
fn a_hop_that_changes_no_state_needs_no_library() {
    let mut files = chain(3);
    files.retain(|(file, _)| file != "manifests/store/1.2.0.appup.toml");
    files.push(appup(
        "1.2.0",
        "~1.1",
        "{ load = \"store\", timeout = \"3s\" }",
    ));
    let mut catalogue = catalogue(&files);
    for (ver, print, changes) in [
        ("1.0.0", "aaaa", &[][..]),
        ("1.1.0", "bbbb", &[("aaaa", "bbbb"), ("bbbb", "aaaa")]),
        ("1.2.0", "bbbb", &[]),
        ("1.3.0", "cccc", &[("bbbb", "cccc"), ("cccc", "bbbb")]),
    ] {
        catalogue.add_facts(("store", &version(ver)), state(print, changes));
    }
    let up = plan(
        &catalogue,
        ("app", &version("1.0.0")),
        ("app", &version("1.3.0")),
    );
    // A field is lost between 1.2 and 1.3, which is for another test.
    assert_eq!(up.expect_err("a lint").codes(), ["D104"]);
    let down = planned(&catalogue, "1.3.0", "1.0.0");
    let steps: Vec<String> = down.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps[..2],
        [
            "{ load_object_code = \"store\", version = \"1.1.0\" }",
            "{ load_object_code = \"store\", version = \"1.0.0\" }"
        ]
    );
    assert_eq!(
        hops(&down),
        [
            ("1.3.0".into(), "1.2.0".into(), 3),
            ("1.1.0".into(), "1.0.0".into(), 1)
        ]
    );
    assert!(steps.contains(&"{ suspend = [\"store\"], timeout = \"3s\" }".into()));
}

/// The only one that changes the state may be the first or the last of them, and the plan is the same with
/// libraries at hand and without.
#[test]
fn of_two_hops_one_changes_no_state() {
    for same in ["1.1.0", "1.2.0"] {
        let mut files = chain(2);
        let file = format!("manifests/store/{same}.appup.toml");
        files.retain(|(other, _)| *other != file);
        let before = if same == "1.1.0" { "~1.0" } else { "~1.1" };
        files.push(appup(same, before, "{ load = \"store\" }"));
        let unseen = catalogue(&files);
        let mut seen = catalogue(&files);
        let prints = match same {
            "1.1.0" => ["aaaa", "aaaa", "bbbb"],
            _ => ["aaaa", "bbbb", "bbbb"],
        };
        let changes = [("aaaa", "bbbb"), ("bbbb", "aaaa")];
        for (ver, print) in ["1.0.0", "1.1.0", "1.2.0"].into_iter().zip(prints) {
            let changes = if print == "aaaa" { &[][..] } else { &changes };
            seen.add_facts(("store", &version(ver)), state(print, changes));
        }
        let n = if same == "1.1.0" { 2 } else { 1 };
        let ends = [format!("1.{}.0", n - 1), format!("1.{n}.0")];
        for (from, to) in [("1.0.0", "1.2.0"), ("1.2.0", "1.0.0")] {
            let made = planned(&unseen, from, to);
            assert_eq!(made.steps, planned(&seen, from, to).steps, "{same}");
            let mut ends = ends.clone();
            if from == "1.2.0" {
                ends.reverse();
            }
            let [a, b] = ends;
            assert_eq!(hops(&made), [(a, b, n)], "{same}");
        }
    }
}

#[test]
fn every_hop_is_proved() {
    let files = chain(2);
    let mut catalogue = catalogue(&files);
    catalogue.add_facts(("store", &version("1.0.0")), state("aaaa", &[]));
    catalogue.add_facts(("store", &version("1.1.0")), state("bbbb", &[]));
    catalogue.add_facts(
        ("store", &version("1.2.0")),
        state("aaaa", &[("bbbb", "aaaa")]),
    );
    let found = plan(
        &catalogue,
        ("app", &version("1.0.0")),
        ("app", &version("1.2.0")),
    );
    let found = found.expect_err("1.1 has no code_change");
    assert_eq!(found.codes()[0], "P015");
    assert!(
        found
            .render()
            .contains("store 1.1.0 has no code_change from the state of 1.0.0")
    );
}
