//! The plans of the demo, and its committed relups.

mod common;

use common::{demo, root, version};
use neurath_manifest::{Relup, Severity};
use neurath_plan::{Direction, Plan, PlanError, check_relup, generate_relup, plan, relup_to_toml};

#[test]
fn up_and_down() {
    let catalogue = demo();
    let (old, new, fix) = (version("1.0.0"), version("1.1.0"), version("1.1.1"));
    for (name, from, to) in [
        ("up", &old, &new),
        ("down", &new, &old),
        ("code_only_up", &new, &fix),
        ("code_only_down", &fix, &new),
    ] {
        let plan =
            plan(&catalogue, ("kv", from), ("kv", to)).unwrap_or_else(|found| panic!("{found}"));
        insta::assert_snapshot!(name, plan.to_text());
    }
}

#[test]
fn json_has_every_step() {
    let plan = plan(
        &demo(),
        ("kv", &version("1.0.0")),
        ("kv", &version("1.1.0")),
    )
    .expect("a plan");
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan.to_json()["steps"]).expect("json"));
    assert_eq!(plan.to_json()["id"], plan.id());
    assert_eq!(plan.direction, Direction::Up);
    assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan.clone()));
    let mut altered = plan.to_json();
    altered["steps"][8]["kind"] = "brutal".into();
    assert_eq!(Plan::from_json(&altered), Err(PlanError::Altered));
    altered["steps"][8] = serde_json::json!({ "update": "store", "n": null });
    assert!(matches!(
        Plan::from_json(&altered),
        Err(PlanError::Steps(_))
    ));
    assert_eq!(
        Plan::from_json(&serde_json::json!([])),
        Err(PlanError::Missing("from"))
    );
}

#[test]
fn nothing_changes_between_a_release_and_itself() {
    let plan = plan(
        &demo(),
        ("kv", &version("1.1.0")),
        ("kv", &version("1.1.0")),
    )
    .expect("a plan");
    assert_eq!(plan.steps, [neurath_plan::Step::PointOfNoReturn]);
}

#[test]
fn a_plan_knows_which_inputs_moved() {
    let plan = plan(
        &demo(),
        ("kv", &version("1.0.0")),
        ("kv", &version("1.1.0")),
    )
    .expect("a plan");
    let same = |file: &str| {
        plan.inputs
            .iter()
            .find(|(name, _)| name == file)
            .map(|(_, hash)| hash.clone())
    };
    assert!(plan.moved_inputs(same).is_empty());
    let moved =
        plan.moved_inputs(|file| same(file).filter(|_| file != "manifests/store/1.1.0.toml"));
    assert_eq!(moved, ["manifests/store/1.1.0.toml"]);
}

#[test]
fn committed_relups_are_fresh() {
    let catalogue = demo();
    for (target, bases) in [
        ("1.1.0", &["1.0.0"][..]),
        ("1.1.1", &["1.0.0", "1.1.0"]),
        ("1.2.0", &["1.1.0", "1.1.1"]),
        ("1.3.0", &["1.0.0", "1.1.0", "1.1.1", "1.2.0"]),
        ("3.0.0", &["1.1.1", "1.3.0", "2.0.0"]),
    ] {
        let bases: Vec<_> = bases.iter().map(|base| version(base)).collect();
        let relup = generate_relup(&catalogue, ("kv", &version(target)), &bases)
            .unwrap_or_else(|found| panic!("{found}"));
        let file = format!("releases/kv/{target}.relup.toml");
        if std::env::var_os("NEURATH_BLESS").is_some() {
            std::fs::write(root().join(&file), relup_to_toml(&relup)).expect("write the relup");
        }
        let committed = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
        assert!(
            committed == relup_to_toml(&relup),
            "{file} is stale: run this test with NEURATH_BLESS=1 and commit the file"
        );
        let parsed = Relup::parse(&file, &committed).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(parsed.to_toml(), relup.to_toml());
        assert_eq!(check_relup(&catalogue, &parsed), Ok(Vec::new()));
    }
}

#[test]
fn a_relup_that_is_meant_to_differ_is_a_warning() {
    let catalogue = demo();
    let generated = generate_relup(&catalogue, ("kv", &version("1.1.0")), &[version("1.0.0")])
        .expect("a relup");
    let text = generated
        .to_toml()
        .replace(
            "version = \"1.1.0\"\n\n",
            "version = \"1.1.0\"\nhandwritten = true\n\n",
        )
        .replace("kind = \"soft\"", "kind = \"brutal\"");
    let relup = Relup::parse("hand.relup.toml", &text).unwrap_or_else(|found| panic!("{found}"));
    let findings = check_relup(&catalogue, &relup).expect("compared");
    assert_eq!(findings.len(), 2);
    assert!(
        findings
            .iter()
            .all(|one| one.severity == Severity::Warning && one.code == "P021")
    );
}
