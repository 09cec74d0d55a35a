//! Requests as bytes: the way there and back, and whatever else might arrive.

use kv_commands::{
    Command, Context, DecodeError, ExpireCondition, GetExChange, KvVersion, Request, SetCondition,
    SetExpiry, TtlKind, encode_request, glob_match,
};
use kv_resp::Protocol;
use proptest::collection::vec;
use proptest::prelude::*;

fn examples<'a>(key: &'a [u8], value: &'a [u8], number: i64) -> Vec<Request<'a>> {
    let mut all = vec![
        Request::Get(key),
        Request::SetNx { key, value },
        Request::GetDel(key),
        Request::Append { key, value },
        Request::Strlen(key),
        Request::MGet(vec![key, value]),
        Request::MGet(Vec::new()),
        Request::MSet(vec![(key, value), (value, key)]),
        Request::MSetNx(vec![(key, value)]),
        Request::Del(vec![key, value, key]),
        Request::Exists(vec![key]),
        Request::Type(key),
        Request::IncrBy { key, by: number },
        Request::Persist(key),
        Request::Keys(key),
        Request::RandomKey,
        Request::Flush,
        Request::DbSize,
        Request::Info {
            text: value,
            keyspace: true,
        },
    ];
    for expiry in [SetExpiry::Never, SetExpiry::Keep, SetExpiry::At(number)] {
        for condition in [
            SetCondition::Always,
            SetCondition::IfMissing,
            SetCondition::IfPresent,
        ] {
            for get in [false, true] {
                all.push(Request::Set {
                    key,
                    value,
                    condition,
                    get,
                    expiry,
                });
            }
        }
    }
    for change in [
        GetExChange::None,
        GetExChange::Persist,
        GetExChange::At(number),
    ] {
        all.push(Request::GetEx { key, change });
    }
    for kind in [
        TtlKind::Seconds,
        TtlKind::Millis,
        TtlKind::AtSeconds,
        TtlKind::AtMillis,
    ] {
        all.push(Request::Ttl { key, kind });
    }
    for flags in 0..16 {
        let condition = ExpireCondition {
            nx: flags & 1 != 0,
            xx: flags & 2 != 0,
            gt: flags & 4 != 0,
            lt: flags & 8 != 0,
        };
        all.push(Request::ExpireAt {
            key,
            at_ms: number,
            condition,
        });
    }
    for pattern in [None, Some(key)] {
        for kind in [None, Some(value)] {
            let cursor = number.unsigned_abs();
            all.push(Request::Scan {
                cursor,
                pattern,
                count: 10,
                kind,
            });
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_and_back(key in vec(any::<u8>(), 0..200), value in vec(any::<u8>(), 0..20), number in any::<i64>()) {
        for request in examples(&key, &value, number) {
            let mut bytes = Vec::new();
            prop_assert!(encode_request(&Command::Store(request.clone()), Protocol::Resp3, &mut bytes));
            let newer = Request::decode(&bytes, KvVersion::V1_1);
            prop_assert_eq!(newer, Ok((Protocol::Resp3, request.clone())));
            let older = Request::decode(&bytes, KvVersion::V1_0);
            if request.needs() == KvVersion::V1_0 {
                prop_assert_eq!(older, Ok((Protocol::Resp3, request)));
            } else {
                prop_assert_eq!(older, Err(DecodeError::Newer { format: 2 }));
            }
            for cut in 0..bytes.len() {
                prop_assert!(Request::decode(&bytes[..cut], KvVersion::V1_1).is_err());
            }
            bytes.push(0);
            prop_assert_eq!(Request::decode(&bytes, KvVersion::V1_1), Err(DecodeError::TooLong));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(head in 0u8..4, protocol in 0u8..5, operation in 0u8..30, rest in vec(any::<u8>(), 0..40)) {
        let mut bytes = vec![head, protocol, operation];
        bytes.extend_from_slice(&rest);
        let _ = Request::decode(&bytes, KvVersion::V1_0);
        if let Ok((protocol, request)) = Request::decode(&bytes, KvVersion::V1_1) {
            let mut again = Vec::new();
            request.encode(protocol, &mut again);
            prop_assert_eq!(Request::decode(&again, KvVersion::V1_1), Ok((protocol, request)));
        }
        let _ = Request::decode(&rest, KvVersion::V1_1);
    }

    #[test]
    fn any_arguments(argv in vec(prop_oneof![
        vec(any::<u8>(), 0..6),
        proptest::sample::select(vec!["set", "get", "ex", "px", "nx", "xx", "10", "-1", "hello", "client", "scan", "match", "count", "expire", "getex", "mset", "command", "list", "config", "info", "9223372036854775807"]).prop_map(|word| word.as_bytes().to_vec()),
    ], 0..6), now_ms in any::<i64>()) {
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        for version in [KvVersion::V1_0, KvVersion::V1_1] {
            match Command::parse(&argv, &Context { version, now_ms }) {
                Ok(Command::Store(request)) => prop_assert!(request.needs() <= version),
                Ok(Command::Local(_)) => {}
                Err(error) => prop_assert!(!error.text().iter().any(|byte| matches!(byte, b'\r' | b'\n'))),
            }
        }
    }

    #[test]
    fn any_pattern(pattern in vec(proptest::sample::select(b"ab*?[]^-\\".to_vec()), 0..12), text in vec(any::<u8>(), 0..12)) {
        let _ = glob_match(&pattern, &text);
        prop_assert!(text.is_empty() || glob_match(b"*", &text));
    }
}
