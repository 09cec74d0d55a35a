//! Calls into a library outside of a shard's loop, on throwaway threads with a deadline.

use std::sync::Arc;
use std::time::Duration;

use neurath_abi::{MessageKind, Token};

use crate::loader::{Event, Function, Host, Invocation, Library, Outcome};
use crate::mapping::Gate;
use crate::shard::effects::{Asked, Effects, Listening, NoLine};
use crate::shard::figures::Figures;
use crate::shard::now_ms;
use crate::worker::{WorkError, Worker};

/// What a call outside of the loop knows.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) component: String,
    pub(crate) library: Arc<Library>,
    pub(crate) config: String,
    /// The components of its release.
    pub(crate) peers: Vec<String>,
    /// Where it listens already.
    pub(crate) listening: Listening,
    pub(crate) figures: Arc<Figures>,
    /// Bytes of its region's file and live objects.
    pub(crate) region: (u64, u64),
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
    #[error("{what} of {component} {version}: {source}")]
    Work {
        what: String,
        component: String,
        version: String,
        source: WorkError,
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
        let what = name(&self.library, function);
        let component = self.component.clone();
        let version = self.library.description().version.clone();
        let inside = gate.clone();
        let worked = worker.run(&what, deadline, move || {
            let mut effects = Effects::default();
            let mut asked = Asked {
                component: &self.component,
                peers: &self.peers,
                listening: &self.listening,
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
        match worked {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(OutsideError::Failed {
                what,
                component,
                version,
                text: error.text,
            }),
            Err(source) => {
                gate.close();
                Err(OutsideError::Work {
                    what,
                    component,
                    version,
                    source,
                })
            }
        }
    }
}
