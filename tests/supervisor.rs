//! A handler that panics loses its message, and nothing else; one that panics all the time ends the
//! node, with a word on why.

mod support;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use support::{Lines, wait_until};

/// Restarts that are made within ten seconds.
const INTENSITY: usize = 20;

#[test]
fn only_the_message_that_panics_is_lost() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let mut others: Vec<Lines> = (0..5).map(|_| Lines::open(node.address())).collect();
    for number in 0..20 {
        let client = &mut others[number % 5];
        assert_eq!(
            client.ask(&format!("add note {number}")),
            number.to_string()
        );
    }
    for round in 0..3 {
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("count"), "20");
        client.send(&format!("panic round {round}"));
        let answer = client.receive().expect("an answer, not a silence");
        assert!(answer.starts_with("-ERR the component failed"), "{answer}");
        // It is told from an answer: the connection is closed behind it.
        assert_eq!(client.receive(), None);
        for other in &mut others {
            assert_eq!(
                other.ask("count"),
                "20",
                "the note that was half added is not there"
            );
            assert_eq!(other.ask("get 20"), "error: there is no such note");
            assert_eq!(other.ask("get 7"), "note 7");
        }
    }
    // A message behind the one that panics, in the same bytes: not served, not half served.
    let mut client = Lines::open(node.address());
    client.send("add lost\npanic\nadd lost too");
    while client.receive().is_some() {}
    assert_eq!(
        others[0].ask("count"),
        "20",
        "the transaction of the whole message is undone"
    );
    // New connections are taken, writes go on, and it is all in the file.
    assert_eq!(Lines::open(node.address()).ask("add note 20"), "20");
    node.check().expect("the node lives");
    assert_eq!(
        control::status(node.directory())
            .expect("status")
            .components[0]
            .state,
        "running"
    );
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("count"), "21");
    assert_eq!(client.ask("get 20"), "note 20");
}

#[test]
fn one_that_panics_all_the_time_ends_the_node() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add kept"), "0");
    // As many as are allowed, and one more.
    for _ in 0..INTENSITY {
        let mut one = Lines::open(node.address());
        one.send("panic");
        one.receive().expect("an answer");
    }
    assert_eq!(client.ask("get 0"), "kept", "so many restarts are borne");
    let mut last = Lines::open(node.address());
    last.send("panic for good");
    let mut how = String::new();
    wait_until("the node gives up", || match node.check() {
        Ok(()) => false,
        Err(error) => {
            how = format!("{error:#}\n{}", node.log_end());
            true
        }
    });
    for word in ["gave up", "notebook", "panicked 21 times", "for good"] {
        assert!(how.contains(word), "{word}: {how}");
    }
    assert!(how.contains("exit status: 50"), "{how}");
    drop(node);
    // The state is as before.
    let node = NodeProcess::start(&command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("count"), "1");
    assert_eq!(client.ask("get 0"), "kept");
}
