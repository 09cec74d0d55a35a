//! The node itself, in this process.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::Context as _;
use neurath_node::catalog::ReleaseId;
use neurath_node::handover::keeper::{self, Kept};
use neurath_node::handover::{self, Arrival, ArriveError, Launch};
use neurath_node::node::{Node, NodeOptions};

use crate::cli::NodeStart;
use crate::service_manager::ServiceManager;

/// The place that a process takes.
#[derive(Debug)]
pub enum Place {
    /// A node that starts; in a release that ran before, if one is given.
    Start(Option<ReleaseId>),
    /// It keeps what the node of another process has, while that one's program is replaced.
    Keeper(u32),
    /// It takes over from the program before in its process; the reason, if another one could not.
    Successor(Option<String>),
}

impl Place {
    /// The one that the arguments say.
    #[must_use]
    pub fn of(start: &NodeStart) -> Place {
        match (start.keep, start.take_over) {
            (Some(pid), _) => Place::Keeper(pid),
            (None, true) => Place::Successor(start.because.clone()),
            (None, false) => Place::Start(start.reboot_old.clone()),
        }
    }
}

/// Runs a node until it is stopped.
///
/// # Errors
///
/// If it cannot start, or gave up.
pub fn run(options: NodeOptions, place: Place) -> anyhow::Result<()> {
    // A region whose file may not grow is to have an error, not to end the node.
    let ignored = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored)?;
    let within = options
        .launch
        .as_ref()
        .map_or(handover::WITHIN, |launch| launch.within);
    let manager = ServiceManager::from_environment(matches!(place, Place::Keeper(_)));
    let is_main = |pid: u32| {
        if let Some(manager) = &manager {
            manager.tell(&format!("MAINPID={pid}"));
        }
    };
    let addresses = options.sockets.iter();
    let addresses = addresses.filter_map(|one| Some(one.local_addr().ok()?.to_string()));
    let kept: Vec<String> = addresses.collect();
    let node = match place {
        Place::Start(None) => Node::start(options)?,
        Place::Start(Some(release)) => Node::start_old(options, &release)?,
        Place::Successor(because) => succeed(options, because)?,
        Place::Keeper(pid) => match keeper::keep(&options.directory, pid, within, is_main)? {
            Kept::Released => return Ok(()),
            Kept::Needed { parcel, reason } => {
                tracing::error!(reason, "no other node came up: this one serves again");
                Node::take_over(options, Arrival::kept(parcel, reason)?)?
            }
        },
    };
    let status = node.handle().status();
    tracing::info!(pid = status.pid, listen = ?status.listen, "the node serves");
    for address in kept.iter().filter(|one| !status.listen.contains(one)) {
        tracing::warn!(
            address,
            "this socket was handed over, and no component listens at its address: whoever connects there waits in vain"
        );
    }
    if let Some(manager) = &manager {
        manager.serves(&node.handle(), kept);
    }
    let asked = node.wait_for_stop();
    if let Some(manager) = &manager {
        manager.tell("STOPPING=1");
    }
    asked?;
    node.stop()?;
    tracing::info!("the node has stopped");
    Ok(())
}

/// Where the release that is to run in a directory has a program of its own, lets that one start the node, in this process.
///
/// # Errors
///
/// That program cannot be run, or has crashed too often.
pub fn run_by_its_own(directory: &Path, launch: &Launch, try_again: bool) -> anyhow::Result<()> {
    let command = handover::command_to_start(directory, &launch.version, try_again)?;
    let Some(mut command) = command else {
        return Ok(());
    };
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Takes over from the program before in this process, or lets it go on.
fn succeed(options: NodeOptions, because: Option<String>) -> anyhow::Result<Node> {
    let (launch, again) = (options.launch.clone(), because.is_some());
    let arrival = match handover::arrive(&options.directory, because) {
        Ok(arrival) => arrival,
        Err(error @ ArriveError::Parcel { keeper, .. }) => {
            return Err(give_up(launch, again, Some(keeper), error.into()));
        }
        Err(error) => {
            // Connections are lost with whoever kept them; the state is not.
            tracing::error!(%error, "this node starts with what is in its directory");
            return Ok(Node::start(options)?);
        }
    };
    let keeper = arrival.keeper();
    Node::take_over(options, arrival).map_err(|error| give_up(launch, again, keeper, error.into()))
}

/// Lets the old program go on in this process, unless this is the one.
fn give_up(
    launch: Option<Launch>,
    again: bool,
    keeper: Option<rustix::process::Pid>,
    error: anyhow::Error,
) -> anyhow::Error {
    tracing::error!("this node cannot take over: {error:#}");
    match (launch, keeper) {
        (Some(launch), Some(keeper)) if !again => {
            handover::go_back(&launch, keeper, &format!("{error:#}"))
        }
        _ => error,
    }
}
