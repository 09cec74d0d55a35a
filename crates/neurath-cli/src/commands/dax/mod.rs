//! `neurath dax`: regions and an upgrade on emulated persistent memory, in a machine that is
//! killed. `docs/dax.md` says what that shows and what it cannot.

mod lost;
mod place;
mod report;
mod story;

use crate::cargo;
use crate::cli::{Accel, Dax, DaxPlace};
use crate::dax::initramfs::Archive;
use crate::dax::kernel::Kernel;
use crate::dax::machine::{Accelerator, Hardware, Machine, PORT, Persistence};
use crate::dax::tools::Tools;
use crate::exit::CommandError;
use crate::output::Output;
use crate::processes::{self, TemporaryFolder};
use crate::stage::Stage;
use crate::testing::free_port;
use anyhow::Context as _;
use place::Place;
use report::{MachineReport, PlaceReport, Report};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a command in the machine may take that is neither a test nor an upgrade.
const SOON: Duration = Duration::from_secs(60);
/// How long the tests of one kind may take: minutes, where QEMU runs the instructions on a host that is idle, and several
/// times that where it is not.
const TESTS: Duration = Duration::from_secs(1800);

/// The tests that run on each file system, and the words that choose them.
const TEST_PROGRAMS: [(&str, &str); 2] = [("power", ""), ("lib", "region::")];

