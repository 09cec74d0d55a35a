//! Requests and their answers over a real socket: in order, cut off, too long, from somebody else, from many at once.

use super::*;
use crate::catalog::ReleaseId;
use crate::client::{Client, ClientError};
use crate::protocol::{Outcome, VERSION};
use std::io::Write as _;
use std::sync::Barrier;

fn node() -> (tempfile::TempDir, NodeDirectory) {
    let folder = tempfile::tempdir().unwrap();
    let node = NodeDirectory::create(folder.path().join("node")).unwrap();
    (folder, node)
}

fn answer(request: Request, progress: &mut dyn FnMut(Progress)) -> Response {
    match request {
        Request::Confirm => {
            for index in 0..3 {
                progress(Progress {
                    step: format!("step {index}"),
                    index,
                    of: 3,
                    micros: 7,
                });
            }
            Response::done(Outcome::Confirmed {
                release: ReleaseId::new("shop", "1.1.0"),
                unloaded: Vec::new(),
                retained: Vec::new(),
                deleted: Vec::new(),
            })
        }
        Request::Rollback { .. } => panic!("a rock"),
        Request::Stop => Response::done(Outcome::Stopping),
        Request::Apply { .. } => {
            // More than any socket buffer takes from a client that does not read.
            for index in 0..20_000 {
                progress(Progress {
                    step: "x".repeat(200),
                    index,
                    of: 20_000,
                    micros: 1,
                });
            }
            Response::failed(code::STALE, "the plan is stale")
        }
        _ => Response::failed(code::BUSY, "busy"),
    }
}

