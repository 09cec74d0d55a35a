//! Old code goes when nothing runs it any more, is named until then, and nothing is killed for it.

mod support;

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::Stage;
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::code;
use support::{Lines, assert_all_ended, book_edited, journal, mapped, quiet, wait_until};

const UPDATE: &str = "{ update = \"notebook\", change = { advanced = {} } }";

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// The notebook, whose way up has these instructions.
fn stage(instructions: &str) -> Stage {
    book_edited("hooks_1", "hooks_2", |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let edited = text.replacen(UPDATE, instructions, 1);
        assert_ne!(edited, text);
        let allow =
            "[lints]\nR102 = { level = \"allow\", reason = \"it is called on the way up only\" }\n";
        std::fs::write(&path, edited + allow).expect("the appup is written");
    })
}

#[test]
fn soft_keeps_the_old_code_for_the_way_back_and_brutal_does_not() {
    for (kind, kept) in [("soft", 2), ("brutal", 1)] {
        let stage = stage(&format!(
            "{{ update = \"notebook\", change = {{ advanced = {{}} }}, post_purge = \"{kind}\" }}"
        ));
        let node = stage.start("1.0.0").expect("a node");
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("add first"), "0");
        let upgraded =
            control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("upgraded");
        assert_eq!(mapped(&node), kept, "{kind}");
        let unloaded = if kept == 1 {
            vec!["notebook 1.0.0".to_owned()]
        } else {
            Vec::new()
        };
        assert_eq!(upgraded.unloaded, unloaded);
        assert_eq!(upgraded.retained, []);
        assert_eq!(client.ask("add second"), "1");
        control::rollback(node.directory(), false, &quiet()).expect("the way back is there");
        assert_eq!(client.ask("version"), "1.0.0");
        assert_eq!(client.ask("count"), "2");
        assert_eq!(mapped(&node), 1);
        assert_all_ended(&journal(node.directory()));
    }
}

/// A hook of the new code does not return for many seconds: the upgrade is undone, and that code lingers.
#[test]
fn what_lingers_is_named_and_waited_for_where_that_is_asked_for() {
    let dawdle =
        "{ apply = { component = \"notebook\", hook = \"dawdle\", args = { ms = 25000 } } }";
    let stage = stage(&format!(
        "{{ load_object_code = \"notebook\", version = \"1.1.0\", pre_purge = \"soft\" }}, \
         {{ suspend = [\"notebook\"], timeout = \"6s\" }}, \
         {{ load = \"notebook\", version = \"1.1.0\" }}, \
         {{ code_change = \"notebook\", from = \"1.0.0\", to = \"1.1.0\" }}, {dawdle}, \
         {{ resume = [\"notebook\"] }}"
    ));
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add first"), "0");
    let apply = || control::apply(node.directory(), &release("1.1.0"), None, &quiet());
    let late = apply().expect_err("the hook does not return in time");
    assert_eq!(code_of(&late), code::UPGRADE_FAILED, "{late:#}");
    let status = control::status(node.directory()).expect("a status");
    let [one] = status.retained.as_slice() else {
        panic!("{:?}", status.retained)
    };
    assert_eq!((&*one.component, &*one.version), ("notebook", "1.1.0"));
    assert!(one.reason.contains("has not returned"), "{one}");
    let before = journal(node.directory()).len();

    let busy = apply().expect_err("its code is in use");
    assert_eq!(code_of(&busy), code::BUSY, "{busy:#}");
    let said = format!("{busy:#}");
    assert!(said.contains("notebook 1.1.0, "), "{said}");
    assert!(
        said.contains("nothing was done") && said.contains("neurath node status"),
        "{said}"
    );
    assert_eq!(journal(node.directory()).len(), before, "it has not begun");
    let human = support::neurath(&[
        "node".as_ref(),
        "status".as_ref(),
        "--dir".as_ref(),
        node.directory().as_os_str(),
    ]);
    let human = String::from_utf8_lossy(&human.stdout).into_owned();
    assert!(human.contains("still in use: notebook 1.1.0, "), "{human}");
    assert_eq!(client.ask("version"), "1.0.0", "nobody notices");

    wait_until("it returns, and is unloaded", || {
        control::status(node.directory())
            .expect("a status")
            .retained
            .is_empty()
    });
    let late = apply().expect_err("it may be tried again, and is as late");
    assert_eq!(code_of(&late), code::UPGRADE_FAILED, "{late:#}");
    assert_eq!(client.ask("count"), "1");
}
