//! The hand-over record: all that a node has in memory and the next one needs, beside the regions.
//!
//! `docs/handover-format.md` describes it byte by byte. Descriptors are numbers here: places in the list of
//! descriptors that goes with the record.

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Decoder, Encoder};
use super::errand::Errand;
use crate::catalog::ReleaseId;

/// The first bytes of a record.
pub const MAGIC: [u8; 8] = *b"NEURHND\n";
/// The version of the format that this code writes.
pub const FORMAT: u32 = 1;
/// Bytes before the payload: magic, format, descriptors, length.
pub const HEADER_BYTES: usize = 24;
/// Bytes of the checksum after the payload.
pub const CHECKSUM_BYTES: usize = 8;

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It ends too early.
    #[error("`{field}`: {needed} bytes belong there, and {found} follow")]
    Short {
        /// The field that is cut off.
        field: &'static str,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It is something else.
    #[error("`magic`: these are not the first bytes of a hand-over record")]
    Magic,
    /// A newer node wrote it.
    #[error("`format`: {found}, and this node reads {FORMAT}; go there by a release between")]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// Its length is not what it says.
    #[error("`length`: {stated} bytes of payload stated, {found} found")]
    Length {
        /// What it says.
        stated: u64,
        /// What is there.
        found: u64,
    },
    /// It is damaged.
    #[error("`checksum`: {stored:#018x} stored, {computed:#018x} computed")]
    Checksum {
        /// What the record says.
        stored: u64,
        /// What its bytes give.
        computed: u64,
    },
    /// A field that cannot be.
    #[error("`{field}`: {text}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        text: String,
    },
}

/// All that goes over.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The release that serves.
    pub release: ReleaseId,
    /// What is to be done when the next node serves.
    pub errand: Errand,
    /// The place of the descriptor of the directory's lock.
    pub lock: u32,
    /// The place of the control socket's descriptor.
    pub control: u32,
    /// The place of the connection that waits for the answer to the errand.
    pub asker: Option<u32>,
    /// Figures that go on.
    pub figures: FiguresRecord,
    /// What the event loop has.
    pub shard: ShardRecord,
}

/// Figures that go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FiguresRecord {
    /// Microseconds since the node's start.
    pub uptime_us: u64,
    /// Connections since then.
    pub connections_total: u64,
    /// Messages since then.
    pub messages: u64,
}

/// What an event loop has between two messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardRecord {
    /// The instances: component and number. Others refer to them by their place here.
    pub instances: Vec<(String, u32)>,
    /// Sockets that connections come in on.
    pub listeners: Vec<ListenerRecord>,
    /// Connections accepted so far, of which the next one's id is made.
    pub accepted: u64,
    /// Connections that are open.
    pub connections: Vec<ConnectionRecord>,
    /// Messages that wait.
    pub mailbox: Vec<MessageRecord>,
    /// Timers that run.
    pub timers: Vec<TimerRecord>,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerRecord {
    /// The instance that listens.
    pub owner: u32,
    /// The address in its own words.
    pub address: String,
    /// The place of its descriptor.
    pub descriptor: u32,
}

/// An open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Its id, by which components know it.
    pub id: u64,
    /// The instance that accepted it.
    pub owner: u32,
    /// The owner's 64 bits.
    pub user: u64,
    /// The place of its descriptor.
    pub descriptor: u32,
    /// What came in, and is not done with.
    pub input: Vec<u8>,
    /// What waits to be sent.
    pub output: Vec<u8>,
    /// The next place in its line of answers.
    pub next_token: u64,
    /// The place whose answer is sent next.
    pub next_reply: u64,
    /// Answers that wait for one before them, by place.
    pub parked: Vec<(u64, Vec<u8>)>,
    /// The place at which it is closed.
    pub close_at: Option<u64>,
    /// Whether the other side sends no more.
    pub ended: bool,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// The instance that it is for.
    pub to: u32,
    /// Who waits for the answer: connection and place in its line; zeros if nobody does.
    pub token: (u64, u64),
    /// What it says.
    pub bytes: Vec<u8>,
}

/// A timer that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerRecord {
    /// The instance that has set it.
    pub instance: u32,
    /// Its id.
    pub id: u64,
    /// Microseconds until it goes off.
    pub left_us: u64,
}

