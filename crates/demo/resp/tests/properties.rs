//! Whatever the bytes and wherever they are cut.

use kv_resp::{
    Args, Progress, Protocol, ProtocolError, Writer, encode_command, parse, parse_reply,
    split_inline,
};
use proptest::prelude::*;

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds the pieces one after the other, as a connection would.
fn feed(pieces: &[&[u8]]) -> Outcome {
    let mut buffer: Vec<u8> = Vec::new();
    let mut args = Args::new();
    let mut requests = Vec::new();
    let mut at_least = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if buffer.len() < at_least {
            continue;
        }
        loop {
            match parse(&buffer, &mut args) {
                Ok(Progress::Complete { consumed }) => {
                    requests.push(args.iter(&buffer).map(<[u8]>::to_vec).collect());
                    buffer.drain(..consumed);
                }
                Ok(Progress::Incomplete { needed }) => {
                    assert!(needed > buffer.len(), "asks for nothing");
                    at_least = needed;
                    break;
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

/// Bytes that look like the protocol more often than chance has them.
fn protocol_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec()),
        Just(b"*1\r\n".to_vec()),
        Just(b"$0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"set 'a b' \"c\\x00\\n\" d\"e\"\r\n".to_vec()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"%1\r\n:1\r\n_\r\n".to_vec()),
        Just(b"*".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::collection::vec(
            proptest::sample::select(b"*$+-:%~,#_=!|\r\n019ab '\"\\x".to_vec()),
            0..8
        ),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_cut_anywhere_changes_nothing(bytes in protocol_like(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..3)) {
        let whole = feed(&[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&feed(&single), &whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in at {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(&feed(&pieces), &whole);
    }

    #[test]
    fn replies_never_panic_and_a_prefix_never_differs(bytes in protocol_like()) {
        let whole = parse_reply(&bytes);
        if let Ok(Some((_, consumed))) = &whole {
            for cut in 0..*consumed {
                prop_assert_eq!(parse_reply(&bytes[..cut]), Ok(None));
            }
            prop_assert_eq!(parse_reply(&bytes[..*consumed]), whole.clone());
        }
        let _ = split_inline(&bytes);
    }

    #[test]
    fn what_is_encoded_is_parsed(argv in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..12)) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &argv);
        prop_assert_eq!(feed(&[&bytes]), (vec![argv.clone()], None));
        let mut reply = Vec::new();
        let mut writer = Writer::new(&mut reply, Protocol::Resp3);
        writer.array(argv.len());
        for argument in &argv {
            writer.bulk(argument);
        }
        let (value, consumed) = parse_reply(&reply).expect("valid").expect("whole");
        prop_assert_eq!(consumed, reply.len());
        prop_assert_eq!(value, kv_resp::Value::Array(argv.into_iter().map(kv_resp::Value::Bulk).collect()));
    }
}
