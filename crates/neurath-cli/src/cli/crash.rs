//! `crash`: everything that a crash can leave.

use clap::{Args, Subcommand};

use super::Folders;
use super::values::number;

/// `neurath crash …`
#[derive(Debug, Subcommand)]
pub enum Crash {
    /// Recover regions from every state that a crash could leave, on simulated media.
    ///
    /// The last line is `--json`'s object with the numbers of images, violations, sites and
    /// mutants. Exits with 1 if anything was not survived, or if something wrong would not have
    /// been noticed.
    Regions(CrashRegions),
    /// Kill real nodes at every durable step of an upgrade, of the way back and of a confirmation, then
    /// again at every one of the start that follows, and at random times; under clients that know
    /// what was acknowledged.
    ///
    /// Exits with 1 if a node was not wholly in one release, did not go back where it must, or if
    /// anything was lost, answered wrongly or not recorded. Run it in the project's folder, as
    /// `cargo xtask crash upgrade`: other builds of the command have no points to be killed at.
    Upgrade(CrashUpgrade),
}

/// `neurath crash upgrade`
#[derive(Debug, Clone, Args)]
pub struct CrashUpgrade {
    /// What random times and the clients' requests come from.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// So many kills at random times, besides those at every point.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub kills: u64,
    /// At most so many points of each thing that is asked of a node, and a third of that of each
    /// start; all of them if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub points: Option<u32>,
    /// Kill the start that follows after each point, also where it passes the same points as
    /// another one. Takes hours.
    #[arg(long)]
    pub every_start: bool,
    /// One kill alone, as a violation names it.
    #[arg(long, value_name = "STORY:PHASE:POINT[:POINT]", conflicts_with_all = ["kills", "points", "every_start"])]
    pub replay: Option<crate::crash::Place>,
    /// How many nodes at the same time; one for each processor if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: Option<u32>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// `neurath crash regions`
#[derive(Debug, Clone, Args)]
pub struct CrashRegions {
    /// At least so many images.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub images: u64,
    /// What the images are made from: the same seed, the same images.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// Look at one image alone, as a failure names it.
    #[arg(long, value_name = "SEED:EVENT:IMAGE", value_parser = place, conflicts_with_all = ["images", "seed"])]
    pub replay: Option<Place>,
}

/// One image of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of its workload.
    pub seed: u64,
    /// Where the crash was.
    pub event: usize,
    /// Which of the states there.
    pub image: usize,
}

fn place(text: &str) -> Result<Place, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let wrong = || String::from("give seed:event:image as a failure names it, such as 0x1f:12:3");
    let [seed, event, image] = parts[..] else {
        return Err(wrong());
    };
    Ok(Place {
        seed: number(seed)?,
        event: event.parse().map_err(|_| wrong())?,
        image: image.parse().map_err(|_| wrong())?,
    })
}
