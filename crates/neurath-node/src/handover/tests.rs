//! Tests of the record.

use std::path::Path;

use super::errand::Errand;
use super::record::*;
use crate::catalog::ReleaseId;

fn record() -> Record {
    Record {
        release: ReleaseId::new("kv", "1.1.0"),
        errand: Errand::Restart {
            operation: "restart-7".into(),
            who: "uid 0 pid 1".into(),
            since_us: 1_000_000,
            window: None,
        },
        lock: 0,
        control: 1,
        asker: Some(2),
        figures: FiguresRecord {
            uptime_us: 5,
            connections_total: 9,
            messages: 1000,
        },
        shard: ShardRecord {
            instances: vec![("gateway".into(), 0), ("store".into(), 0)],
            listeners: vec![ListenerRecord {
                owner: 0,
                address: "127.0.0.1:7379".into(),
                descriptor: 3,
            }],
            accepted: 9,
            connections: vec![
                connection(4, 3 << 24, Some(11)),
                connection(5, 9 << 24 | 1, None),
            ],
            mailbox: vec![MessageRecord {
                to: 1,
                token: (3 << 24, 8),
                bytes: b"GET key".to_vec(),
            }],
            timers: vec![TimerRecord {
                instance: 1,
                id: 1,
                left_us: 250_000,
            }],
        },
    }
}

fn connection(descriptor: u32, id: u64, close_at: Option<u64>) -> ConnectionRecord {
    ConnectionRecord {
        id,
        owner: 0,
        user: 3,
        descriptor,
        input: b"*2\r\n$3\r\nGE".to_vec(),
        output: b"+OK\r\n".to_vec(),
        next_token: 11,
        next_reply: 8,
        parked: vec![(9, b"$1\r\nx\r\n".to_vec()), (10, Vec::new())],
        close_at,
        ended: close_at.is_some(),
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    let record = record();
    assert_eq!(Record::decode(&record.encode(6), 6), Ok(record));
}

#[test]
fn every_damage_is_refused() {
    let bytes = record().encode(6);
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            assert!(Record::decode(&damaged, 6).is_err(), "byte {at}");
        }
        assert!(Record::decode(&bytes[..at], 6).is_err(), "{at} bytes");
    }
    let longer = [&bytes[..], b"x"].concat();
    let refused = Record::decode(&longer, 6);
    assert!(
        matches!(refused, Err(RecordError::Length { .. })),
        "{refused:?}"
    );
    assert_eq!(Record::decode(b"", 0), Err(RecordError::Magic));
}

/// The record with other bytes at a place, and the checksum that belongs to them.
fn forged(at: usize, with: &[u8]) -> Result<Record, RecordError> {
    let mut bytes = record().encode(6);
    bytes[at..at + with.len()].copy_from_slice(with);
    let end = bytes.len() - CHECKSUM_BYTES;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    Record::decode(&bytes, 6)
}

#[test]
fn what_another_node_has_written_is_refused_by_name() {
    let newer = forged(8, &2_u32.to_le_bytes());
    assert_eq!(newer, Err(RecordError::NewerFormat { found: 2 }));
    let text = newer.map(drop).unwrap_err().to_string();
    assert!(text.contains("`format`: 2"), "{text}");
    assert!(forged(8, &0_u32.to_le_bytes()).is_err());
    let descriptors = forged(12, &7_u32.to_le_bytes()).map(drop);
    let text = descriptors.unwrap_err().to_string();
    assert!(text.contains("7 belong to it, and 6 came"), "{text}");
    // The length of the release's name, larger than all of the record.
    let huge = forged(HEADER_BYTES, &u64::MAX.to_le_bytes());
    let huge = huge.map(drop).unwrap_err().to_string();
    assert!(huge.starts_with("`release name`"), "{huge}");
}

#[test]
fn no_descriptor_is_meant_twice_and_no_instance_is_unknown() {
    let told = |change: fn(&mut Record)| {
        let mut record = record();
        change(&mut record);
        Record::decode(&record.encode(6), 6)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(told(|one| one.asker = Some(1)).contains("descriptor 1 is another's"));
    assert!(told(|one| one.control = 6).contains("descriptor 6 of 6"));
    assert!(told(|one| one.shard.timers[0].instance = 2).contains("instance 2 of 2"));
    assert!(told(|one| one.shard.connections[0].next_reply = 12).starts_with("`next reply`"));
}

#[test]
fn bytes_at_random_are_no_record_and_no_panic() {
    let seed: u64 = 0x5eed;
    let mut state = seed;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    let good = record().encode(6);
    for _ in 0..20_000 {
        let at = HEADER_BYTES + next() % (good.len() - HEADER_BYTES - CHECKSUM_BYTES - 8);
        let value = match next() % 3 {
            0 => u64::MAX,
            1 => 1 << (next() % 64),
            _ => next() as u64,
        };
        // It may mean something else now, but never more than there is.
        let _ = forged(at, &value.to_le_bytes());
    }
}

#[test]
fn the_first_format_stays_readable() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/handover-1/record");
    let bytes = std::fs::read(&file).expect("the fixture, which is never renewed");
    assert_eq!(Record::decode(&bytes, 6), Ok(record()));
}