#[test]
fn a_request_is_answered_with_its_progress() {
    let (_folder, node) = node();
    let server = ControlServer::bind(&node).unwrap();
    let mode = std::fs::metadata(node.control_socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let handle = server.serve(answer).unwrap();
    let mut client = Client::connect(node.path()).unwrap();
    for _ in 0..3 {
        let mut steps = Vec::new();
        let response = client
            .request(&Request::Confirm, |progress| steps.push(progress.index))
            .unwrap();
        assert_eq!(
            response,
            Response::done(Outcome::Confirmed {
                release: ReleaseId::new("shop", "1.1.0"),
                unloaded: Vec::new(),
                retained: Vec::new(),
                deleted: Vec::new(),
            })
        );
        assert_eq!(steps, [0, 1, 2]);
    }
    assert_eq!(
        client.request(&Request::Status, |_| ()).unwrap(),
        Response::failed(code::BUSY, "busy")
    );
    match client.request(&Request::rollback(), |_| ()).unwrap() {
        Response::Failed(failure) => {
            assert_eq!(failure.code, code::OPERATOR);
            assert!(failure.message.contains("a rock"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        client.request(&Request::Stop, |_| ()).unwrap(),
        Response::done(Outcome::Stopping)
    );
    handle.stop();
    assert!(!node.control_socket().exists());
    match Client::connect(node.path()) {
        Err(error @ ClientError::NoNode { .. }) => {
            assert!(error.to_string().contains("no node runs in"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        client.request(&Request::Confirm, |_| ()),
        Err(ClientError::NoAnswer { .. })
    ));
}

#[test]
fn a_stale_socket_is_replaced() {
    let (_folder, node) = node();
    for path in [node.control_socket(), node.path().join(SOCKET_NEW)] {
        let listener = UnixListener::bind(path).unwrap();
        // Closed alone it may stay: another test's child has it until it runs a program.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    }
    assert!(matches!(
        Client::connect(node.path()),
        Err(ClientError::NoNode { .. })
    ));
    let _handle = ControlServer::bind(&node).unwrap().serve(answer).unwrap();
    Client::connect(node.path())
        .unwrap()
        .request(&Request::Confirm, |_| ())
        .unwrap();
}

#[test]
fn a_long_path_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = folder.path().to_owned();
    for _ in 0..4 {
        long.push("d".repeat(60));
    }
    assert!(matches!(
        Client::connect(&long),
        Err(ClientError::NoNode { .. })
    ));
    std::fs::create_dir_all(&long).unwrap();
    let node = NodeDirectory::create(&long).unwrap();
    assert!(matches!(
        Client::connect(&long),
        Err(ClientError::NoNode { .. })
    ));
    let handle = ControlServer::bind(&node).unwrap().serve(answer).unwrap();
    Client::connect(&long)
        .unwrap()
        .request(&Request::Confirm, |_| ())
        .unwrap();
    handle.stop();
    assert!(!node.control_socket().exists());
}

#[test]
fn hostile_clients_get_an_error_or_the_end_and_harm_nobody() {
    let (_folder, node) = node();
    let limits = Limits {
        idle: Duration::from_secs(3),
        frame: Duration::from_secs(2),
    };
    let handle = ControlServer::bind(&node)
        .unwrap()
        .with_limits(limits)
        .serve(answer)
        .unwrap();
    let framed = |json: &str| {
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    };
    let cases: [(Vec<u8>, &str); 5] = [
        (vec![0xff; 100], "longer than"),
        (framed(&"\u{1}".repeat(50)), "cannot be understood"),
        (framed(r#"{"version":9,"body":"status"}"#), "version 9"),
        (
            framed(r#"{"version":1,"body":"status"}"#)[..12].to_vec(),
            "in time",
        ),
        (Vec::new(), "in time"),
    ];
    for (bytes, expected) in cases {
        let mut stream = UnixStream::connect(node.control_socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.write_all(&bytes).unwrap();
        match read_frame(&mut stream).unwrap() {
            Answer::Failed(failure) => {
                assert!(failure.message.contains(expected), "{}", failure.message)
            }
            other => panic!("{other:?}"),
        }
    }
    // One byte at a time does not keep a frame open for ever.
    let mut slow = UnixStream::connect(node.control_socket()).unwrap();
    let begun = Instant::now();
    for byte in framed(&" ".repeat(1000)) {
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    // All of them would have taken longer.
    assert!(begun.elapsed() < Duration::from_secs(20));
    Client::connect(node.path())
        .unwrap()
        .request(&Request::Confirm, |_| ())
        .unwrap();
    handle.stop();
}

#[test]
fn a_client_that_does_not_read_holds_up_no_upgrade() {
    let (_folder, node) = node();
    let limits = Limits {
        idle: Duration::from_secs(60),
        frame: Duration::from_secs(30),
    };
    let (send, receive) = mpsc::channel();
    let handler = move |request: Request, progress: &mut dyn FnMut(Progress)| {
        let begun = Instant::now();
        let response = answer(request, progress);
        send.send(begun.elapsed()).unwrap();
        response
    };
    let handle = ControlServer::bind(&node)
        .unwrap()
        .with_limits(limits)
        .serve(handler)
        .unwrap();
    let mut stream = UnixStream::connect(node.control_socket()).unwrap();
    let request = Request::apply(ReleaseId::new("shop", "1.1.0"));
    write_frame(&mut stream, &request).unwrap();
    let took = receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(took < limits.frame, "{took:?}");
    // Otherwise the server's end would be waited for as long.
    drop(stream);
    handle.stop();
}

#[test]
fn one_client_too_many_is_told_so_and_idle_ones_end_with_the_server() {
    let (_folder, node) = node();
    let handle = ControlServer::bind(&node).unwrap().serve(answer).unwrap();
    let mut clients: Vec<_> = (0..CONNECTION_LIMIT)
        .map(|_| Client::connect(node.path()).unwrap())
        .collect();
    for client in &mut clients {
        client.request(&Request::Confirm, |_| ()).unwrap();
    }
    assert_eq!(handle.clients(), CONNECTION_LIMIT);
    match Client::connect(node.path())
        .unwrap()
        .request(&Request::Confirm, |_| ())
    {
        Ok(Response::Failed(failure)) => assert_eq!(failure.code, code::BUSY),
        other => panic!("{other:?}"),
    }
    let begun = Instant::now();
    handle.stop();
    assert!(begun.elapsed() < Limits::default().idle);
}

#[test]
fn stopping_waits_for_the_request_under_way() {
    let (_folder, node) = node();
    let begun = Arc::new(Barrier::new(2));
    let in_handler = Arc::clone(&begun);
    let handler = move |request: Request, progress: &mut dyn FnMut(Progress)| {
        in_handler.wait();
        thread::sleep(Duration::from_millis(100));
        answer(request, progress)
    };
    let handle = ControlServer::bind(&node).unwrap().serve(handler).unwrap();
    let mut client = Client::connect(node.path()).unwrap();
    let asking = thread::spawn(move || client.request(&Request::Confirm, |_| ()));
    begun.wait();
    handle.stop();
    assert!(matches!(asking.join().unwrap(), Ok(Response::Done(_))));
}

#[test]
fn only_the_own_user_and_root_may_control() {
    assert!(may_control(1000, 1000) && may_control(0, 1000));
    assert!(!may_control(1001, 1000) && !may_control(1000, 0));
    assert_eq!(VERSION, 1);
}
