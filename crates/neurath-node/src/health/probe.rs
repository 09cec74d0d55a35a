//! Making a health check: one look at the release from outside, with one deadline over all of it.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use neurath_manifest::Probe;

use super::Sample;
use crate::command;
use crate::waiting::CalledOff;

/// An answer longer than this is none that a health check waits for, in bytes.
const ANSWER: u64 = 64 << 10;

/// Makes a check that needs nothing of the node but its directory; nothing if it is one of a
/// component's own, which the node asks.
pub(crate) fn look(
    probe: &Probe,
    directory: &Path,
    timeout: Duration,
    called_off: CalledOff<'_>,
) -> Option<Sample> {
    let until = Instant::now() + timeout;
    Some(match probe {
        Probe::Command(words) => {
            command::run(words, directory, timeout, called_off).map_err(|error| error.to_string())
        }
        Probe::Tcp(address) => {
            let named = address.clone();
            let work = move || connect(&named, until).map(drop);
            within(timeout, called_off, address, work)
        }
        Probe::Resp {
            address,
            send,
            expect,
        } => {
            let (named, send, expect) = (address.clone(), send.clone(), expect.clone());
            let work = move || ask(&named, &send, expect.as_deref(), until);
            within(timeout, called_off, address, work)
        }
        Probe::Component(_) => return None,
    })
}

