//! A shard: one poll loop, the sockets on it, and the instances that serve them.
//!
//! A message is run to completion: what a handler sends to another component of the shard is
//! served before the next bytes are read, so that `gateway → store → reply` crosses no thread.
//! Between two messages no frame of a library is on any stack; there a shard can be handed
//! over, whole, to another thread.

mod carry;
pub(crate) mod connection;
pub(crate) mod effects;
pub(crate) mod figures;
pub(crate) mod inherited;
mod instance;
pub(crate) mod peers;
mod placing;
mod room;
mod supervise;
pub(crate) mod supervisor;
mod sweep;
mod thread;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token as PollToken, Waker};
use neurath_abi::{MessageKind, Status, Token};

pub(crate) use instance::Instance;
pub(crate) use thread::{Command, Look, Mailbox, NotSent, Seat, ShardThread, TakeError, Taken};

use crate::loader::{CallError, Event, Function, Host, Invocation};
use connection::{Connection, Progress};
use effects::{Asked, Effect, Effects, Line, Listening};
use figures::Figures;
use inherited::Inherited;
use peers::Peers;
use room::Room;
use supervisor::Supervisor;
use timers::Timers;

const WAKER: PollToken = PollToken(0);
const FIRST_LISTENER: usize = 1;
const FIRST_CONNECTION: usize = 1024;
/// Connection ids: a running number above, the slot below.
const SLOT_BITS: u32 = 24;
/// Marks a token whose target is a caller of this process, not a connection.
const CALLER: u64 = 1 << 63;
/// Connections accepted at a time, before those that are there have their turn.
const ACCEPTED: usize = 256;
/// Buffers of messages that are kept for reuse.
const POOL: usize = 256;

/// An answer to a caller of this process.
pub(crate) type Answer = Result<Vec<u8>, String>;

/// Milliseconds since 1970, UTC.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the shard's thread is busy with, for whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// The instance's place plus one; 0 between two messages.
    instance: AtomicU64,
}

struct Listener {
    owner: usize,
    /// As it was asked for.
    address: String,
    /// As the system gave it: with the port that was chosen for port 0.
    bound: String,
    socket: TcpListener,
}

/// A message on its way to an instance.
struct Envelope {
    to: usize,
    token: Token,
    bytes: Vec<u8>,
}

/// The connections, by slot.
#[derive(Default)]
struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    accepted: u64,
    /// Places in lines of answers taken by the call that runs: the slot, and how many
    /// were taken before.
    taken: Vec<(usize, u64)>,
}

impl Connections {
    fn get(&mut self, id: u64) -> Option<(usize, &mut Connection)> {
        let slot = (id & ((1 << SLOT_BITS) - 1)) as usize;
        let connection = self.slots.get_mut(slot)?.as_deref_mut()?;
        (connection.id == id).then_some((slot, connection))
    }
}

impl Line for Connections {
    fn take(&mut self, connection: u64) -> Token {
        let Some((slot, connection)) = self.get(connection) else {
            return Token::NONE;
        };
        let (taken, id) = (connection.taken(), connection.id);
        let sequence = connection.take_token();
        if self.taken.last().is_none_or(|(last, _)| *last != slot) {
            self.taken.push((slot, taken));
        }
        Token {
            target: id,
            sequence,
        }
    }

    fn has(&self, id: u64) -> bool {
        let slot = (id & ((1 << SLOT_BITS) - 1)) as usize;
        self.slots
            .get(slot)
            .and_then(Option::as_deref)
            .is_some_and(|known| known.id == id)
    }
}

