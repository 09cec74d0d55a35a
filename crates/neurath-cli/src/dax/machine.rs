//! The machine: QEMU with emulated persistent memory, a line by which it is told what to do, and
//! two ways to end it that leave nothing time.

use super::kernel::Kernel;
use crate::processes::Process;
use crate::testing::last_lines;
use anyhow::{Context as _, bail};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The port inside the machine that the host's port leads to.
pub const PORT: u16 = 7379;

/// Who runs the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU itself.
    Tcg,
}

impl Accelerator {
    /// As QEMU calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What the machine's persistent memory says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// What has left the caches stays.
    MemoryController,
    /// What is in the caches stays as well (eADR).
    Caches,
}

impl Persistence {
    /// As the kernel calls it.
    #[must_use]
    pub fn domain(self) -> &'static str {
        match self {
            Self::MemoryController => "memory_controller",
            Self::Caches => "cpu_cache",
        }
    }
}

/// How a machine is made.
#[derive(Debug)]
pub struct Hardware<'a> {
    /// QEMU.
    pub qemu: &'a Path,
    /// What it boots.
    pub kernel: &'a Kernel,
    /// The files that it boots with.
    pub initramfs: &'a Path,
    /// The folder for its persistent memory, its sockets and what its kernel says.
    pub folder: PathBuf,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// What its NVDIMMs say of themselves.
    pub persistence: Persistence,
    /// Whether it has a virtio-pmem device besides the two NVDIMMs.
    pub virtio: bool,
    /// The host's port that leads to the machine's [`PORT`].
    pub port: u16,
    /// How long a boot may take.
    pub boot: Duration,
}

/// Bytes of each NVDIMM.
const NVDIMM: u64 = 768 << 20;
/// Bytes of the virtio-pmem device.
const VIRTIO: u64 = 384 << 20;

