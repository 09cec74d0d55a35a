//! What a shard holds in memory, taken out for a node that takes over, and put into the shard of that one.

use std::io;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Token as PollToken};
use neurath_abi::Token;

use super::connection::Connection;
use super::{CALLER, Envelope, FIRST_CONNECTION, SLOT_BITS, Shard};
use crate::handover::parcel::Descriptors;
use crate::handover::record::{
    ConnectionRecord, ListenerRecord, MessageRecord, RecordError, ShardRecord, TimerRecord,
};

/// Why a shard cannot go on with what another has left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("what was handed over is of {0}, which does not run here")]
    Instance(String),
    #[error("a socket that was handed over cannot be used: {0}")]
    Socket(#[from] io::Error),
}

impl Shard {
    /// Writes down all that it holds; its descriptors are appended to `descriptors`. Callers of this process are
    /// left out: they end with it.
    pub(crate) fn carry<'a>(&'a self, descriptors: &mut Vec<BorrowedFd<'a>>) -> ShardRecord {
        let now = Instant::now();
        let mut place = |descriptor: BorrowedFd<'a>| {
            descriptors.push(descriptor);
            (descriptors.len() - 1) as u32
        };
        let instances = self.instances.iter();
        let listeners = self.listeners.iter().flatten();
        let listeners = listeners
            .map(|listener| ListenerRecord {
                owner: listener.owner as u32,
                address: listener.address.clone(),
                descriptor: place(listener.socket.as_fd()),
            })
            .collect();
        let open = self.connections.slots.iter().flatten();
        let connections = open
            .filter_map(|connection| connection.carry(&mut place))
            .collect();
        let mailbox = self.mailbox.iter().map(|envelope| MessageRecord {
            to: envelope.to as u32,
            token: match envelope.token.target & CALLER {
                0 => (envelope.token.target, envelope.token.sequence),
                _ => (0, 0),
            },
            bytes: envelope.bytes.clone(),
        });
        let timers = self.timers.all().map(|(at, instance, id)| TimerRecord {
            instance: instance as u32,
            id,
            left_us: u64::try_from(at.saturating_duration_since(now).as_micros())
                .unwrap_or(u64::MAX),
        });
        ShardRecord {
            instances: instances
                .map(|instance| (instance.component.clone(), instance.number))
                .collect(),
            listeners,
            accepted: self.connections.accepted,
            connections,
            mailbox: mailbox.collect(),
            timers: timers.collect(),
        }
    }

    /// Goes on with what another has left. This one is new, and stands still.
    pub(crate) fn adopt(
        &mut self,
        record: ShardRecord,
        descriptors: &mut Descriptors,
    ) -> Result<(), AdoptError> {
        let known = |(component, number): &(String, u32)| {
            let at = self.place(component, *number);
            at.ok_or_else(|| AdoptError::Instance(format!("{component}.{number}")))
        };
        let places: Vec<usize> = record
            .instances
            .iter()
            .map(known)
            .collect::<Result<_, _>>()?;
        for listener in record.listeners {
            let socket = StdListener::from(descriptors.take(listener.descriptor)?);
            socket.set_nonblocking(true)?;
            self.listen(places[listener.owner as usize], listener.address, socket);
        }
        self.connections.accepted = record.accepted;
        for connection in record.connections {
            let owner = places[connection.owner as usize];
            self.adopt_connection(connection, owner, descriptors)?;
        }
        let slots = 0..self.connections.slots.len();
        self.connections.free = slots
            .filter(|slot| self.connections.slots[*slot].is_none())
            .collect();
        for message in record.mailbox {
            self.mailbox.push_back(Envelope {
                to: places[message.to as usize],
                token: Token {
                    target: message.token.0,
                    sequence: message.token.1,
                },
                bytes: message.bytes,
            });
        }
        let now = Instant::now();
        for timer in record.timers {
            // One so far away that the clock cannot tell is due next year.
            let left = Duration::from_micros(timer.left_us).min(Duration::from_secs(366 * 86_400));
            self.timers
                .set(places[timer.instance as usize], timer.id, now + left);
        }
        Ok(())
    }

    fn adopt_connection(
        &mut self,
        record: ConnectionRecord,
        owner: usize,
        descriptors: &mut Descriptors,
    ) -> Result<(), AdoptError> {
        let slot = (record.id & ((1 << SLOT_BITS) - 1)) as usize;
        if slot > self.connections.slots.len() {
            // Connections come in the order of their slots; the free ones between are few.
            self.connections.slots.resize_with(slot, || None);
        }
        let taken = self
            .connections
            .slots
            .get(slot)
            .is_some_and(Option::is_some);
        if taken || record.id >> SLOT_BITS > self.connections.accepted {
            return Err(RecordError::Field {
                field: "connection",
                text: format!("{:#x} cannot be the id of one", record.id),
            }
            .into());
        }
        let stream = StdStream::from(descriptors.take(record.descriptor)?);
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = PollToken(FIRST_CONNECTION + slot);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, token, interest)?;
        let connection = Some(Box::new(Connection::adopted(record, stream, owner)));
        match self.connections.slots.get_mut(slot) {
            Some(free) => *free = connection,
            None => self.connections.slots.push(connection),
        }
        self.figures.connections.fetch_add(1, Ordering::Relaxed);
        // There may be bytes to read or to send that no event will tell of.
        self.unread.push_back(slot);
        self.mark_dirty(slot);
        Ok(())
    }
}
