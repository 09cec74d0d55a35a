//! State that goes from one component to another: `move_state`.
//!
//! Whoever takes does so in a generation of its own that nobody uses before the flip; so does whoever gives and
//! stays. A state that is left behind, as that before a `code_change` or that of a component that goes, is only
//! read: what the functions change in it is dropped in the end, and the way back finds it as it was. So the flip commits all
//! of a move or none, and undoing it is forgetting the new generations.
//!
//! A move is carried out as soon as the states that it works on are there: at its step, or after the `code_change`
//! that makes the last of them.

use std::collections::VecDeque;
use std::sync::Arc;

use neurath_manifest::Step;
use neurath_plan::moves::{self, Version};
use neurath_pmem::Handle;
use neurath_pmem::migrate::Source;
use neurath_pmem::region::Region;
use neurath_pmem::schema::{Fingerprint, hex};

use super::chain::Ends;
use super::part::{Course, NewState, Part};
use super::via::Vias;
use super::{PAUSE, RAISE_TIMEOUT, Taken, Upgrade, UpgradeError, Way, json_of};
use crate::catalog::RegionEntry;
use crate::fault;
use crate::loader::{CallError, Given, Library, MoveEnd};
use crate::mapping::Gate;
use crate::shard::now_ms;

/// A move that the script has come to.
#[derive(Debug, Clone)]
pub(super) struct Move {
    name: String,
    from: Vec<String>,
    to: Vec<String>,
    /// Where it stands among the steps.
    at: usize,
}

/// The moves that wait for a state.
pub(super) type Waiting = VecDeque<Move>;

/// The function of one end.
#[derive(Debug, Clone)]
struct End {
    component: String,
    instance: u32,
    library: Arc<Library>,
    /// Its number there.
    number: usize,
    incoming: bool,
    /// Whether it works on the new generation.
    new: bool,
    value: Fingerprint,
}

impl End {
    /// The same, of one of the component's instances.
    fn of(&self, instance: u32) -> End {
        End {
            instance,
            ..self.clone()
        }
    }

    /// What an error calls it.
    fn text(&self) -> String {
        let attribute = if self.incoming { "move_in" } else { "move_out" };
        let version = &self.library.description().version;
        format!("{attribute} of {} {version}", self.component)
    }
}