impl Hardware<'_> {
    /// Makes the folder, and the files behind the persistent memory, which take room only where
    /// they are written to.
    ///
    /// # Errors
    ///
    /// If they cannot be made.
    pub fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        for (name, len) in self.media() {
            std::fs::File::create_new(self.folder.join(name))?.set_len(len)?;
        }
        Ok(())
    }

    fn media(&self) -> Vec<(&'static str, u64)> {
        let mut all = vec![("nvdimm0", NVDIMM), ("nvdimm1", NVDIMM)];
        if self.virtio {
            all.push(("virtio", VIRTIO));
        }
        all
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    fn command(&self) -> Command {
        let kept = match self.persistence {
            Persistence::MemoryController => "mem-ctrl",
            Persistence::Caches => "cpu",
        };
        let mut command = Command::new(self.qemu);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.arg("-machine").arg(format!(
            "q35,accel={},nvdimm=on,nvdimm-persistence={kept}",
            self.accelerator.name()
        ));
        command.args(["-cpu", "max", "-smp", "2", "-m", "1536M,slots=4,maxmem=8G"]);
        for (name, len) in self.media() {
            command.arg("-object").arg(format!(
                "memory-backend-file,id={name},share=on,mem-path={},size={len},align=2M",
                self.folder.join(name).display()
            ));
            let device = match name {
                "virtio" => "virtio-pmem-pci",
                _ => "nvdimm",
            };
            command
                .arg("-device")
                .arg(format!("{device},id=device-{name},memdev={name}"));
        }
        command.arg("-netdev").arg(format!(
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{}-10.0.2.15:{PORT}",
            self.port
        ));
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        for (name, kind) in [("agent", "-serial"), ("monitor", "-mon")] {
            let socket = self.folder.join(name);
            command
                .arg("-chardev")
                .arg(format!("socket,id={name},path={}", socket.display()));
            match kind {
                "-serial" => {
                    let console = self.console();
                    command.arg("-chardev").arg(format!(
                        "file,id=console,append=on,path={}",
                        console.display()
                    ));
                    command.args(["-serial", "chardev:console", "-serial", "chardev:agent"])
                }
                _ => command.args(["-mon", "chardev=monitor,mode=control"]),
            };
        }
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        // A kernel that gives up begins anew at once, which is noticed.
        command.args(["-append", "console=ttyS0 panic=-1 oops=panic quiet"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// What a command in the machine gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// What it wrote, errors as well.
    pub text: String,
}

impl Answer {
    /// The text of a command that has succeeded.
    ///
    /// # Errors
    ///
    /// With what it wrote, if it has not.
    pub fn good(self, what: &str) -> anyhow::Result<String> {
        if self.code != 0 {
            bail!(
                "{what} failed in the machine ({}):\n{}",
                self.code,
                self.text.trim_end()
            );
        }
        Ok(self.text)
    }
}

/// A machine that runs. It ends, without being asked, when this is dropped.
#[derive(Debug)]
pub struct Machine<'a> {
    hardware: &'a Hardware<'a>,
    process: Process,
    agent: Line,
    monitor: Line,
}

impl<'a> Machine<'a> {
    /// Starts a machine, and waits until it can be told what to do.
    ///
    /// # Errors
    ///
    /// If it does not come up in time; with the end of what its kernel said.
    pub fn boot(hardware: &'a Hardware<'a>) -> anyhow::Result<Self> {
        let until = Instant::now() + hardware.boot;
        let listen = |name: &str| {
            let path = hardware.folder.join(name);
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("cannot listen at {}", path.display()))?;
            listener.set_nonblocking(true)?;
            anyhow::Ok(listener)
        };
        let (agent, monitor) = (listen("agent")?, listen("monitor")?);
        let process = Process::start("qemu", &mut hardware.command())
            .with_context(|| format!("cannot start {}", hardware.qemu.display()))?;
        let agent = Line::accept(&agent, &process, until)?;
        let monitor = Line::accept(&monitor, &process, until)?;
        let mut machine = Self {
            hardware,
            process,
            agent,
            monitor,
        };
        // The monitor greets, and takes commands once it is told that its greeting was read.
        machine.monitor.line(until)?;
        machine.tell(r#"{"execute":"qmp_capabilities"}"#, until)?;
        machine.ready(until)?;
        Ok(machine)
    }

    fn ready(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            match self.agent.line(until) {
                Ok(line) if line == "@ready" => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    let said = last_lines(&self.hardware.console(), 12);
                    bail!("the machine does not come up ({error}); its kernel said:\n{said}");
                }
            }
        }
    }

    fn tell(&mut self, command: &str, until: Instant) -> anyhow::Result<()> {
        self.monitor.write(command)?;
        loop {
            let line = self.monitor.line(until).context("QEMU does not answer")?;
            if line.contains("\"return\"") {
                return Ok(());
            }
            if line.contains("\"error\"") {
                bail!("QEMU refuses {command}: {line}");
            }
        }
    }

    /// Runs a line of shell in the machine, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it takes longer than this, or the machine ends.
    pub fn run(&mut self, command: &str, patience: Duration) -> anyhow::Result<Answer> {
        let until = Instant::now() + patience;
        self.agent.write(command)?;
        let mut text = String::new();
        loop {
            let line = self.agent.line(until).with_context(|| {
                let said = last_lines(&self.hardware.console(), 12);
                format!("`{command}` has no end in the machine; so far:\n{text}{said}")
            })?;
            if line == "@ready" {
                let said = last_lines(&self.hardware.console(), 12);
                bail!("the machine has begun anew during `{command}`; its kernel said:\n{said}");
            }
            match line.strip_prefix("@end ") {
                Some(code) => {
                    let code = code.trim().parse().context("an exit code")?;
                    return Ok(Answer { code, text });
                }
                None => text.push_str(&format!("{line}\n")),
            }
        }
    }

    /// Ends it as a loss of power would, as far as a program can: SIGKILL. It can be booted again.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Resets it as a button would, and waits until it is up again.
    ///
    /// # Errors
    ///
    /// If it does not come up in time.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + self.hardware.boot;
        self.tell(r#"{"execute":"system_reset"}"#, until)?;
        self.ready(until)
    }

    /// Lets its kernel end it.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub fn power_off(mut self) -> anyhow::Result<()> {
        self.agent.write("sync; poweroff -f")?;
        match self.process.wait_for(self.hardware.boot)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("QEMU ended with a failure ({status})"),
            None => bail!("the machine does not end"),
        }
    }
}

/// Lines to and from a process, with a time by which they must come.
#[derive(Debug)]
struct Line {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Line {
    fn accept(listener: &UnixListener, process: &Process, until: Instant) -> anyhow::Result<Self> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(Self {
                        stream,
                        unread: Vec::new(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = process.ended()? {
                bail!("QEMU ended at its start ({status}): what it says above is why");
            }
            if Instant::now() >= until {
                bail!("QEMU does not start in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end.
    fn line(&mut self, until: Instant) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "it takes too long"));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_or_in_time() -> anyhow::Result<()> {
        let (mut there, here) = UnixStream::pair()?;
        let mut line = Line {
            stream: here,
            unread: Vec::new(),
        };
        let within = |time| Instant::now() + time;
        let minute = || within(Duration::from_secs(60));
        there.write_all(b"one\r\ntw")?;
        assert_eq!(line.line(minute())?, "one");
        let late = line.line(within(Duration::from_millis(50)));
        let late = late.expect_err("half a line");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        there.write_all(b"o\n")?;
        assert_eq!(line.line(minute())?, "two");
        drop(there);
        let ended = line.line(minute()).expect_err("nobody is there");
        assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
        Ok(())
    }
}
