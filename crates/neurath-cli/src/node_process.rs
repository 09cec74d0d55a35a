//! The node itself, in this process.

use neurath_node::catalog::ReleaseId;
use neurath_node::node::{Node, NodeOptions};

use crate::service_manager::ServiceManager;

/// Runs a node until it is stopped; in a release that ran before, if one is given.
///
/// # Errors
///
/// If it cannot start, or gave up.
pub fn run(options: NodeOptions, reboot_old: Option<&ReleaseId>) -> anyhow::Result<()> {
    // A region whose file may not grow is to have an error, not to end the node.
    let ignored = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored)?;
    let node = match reboot_old {
        Some(release) => Node::start_old(options, release)?,
        None => Node::start(options)?,
    };
    let status = node.handle().status();
    tracing::info!(pid = status.pid, listen = ?status.listen, "the node serves");
    let manager = ServiceManager::from_environment();
    if let Some(manager) = &manager {
        manager.serves(&node.handle());
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