impl Record {
    /// The record as bytes; so many descriptors go with it.
    pub fn encode(&self, descriptors: u32) -> Vec<u8> {
        let mut payload = Encoder::default();
        payload.text(&self.release.name);
        payload.text(&self.release.version);
        payload.text(&self.errand.to_json());
        payload.u32(self.lock);
        payload.u32(self.control);
        option(&mut payload, self.asker.map(u64::from));
        payload.u64(self.figures.uptime_us);
        payload.u64(self.figures.connections_total);
        payload.u64(self.figures.messages);
        self.shard.encode(&mut payload);
        let payload = payload.into_bytes();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&descriptors.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a record that came with so many descriptors.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; nothing is taken of a record that is not whole.
    pub fn decode(bytes: &[u8], descriptors: u32) -> Result<Record, RecordError> {
        let payload = payload(bytes, descriptors)?;
        let mut from = Decoder::new(payload);
        let name = from.text("release name")?;
        let version = from.text("release version")?;
        let errand = Errand::from_json(&from.text("errand")?).map_err(|error| {
            let text = error.to_string();
            RecordError::Field {
                field: "errand",
                text,
            }
        })?;
        let mut places = Places::new(descriptors);
        let lock = places.take("lock", from.u32("lock")?)?;
        let control = places.take("control", from.u32("control")?)?;
        let asker = match read_option(&mut from, "asker")? {
            Some(place) => Some(places.take("asker", u32::try_from(place).unwrap_or(u32::MAX))?),
            None => None,
        };
        let figures = FiguresRecord {
            uptime_us: from.u64("uptime")?,
            connections_total: from.u64("connections")?,
            messages: from.u64("messages")?,
        };
        let shard = ShardRecord::decode(&mut from, &mut places)?;
        from.end()?;
        Ok(Record {
            release: ReleaseId::new(name, version),
            errand,
            lock,
            control,
            asker,
            figures,
            shard,
        })
    }
}

/// The payload of a record that is whole and of a known format.
fn payload(bytes: &[u8], descriptors: u32) -> Result<&[u8], RecordError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(RecordError::Magic);
    }
    let mut header = Decoder::new(&bytes[MAGIC.len()..]);
    let found = header.u32("format")?;
    if found > FORMAT {
        return Err(RecordError::NewerFormat { found });
    }
    if found == 0 {
        let text = "0 was never written".into();
        return Err(RecordError::Field {
            field: "format",
            text,
        });
    }
    let stated = header.u32("descriptors")?;
    let length = header.u64("length")?;
    let there = (bytes.len().saturating_sub(HEADER_BYTES + CHECKSUM_BYTES)) as u64;
    if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES || length != there {
        return Err(RecordError::Length {
            stated: length,
            found: there,
        });
    }
    let (sealed, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    let mut stored = [0; CHECKSUM_BYTES];
    stored.copy_from_slice(checksum);
    let (stored, computed) = (u64::from_le_bytes(stored), xxh3_64(sealed));
    if stored != computed {
        return Err(RecordError::Checksum { stored, computed });
    }
    if stated != descriptors {
        let text = format!("{stated} belong to it, and {descriptors} came with it");
        return Err(RecordError::Field {
            field: "descriptors",
            text,
        });
    }
    Ok(&sealed[HEADER_BYTES..])
}

impl ShardRecord {
    fn encode(&self, to: &mut Encoder) {
        to.count(self.instances.len());
        for (component, number) in &self.instances {
            to.text(component);
            to.u32(*number);
        }
        to.count(self.listeners.len());
        for listener in &self.listeners {
            to.u32(listener.owner);
            to.text(&listener.address);
            to.u32(listener.descriptor);
        }
        to.u64(self.accepted);
        to.count(self.connections.len());
        for connection in &self.connections {
            connection.encode(to);
        }
        to.count(self.mailbox.len());
        for message in &self.mailbox {
            to.u32(message.to);
            to.u64(message.token.0);
            to.u64(message.token.1);
            to.bytes(&message.bytes);
        }
        to.count(self.timers.len());
        for timer in &self.timers {
            to.u32(timer.instance);
            to.u64(timer.id);
            to.u64(timer.left_us);
        }
    }