impl Upgrade<'_> {
    /// The moves of the script; none where the states before come back as they were.
    fn moves(&self) -> Vec<Move> {
        if matches!(self.goal.way, Way::BackWithLoss(_)) {
            return Vec::new();
        }
        let steps = self.goal.steps.iter().enumerate();
        let of = |(at, step): (usize, &Step)| match step {
            Step::MoveState { name, from, to, .. } => Some(Move {
                name: name.clone(),
                from: from.clone(),
                to: to.clone(),
                at,
            }),
            _ => None,
        };
        steps.filter_map(of).collect()
    }

    /// Whether a move gives or takes state of a component: then it gets a new generation, also if its schema
    /// stays.
    pub(super) fn is_in_a_move(&self, component: &str) -> bool {
        let named = |one: &Move| one.from.iter().chain(&one.to).any(|name| name == component);
        self.moves().iter().any(named)
    }

    /// Whether a move gives state to a component.
    pub(super) fn takes(&self, component: &str) -> bool {
        let moves = self.moves();
        moves
            .iter()
            .any(|one| one.to.iter().any(|name| name == component))
    }

    /// The names of the moves that give or take state of a component.
    pub(super) fn moves_of(&self, component: &str) -> Vec<String> {
        let named = |one: &Move| one.from.iter().chain(&one.to).any(|name| name == component);
        let mine = self.moves().into_iter().filter(named);
        mine.map(|one| one.name).collect()
    }

    /// Looks whether the functions of every move are there, and makes new generations ready for components
    /// whose code stays: while all serve.
    pub(super) fn prepare_moves(&mut self) -> Result<(), UpgradeError> {
        for one in self.moves() {
            for component in one.from.iter().chain(&one.to) {
                self.make_ready(component)?;
            }
            for giver in &one.from {
                for taker in &one.to {
                    self.ends(&one, giver, taker)?;
                }
            }
        }
        Ok(())
    }

    /// Makes new generations ready for a component that runs on, if nothing else has.
    fn make_ready(&mut self, component: &str) -> Result<(), UpgradeError> {
        if self.goal.package.component(component).is_none() {
            // It goes, and its state is left behind.
            return Ok(());
        }
        if !self.parts.iter().any(|part| part.component == component) {
            self.hold(component)?;
            self.take_course(component, Course::Switched)?;
        }
        for at in self.parts_of(component) {
            let part = &self.parts[at];
            let (Some(place), NewState::Kept) = (part.at, &part.state) else {
                continue;
            };
            let source = self.source();
            let source = self.look(move |instances| source(&mut instances[place].region))?;
            self.prepare_copy(at, &source)?;
        }
        Ok(())
    }

    /// The places of a component's parts.
    pub(super) fn parts_of(&self, component: &str) -> Vec<usize> {
        let mine = |at: &usize| self.parts[*at].component == component;
        (0..self.parts.len()).filter(mine).collect()
    }

    /// Makes a new generation of the same schema ready for a part.
    fn prepare_copy(&mut self, at: usize, source: &Source) -> Result<(), UpgradeError> {
        let part = &self.parts[at];
        let (component, number, library) =
            (part.component.clone(), part.number, part.library.clone());
        let options = self
            .core
            .region_options(&self.goal.package, &component, number)?;
        let ends = Ends {
            component: &component,
            vias: &Vias::default(),
            whole: None,
            old: &library,
            new: &library,
            between: &[],
            again: true,
            back: false,
        };
        let description = library.description();
        let Some(link) = ends.links(&description.schema, &[])?.into_iter().next() else {
            unreachable!("it is to be made again")
        };
        let (entry, path) = self.new_generation((&component, number), &library)?;
        let part = &mut self.parts[at];
        part.prepare(link, source, &path, &options)?;
        part.same_schema = true;
        part.entry = Some(entry);
        fault::point("upgrade.region-prepared");
        Ok(())
    }

    /// Takes over the state that an instance had when the upgrade removed it, in a generation of its own: what
    /// was moved away from it since is taken out of this one before it comes back.
    pub(super) fn take_over(
        &mut self,
        mut part: Part,
        before: &RegionEntry,
    ) -> Result<Part, UpgradeError> {
        let fingerprint = part.library.description().fingerprint;
        let region = self
            .core
            .open_region(&self.goal.package, before, Some(fingerprint))?;
        part.left_behind = true;
        self.parts.push(part);
        let prepared = self.prepare_copy(self.parts.len() - 1, &region.source());
        let Some(mut part) = self.parts.pop() else {
            unreachable!("just pushed")
        };
        prepared?;
        let history = self.history_of(&part, &region, &before.version);
        part.convert(&mut self.worker, &region, history, "{}".into(), PAUSE)?;
        Ok(part)
    }

    /// A move's step: it is carried out now, or as soon as its states are there.
    pub(super) fn move_state(&mut self, step: &Step) -> Result<(), UpgradeError> {
        let at = self.goal.steps.iter().position(|one| one == step);
        let mut all = self.moves().into_iter();
        self.moves.extend(all.find(|one| Some(one.at) == at));
        self.carry_out_moves(false)
    }

    /// Carries out the moves whose turn has come; all of them, if this is the `last` time.
    pub(super) fn carry_out_moves(&mut self, last: bool) -> Result<(), UpgradeError> {
        while let Some(one) = self.moves.front().cloned() {
            if !self.is_ready(&one)? {
                if !last {
                    return Ok(());
                }
                let what = format!(
                    "move_state {}: the states that it works on are not all there; convert, start or load {} first",
                    one.name,
                    one.to.join(" and ")
                );
                return Err(UpgradeError::Script(what));
            }
            self.moves.pop_front();
            self.carry_out(&one)?;
        }
        Ok(())
    }

    /// Whether the states that a move works on are made. One that only has to be copied is.
    fn is_ready(&mut self, one: &Move) -> Result<bool, UpgradeError> {
        let mut needed = one.to.clone();
        for giver in &one.from {
            if self.end_of(one, giver, false)?.new {
                needed.push(giver.clone());
            }
        }
        for component in needed {
            for at in self.parts_of(&component) {
                let part = &self.parts[at];
                if part.same_schema && matches!(part.state, NewState::Prepared(_)) {
                    self.convert(at, "{}".into())?;
                }
                if !matches!(self.parts[at].state, NewState::Made(_)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn carry_out(&mut self, one: &Move) -> Result<(), UpgradeError> {
        let done = self.carry_out_each(one);
        // A state that is left behind stays as it is, for the way back.
        if let Some(taken) = &mut self.taken {
            for instance in &mut taken.shard.instances {
                if one.from.contains(&instance.component) {
                    instance.region.abort();
                }
            }
        }
        done
    }

    /// Each instance that gives gives to each that takes.
    fn carry_out_each(&mut self, one: &Move) -> Result<(), UpgradeError> {
        let goal = self.goal;
        let extra = match &goal.steps[one.at] {
            Step::MoveState { extra, .. } => extra.as_ref(),
            _ => None,
        };
        let extra = json_of(extra)?;
        let whole = MoveEnd {
            peer: "",
            peer_instance: (0, 1),
            stays: true,
            extra: &extra,
            now_ms: now_ms(),
            cursor: 0,
        };
        for giver in &one.from {
            for taker in &one.to {
                let (out, into) = self.ends(one, giver, taker)?;
                let (givers, takers) = (self.numbers(&out), self.numbers(&into));
                let (give, take) = (givers.len() as u32, takers.len() as u32);
                for &number in &givers {
                    for &other in &takers {
                        let (out, into) = (out.of(number), into.of(other));
                        let to_taker = MoveEnd {
                            peer: taker,
                            peer_instance: (other, take),
                            ..whole
                        };
                        let to_giver = MoveEnd {
                            peer: giver,
                            peer_instance: (number, give),
                            ..whole
                        };
                        self.carry_over(one, (&out, &into), (to_taker, to_giver))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// From one instance to another.
    fn carry_over(
        &mut self,
        one: &Move,
        (out, into): (&End, &End),
        (to_taker, to_giver): (MoveEnd<'_>, MoveEnd<'_>),
    ) -> Result<(), UpgradeError> {
        let mine = |part: &Part| part.component == into.component && part.number == into.instance;
        if self.parts.iter().any(|part| mine(part) && part.left_behind) {
            self.empty(one, into, to_giver)?;
        }
        self.each_part(one, out, to_taker, |this, cursor, value| {
            let end = MoveEnd { cursor, ..to_giver };
            this.call(one, into, end, move |library, number, gate, end| {
                library.move_in(number, gate, end, &value)
            })?;
            fault::point("upgrade.moved");
            Ok(())
        })
    }

    /// The numbers of the instances at one end.
    fn numbers(&self, end: &End) -> Vec<u32> {
        if end.new {
            let mine = self.parts_of(&end.component).into_iter();
            return mine.map(|at| self.parts[at].number).collect();
        }
        let instances = self.taken.iter().flat_map(|taken| &taken.shard.instances);
        let mine = instances.filter(|one| one.component == end.component);
        mine.map(|one| one.number).collect()
    }

    /// Takes out of a state that was left behind what it had given to the other end: it comes back as it is now.
    fn empty(&mut self, one: &Move, into: &End, end: MoveEnd<'_>) -> Result<(), UpgradeError> {
        let at = self.parts_of(&into.component);
        let Some(library) = at.first().map(|at| self.parts[*at].library.clone()) else {
            return Ok(());
        };
        let state = library.description().fingerprint;
        let Some((number, about)) = library.find_move(&one.name, false, state) else {
            // Then it has given nothing by this name.
            return Ok(());
        };
        let out = End {
            number,
            incoming: false,
            value: about.value,
            library: library.clone(),
            ..into.clone()
        };
        self.each_part(one, &out, end, |_, _, _| Ok(()))
    }

    /// Takes state out part by part, until there is no more; `with` gets where each begins, and the part.
    fn each_part(
        &mut self,
        one: &Move,
        out: &End,
        mut end: MoveEnd<'_>,
        mut with: impl FnMut(&mut Self, u64, Vec<u8>) -> Result<(), UpgradeError>,
    ) -> Result<(), UpgradeError> {
        loop {
            let Given { value, next } =
                self.call(one, out, end, |library, number, gate, end| {
                    library.move_out(number, gate, end)
                })?;
            with(self, end.cursor, value)?;
            match next {
                None => return Ok(()),
                Some(next) if next == end.cursor => {
                    let text = format!("it gives the part at {next} again and again");
                    return Err(one.failed(out, text));
                }
                Some(next) => end.cursor = next,
            }
        }
    }

    /// Calls the function of one end, on a throwaway thread. In a new generation it is a transaction of its own; in
    /// a state that is left behind, a part of one that is dropped in the end.
    fn call<R: Send + 'static>(
        &mut self,
        one: &Move,
        at: &End,
        end: MoveEnd<'_>,
        work: impl FnOnce(&Library, usize, &Gate, MoveEnd<'_>) -> Result<R, CallError> + Send + 'static,
    ) -> Result<R, UpgradeError> {
        let deadline = self.left()?;
        let Some((region, handle)) = region_at(&mut self.parts, self.taken.as_mut(), at) else {
            let what = format!("move_state {}: `{}` has no state", one.name, at.component);
            return Err(UpgradeError::Script(what));
        };
        let gate = Gate::open(&handle, region);
        let (library, number, inside) = (at.library.clone(), at.number, gate.clone());
        let (peer, extra) = (end.peer.to_owned(), end.extra.to_owned());
        let (peer_instance, now_ms, cursor) = (end.peer_instance, end.now_ms, end.cursor);
        let stays = at.new;
        let worked = self.worker.run("move_state", deadline, move || {
            let end = MoveEnd {
                peer: &peer,
                peer_instance,
                stays,
                extra: &extra,
                now_ms,
                cursor,
            };
            work(&library, number, &inside, end)
        });
        gate.end(region);
        let done = match worked {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                region.abort();
                return Err(one.failed(at, error.text));
            }
            Err(error) => {
                region.abort();
                return Err(one.failed(at, format!("{error}{RAISE_TIMEOUT}")));
            }
        };
        if at.new {
            let committed = region.commit();
            committed.map_err(|error| one.failed(at, error.to_string()))?;
        }
        Ok(done)
    }

    /// The functions of both ends, which agree in what is moved.
    fn ends(&mut self, one: &Move, giver: &str, taker: &str) -> Result<(End, End), UpgradeError> {
        let out = self.end_of(one, giver, false)?;
        let into = self.end_of(one, taker, true)?;
        if out.value == into.value {
            return Ok((out, into));
        }
        Err(UpgradeError::Script(format!(
            "move_state {}: {} gives another type ({}) than {} takes ({})",
            one.name,
            out.text(),
            hex(out.value),
            into.text(),
            hex(into.value)
        )))
    }

    /// The function of one end.
    fn end_of(&mut self, one: &Move, component: &str, incoming: bool) -> Result<End, UpgradeError> {
        let name = component.to_owned();
        let old = self.look(move |instances| {
            let found = instances.iter().find(|one| one.component == name);
            found.map(|one| one.library.clone())
        })?;
        let stays = self.goal.package.component(component).is_some();
        let part = self.parts.iter().find(|part| part.component == component);
        let new = part.filter(|_| stays).map(|part| part.library.clone());
        let converted = self.goal.steps.iter().position(
            |step| matches!(step, Step::CodeChange { component: name, .. } if name == component),
        );
        let early = converted.is_some_and(|converted| one.at < converted);
        let print = |library: &Option<Arc<Library>>| {
            library
                .as_ref()
                .map(|library| library.description().fingerprint)
        };
        let has = |version, state| {
            let library = match version {
                Version::Old => old.clone()?,
                Version::New => new.clone()?,
            };
            let (number, about) = library.find_move(&one.name, incoming, state)?;
            let value = about.value;
            Some((library, number, value))
        };
        let found = moves::find((incoming, early), (print(&old), print(&new)), has);
        let Some((place, (library, number, value))) = found else {
            let attribute = if incoming { "move_in" } else { "move_out" };
            return Err(UpgradeError::Script(format!(
                "move_state {}: no library of `{component}` has a {attribute} of this name for its state",
                one.name
            )));
        };
        Ok(End {
            component: component.to_owned(),
            instance: 0,
            library,
            number,
            incoming,
            new: place.state == Version::New,
            value,
        })
    }
}

impl Move {
    fn failed(&self, at: &End, text: String) -> UpgradeError {
        UpgradeError::Move {
            name: self.name.clone(),
            end: at.text(),
            text,
        }
    }
}

/// The region that a function works on, and the handle to it.
fn region_at<'a>(
    parts: &'a mut [Part],
    taken: Option<&'a mut Taken>,
    at: &End,
) -> Option<(&'a mut Region, Handle)> {
    if at.new {
        let mut parts = parts.iter_mut();
        let mine = |part: &&mut Part| part.component == at.component && part.number == at.instance;
        let NewState::Made(region) = &mut parts.find(mine)?.state else {
            return None;
        };
        let handle = Handle::new();
        region.attach(&handle);
        return Some((region, handle));
    }
    let mut instances = taken?.shard.instances.iter_mut();
    let instance =
        instances.find(|one| one.component == at.component && one.number == at.instance)?;
    let handle = instance.attached.handle().clone();
    Some((&mut instance.region, handle))
}
