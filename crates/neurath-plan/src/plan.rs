//! A plan: a value, bound to what it was made from.

use crate::layout::StateChange;
use crate::settings::{Reconfigured, does_nothing, runs_on, texts};
use neurath_manifest::{Diagnostics, Step};
use semver::Version;
use serde_json::{Value, json};
use std::fmt;

/// Whether a plan leads to a newer release or back to an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To a newer release, or to the same.
    Up,
    /// Back to an older release.
    Down,
}

impl Direction {
    /// `up` or `down`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    pub(crate) fn between(from: &Version, to: &Version) -> Self {
        if to < from { Self::Down } else { Self::Up }
    }
}

/// How a changed component gets from one version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The component.
    pub component: String,
    /// The versions, from the first to the last; two if one appup entry covers the change.
    pub versions: Vec<Version>,
}

impl Route {
    fn to_json(&self) -> Value {
        json!({
            "component": self.component,
            "versions": self.versions.iter().map(Version::to_string).collect::<Vec<_>>(),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let versions = value["versions"].as_array()?.iter();
        Some(Self {
            component: value["component"].as_str()?.to_string(),
            versions: versions
                .map(|version| Version::parse(version.as_str()?).ok())
                .collect::<Option<_>>()?,
        })
    }

    /// Whether it is composed of several appup entries.
    pub fn composed(&self) -> bool {
        self.versions.len() > 2
    }
}

/// The ordered script between two releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Name of the release.
    pub name: String,
    /// The version it starts from.
    pub from: Version,
    /// The version it leads to.
    pub to: Version,
    /// Which way.
    pub direction: Direction,
    /// How each changed component gets there, in the listing order of the newer release.
    pub routes: Vec<Route>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What becomes of the states whose type changes, as far as the libraries are known.
    pub states: Vec<StateChange>,
    /// The configurations that change of what runs before and after, in the listing order of the newer release.
    pub configurations: Vec<Reconfigured>,
    /// The release's own settings that change, by their keys.
    pub settings: Vec<String>,
    /// The files it was made from with their hashes, sorted by file.
    pub inputs: Vec<(String, String)>,
}

impl Plan {
    /// A hash over all that the plan holds: the same plan has the same id on every machine.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut line = |text: String| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        line(format!(
            "neurath plan 1 {} {} {} {}",
            self.name,
            self.from,
            self.to,
            self.direction.as_str()
        ));
        line(self.steps.len().to_string());
        for step in &self.steps {
            line(step.to_string());
        }
        for route in self.routes.iter().filter(|route| route.composed()) {
            line(route.to_string());
        }
        for (file, hash) in &self.inputs {
            line(file.clone());
            line(hash.clone());
        }
        for state in &self.states {
            line(state.to_json().to_string());
        }
        for one in &self.configurations {
            line(one.to_json().to_string());
        }
        for key in &self.settings {
            line(key.clone());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The plan as JSON; every step has the keys that it has in a relup.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id(),
            "name": self.name,
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "direction": self.direction.as_str(),
            "routes": self.routes.iter().map(Route::to_json).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(Step::to_json).collect::<Vec<_>>(),
            "states": self.states.iter().map(StateChange::to_json).collect::<Vec<_>>(),
            "configurations": self.configurations.iter().map(Reconfigured::to_json).collect::<Vec<_>>(),
            "settings": self.settings,
            "inputs": self.inputs.iter().map(|(file, hash)| json!({ "file": file, "hash": hash })).collect::<Vec<_>>(),
        })
    }

    /// Reads what [`Plan::to_json`] gave.
    ///
    /// # Errors
    ///
    /// [`PlanError`]: it is no plan, or it no longer has the id that it says.
    pub fn from_json(value: &Value) -> Result<Self, PlanError> {
        let text = |key: &'static str| value[key].as_str().ok_or(PlanError::Missing(key));
        let version =
            |key: &'static str| Version::parse(text(key)?).map_err(|_| PlanError::Missing(key));
        let array = |key: &'static str| value[key].as_array().ok_or(PlanError::Missing(key));
        let (from, to) = (version("from")?, version("to")?);
        let mut inputs = Vec::new();
        for input in array("inputs")? {
            match (input["file"].as_str(), input["hash"].as_str()) {
                (Some(file), Some(hash)) => inputs.push((file.to_string(), hash.to_string())),
                _ => return Err(PlanError::Missing("inputs")),
            }
        }
        let plan = Self {
            name: text("name")?.to_string(),
            direction: Direction::between(&from, &to),
            from,
            to,
            routes: array("routes")?
                .iter()
                .map(Route::from_json)
                .collect::<Option<_>>()
                .ok_or(PlanError::Missing("routes"))?,
            steps: Step::script_from_json(array("steps")?)?,
            states: list(value, "states", StateChange::from_json)?,
            configurations: list(value, "configurations", Reconfigured::from_json)?,
            settings: match &value["settings"] {
                Value::Null => Vec::new(),
                settings => texts(settings).ok_or(PlanError::Missing("settings"))?,
            },
            inputs,
        };
        if plan.id() != text("id")? {
            return Err(PlanError::Altered);
        }
        Ok(plan)
    }

    /// Whether it changes nothing at all: no component, no configuration, no setting of the release.
    pub fn changes_nothing(&self) -> bool {
        does_nothing(self.steps.iter())
            && self.routes.is_empty()
            && self.configurations.is_empty()
            && self.settings.is_empty()
    }

    /// The configurations that `config_change` tells of: those of components whose code stays as it is. Others get
    /// theirs when they are initialised.
    pub fn told(&self) -> impl Iterator<Item = &Reconfigured> {
        let all = self.configurations.iter();
        all.filter(|one| runs_on(&self.steps, &one.component))
    }

    /// The inputs whose hash is not the one that `current` gives for the file (`None`: the file is gone).
    /// A plan with such inputs is stale, and must not be applied.
    pub fn moved_inputs(&self, current: impl Fn(&str) -> Option<String>) -> Vec<&str> {
        let moved = self
            .inputs
            .iter()
            .filter(|(file, hash)| current(file).as_ref() != Some(hash));
        moved.map(|(file, _)| file.as_str()).collect()
    }
}

/// A list that plans did not have at first.
fn list<T>(
    value: &Value,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, PlanError> {
    let found = match &value[key] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values.iter().map(read).collect(),
        _ => None,
    };
    found.ok_or(PlanError::Missing(key))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<String> = self.versions.iter().map(Version::to_string).collect();
        write!(f, "{} {}", self.component, versions.join(" -> "))
    }
}

/// Why a text is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A key is missing, or is not what it must be.
    #[error("the plan has no good `{0}`: make it again")]
    Missing(&'static str),
    /// Its steps cannot be read.
    #[error("the steps of the plan cannot be read:\n{0}")]
    Steps(#[from] Diagnostics),
    /// It does not have the id that it says.
    #[error("the plan was altered after it was made: make it again")]
    Altered,
}
