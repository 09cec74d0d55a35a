//! One client's connection: its bytes in, its bytes out, and the line of answers between.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};

use std::os::fd::{AsFd as _, BorrowedFd};

use mio::net::TcpStream;

use crate::handover::record::ConnectionRecord;

/// Bytes read at once.
const READ: usize = 64 << 10;
/// Bytes read from one connection before the others have their turn.
const TURN: usize = 1 << 20;
/// Bytes that may wait to be sent before no more are read.
const OUTPUT_LIMIT: usize = 64 << 20;
/// Bytes that may wait to be sent before another answer is too much: the client asks for far more
/// than it reads, and is given up.
const OUTPUT_MOST: usize = 256 << 20;
/// Sent bytes that are kept before what waits behind them.
const COMPACT: usize = 1 << 20;
/// Bytes that may come in without any being done with: one request of the largest size.
const INPUT_LIMIT: usize = 640 << 20;

/// What reading a connection gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All that is there was read.
    Drained,
    /// There may be more.
    More,
    /// The connection failed.
    Broken,
}

/// What came in on a connection, out of it.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    done: usize,
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.done..]
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) stream: TcpStream,
    /// The instance that accepted it.
    pub(crate) owner: usize,
    pub(crate) user: u64,
    input: Vec<u8>,
    input_done: usize,
    output: Vec<u8>,
    output_done: usize,
    next_token: u64,
    next_reply: u64,
    parked: BTreeMap<u64, Vec<u8>>,
    close_at: Option<u64>,
    /// No more bytes will come.
    pub(crate) ended: bool,
    /// An event told that the other side sends no more; there may still be bytes to read.
    pub(crate) end_told: bool,
    /// It is to be dropped, whatever waits to be sent.
    given_up: bool,
    /// There may be bytes to read that no event will tell of.
    pub(crate) readable: bool,
    /// Whether it is on the list of those to be flushed.
    pub(crate) flushing: bool,
}

impl Connection {
    pub(crate) fn new(id: u64, stream: TcpStream, owner: usize) -> Connection {
        Connection {
            id,
            stream,
            owner,
            user: 0,
            input: Vec::new(),
            input_done: 0,
            output: Vec::new(),
            output_done: 0,
            next_token: 1,
            next_reply: 1,
            parked: BTreeMap::new(),
            close_at: None,
            ended: false,
            end_told: false,
            given_up: false,
            readable: true,
            flushing: false,
        }
    }

    /// Writes it down for a node that takes over; `place` gives its descriptor a place. Nothing if it is about to
    /// be dropped.
    pub(super) fn carry<'a>(
        &'a self,
        place: &mut impl FnMut(BorrowedFd<'a>) -> u32,
    ) -> Option<ConnectionRecord> {
        if self.given_up {
            return None;
        }
        let parked = self.parked.iter();
        Some(ConnectionRecord {
            id: self.id,
            owner: self.owner as u32,
            user: self.user,
            descriptor: place(self.stream.as_fd()),
            input: self.input().to_vec(),
            output: self.output[self.output_done..].to_vec(),
            next_token: self.next_token,
            next_reply: self.next_reply,
            parked: parked.map(|(at, bytes)| (*at, bytes.clone())).collect(),
            close_at: self.close_at,
            ended: self.ended,
        })
    }

    /// Goes on with a connection that was written down.
    pub(super) fn adopted(record: ConnectionRecord, stream: TcpStream, owner: usize) -> Connection {
        Connection {
            user: record.user,
            input: record.input,
            output: record.output,
            next_token: record.next_token,
            next_reply: record.next_reply,
            parked: record.parked.into_iter().collect(),
            close_at: record.close_at,
            ended: record.ended,
            ..Connection::new(record.id, stream, owner)
        }
    }