/// See the module.
pub(crate) struct Shard {
    poll: Poll,
    commands: Receiver<Command>,
    /// By place; none where one has gone.
    listeners: Vec<Option<Listener>>,
    connections: Connections,
    room: Room,
    pub(crate) instances: Vec<Instance>,
    /// What the instances are called, by place.
    names: Vec<String>,
    /// Who can be sent to.
    peers: Arc<Peers>,
    mailbox: VecDeque<Envelope>,
    pool: Vec<Vec<u8>>,
    timers: Timers,
    callers: HashMap<u64, Sender<Answer>>,
    /// Answers to callers, until what they tell of is durable.
    answers: Vec<(Sender<Answer>, Answer)>,
    next_caller: u64,
    effects: Effects,
    scratch: Vec<u8>,
    /// Connections with something to send, by slot.
    dirty: Vec<usize>,
    /// Connections that may have more to read, by slot.
    unread: VecDeque<usize>,
    pub(crate) figures: Arc<Figures>,
    activity: Arc<Activity>,
    /// Requests of this process that it has not seen yet.
    waiting: Arc<AtomicUsize>,
    /// Sockets that listen already.
    pub(crate) inherited: Inherited,
    pace: sweep::Pace,
    /// Until then the loop does not sleep: an upgrade is about to take it.
    awake_until: Option<Instant>,
    /// What becomes of those that fail.
    pub(crate) supervisor: Supervisor,
    /// Whether this is a rehearsal: nobody is to reach it.
    pub(crate) rehearsed: bool,
    /// Why the shard gave up: the supervisor's escalation.
    pub(crate) failed: Option<String>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("instances", &self.names)
            .finish_non_exhaustive()
    }
}

impl Shard {
    fn new(
        instances: Vec<Instance>,
        figures: Arc<Figures>,
        commands: Receiver<Command>,
        activity: Arc<Activity>,
        waiting: Arc<AtomicUsize>,
    ) -> io::Result<(Shard, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut shard = Shard {
            poll,
            commands,
            listeners: Vec::new(),
            connections: Connections::default(),
            room: Room::beside(instances.len()),
            instances,
            names: Vec::new(),
            peers: Arc::default(),
            mailbox: VecDeque::new(),
            pool: Vec::new(),
            timers: Timers::default(),
            callers: HashMap::new(),
            answers: Vec::new(),
            next_caller: 0,
            effects: Effects::default(),
            scratch: connection::scratch(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            figures,
            activity,
            waiting,
            inherited: Inherited::default(),
            pace: sweep::Pace::default(),
            awake_until: None,
            supervisor: Supervisor::default(),
            rehearsed: false,
            failed: None,
        };
        shard.name_instances();
        Ok((shard, waker))
    }

    /// What its instances are called, by place.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Who can be sent to.
    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Where an instance is.
    fn place(&self, component: &str, number: u32) -> Option<usize> {
        let mut all = self.instances.iter();
        all.position(|one| one.number == number && one.component == component)
    }

    /// Where an instance listens.
    pub(crate) fn listening(&self, owner: Option<usize>) -> Listening {
        if self.rehearsed {
            return Listening::Nowhere;
        }
        let listeners = self.listeners.iter().flatten();
        let owned = listeners.filter(|listener| Some(listener.owner) == owner);
        Listening::At(owned.map(|listener| listener.address.clone()).collect())
    }

    /// Where clients reach it.
    pub(crate) fn bound(&self) -> Vec<String> {
        self.listeners
            .iter()
            .flatten()
            .map(|listener| listener.bound.clone())
            .collect()
    }

    /// The sockets where clients reach it, and their addresses.
    pub(crate) fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let all = self.listeners.iter().flatten();
        let of = |one: &Listener| {
            let socket = one.socket.as_fd().try_clone_to_owned()?;
            Ok((one.bound.clone(), socket))
        };
        all.map(of).collect()
    }

