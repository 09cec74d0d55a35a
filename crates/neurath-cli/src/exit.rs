//! What a failure is to the caller of the command: the one place that knows the exit codes.

use crate::history::Edited;
use crate::output::Output;
use crate::stale::Stale;
use neurath_manifest::Diagnostics;
use neurath_node::UpgradeError;
use neurath_node::catalog::CatalogError;
use neurath_node::client::ClientError;
use neurath_node::handover::ProgramError;
use neurath_node::journal::JournalError;
use neurath_node::node::{NodeError, StartError};
use neurath_node::package::PackageError;
use neurath_node::protocol::{Failure, code};
use neurath_node::release::ReleaseError;
use neurath_node::trust::TrustError;
use neurath_pmem::inspect::InspectError;
use serde_json::json;
use thiserror::Error;

/// Carried out.
pub const DONE: u8 = 0;
/// Not carried out, for a reason that has no code of its own.
pub const FAILED: u8 = 1;
/// The command line was not understood.
pub const USAGE: u8 = code::USAGE;
/// A manifest, an appup, a release or a relup is refused.
pub const LINT: u8 = code::LINT;
/// The plan was made for other files, or was altered.
pub const STALE: u8 = code::STALE;
/// A file of a release, or the history of a node, was edited.
pub const HISTORY: u8 = code::HISTORY;
/// A signature, a sequence number or an epoch is refused.
pub const SIGNATURE: u8 = code::SIGNATURE;
/// Somebody else is at it.
pub const BUSY: u8 = code::BUSY;
/// The upgrade failed, and the release before serves.
pub const UPGRADE_FAILED: u8 = code::UPGRADE_FAILED;
/// A person must look.
pub const OPERATOR: u8 = code::OPERATOR;
/// Ended by a signal, as a shell says it.
pub const INTERRUPTED: u8 = 130;

/// What a command fails with where the exit code says more than [`FAILED`].
#[derive(Debug, Error)]
pub enum CommandError {
    /// The arguments do not fit each other, or what is there.
    #[error("{0}")]
    Usage(String),
    /// Files say what they must not.
    #[error("{}", .0.render())]
    Refused(Diagnostics),
    /// A reviewed plan is no longer the one that would be carried out.
    #[error("{0}")]
    Stale(Box<Stale>),
    /// A plan file is not, or no longer, a plan that was made.
    #[error("{file} is not a plan as it was made, and what it says was not reviewed: {why}")]
    Altered {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was released is not what it was.
    #[error("{0}")]
    Edited(Edited),
    /// The node refused, or failed.
    #[error("{}", .0.message)]
    Node(Failure),
    /// The result itself, which has been written, says what is wrong.
    #[error("{0}")]
    Found(String),
    /// The result, which has been written, says that a file is damaged.
    #[error("{0}")]
    Damaged(String),
    /// A node is not what it must be.
    #[error("{0}")]
    Operator(String),
}

/// The exit code of a failure.
#[must_use]
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<CommandError>() {
            return match error {
                CommandError::Usage(_) => USAGE,
                CommandError::Refused(_) | CommandError::Damaged(_) => LINT,
                CommandError::Stale(_) | CommandError::Altered { .. } => STALE,
                CommandError::Edited(_) => HISTORY,
                CommandError::Node(failure) => failure.code,
                CommandError::Operator(_) => OPERATOR,
                CommandError::Found(_) => FAILED,
            };
        }
        if let Some(error) = cause.downcast_ref::<ClientError>() {
            return error.exit_code();
        }
        if let Some(error) = cause.downcast_ref::<StartError>() {
            return code_of_start(error);
        }
        if let Some(error) = cause.downcast_ref::<JournalError>() {
            return if error.is_edited() { HISTORY } else { OPERATOR };
        }
        if cause.is::<NodeError>() || cause.is::<CatalogError>() {
            return OPERATOR;
        }
        if let Some(InspectError::Busy { .. }) = cause.downcast_ref() {
            return BUSY;
        }
        if cause.is::<TrustError>() {
            return SIGNATURE;
        }
        match cause.downcast_ref::<PackageError>() {
            None | Some(PackageError::Io { .. } | PackageError::Sign(_)) => {}
            Some(PackageError::Trust(_)) => return SIGNATURE,
            Some(_) => return LINT,
        }
        match cause.downcast_ref::<ReleaseError>() {
            None | Some(ReleaseError::Io { .. }) => {}
            Some(_) => return LINT,
        }
        if cause.is::<Diagnostics>() {
            return LINT;
        }
    }
    FAILED
}

