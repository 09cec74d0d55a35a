//! Every instruction is read, and every low-level one is written as it was.

use neurath_manifest::{Appup, Change, Instruction, PurgeKind, Relup, StartType, Step, Strategy};
use std::time::Duration;

const LOW: [&str; 22] = [
    r#"{ load_object_code = "store", version = "1.1.0" }"#,
    r#"{ load_object_code = "store", version = "1.1.0", pre_purge = "soft" }"#,
    r#"{ sync_nodes = "here", nodes = ["a@1", "b"], deadline = "30s" }"#,
    r#"{ point_of_no_return = true }"#,
    r#"{ suspend = ["gateway", "store"], timeout = "250ms" }"#,
    r#"{ suspend = ["gateway"] }"#,
    r#"{ load = "store", version = "1.1.0" }"#,
    r#"{ code_change = "store", from = "1.0.0", to = "1.1.0", extra = { a = 1, at = 1979-05-27, "b c" = [1.5, "\"x\""] } }"#,
    r#"{ code_change = "store", from = "1.0.0", to = "1.1.0" }"#,
    r#"{ code_change = "store", from = "1.0.0", to = "1.1.0", strategy = "incremental", via = "changes" }"#,
    r#"{ code_change = "store", from = "1.0.0", to = "1.2.0", hops = [{ extra = { n = 1 }, from = "1.0.0", to = "1.1.0" }, { from = "1.1.0", to = "1.2.0", via = "changes" }] }"#,
    r#"{ remove = "store", version = "1.0.0" }"#,
    r#"{ purge = "store", version = "1.0.0", kind = "brutal" }"#,
    r#"{ resume = ["store", "gateway"] }"#,
    r#"{ stop = ["store"] }"#,
    r#"{ start = ["store"] }"#,
    r#"{ move_state = "split", from = ["store"], to = ["stats"], extra = {} }"#,
    r#"{ apply = { args = { n = 1 }, component = "store", hook = "warm" } }"#,
    r#"{ apply = { command = ["true", "-x"] } }"#,
    r#"{ apply = { component = "store", hook = "freeze" }, undo = { component = "store", hook = "thaw" } }"#,
    r#"{ restart_new_node = true }"#,
    r#"{ reset_node = ["store"], keep_snapshot = false }"#,
];

#[test]
fn a_relup_is_written_as_it_was_read() {
    let steps: String = LOW.iter().map(|step| format!("    {step},\n")).collect();
    let text = format!(
        "name = \"kv\"\nversion = \"1.1.0\"\n\n[[up]]\nfrom = \"1.0.0\"\nscript = [\n{steps}]\n\n\
         [[down]]\nto = \"1.0.0\"\nscript = [\n    {{ restart_node = true }},\n]\n"
    );
    let relup = Relup::parse("r", &text).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(relup.to_toml(), text);
    for (step, written) in relup.up[0].script.iter().zip(LOW) {
        assert!(written.contains(step.value.verb()));
        assert_eq!(&text[step.span.clone()], written);
    }
}

#[test]
fn an_appup_has_high_and_low_level_instructions() {
    let high = r#"
        { update = "store", change = { advanced = { ttl = 5 } }, timeout = "5s", depends_on = ["log"], pre_purge = "soft",
          post_purge = "brutal", strategy = "incremental", via = "kv-store-changes" },
        { update = "log", change = "soft" },
        { load = "gateway" },
        { add_component = "stats", type = "temporary" },
        { remove_component = "old" },
        { restart_component = "other" },
    "#;
    let low: String = LOW.iter().map(|step| format!("    {step},\n")).collect();
    let text = format!("[[up]]\nfrom = \"~1.0\"\ninstructions = [{high}{low}]\n");
    let appup = Appup::parse("a", &text).unwrap_or_else(|found| panic!("{found}"));
    let found: Vec<&Instruction> = appup.up[0]
        .instructions
        .iter()
        .map(|one| &one.value)
        .collect();
    assert_eq!(found.len(), 6 + LOW.len());
    let Instruction::Update(update) = found[0] else {
        panic!("{:?}", found[0])
    };
    assert_eq!(update.timeout, Some(Duration::from_secs(5)));
    assert_eq!(update.depends_on, ["log"]);
    assert_eq!(
        (update.pre_purge, update.post_purge),
        (Some(PurgeKind::Soft), PurgeKind::Brutal)
    );
    assert_eq!(
        (update.strategy, update.via.as_deref()),
        (Strategy::Incremental, Some("kv-store-changes"))
    );
    assert!(
        matches!(&update.change, Change::Advanced(extra) if extra["ttl"].as_integer() == Some(5))
    );
    assert!(matches!(found[1], Instruction::Update(update) if update.change == Change::Soft));
    assert!(matches!(found[2], Instruction::Load(_)));
    assert!(matches!(
        found[3],
        Instruction::AddComponent {
            start: Some(StartType::Temporary),
            ..
        }
    ));
    assert!(matches!(found[12], Instruction::Low(Step::Load { .. })));
}

#[test]
fn steps_come_back_from_json() {
    let text = format!(
        "name = \"kv\"\nversion = \"1.1.0\"\n[[up]]\nfrom = \"1.0.0\"\nscript = [{}]\n",
        LOW.join(", ")
    );
    let relup = Relup::parse("r", &text.replace("1979-05-27", "true"))
        .unwrap_or_else(|found| panic!("{found}"));
    let steps: Vec<Step> = relup.up[0].steps().cloned().collect();
    let json: Vec<_> = steps.iter().map(Step::to_json).collect();
    assert_eq!(Step::script_from_json(&json), Ok(steps));
}
