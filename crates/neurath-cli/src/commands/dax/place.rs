//! The places in the machine where regions are, and what must be said of them.

use super::SOON;
use crate::dax::machine::{Machine, Persistence};
use anyhow::Context as _;
use serde_json::Value;

/// A file system on a device of persistent memory.
#[derive(Debug)]
pub struct Place {
    /// What it is called, and the last part of where it is mounted.
    pub name: &'static str,
    /// `nvdimm` or `virtio`, and which of them.
    device: (&'static str, u32),
    file_system: &'static str,
    /// The backend that regions of durability `power` must have there.
    pub backend: &'static str,
    /// Whether `MAP_SYNC` must be granted there.
    pub map_sync: bool,
}

impl Place {
    /// The places of a machine.
    pub fn of(persistence: Persistence) -> Vec<Self> {
        let backend = match persistence {
            Persistence::MemoryController => "line",
            Persistence::Caches => "byte",
        };
        let nvdimm = |name, which| Self {
            name,
            device: ("nvdimm", which),
            file_system: name,
            backend,
            map_sync: true,
        };
        let mut places = vec![nvdimm("ext4", 1), nvdimm("xfs", 2)];
        // Its host decides what is durable, by the flush that `fdatasync` asks for.
        if persistence == Persistence::MemoryController {
            places.push(Self {
                name: "virtio",
                device: ("virtio", 1),
                file_system: "ext4",
                backend: "page",
                map_sync: false,
            });
        }
        places
    }

    /// Shell that makes the file system.
    pub fn make(&self) -> String {
        let (kind, which) = self.device;
        format!("make {kind} {which} {}", self.file_system)
    }

    /// Shell that mounts it with DAX, unless it is mounted.
    pub fn mount(&self) -> String {
        self.attach("always")
    }

    /// Shell that mounts it without DAX, unless it is mounted: what is written is in the page cache first.
    pub fn mount_cached(&self) -> String {
        self.attach("never")
    }

    fn attach(&self, dax: &str) -> String {
        let (kind, _) = self.device;
        format!("attach {kind} {} {} {dax}", self.file_system, self.path())
    }

    /// Where it is mounted.
    pub fn path(&self) -> String {
        format!("/mnt/{}", self.name)
    }

    /// Where the node is.
    pub fn node(&self) -> String {
        format!("/mnt/{}/node", self.name)
    }

    /// Shell that runs tests there, one at a time, as there is little room. Those with damaged
    /// bytes in memory are the same everywhere.
    pub fn test(&self, program: &str, filter: &str) -> String {
        let path = self.path();
        format!(
            "cd {path} && TMPDIR={path} NEURATH_POWER_DIR={path} NEURATH_POWER_BACKEND={} \
             /tests/{program} {filter} --skip hostile --test-threads 1",
            self.backend
        )
    }
}

/// What was found out about a region's medium in the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Medium {
    /// The backend by which a region would be opened.
    pub backend: Option<String>,
    /// Why it would be refused.
    pub refusal: Option<String>,
    /// What was asked, and what the answers were.
    pub steps: Vec<String>,
    /// Whether `MAP_SYNC` was granted.
    pub map_sync: bool,
}

impl Medium {
    /// Looks at a region's file.
    pub fn of(machine: &mut Machine<'_>, file: &str) -> anyhow::Result<Self> {
        // What it says to people is of use only where it fails.
        let said = "/tmp/inspect";
        let command = format!(
            "neurath state inspect {file} --json 2>{said} || {{ code=$?; cat {said}; (exit $code); }}"
        );
        let said = machine.run(&command, SOON)?.good("state inspect")?;
        let said: Value = serde_json::from_str(said.trim()).context("what `state inspect` says")?;
        let durability = &said["durability"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let steps = durability["medium"]["steps"].as_array();
        Ok(Self {
            backend: text(&durability["backend"]),
            refusal: text(&durability["refusal"]),
            steps: steps.into_iter().flatten().filter_map(text).collect(),
            map_sync: durability["medium"]["map_sync"] == true,
        })
    }
}

/// Takes a node that was made on DAX to a place where `MAP_SYNC` is refused: its durability is
/// not to be had there, and it must say so and not start. Gives what it said, or what is wrong.
pub fn refusal(
    machine: &mut Machine<'_>,
    from: &Place,
    to: &Place,
) -> anyhow::Result<Result<String, String>> {
    for place in [from, to] {
        machine
            .run(&place.mount(), SOON)?
            .good("mounting with DAX")?;
    }
    let moved = format!("{}/moved", to.path());
    let command = format!("cp -a {} {moved}", from.node());
    machine.run(&command, SOON)?.good("copying a node")?;
    // The line is a terminal, where `ls` would write colours.
    let files = machine.run(&format!("printf '%s\\n' {moved}/regions/*"), SOON)?;
    let files = files.good("looking for regions")?;
    let file = files.lines().next().context("a node without regions")?;
    let medium = Medium::of(machine, file)?;
    let start = format!("neurath node start --dir {moved} --from /releases");
    let answer = machine.run(&start, SOON)?;
    let said = answer.text.trim().to_owned();
    Ok(match &medium.refusal {
        Some(reason) if answer.code != 0 && !medium.map_sync && said.contains("journal") => {
            Ok(reason.clone())
        }
        other => Err(format!(
            "a node of durability `power` without a journal was not refused where MAP_SYNC is: \
             {other:?}; {said}"
        )),
    })
}
