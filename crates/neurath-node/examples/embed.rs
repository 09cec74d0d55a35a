//! A program with a node inside: it keeps its own front, and what has state is upgraded under it.
//!
//! `embed DIR RELEASES RELEASE COMPONENT [NEXT]`: starts a node in DIR with a release such as `count-1.0.0`
//! from the folder RELEASES, asks the component, and goes to the release NEXT between two requests.

use std::error::Error;
use std::time::Duration;

use neurath_node::catalog::ReleaseId;
use neurath_node::node::{Node, NodeHandle, NodeOptions};
use neurath_node::protocol::{Request, Response};
use neurath_node::release::ReleasePackage;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, releases, release, component, next @ ..] = arguments.as_slice() else {
        return Err("embed DIR RELEASES RELEASE COMPONENT [NEXT]".into());
    };
    let node = Node::start(NodeOptions {
        directory: directory.into(),
        release: Some(id(release)?),
        release_source: Some(releases.into()),
        ..NodeOptions::default()
    })?;
    let handle = node.handle();
    ask(&handle, component)?;
    if let Some(next) = next.first() {
        // A release has to be in the node's own folder first.
        let package = ReleasePackage::open(&std::path::Path::new(releases).join(next))?;
        package.install(&std::path::Path::new(directory).join("releases"))?;
        let apply = Request::apply(id(next)?);
        let response = handle.request_control(apply, &mut |progress| {
            println!("{}: {} us", progress.step, progress.micros);
        });
        if let Response::Failed(failed) = response {
            return Err(failed.message.into());
        }
        ask(&handle, component)?;
        handle.request_control(Request::Confirm, &mut |_| {});
    }
    node.stop()?;
    Ok(())
}

fn ask(handle: &NodeHandle, component: &str) -> Result<(), Box<dyn Error>> {
    let answer = handle.call(component, b"", Duration::from_secs(1))?;
    print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn id(text: &str) -> Result<ReleaseId, Box<dyn Error>> {
    let (name, version) = text.rsplit_once('-').ok_or("NAME-VERSION")?;
    Ok(ReleaseId::new(name, version))
}
