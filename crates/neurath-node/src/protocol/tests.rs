//! Frames are read as they were written; whatever else comes is an error.

use super::*;
use crate::catalog::ReleaseId;
use proptest::prelude::*;

fn requests() -> Vec<Request> {
    let release = ReleaseId::new("shop", "1.1.0");
    vec![
        Request::Status,
        Request::Plan {
            release: release.clone(),
            folder: None,
        },
        Request::Apply {
            release: release.clone(),
            plan_id: None,
            execute: false,
            reset: Vec::new(),
            no_snapshot: false,
        },
        Request::Apply {
            release: release.clone(),
            plan_id: Some("3b1f".to_owned()),
            execute: true,
            reset: Vec::new(),
            no_snapshot: false,
        },
        Request::Confirm,
        Request::Rollback {
            lose_writes: true,
            reset: Vec::new(),
        },
        Request::Stop,
        Request::Resume,
        Request::Abort,
        Request::Releases,
        Request::Check {
            release: ReleaseId::new("shop", "1.1.0"),
        },
        Request::Unpack {
            package: "/p".into(),
            allow_older: false,
        },
        Request::Install {
            folder: "/f".into(),
        },
        Request::SetUnpacked {
            release: ReleaseId::new("shop", "1.1.0"),
        },
        Request::Remove {
            release: ReleaseId::new("shop", "1.1.0"),
        },
        Request::Trust {
            name: "key".into(),
            key: "text".into(),
        },
        Request::Distrust { name: "key".into() },
        Request::Metrics,
        Request::Copy { out: "/c".into() },
        Request::Apply {
            release,
            plan_id: None,
            execute: true,
            reset: vec!["store".to_owned()],
            no_snapshot: true,
        },
        Request::Rollback {
            lose_writes: false,
            reset: vec!["store".to_owned()],
        },
        Request::RemoveSnapshot {
            name: "store.0.1".to_owned(),
        },
    ]
}

#[test]
fn frames_come_back_as_they_were() {
    for request in requests() {
        let bytes = encode(&request).unwrap();
        assert_eq!(
            read_frame::<Request>(&mut bytes.as_slice()).unwrap(),
            request
        );
        for length in 0..bytes.len() {
            match read_frame::<Request>(&mut &bytes[..length]) {
                Err(FrameError::Closed) => assert_eq!(length, 0),
                Err(FrameError::Truncated) => assert_ne!(length, 0),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The words of version 1: what they are here they stay.
#[test]
fn the_json_of_version_1_stays() {
    let lines: Vec<_> = requests()
        .iter()
        .map(|request| String::from_utf8(encode(request).unwrap()[4..].to_vec()).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            r#"{"version":1,"body":"status"}"#,
            r#"{"version":1,"body":{"plan":{"release":{"name":"shop","version":"1.1.0"}}}}"#,
            r#"{"version":1,"body":{"apply":{"release":{"name":"shop","version":"1.1.0"},"plan_id":null,"execute":false}}}"#,
            r#"{"version":1,"body":{"apply":{"release":{"name":"shop","version":"1.1.0"},"plan_id":"3b1f","execute":true}}}"#,
            r#"{"version":1,"body":"confirm"}"#,
            r#"{"version":1,"body":{"rollback":{"lose_writes":true}}}"#,
            r#"{"version":1,"body":"stop"}"#,
            r#"{"version":1,"body":"resume"}"#,
            r#"{"version":1,"body":"abort"}"#,
            r#"{"version":1,"body":"releases"}"#,
            r#"{"version":1,"body":{"check":{"release":{"name":"shop","version":"1.1.0"}}}}"#,
            r#"{"version":1,"body":{"unpack":{"package":"/p","allow_older":false}}}"#,
            r#"{"version":1,"body":{"install":{"folder":"/f"}}}"#,
            r#"{"version":1,"body":{"set_unpacked":{"release":{"name":"shop","version":"1.1.0"}}}}"#,
            r#"{"version":1,"body":{"remove":{"release":{"name":"shop","version":"1.1.0"}}}}"#,
            r#"{"version":1,"body":{"trust":{"name":"key","key":"text"}}}"#,
            r#"{"version":1,"body":{"distrust":{"name":"key"}}}"#,
            r#"{"version":1,"body":"metrics"}"#,
            r#"{"version":1,"body":{"copy":{"out":"/c"}}}"#,
            r#"{"version":1,"body":{"apply":{"release":{"name":"shop","version":"1.1.0"},"plan_id":null,"execute":true,"reset":["store"],"no_snapshot":true}}}"#,
            r#"{"version":1,"body":{"rollback":{"lose_writes":false,"reset":["store"]}}}"#,
            r#"{"version":1,"body":{"remove_snapshot":{"name":"store.0.1"}}}"#,
        ]
    );
}

#[test]
fn hostile_frames_are_named() {
    let frame = |json: &str| {
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        read_frame::<Request>(&mut bytes.as_slice())
    };
    assert!(matches!(
        frame(r#"{"version":2,"body":{"what":"ever"}}"#),
        Err(FrameError::Version { found: 2 })
    ));
    assert!(matches!(
        frame(r#"{"version":1,"body":"explode"}"#),
        Err(FrameError::Garbage(_))
    ));
    assert!(matches!(
        frame(r#"{"body":"status"}"#),
        Err(FrameError::Garbage(_))
    ));
    assert!(matches!(
        frame(r#"{"version":1}"#),
        Err(FrameError::Garbage(_))
    ));
    assert!(matches!(frame("\u{0}\u{1}"), Err(FrameError::Garbage(_))));
    assert!(matches!(
        frame(&"[".repeat(100_000)),
        Err(FrameError::Garbage(_))
    ));
    let deep = format!(r#"{{"version":1,"body":{}}}"#, "[".repeat(100_000));
    assert!(matches!(frame(&deep), Err(FrameError::Garbage(_))));
    assert!(matches!(
        read_frame::<Request>(&mut &[0xff; 64][..]),
        Err(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        encode(&"x".repeat(FRAME_LIMIT)),
        Err(FrameError::TooLong { .. })
    ));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_frame::<Request>(&mut bytes.as_slice());
        let _ = decode::<Answer>(&bytes);
    }
}
