//! What a real node says of itself, before, in and after an upgrade, is what the committed schema says, and tells
//! release, components, regions, retained libraries and what can be done next.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::ComponentStatus;
use serde_json::Value;
use support::{Lines, ask, quiet, stderr};

/// The status as the command writes it, which the schema takes.
#[track_caller]
fn told(node: &NodeProcess) -> Value {
    let output = ask(node.directory(), &["node", "status", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = std::fs::read_to_string("crates/neurath-cli/schemas/status.json").expect("it");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    // No key that the schema does not know: each is to be in the contract.
    let known = schema["properties"].as_object().expect("keys");
    for key in status.as_object().expect("an object").keys() {
        assert!(known.contains_key(key), "`{key}` is not in the schema");
    }
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler
        .add_resource("it.json", schema)
        .expect("a resource");
    let index = compiler.compile("it.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&status, index) {
        panic!("{error}\n{status:#}");
    }
    status
}

#[test]
fn a_real_status_is_as_the_schema_says() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    let before = told(&node);
    assert_eq!(before["release"]["version"], "1.0.0");
    assert_eq!(before["in_flight"], Value::Null);
    let component = &before["components"][0];
    assert_eq!(
        (&component["component"], &component["version"]),
        (&"notebook".into(), &"1.0.0".into())
    );
    assert!(
        component["region_bytes"].as_u64() > Some(0),
        "{component:#}"
    );
    assert!(before["retained"].as_array().is_some());

    control::apply(
        node.directory(),
        &ReleaseId::new("book", "1.1.0"),
        None,
        &quiet(),
    )
    .expect("up");
    let after = told(&node);
    assert_eq!(
        (&after["unconfirmed"], &after["release"]["version"]),
        (&true.into(), &"1.1.0".into())
    );
    assert_eq!(after["permanent"]["version"], "1.0.0");
    assert!(after["confirm_by_ms"].as_u64() > Some(0));
    let next = after["next"].as_array().expect("what is next");
    for command in ["neurath relup confirm", "neurath relup rollback"] {
        assert!(next.contains(&command.into()), "{next:?}");
    }
    println!("{after}");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    assert_eq!(told(&node)["unconfirmed"], false);
}

/// The event loop says what its instances are. One that is at work for long does not answer in time, and that is no
/// reason to say that nothing runs.
#[test]
fn an_event_loop_that_is_at_work_hides_no_instance() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let state = || {
        let status = control::status(node.directory()).expect("a status");
        let [one] = status.components.as_slice() else {
            panic!("one instance: {status:?}");
        };
        let what = (one.component.as_str(), one.instance, one.version.as_str());
        assert_eq!(what, ("notebook", 0, "1.0.0"));
        assert!(one.generation > 0);
        one.state.clone()
    };
    support::wait_until("it answers", || state() == "running");
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Again and again: who asks may be late.
        scope.spawn(|| {
            let mut client = Lines::open(node.address());
            let until = Instant::now() + support::PATIENCE;
            while !seen.load(Ordering::Relaxed) && Instant::now() < until {
                assert_eq!(client.ask("wait 4000"), "waited");
            }
        });
        support::wait_until("the event loop is at work", || {
            state() == ComponentStatus::SILENT
        });
        seen.store(true, Ordering::Relaxed);
    });
    support::wait_until("it answers again", || state() == "running");
    node.stop().expect("stopped");
}

/// A plan that is made, or a record that is written, is no reason to tell of what was.
#[test]
fn a_status_is_of_now_while_a_plan_is_made() {
    // The node gives up waiting for those who take longer, and for an event loop that does. It has waited then.
    const LONG: Duration = Duration::from_millis(500);
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    stage.install(directory).expect("installed");
    let plan = || {
        let began = Instant::now();
        control::plan(directory, &ReleaseId::new("book", "1.1.0")).expect("a plan");
        began.elapsed()
    };
    for restarts in 1..=10 {
        std::thread::scope(|scope| {
            let planning = scope.spawn(plan);
            let mut client = Lines::open(node.address());
            client.send("panic");
            client.receive().expect("an answer");
            let asked = Instant::now();
            let status = control::status(directory).expect("a status");
            let answered = asked.elapsed();
            let seen = status.components[0].restarts;
            let took = planning.join().expect("a plan").max(answered);
            assert!(seen == restarts || took > LONG, "{seen}, not {restarts}");
        });
    }
    node.stop().expect("stopped");
}
