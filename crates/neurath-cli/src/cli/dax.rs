//! `dax`: emulated persistent memory.

use std::path::PathBuf;

use clap::Args;

use super::Folders;
use super::values::long_seconds;

/// `neurath dax`
#[derive(Debug, Clone, Args)]
pub struct Dax {
    /// What the machine boots: an image called `vmlinuz-VERSION`, or one of Debian's packages with
    /// a kernel (`.deb`). The newest in /boot if not given.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Who runs the machine's instructions: the processor (`kvm`), QEMU (`tcg`), or the processor
    /// if a machine comes up that way.
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// How often the machine is killed, in each place.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub kills: u32,
    /// How long a boot may take.
    #[arg(long, default_value_t = 90.0, value_name = "S", value_parser = long_seconds)]
    pub boot_seconds: f64,
    /// How long a client waits for an answer until it gives the connection up.
    #[arg(long, default_value_t = 20.0, value_name = "S", value_parser = long_seconds)]
    pub patience_seconds: f64,
    /// Only this place, as in `1/xfs`: the number of the machine, and `ext4`, `xfs` or `virtio`.
    /// May be given several times. All of them if not given.
    #[arg(long, value_name = "MACHINE/PLACE", value_parser = dax_place)]
    pub place: Vec<DaxPlace>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// A place that `neurath dax` tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaxPlace {
    /// The number of the machine, from 1.
    pub machine: usize,
    /// The place's name.
    pub name: String,
}

fn dax_place(text: &str) -> Result<DaxPlace, String> {
    const PLACES: [(usize, &str); 5] = [
        (1, "ext4"),
        (1, "xfs"),
        (1, "virtio"),
        (2, "ext4"),
        (2, "xfs"),
    ];
    let known = PLACES.map(|(machine, name)| format!("{machine}/{name}"));
    let found = known.iter().position(|place| place == text);
    let found = found.and_then(|at| PLACES.get(at));
    match found {
        Some(&(machine, name)) => Ok(DaxPlace {
            machine,
            name: name.to_owned(),
        }),
        None => Err(format!("the places are {}", known.join(", "))),
    }
}

/// Who runs a virtual machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Accel {
    /// The processor if a machine comes up that way, else QEMU.
    #[default]
    Auto,
    /// The processor.
    Kvm,
    /// QEMU.
    Tcg,
}