fn code_of_start(error: &StartError) -> u8 {
    match error {
        StartError::Journal(error) if error.is_edited() => HISTORY,
        StartError::Program(ProgramError::Missing { .. }) => LINT,
        StartError::Component(error) => match error.as_ref() {
            UpgradeError::Handler(error) if error.code() == SIGNATURE => SIGNATURE,
            _ => OPERATOR,
        },
        _ => OPERATOR,
    }
}

/// Says how a command ended, and gives its exit code.
pub fn report(result: anyhow::Result<()>, output: &Output) -> u8 {
    let Err(error) = result else { return DONE };
    let code = code_of(&error);
    let diagnostics = error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<CommandError>() {
            Some(CommandError::Refused(found)) => Some(found),
            _ => cause.downcast_ref::<Diagnostics>(),
        });
    let told = matches!(error.downcast_ref(), Some(CommandError::Found(_)));
    if output.is_json() && !told {
        let step = error.chain().find_map(|cause| match cause.downcast_ref() {
            Some(CommandError::Node(failure)) => failure.step.clone(),
            _ => None,
        });
        let details = error.chain().find_map(|cause| match cause.downcast_ref() {
            Some(CommandError::Stale(stale)) => Some(("stale", stale.to_json())),
            Some(CommandError::Edited(edited)) => Some(("edited", edited.to_json())),
            _ => None,
        });
        let mut failed = json!({
            "kind": "failed",
            "code": code,
            "message": told_once(&error),
            "step": step,
            "diagnostics": diagnostics.map(Diagnostics::to_json),
        });
        if let Some((key, details)) = details {
            failed[key] = details;
        }
        output.json(&failed);
        return code;
    }
    match diagnostics {
        Some(found) if output.colour() => output.error(&found.render_coloured()),
        Some(found) => output.error(&found.render()),
        None => output.error(&told_once(&error)),
    }
    code
}

/// An error and its causes, one after the other. Many say their cause themselves, and it is not
/// said again.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open it: {source}")]
        struct Io {
            source: std::io::Error,
        }
        let source = std::io::Error::other("no such file");
        let error = anyhow::Error::new(Io { source }).context("while starting");
        assert_eq!(
            told_once(&error),
            "while starting: cannot open it: no such file"
        );
    }

    #[test]
    fn each_failure_has_its_code() {
        let of = |error: CommandError| code_of(&anyhow::Error::new(error).context("around it"));
        assert_eq!(of(CommandError::Usage(String::new())), 2);
        assert_eq!(of(CommandError::Refused(Diagnostics::default())), 20);
        assert_eq!(of(CommandError::Damaged(String::new())), 20);
        assert_eq!(of(CommandError::Stale(Box::default())), 21);
        let altered = CommandError::Altered {
            file: String::new(),
            why: String::new(),
        };
        assert_eq!(of(altered), 21);
        assert_eq!(of(CommandError::Edited(Edited::default())), 22);
        assert_eq!(of(CommandError::Operator(String::new())), 50);
        for code in [30, 40, 41] {
            let failure = Failure {
                code,
                message: String::new(),
                step: None,
            };
            assert_eq!(of(CommandError::Node(failure)), code);
        }
        assert_eq!(code_of(&anyhow::anyhow!("something")), FAILED);
        let no_node = neurath_node::client::Client::connect("/nowhere/at/all");
        let error = no_node.map(|_| ()).context("asking").err();
        assert_eq!(error.map(|error| code_of(&error)), Some(OPERATOR));
    }
}