    /// One round of the loop: waits for something to do, and does it.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let idle = self.unread.is_empty()
            && self.mailbox.is_empty()
            && self.answers.is_empty()
            && self.dirty.is_empty();
        let timeout = if idle {
            self.timers
                .next()
                .map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        // Rounded up, so that the timer is due after waiting.
        let timeout = timeout.map(|timeout| timeout + Duration::from_micros(999));
        let timeout = match self.until_sweep() {
            Some(due) => Some(timeout.map_or(due, |timeout| timeout.min(due))),
            None => timeout,
        };
        let timeout = match self.is_kept_awake() {
            true => Some(Duration::ZERO),
            false => timeout,
        };
        match self
            .poll
            .poll(events, timeout.filter(|t| *t < Duration::from_secs(3600)))
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let busy = !idle || !events.is_empty();
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                PollToken(number) if number < FIRST_CONNECTION => {
                    self.accept(number - FIRST_LISTENER);
                }
                PollToken(number) => {
                    let slot = number - FIRST_CONNECTION;
                    if let Some(Some(connection)) = self.connections.slots.get_mut(slot) {
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            connection.readable = true;
                            connection.end_told |= event.is_read_closed();
                            self.unread.push_back(slot);
                        }
                        if event.is_writable() {
                            self.mark_dirty(slot);
                        }
                    }
                }
            }
        }
        for _ in 0..self.unread.len() {
            if let Some(slot) = self.unread.pop_front() {
                self.read(slot);
                self.serve_mailbox();
            }
        }
        let now = Instant::now();
        while let Some((instance, id)) = self.timers.take_due(now) {
            let event = Event {
                kind: MessageKind::TIMER,
                source: id,
                user: 0,
                token: Token::NONE,
                bytes: &[],
            };
            if let Err(error) = self.deliver(instance, event) {
                tracing::warn!(component = self.names[instance], %error, "a timer's handler failed");
            }
        }
        self.serve_mailbox();
        if self.make_durable() {
            self.answer();
            self.flush();
            self.sweep(busy);
        }
        Ok(())
    }

    /// Whether it is not to sleep now.
    fn is_kept_awake(&mut self) -> bool {
        self.awake_until = self.awake_until.filter(|until| Instant::now() < *until);
        self.awake_until.is_some()
    }

    /// Waits until all that this turn has committed is durable, once for each region; whether
    /// it is. No answer leaves before, to a client or to a caller of this process, whoever it
    /// is that it tells of a commit.
    fn make_durable(&mut self) -> bool {
        for instance in &mut self.instances {
            if let Err(error) = instance.region.make_durable() {
                let Instance {
                    component, number, ..
                } = instance;
                self.failed = Some(format!("the state of {component}.{number}: {error}"));
                return false;
            }
        }
        true
    }

    /// Gives callers of this process their answers.
    fn answer(&mut self) {
        for (caller, answer) in self.answers.drain(..) {
            // A caller that went away needs no answer.
            let _ = caller.send(answer);
        }
    }

    fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTED {
            let Some(Some(listener)) = self.listeners.get(number) else {
                return;
            };
            let connections = self.figures.connections.load(Ordering::Relaxed);
            if !self.room.has_room(connections) {
                return;
            }
            let owner = listener.owner;
            let mut stream = match listener.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Out of descriptors, or the client has gone again. The listener is
                    // level with its queue again at the next event, or when a client goes.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.room.is_full();
                    return;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let slot = self
                .connections
                .free
                .pop()
                .unwrap_or(self.connections.slots.len());
            if slot >= 1 << SLOT_BITS {
                return;
            }
            let token = PollToken(FIRST_CONNECTION + slot);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
                tracing::warn!(%error, "cannot watch a connection");
                self.connections.free.push(slot);
                continue;
            }
            self.connections.accepted += 1;
            let id = self.connections.accepted << SLOT_BITS | slot as u64;
            if slot == self.connections.slots.len() {
                self.connections.slots.push(None);
            }
            self.connections.slots[slot] = Some(Box::new(Connection::new(id, stream, owner)));
            self.figures.connections.fetch_add(1, Ordering::Relaxed);
            self.figures
                .connections_total
                .fetch_add(1, Ordering::Relaxed);
            self.tell(owner, MessageKind::OPENED, id);
            self.unread.push_back(slot);
        }
        // More may be waiting that no further event will tell of.
        self.poll_again(number);
    }

    fn poll_again(&mut self, number: usize) {
        if let Some(Some(listener)) = self.listeners.get_mut(number) {
            let token = PollToken(FIRST_LISTENER + number);
            let registry = self.poll.registry();
            let again = registry.reregister(&mut listener.socket, token, Interest::READABLE);
            if let Err(error) = again {
                tracing::error!(%error, address = listener.address, "cannot watch a listener");
            }
        }
    }

    /// Tells an instance of a connection that came or went.
    fn tell(&mut self, owner: usize, kind: MessageKind, connection: u64) {
        let event = Event {
            kind,
            source: connection,
            user: 0,
            token: Token::NONE,
            bytes: &[],
        };
        if let Err(error) = self.deliver(owner, event) {
            tracing::warn!(component = self.names[owner], %error, "a connection's handler failed");
        }
    }

    fn read(&mut self, slot: usize) {
        let Some(Some(connection)) = self.connections.slots.get_mut(slot) else {
            return;
        };
        if !connection.readable || !connection.wants_input() {
            return;
        }
        let progress = connection.fill(&mut self.scratch);
        connection.readable = progress == Progress::More;
        let (id, user, owner) = (connection.id, connection.user, connection.owner);
        if progress == Progress::Broken {
            return self.drop_connection(slot);
        }
        if connection.readable {
            self.unread.push_back(slot);
        }
        if !connection.input().is_empty() {
            // Out of the connection for the time of the call, which may take places in its
            // line of answers.
            let input = connection.take_input();
            let event = Event {
                kind: MessageKind::DATA,
                source: id,
                user,
                token: Token::NONE,
                bytes: input.bytes(),
            };
            let result = self.deliver(owner, event);
            if let Some(Some(connection)) = self.connections.slots.get_mut(slot) {
                connection.put_input(input);
                match result {
                    Ok(consumed) => connection.consume(consumed),
                    Err(error) => {
                        let place = connection.take_token();
                        connection.reply(place, &error_line(&error));
                        connection.close();
                    }
                }
            }
        }
        self.mark_dirty(slot);
    }

    fn mark_dirty(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.connections.slots.get_mut(slot)
            && !connection.flushing
        {
            connection.flushing = true;
            self.dirty.push(slot);
        }
    }

    fn serve_mailbox(&mut self) {
        while let Some(Envelope { to, token, bytes }) = self.mailbox.pop_front() {
            let event = Event {
                kind: MessageKind::REQUEST,
                source: 0,
                user: 0,
                token,
                bytes: &bytes,
            };
            if let Err(error) = self.deliver(to, event) {
                tracing::warn!(component = self.names[to], %error, "a request's handler failed");
                self.fail(token, &error);
            }
            if self.pool.len() < POOL && bytes.capacity() <= 4096 {
                self.pool.push(bytes);
            }
        }
    }

    /// Answers a request whose handler failed.
    fn fail(&mut self, token: Token, error: &CallError) {
        if token.target & CALLER != 0 {
            if let Some(caller) = self.callers.remove(&token.target) {
                self.answers.push((caller, Err(error.text.clone())));
            }
        } else if token != Token::NONE {
            self.reply(token, &error_line(error));
        }
    }

    fn reply(&mut self, token: Token, bytes: &[u8]) {
        if token.target & CALLER != 0 {
            if let Some(caller) = self.callers.remove(&token.target) {
                self.answers.push((caller, Ok(bytes.to_vec())));
            }
            return;
        }
        // A connection that has gone needs no answer.
        let Some((slot, connection)) = self.connections.get(token.target) else {
            return;
        };
        if !connection.reply(token.sequence, bytes) {
            tracing::error!(?token, "a token was answered twice, or never given");
            return;
        }
        self.mark_dirty(slot);
    }

    /// Serves one message in one transaction; gives how many of its bytes are done with.
    fn deliver(&mut self, to: usize, event: Event<'_>) -> Result<usize, CallError> {
        if let Some(why) = &self.instances[to].ended {
            return Err(ended(&self.names[to], why));
        }
        self.figures.messages.fetch_add(1, Ordering::Relaxed);
        self.activity
            .instance
            .store(to as u64 + 1, Ordering::Relaxed);
        let result = self.call(to, Function::Handle, Some(event));
        self.activity.instance.store(0, Ordering::Relaxed);
        if let Err(error) = &result
            && error.status == Status::PANICKED
        {
            self.panicked(to, error);
        }
        result
    }

    /// Calls a function of an instance; its transaction stays open.
    fn invoke(
        &mut self,
        to: usize,
        function: Function,
        event: Option<Event<'_>>,
    ) -> Result<usize, CallError> {
        // Only `init` has a use for it, and not on the path of messages.
        let listening = match function {
            Function::Init => self.listening(Some(to)),
            _ => self.listening(None),
        };
        let instance = &mut self.instances[to];
        self.effects.clear();
        self.connections.taken.clear();
        let mut asked = Asked {
            component: &instance.component,
            number: instance.number,
            peers: &self.peers,
            listening: &listening,
            inherited: &self.inherited,
            line: &mut self.connections,
            effects: &mut self.effects,
            figures: &self.figures,
            region: instance.region_figures(),
        };
        let mut invocation = Invocation::new(&instance.attached, Host::of(&mut asked))
            .config(&instance.config)
            .now_ms(now_ms());
        if let Some(event) = event {
            invocation = invocation.event(event);
        }
        let called = instance.library.call(function, invocation);
        called.map(|outcome| outcome.consumed)
    }

    fn call(
        &mut self,
        to: usize,
        function: Function,
        event: Option<Event<'_>>,
    ) -> Result<usize, CallError> {
        let called = self.invoke(to, function, event);
        let instance = &mut self.instances[to];
        let committed = called.and_then(|consumed| {
            let committed = instance.region.commit();
            committed.map(|_| consumed).map_err(|error| CallError {
                status: Status::FAILED,
                text: error.to_string(),
            })
        });
        match committed {
            Ok(consumed) => {
                self.apply(to);
                Ok(consumed)
            }
            Err(mut error) => {
                if let Some(why) = instance.region.refused() {
                    error.text = why;
                }
                instance.region.abort();
                // Places are handed out from the end: the first entry of a slot counts.
                while let Some((slot, taken)) = self.connections.taken.pop() {
                    if let Some(Some(connection)) = self.connections.slots.get_mut(slot) {
                        connection.untake(taken);
                    }
                }
                Err(error)
            }
        }
    }

    /// Carries out what a call has asked for.
    pub(crate) fn carry_out(&mut self, of: usize, effects: &mut Effects) {
        std::mem::swap(&mut self.effects, effects);
        self.apply(of);
    }

    fn apply(&mut self, of: usize) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.list.drain(..) {
            match effect {
                Effect::Reply { token, bytes } => self.reply(token, &effects.bytes[bytes]),
                Effect::Send {
                    component,
                    number,
                    token,
                    bytes,
                } => {
                    if let Some(to) = self.place(&component, number) {
                        let bound = self.instances[to].mailbox;
                        if self.mailbox.len() >= bound {
                            self.fail(token, &full(&component, bound));
                            continue;
                        }
                        let mut message = self.pool.pop().unwrap_or_default();
                        message.clear();
                        message.extend_from_slice(&effects.bytes[bytes]);
                        self.mailbox.push_back(Envelope {
                            to,
                            token,
                            bytes: message,
                        });
                    }
                }
                Effect::SetUser { connection, user } => {
                    if let Some((_, connection)) = self.connections.get(connection) {
                        connection.user = user;
                    }
                }
                Effect::Close { connection } => {
                    if let Some((slot, connection)) = self.connections.get(connection) {
                        connection.close();
                        self.mark_dirty(slot);
                    }
                }
                Effect::Listen { address, listener } => self.listen(of, address, listener),
                Effect::Timer { id, after_ms } => {
                    self.timers
                        .set(of, id, Instant::now() + Duration::from_millis(after_ms));
                }
            }
        }
        effects.clear();
        self.effects = effects;
    }

    fn listen(&mut self, owner: usize, address: String, listener: std::net::TcpListener) {
        let mut named = address.clone();
        if let Ok(bound) = listener.local_addr() {
            named = bound.to_string();
            tracing::info!(component = self.names[owner], %bound, "listening");
            // The first port is the one that `INFO` tells.
            let port = &self.figures.port;
            let _ =
                port.compare_exchange(0, bound.port().into(), Ordering::Relaxed, Ordering::Relaxed);
        }
        let mut socket = TcpListener::from_std(listener);
        let free = self.listeners.iter().position(Option::is_none);
        let place = free.unwrap_or(self.listeners.len());
        let token = PollToken(FIRST_LISTENER + place);
        if token.0 >= FIRST_CONNECTION {
            tracing::error!(address, "too many listeners");
            return;
        }
        match self
            .poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)
        {
            Ok(()) => {
                let listener = Listener {
                    owner,
                    address,
                    bound: named,
                    socket,
                };
                self.figures.listened.fetch_add(1, Ordering::Relaxed);
                match self.listeners.get_mut(place) {
                    Some(free) => *free = Some(listener),
                    None => self.listeners.push(Some(listener)),
                }
            }
            Err(error) => tracing::error!(address, %error, "cannot watch a listener"),
        }
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(Some(connection)) = self.connections.slots.get_mut(slot) else {
                continue;
            };
            connection.flushing = false;
            if !connection.flush() || connection.is_over() {
                self.drop_connection(slot);
            } else if connection.readable && connection.wants_input() {
                // It was not read while too much waited to be sent.
                self.unread.push_back(slot);
            }
        }
        // Whatever was marked meanwhile stays for the next round.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn drop_connection(&mut self, slot: usize) {
        let Some(mut connection) = self.connections.slots[slot].take() else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(&mut connection.stream) {
            tracing::debug!(%error, "cannot stop watching a connection");
        }
        let (id, owner) = (connection.id, connection.owner);
        drop(connection);
        self.connections.free.push(slot);
        self.figures.connections.fetch_sub(1, Ordering::Relaxed);
        self.tell(owner, MessageKind::CLOSED, id);
        self.let_in();
    }

    /// Looks again at the queues, if clients wait for the place of one that has gone.
    fn let_in(&mut self) {
        if self.room.is_waited_for() {
            (0..self.listeners.len()).for_each(|number| self.poll_again(number));
        }
    }

    /// Asks the instances of a component whether their state makes sense. What they change or ask
    /// for is dropped.
    pub(crate) fn check(&mut self, component: &str) -> Result<(), String> {
        let places = self.places_of(component);
        if places.is_empty() {
            return Err(format!("no instance of `{component}` runs"));
        }
        for at in places {
            if let Some(why) = &self.instances[at].ended {
                return Err(ended(&self.names[at], why).text);
            }
            let called = self.invoke(at, Function::CheckState, None);
            self.instances[at].region.abort();
            self.effects.clear();
            let several = self.names[at] != component;
            called.map_err(|error| match several {
                true => format!("{}: {}", self.names[at], error.text),
                false => error.text,
            })?;
        }
        Ok(())
    }

    /// Takes a request of this process.
    fn request(&mut self, component: &str, bytes: Vec<u8>, answer: Option<Sender<Answer>>) {
        let found = self
            .peers
            .find(component)
            .map_err(|nobody| nobody.to_string());
        let found = found.and_then(|(component, number)| {
            let place = self.place(component, number);
            place.ok_or_else(|| format!("{component}.{number} is gone"))
        });
        let to = match found {
            Ok(to) => to,
            Err(why) => {
                if let Some(answer) = answer {
                    // A caller that went away needs no answer.
                    let _ = answer.send(Err(why));
                }
                return;
            }
        };
        let token = match answer {
            Some(answer) => {
                self.next_caller += 1;
                let target = CALLER | self.next_caller;
                self.callers.insert(target, answer);
                Token {
                    target,
                    sequence: 0,
                }
            }
            None => Token::NONE,
        };
        self.mailbox.push_back(Envelope { to, token, bytes });
    }
}

/// Why a message is not taken.
#[cold]
fn full(component: &str, bound: usize) -> CallError {
    CallError {
        status: Status::FAILED,
        text: format!(
            "the mailbox of {component} is full: {bound} messages wait; raise `mailbox` in its manifest"
        ),
    }
}

/// Why nobody serves a message.
#[cold]
fn ended(name: &str, why: &str) -> CallError {
    CallError {
        status: Status::FAILED,
        text: format!("{name} has ended, and was not started again: {why}"),
    }
}

/// What a connection's client reads when its request could not be served: a line as RESP has
/// it, which a person can read as well.
fn error_line(error: &CallError) -> Vec<u8> {
    let text: String = error
        .text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = if text.starts_with("OOM ") {
        format!("-{text}\r\n")
    } else {
        format!("-ERR the component failed: {text}\r\n")
    };
    line.into_bytes()
}