pub fn run(options: &Dax, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let begun = Instant::now();
    let tools = Tools::find()?;
    let folder = TemporaryFolder::new()?;
    let kernel = Kernel::find(options.kernel.as_deref(), &folder.path().join("kernel"))?;
    let initramfs = files(options, &tools, &kernel, folder.path(), output)?;
    let mut lane = Lane {
        options,
        output,
        tools: &tools,
        kernel: &kernel,
        initramfs,
        folder: folder.path(),
        accelerator: Accelerator::Tcg,
    };
    lane.accelerator = lane.choose()?;
    let mut report = Report {
        kernel: kernel.version.clone(),
        accelerator: lane.accelerator.name(),
        kills: options.kills,
        machines: Vec::new(),
        seconds: 0.0,
    };
    for persistence in [Persistence::MemoryController, Persistence::Caches] {
        let places = lane.places(persistence);
        if !places.is_empty() {
            report.machines.push(lane.machine(persistence, &places)?);
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    output.text(&report.text());
    output.json(&report.json());
    match report.problems() {
        0 => Ok(()),
        problems => {
            Err(CommandError::Found(format!("{problems} things were not as they must be")).into())
        }
    }
}

/// Makes the archive that the machine boots with.
fn files(
    options: &Dax,
    tools: &Tools,
    kernel: &Kernel,
    folder: &Path,
    output: &Output,
) -> anyhow::Result<PathBuf> {
    output.progress("building the program, the server and the tests");
    let neurath = cargo::build_program(Path::new("."), "neurath-cli", "neurath", &[])?;
    let names = TEST_PROGRAMS.map(|(name, _)| name);
    let tests = cargo::build_tests(Path::new("."), "neurath-pmem", &names)?;
    let versions = [("1.0.0", "power"), ("1.1.0", "power")];
    let address = format!("0.0.0.0:{PORT}");
    // All of them: what a region that survives the process only has kept is tried by itself.
    let components = ["gateway", "store"];
    let folders = &options.folders;
    let stage = Stage::surviving(folders, &components, &versions, Some(&address), output)?;

    let path = folder.join("initramfs");
    let mut archive = Archive::create(&path)?;
    archive.device("dev/console", 5, 1)?;
    archive.bytes("init", include_bytes!("../../dax/init.sh"), true)?;
    archive.copy("bin/busybox", &tools.busybox)?;
    for program in &tools.inside {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        archive.program(&format!("bin/{name}"), program)?;
    }
    archive.program("bin/neurath", &neurath)?;
    for (name, program) in &tests {
        archive.program(&format!("tests/{name}"), program)?;
    }
    archive.tree("releases", stage.built())?;
    let versions = [("1.0.0", "process")];
    let stage = Stage::surviving(folders, &components, &versions, Some(&address), output)?;
    archive.tree("releases-process", stage.built())?;
    let modules = kernel.modules()?;
    let order: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
    archive.bytes("modules/order", order.join("\n").as_bytes(), false)?;
    for (name, bytes) in &modules {
        archive.bytes(&format!("modules/{name}"), bytes, false)?;
    }
    archive.finish()?;
    Ok(path)
}

struct Lane<'a> {
    options: &'a Dax,
    output: &'a Output,
    tools: &'a Tools,
    kernel: &'a Kernel,
    initramfs: PathBuf,
    folder: &'a Path,
    accelerator: Accelerator,
}

impl Lane<'_> {
    fn hardware(
        &self,
        name: &str,
        persistence: Persistence,
        accelerator: Accelerator,
    ) -> anyhow::Result<Hardware<'_>> {
        let hardware = Hardware {
            qemu: &self.tools.qemu,
            kernel: self.kernel,
            initramfs: &self.initramfs,
            folder: self.folder.join(name),
            accelerator,
            persistence,
            virtio: persistence == Persistence::MemoryController,
            port: free_port()?,
            boot: Duration::from_secs_f64(self.options.boot_seconds),
        };
        hardware
            .prepare()
            .context("cannot make the machine's files")?;
        Ok(hardware)
    }

    /// Who runs the instructions: some machines offer `/dev/kvm`, and no kernel comes up with it.
    fn choose(&self) -> anyhow::Result<Accelerator> {
        match self.options.accel {
            Accel::Kvm => return Ok(Accelerator::Kvm),
            Accel::Tcg => return Ok(Accelerator::Tcg),
            Accel::Auto => {}
        }
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Accelerator::Tcg);
        }
        let mut hardware =
            self.hardware("attempt", Persistence::MemoryController, Accelerator::Kvm)?;
        hardware.boot = hardware.boot.min(Duration::from_secs(15));
        Ok(match Machine::boot(&hardware) {
            Ok(machine) => {
                machine.kill();
                Accelerator::Kvm
            }
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                self.output
                    .progress(&format!("not by the processor: {why}"));
                Accelerator::Tcg
            }
        })
    }

    /// The places of a machine that were asked for.
    fn places(&self, persistence: Persistence) -> Vec<Place> {
        let number = match persistence {
            Persistence::MemoryController => 1,
            Persistence::Caches => 2,
        };
        let asked = &self.options.place;
        let mut places = Place::of(persistence);
        places.retain(|place| {
            let is = |one: &DaxPlace| one.machine == number && one.name == place.name;
            asked.is_empty() || asked.iter().any(is)
        });
        places
    }

    /// How long a client waits for an answer.
    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.options.patience_seconds)
    }

    /// A machine from its first boot to its end.
    fn machine(&self, persistence: Persistence, places: &[Place]) -> anyhow::Result<MachineReport> {
        let domain = persistence.domain();
        let hardware = self.hardware(domain, persistence, self.accelerator)?;
        self.output
            .progress(&format!("booting a machine with `{domain}`"));
        let begun = Instant::now();
        let mut machine = Machine::boot(&hardware)?;
        let boot_seconds = begun.elapsed().as_secs_f64();
        let mut reports = Vec::new();
        for place in places {
            machine
                .run(&place.make(), SOON)?
                .good("making a file system")?;
            reports.push(self.tests(&mut machine, place)?);
        }
        for (place, report) in places.iter().zip(&mut reports) {
            let story = story::Story {
                lane: self,
                hardware: &hardware,
                place,
            };
            machine = story.play(machine, report)?;
        }
        if let [others @ .., ordinary] = places
            && ordinary.backend == "page"
        {
            let last = reports.last_mut().context("a report of each place")?;
            if let Some(dax) = others.first() {
                last.refusal = Some(place::refusal(&mut machine, dax, ordinary)?);
            }
            let (booted, lost) = lost::play(self, &hardware, ordinary, machine)?;
            machine = booted;
            last.lost = Some(lost);
        }
        machine.power_off()?;
        Ok(MachineReport {
            domain,
            boot_seconds,
            places: reports,
        })
    }

    /// Mounts a new file system, and runs the tests of regions there.
    fn tests(&self, machine: &mut Machine<'_>, place: &Place) -> anyhow::Result<PlaceReport> {
        machine
            .run(&place.mount(), SOON)?
            .good("mounting with DAX")?;
        let mut report = PlaceReport::new(place);
        for (program, filter) in TEST_PROGRAMS {
            let what = format!("{}: tests `{program} {filter}`", place.name);
            self.output.progress(&what);
            let answer = machine.run(&place.test(program, filter), TESTS)?;
            report.tested(&answer);
            if answer.code != 0 {
                self.output.progress(&answer.text);
            }
        }
        Ok(report)
    }
}
