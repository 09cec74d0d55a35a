//! All that a user says of a node gets to the process that runs it.

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command, LostStates};

fn parsed(arguments: impl IntoIterator<Item = OsString>) -> NodeStart {
    let all = [OsString::from("neurath")].into_iter().chain(arguments);
    match Cli::try_parse_from(all).map(|cli| cli.command) {
        Ok(Command::Node(Node::Start(start))) => start,
        other => panic!("{other:?}"),
    }
}

/// What a user can say of a node. The other options are for programs that start programs.
fn said(start: NodeStart) -> impl PartialEq + std::fmt::Debug {
    let NodeStart {
        node,
        release,
        from,
        lost: LostStates {
            accept_power_loss,
            reset_state,
        },
        try_again,
        take_over_within,
        foreground: _,
        detach: _,
        reboot_old: _,
        tied: _,
        keep: _,
        take_over: _,
        trial: _,
        because: _,
    } = start;
    let states = (accept_power_loss, reset_state);
    (node.dir, release, from, states, try_again, take_over_within)
}

#[test]
fn all_that_is_said_of_a_node_is_said_to_its_process() {
    let lines = [
        "node start --dir there",
        "node start --dir there --release kv-1.0.0 --from built --accept-power-loss store \
         --accept-power-loss stats --reset-state gateway --try-again --take-over-within 1500ms",
    ];
    for line in lines {
        let words = || line.split_whitespace().map(OsString::from);
        let command = in_background(&parsed(words())).expect("a command");
        let passed = parsed(command.to_start("--detach"));
        assert!(passed.foreground && passed.detach);
        assert_eq!(said(passed), said(parsed(words())), "{line}");
    }
}
