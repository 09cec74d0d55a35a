//! Calls into a library outside of a shard's loop, on throwaway threads with a deadline.

use std::sync::Arc;
use std::time::Duration;

use neurath_abi::{MessageKind, Token};

use crate::loader::{CallError, Event, Function, Host, Invocation, Library, Outcome};
use crate::mapping::Gate;
use crate::shard::Shard;
use crate::shard::effects::{Asked, Effects, Listening, NoLine};
use crate::shard::figures::Figures;
use crate::shard::inherited::Inherited;
use crate::shard::now_ms;
use crate::shard::peers::Peers;
use crate::worker::{Begun, WorkError, Worker};

/// For a call within the pause of an upgrade.
pub(crate) const RAISE_TIMEOUT: &str =
    ", which is what was left of the pause; raise `timeout` in the appup";
/// For a call while the node starts or stops, whose deadline cannot be raised.
pub(crate) const FIXED: &str = ", which is all that it has while the node starts or stops";

/// What a call outside of the loop knows.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) component: String,
    /// The number of the instance.
    pub(crate) number: u32,
    pub(crate) library: Arc<Library>,
    pub(crate) config: String,
    /// The components of its release.
    pub(crate) peers: Arc<Peers>,
    /// Where it listens already.
    pub(crate) listening: Listening,
    /// What it listens with where a socket is there.
    pub(crate) inherited: Inherited,
    pub(crate) figures: Arc<Figures>,
    /// Bytes of its region's file and live objects.
    pub(crate) region: (u64, u64),
    /// What is said of its deadline if it is too short: one of the constants here.
    pub(crate) setting: &'static str,
}

/// Why a call outside of the loop failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutsideError {
    /// The component says no, or panicked.
    #[error("{what} of {component} {version} failed: {text}")]
    Failed {
        what: String,
        component: String,
        version: String,
        text: String,
    },
    /// It did not come back.
    #[error("{what} of {component} {version}: {source}{setting}")]
    Work {
        what: String,
        component: String,
        version: String,
        source: WorkError,
        /// What raises the limit.
        setting: &'static str,
    },
}

/// The function's name as an author knows it.
fn name(library: &Library, function: Function) -> String {
    let name = match function {
        Function::Create => "create",
        Function::Init => "init",
        Function::Handle => "handle",
        Function::Quiesce => "quiesce",
        Function::Terminate => "terminate",
        Function::CheckState => "check_state",
        Function::ConfigChange => "config_change",
        Function::Hook(number) => {
            let hooks = &library.description().hooks;
            return format!("hook {}", hooks.get(number).map_or("?", |name| name));
        }
    };
    name.to_owned()
}

impl Outside {
    /// What a call for an instance of a shard knows.
    pub(crate) fn of(
        shard: &Shard,
        at: usize,
        listening: Listening,
        setting: &'static str,
    ) -> Outside {
        let instance = &shard.instances[at];
        Outside {
            component: instance.component.clone(),
            number: instance.number,
            library: instance.library.clone(),
            config: instance.config.clone(),
            peers: shard.peers().clone(),
            listening,
            inherited: shard.inherited.clone(),
            figures: shard.figures.clone(),
            region: instance.region_figures(),
            setting,
        }
    }

    /// Calls a function through `gate`, which is closed if the call overruns.
    pub(crate) fn call(
        self,
        worker: &mut Worker,
        function: Function,
        gate: &Gate,
        deadline: Duration,
    ) -> Result<(Outcome, Effects), OutsideError> {
        self.call_with(worker, function, None, gate, deadline)
    }

    /// As [`Outside::call`], with a message of this kind: the bytes are JSON.
    pub(crate) fn call_with(
        self,
        worker: &mut Worker,
        function: Function,
        message: Option<(MessageKind, String)>,
        gate: &Gate,
        deadline: Duration,
    ) -> Result<(Outcome, Effects), OutsideError> {
        let begun = self.begin(worker, function, message, gate)?;
        begun.end(worker, deadline)
    }

    /// Begins a call, to be waited for by [`BegunCall::end`].
    pub(crate) fn begin(
        self,
        worker: &mut Worker,
        function: Function,
        message: Option<(MessageKind, String)>,
        gate: &Gate,
    ) -> Result<BegunCall, OutsideError> {
        let named = Named {
            what: name(&self.library, function),
            component: self.component.clone(),
            version: self.library.description().version.clone(),
            setting: self.setting,
        };
        let inside = gate.clone();
        let begun = worker.begin(&named.what, move || {
            let mut effects = Effects::default();
            let mut asked = Asked {
                component: &self.component,
                number: self.number,
                peers: &self.peers,
                listening: &self.listening,
                inherited: &self.inherited,
                line: &mut NoLine,
                effects: &mut effects,
                figures: &self.figures,
                region: self.region,
            };
            let mut invocation = Invocation::new(&inside, Host::of(&mut asked))
                .config(&self.config)
                .now_ms(now_ms());
            if let Some((kind, json)) = &message {
                invocation = invocation.event(Event {
                    kind: *kind,
                    source: 0,
                    user: 0,
                    token: Token::NONE,
                    bytes: json.as_bytes(),
                });
            }
            let called = self.library.call(function, invocation);
            called.map(|outcome| (outcome, effects))
        });
        match begun {
            Ok(begun) => Ok(BegunCall {
                named,
                gate: gate.clone(),
                begun,
            }),
            Err(source) => Err(named.failed(source)),
        }
    }
}

/// What an error says of a call.
#[derive(Debug)]
struct Named {
    what: String,
    component: String,
    version: String,
    setting: &'static str,
}

impl Named {
    fn failed(self, source: WorkError) -> OutsideError {
        let Named {
            what,
            component,
            version,
            setting,
        } = self;
        let setting = match source {
            WorkError::Overdue(_) => setting,
            _ => "",
        };
        OutsideError::Work {
            what,
            component,
            version,
            source,
            setting,
        }
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct BegunCall {
    named: Named,
    gate: Gate,
    begun: Begun<Result<(Outcome, Effects), CallError>>,
}

impl BegunCall {
    /// Waits for its end; the gate is closed if it overruns.
    pub(crate) fn end(
        self,
        worker: &mut Worker,
        deadline: Duration,
    ) -> Result<(Outcome, Effects), OutsideError> {
        match worker.end(self.begun, deadline) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(OutsideError::Failed {
                what: self.named.what,
                component: self.named.component,
                version: self.named.version,
                text: error.text,
            }),
            Err(source) => {
                self.gate.close();
                Err(self.named.failed(source))
            }
        }
    }
}