/// Waits for what is done on a thread of its own. It is left behind where it takes longer: it ends at its own deadline,
/// or with the system's look-up of a name, which nothing can cut short.
fn within(
    timeout: Duration,
    called_off: CalledOff<'_>,
    address: &str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Sample {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("neurath-check".into());
    let thread = thread.spawn(move || {
        // Whoever waited may have gone.
        let _ = send.send(work());
    });
    thread.map_err(|error| format!("{address}: no thread could be made: {error}"))?;
    match called_off.receive(&receive, timeout) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if !is_late(&error) => Err(format!("{address}: {error}")),
        Ok(Err(_)) | Err(RecvTimeoutError::Timeout) => {
            Err(format!("{address}: no answer within {timeout:?}"))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the check's thread panicked".into()),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// What is left until then.
///
/// # Errors
///
/// If that is nothing.
fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A connection whose every read and write ends by then.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(bytes)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn connect(address: &str, until: Instant) -> io::Result<Timed> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => return Ok(Timed { stream, until }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks in RESP, and looks at the answer. An answer of several is judged by its first line.
fn ask(address: &str, send: &[String], expect: Option<&str>, until: Instant) -> io::Result<()> {
    let mut stream = connect(address, until)?;
    let mut request = format!("*{}\r\n", send.len()).into_bytes();
    for word in send {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    stream.write_all(&request)?;
    let mut answer = BufReader::new(stream.take(ANSWER));
    let line = line(&mut answer)?;
    let Some((kind, rest)) = line.split_first() else {
        return Err(io::Error::other("an empty line in place of an answer"));
    };
    let text = match kind {
        b'-' => return Err(io::Error::other(String::from_utf8_lossy(rest).into_owned())),
        b'$' if rest != b"-1" => bulk(rest, &mut answer)?,
        _ => rest.to_vec(),
    };
    match expect {
        Some(expected) if text != expected.as_bytes() => {
            let text = String::from_utf8_lossy(&text);
            Err(io::Error::other(format!(
                "`{text}` in place of `{expected}`"
            )))
        }
        _ => Ok(()),
    }
}

/// A line, without its end.
fn line(answer: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    answer.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\n") {
        Some(whole) => Ok(whole.strip_suffix(b"\r").unwrap_or(whole).to_vec()),
        None if line.is_empty() => Err(io::Error::other(
            "the connection was closed without an answer",
        )),
        None if line.len() as u64 >= ANSWER => Err(too_long()),
        None => Err(io::Error::other(
            "the connection was closed in the midst of an answer",
        )),
    }
}

/// The rest of a bulk string, whose length is given: its bytes may be any, also ends of lines.
fn bulk(length: &[u8], answer: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = std::str::from_utf8(length).ok();
    let length: u64 = length.and_then(|text| text.parse().ok()).ok_or_else(|| {
        io::Error::other("an answer whose length is no number; is this a server of RESP?")
    })?;
    if length > ANSWER {
        return Err(too_long());
    }
    let mut text = vec![0; length as usize + 2];
    answer.read_exact(&mut text).map_err(|error| match error {
        error if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::other("the connection was closed in the midst of an answer")
        }
        error => error,
    })?;
    if !text.ends_with(b"\r\n") {
        return Err(io::Error::other("an answer that is not as long as it says"));
    }
    text.truncate(length as usize);
    Ok(text)
}

fn too_long() -> io::Error {
    io::Error::other(format!("an answer of more than {ANSWER} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(60);

    /// A server that answers one connection with this, whatever it is asked.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = [0; 64];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
            // Open for as long as the client has patience.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        address
    }

    fn resp(answer: &'static str, expect: Option<&str>) -> Sample {
        let timeout = match answer {
            "" => SHORT,
            _ => LONG,
        };
        let probe = Probe::Resp {
            address: server(answer),
            send: vec!["GET".into(), "key".into()],
            expect: expect.map(str::to_owned),
        };
        look(&probe, Path::new("/"), timeout, CalledOff::NEVER).expect("no component's own")
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(resp("+PONG\r\n", None), Ok(()));
        assert_eq!(resp("$5\r\nvalue\r\n", Some("value")), Ok(()));
        assert_eq!(resp(":7\r\n", Some("7")), Ok(()));
        let lines = "one\r\ntwo\n";
        assert_eq!(resp("$9\r\none\r\ntwo\n\r\n", Some(lines)), Ok(()));
        for (answer, expect, why) in [
            ("-LOADING wait\r\n", None, "LOADING wait"),
            (
                "$5\r\nother\r\n",
                Some("value"),
                "`other` in place of `value`",
            ),
            ("$-1\r\n", Some("value"), "`-1` in place of `value`"),
            ("", None, "no answer within"),
            ("$x\r\n", None, "is no number"),
            ("$99999999999\r\n", None, "more than 65536 bytes"),
            ("$2\r\nvalue\r\n", Some("va"), "not as long as it says"),
        ] {
            let error = resp(answer, expect).unwrap_err();
            assert!(error.contains(why), "{answer:?}: {error}");
        }
    }

    #[test]
    fn an_address_that_nobody_listens_on_fails() {
        // Closed alone it may stay: another test's child has it until it runs a program.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("shut down");
        let probe = Probe::Tcp(address);
        let sample =
            look(&probe, Path::new("/"), LONG, CalledOff::NEVER).expect("no component's own");
        assert!(sample.unwrap_err().contains("refused"));
        let command = Probe::Command(vec!["false".into()]);
        let sample = look(&command, Path::new("/"), LONG, CalledOff::NEVER);
        assert!(sample.expect("no component's own").is_err());
    }

    /// A server that begins an answer, and never ends it: a byte in less time than a read waits for, again and again.
    fn dripping() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut begun = stream.write_all(b"+x");
            while begun.is_ok() {
                std::thread::sleep(SHORT / 4);
                begun = stream.write_all(b"x");
            }
        });
        address
    }

    fn ask_dripping(timeout: Duration, called_off: CalledOff<'_>) -> Sample {
        let probe = Probe::Resp {
            address: dripping(),
            send: vec!["PING".into()],
            expect: None,
        };
        look(&probe, Path::new("/"), timeout, called_off).expect("no component's own")
    }

    /// Without the deadline, neither would end.
    #[test]
    fn an_answer_that_drips_is_waited_for_until_the_deadline_or_until_nobody_wants_it() {
        let late = ask_dripping(SHORT, CalledOff::NEVER).unwrap_err();
        assert!(late.contains("no answer within 200ms"), "{late}");
        // Nor does the thread that reads.
        let late = ask(&dripping(), &[], None, Instant::now() + SHORT).unwrap_err();
        assert!(is_late(&late), "{late}");
        let begin = Instant::now();
        let soon = || begin.elapsed() > SHORT / 2;
        let late = ask_dripping(Duration::from_secs(86_400), CalledOff(&soon));
        assert!(late.is_err());
    }
}