    fn decode(from: &mut Decoder<'_>, places: &mut Places) -> Result<ShardRecord, RecordError> {
        let mut shard = ShardRecord::default();
        for _ in 0..from.count("instances", 12)? {
            let component = from.text("component")?;
            shard.instances.push((component, from.u32("instance")?));
        }
        let instances = shard.instances.len();
        for _ in 0..from.count("listeners", 16)? {
            shard.listeners.push(ListenerRecord {
                owner: instance(from.u32("listener owner")?, instances, "listener owner")?,
                address: from.text("address")?,
                descriptor: places.take("listener", from.u32("listener")?)?,
            });
        }
        shard.accepted = from.u64("accepted")?;
        for _ in 0..from.count("connections", ConnectionRecord::LEAST)? {
            let connection = ConnectionRecord::decode(from, places, instances)?;
            shard.connections.push(connection);
        }
        for _ in 0..from.count("mailbox", 28)? {
            shard.mailbox.push(MessageRecord {
                to: instance(from.u32("message to")?, instances, "message to")?,
                token: (from.u64("token")?, from.u64("token")?),
                bytes: from.bytes("message")?,
            });
        }
        for _ in 0..from.count("timers", 20)? {
            shard.timers.push(TimerRecord {
                instance: instance(from.u32("timer of")?, instances, "timer of")?,
                id: from.u64("timer")?,
                left_us: from.u64("timer left")?,
            });
        }
        Ok(shard)
    }
}

impl ConnectionRecord {
    /// Bytes of one without any bytes in it.
    const LEAST: usize = 66;

    fn encode(&self, to: &mut Encoder) {
        to.u64(self.id);
        to.u32(self.owner);
        to.u64(self.user);
        to.u32(self.descriptor);
        to.bytes(&self.input);
        to.bytes(&self.output);
        to.u64(self.next_token);
        to.u64(self.next_reply);
        to.count(self.parked.len());
        for (place, bytes) in &self.parked {
            to.u64(*place);
            to.bytes(bytes);
        }
        option(to, self.close_at);
        to.u8(u8::from(self.ended));
    }

    fn decode(
        from: &mut Decoder<'_>,
        places: &mut Places,
        instances: usize,
    ) -> Result<ConnectionRecord, RecordError> {
        let mut connection = ConnectionRecord {
            id: from.u64("connection")?,
            owner: instance(from.u32("connection owner")?, instances, "connection owner")?,
            user: from.u64("user")?,
            descriptor: places.take("connection", from.u32("connection")?)?,
            input: from.bytes("input")?,
            output: from.bytes("output")?,
            next_token: from.u64("next token")?,
            next_reply: from.u64("next reply")?,
            parked: Vec::new(),
            close_at: None,
            ended: false,
        };
        if connection.next_reply > connection.next_token {
            return Err(RecordError::Field {
                field: "next reply",
                text: "it is past the places that were taken".into(),
            });
        }
        for _ in 0..from.count("parked", 16)? {
            let place = from.u64("parked place")?;
            connection.parked.push((place, from.bytes("parked")?));
        }
        connection.close_at = read_option(from, "close at")?;
        connection.ended = from.flag("ended")?;
        Ok(connection)
    }
}

fn option(to: &mut Encoder, value: Option<u64>) {
    to.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        to.u64(value);
    }
}

fn read_option(from: &mut Decoder<'_>, field: &'static str) -> Result<Option<u64>, RecordError> {
    match from.flag(field)? {
        true => Ok(Some(from.u64(field)?)),
        false => Ok(None),
    }
}

/// An instance's place that there is.
fn instance(place: u32, instances: usize, field: &'static str) -> Result<u32, RecordError> {
    if (place as usize) < instances {
        return Ok(place);
    }
    let text = format!("instance {place} of {instances}");
    Err(RecordError::Field { field, text })
}

/// The descriptors that came along, each of which is meant once.
struct Places(Vec<bool>);

impl Places {
    fn new(descriptors: u32) -> Self {
        Self(vec![false; descriptors as usize])
    }

    fn take(&mut self, field: &'static str, place: u32) -> Result<u32, RecordError> {
        let wrong = |text| Err(RecordError::Field { field, text });
        match self.0.get_mut(place as usize) {
            None => wrong(format!("descriptor {place} of {}", self.0.len())),
            Some(true) => wrong(format!("descriptor {place} is another's")),
            Some(free) => {
                *free = true;
                Ok(place)
            }
        }
    }
}
