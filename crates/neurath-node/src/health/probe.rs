//! Making a health check: one look at the release from outside.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

use neurath_manifest::Probe;

use super::Sample;
use crate::command;

/// An answer longer than this is none that a health check waits for, in bytes.
const ANSWER: u64 = 64 << 10;

/// Makes a check that needs nothing of the node but its directory; nothing if it is one of a
/// component's own, which the node asks.
pub(crate) fn look(probe: &Probe, directory: &Path, timeout: Duration) -> Option<Sample> {
    Some(match probe {
        Probe::Command(words) => {
            command::run(words, directory, timeout).map_err(|error| error.to_string())
        }
        Probe::Tcp(address) => connect(address, timeout).map(drop),
        Probe::Resp {
            address,
            send,
            expect,
        } => ask(address, send, expect.as_deref(), timeout),
        Probe::Component(_) => return None,
    })
}

fn connect(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    let said = |error: std::io::Error| format!("{address}: {error}");
    let mut last = format!("{address} is no address");
    for address in address.to_socket_addrs().map_err(said)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

fn ask(address: &str, send: &[String], expect: Option<&str>, timeout: Duration) -> Sample {
    let until = Instant::now() + timeout;
    let stream = connect(address, timeout)?;
    let said = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("{address}: no answer within {timeout:?}")
        }
        _ => format!("{address}: {error}"),
    };
    let left = until.saturating_duration_since(Instant::now());
    let left = left.max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).map_err(said)?;
    stream.set_write_timeout(Some(left)).map_err(said)?;
    let mut request = format!("*{}\r\n", send.len()).into_bytes();
    for word in send {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    (&stream).write_all(&request).map_err(said)?;
    let mut answer = BufReader::new(stream.take(ANSWER));
    let mut line = String::new();
    answer.read_line(&mut line).map_err(said)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(format!(
            "{address}: the connection was closed without an answer"
        ));
    };
    let text = match kind {
        "-" => return Err(format!("{address}: {rest}")),
        "$" if rest != "-1" => {
            let mut text = String::new();
            answer.read_line(&mut text).map_err(said)?;
            text.trim_end_matches("\r\n").to_owned()
        }
        _ => rest.to_owned(),
    };
    match expect {
        Some(expected) if text != expected => {
            Err(format!("{address}: `{text}` in place of `{expected}`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(200);

    /// A server that answers one connection with this, whatever it is asked.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = [0; 64];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
            std::thread::sleep(SHORT * 2);
        });
        address
    }

    fn resp(answer: &'static str, expect: Option<&str>) -> Sample {
        let probe = Probe::Resp {
            address: server(answer),
            send: vec!["GET".into(), "key".into()],
            expect: expect.map(str::to_owned),
        };
        look(&probe, Path::new("/"), SHORT).expect("no component's own")
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(resp("+PONG\r\n", None), Ok(()));
        assert_eq!(resp("$5\r\nvalue\r\n", Some("value")), Ok(()));
        assert_eq!(resp(":7\r\n", Some("7")), Ok(()));
        for (answer, expect, why) in [
            ("-LOADING wait\r\n", None, "LOADING wait"),
            (
                "$5\r\nother\r\n",
                Some("value"),
                "`other` in place of `value`",
            ),
            ("$-1\r\n", Some("value"), "`-1` in place of `value`"),
            ("", None, "no answer within"),
        ] {
            let error = resp(answer, expect).unwrap_err();
            assert!(error.contains(why), "{answer:?}: {error}");
        }
    }

    #[test]
    fn an_address_that_nobody_listens_on_fails() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("its address").to_string()
        };
        let probe = Probe::Tcp(address);
        let sample = look(&probe, Path::new("/"), SHORT).expect("no component's own");
        assert!(sample.unwrap_err().contains("refused"));
        let command = Probe::Command(vec!["false".into()]);
        let sample = look(&command, Path::new("/"), Duration::from_secs(5));
        assert!(sample.expect("no component's own").is_err());
    }
}