    /// What came in and is not done with.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.input_done..]
    }

    /// Takes what came in out of the connection, for the time of a call.
    pub(crate) fn take_input(&mut self) -> Input {
        Input {
            bytes: std::mem::take(&mut self.input),
            done: self.input_done,
        }
    }

    /// Puts it back.
    pub(crate) fn put_input(&mut self, input: Input) {
        self.input = input.bytes;
        self.input_done = input.done;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.input_done += count;
        if self.input_done == self.input.len() {
            self.input.clear();
            self.input_done = 0;
            self.input.shrink_to(4 * READ);
        }
    }

    /// Whether more may be read: not while it is being closed, or too much waits to be sent.
    pub(crate) fn wants_input(&self) -> bool {
        !self.ended && self.close_at.is_none() && !self.given_up && self.waiting() < OUTPUT_LIMIT
    }

    /// Bytes that wait to be sent.
    fn waiting(&self) -> usize {
        self.output.len() - self.output_done
    }

    /// Reads what is there, up to a turn's worth.
    pub(crate) fn fill(&mut self, scratch: &mut [u8]) -> Progress {
        if self.input_done > 0 {
            self.input.drain(..self.input_done);
            self.input_done = 0;
        }
        let mut turn = 0;
        while turn < TURN {
            match self.stream.read(scratch) {
                Ok(0) => {
                    self.ended = true;
                    return Progress::Drained;
                }
                Ok(count) => {
                    self.input.extend_from_slice(&scratch[..count]);
                    turn += count;
                    if self.input.len() > INPUT_LIMIT {
                        return Progress::Broken;
                    }
                    if count < scratch.len() && !self.end_told {
                        // A short read: the socket is empty, and an event tells of more. The
                        // end that came with these bytes was told of with them.
                        return Progress::Drained;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Broken,
            }
        }
        Progress::More
    }

    /// The next place in the line of answers.
    pub(crate) fn take_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    /// How many places were taken; [`Connection::untake`] goes back there.
    pub(crate) fn taken(&self) -> u64 {
        self.next_token
    }

    /// Takes back the places taken since: the call that took them failed.
    pub(crate) fn untake(&mut self, taken: u64) {
        self.next_token = taken;
    }

    /// Puts an answer into its place; `false` if the place is not free.
    pub(crate) fn reply(&mut self, place: u64, bytes: &[u8]) -> bool {
        if place < self.next_reply || place >= self.next_token || self.parked.contains_key(&place) {
            return false;
        }
        if self.given_up {
            return true;
        }
        if self.waiting() >= OUTPUT_LIMIT {
            // What follows in this round may be as large.
            self.given_up = !self.flush() || self.waiting() >= OUTPUT_MOST;
            if self.given_up {
                self.output = Vec::new();
                self.output_done = 0;
                self.parked.clear();
                return true;
            }
        }
        // A client that always has something to read would keep what it has read.
        if self.output_done >= COMPACT && self.output_done >= self.waiting() {
            self.output.drain(..self.output_done);
            self.output_done = 0;
        }
        if place > self.next_reply {
            self.parked.insert(place, bytes.to_vec());
            return true;
        }
        self.output.extend_from_slice(bytes);
        self.next_reply += 1;
        while let Some(bytes) = self.parked.remove(&self.next_reply) {
            self.output.extend_from_slice(&bytes);
            self.next_reply += 1;
        }
        true
    }

    /// Closes it once all places taken so far are answered and sent.
    pub(crate) fn close(&mut self) {
        self.close_at.get_or_insert(self.next_token);
    }

    /// Sends what it can; `false` if the connection failed.
    pub(crate) fn flush(&mut self) -> bool {
        if self.given_up {
            return false;
        }
        while self.output_done < self.output.len() {
            match self.stream.write(&self.output[self.output_done..]) {
                Ok(0) => return false,
                Ok(count) => self.output_done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.clear();
        self.output_done = 0;
        self.output.shrink_to(4 * READ);
        true
    }

    /// Whether nothing is left to do for it.
    pub(crate) fn is_over(&self) -> bool {
        let answered = self.output_done == self.output.len();
        match self.close_at {
            Some(place) => answered && self.next_reply >= place,
            None => self.ended && answered && self.next_reply == self.next_token,
        }
    }
}

/// A buffer for [`Connection::fill`].
pub(crate) fn scratch() -> Vec<u8> {
    vec![0; READ]
}
