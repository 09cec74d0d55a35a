//! Whether a plan that was reviewed is still the one that would be carried out, and what moved if not.

use crate::exit::CommandError;
use anyhow::Context as _;
use neurath_plan::Plan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Why a plan is stale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// The id of the plan that was reviewed.
    pub reviewed: String,
    /// The id of the one that would be carried out.
    pub current: String,
    /// The files that are not what they were.
    pub moved: Vec<Moved>,
    /// The first step that is another one.
    pub step: Option<OtherStep>,
}

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// As the plan that was reviewed calls it; as the other one does if it is new.
    pub file: String,
    /// Its hash in the plan that was reviewed, if it had a part in it.
    pub from: Option<String>,
    /// Its hash now, if it has a part in it.
    pub to: Option<String>,
}

/// A step that is another one; steps are counted from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherStep {
    /// Which step.
    pub number: usize,
    /// As it was reviewed; `None`: that plan ends before it.
    pub reviewed: Option<String>,
    /// As it would be carried out; `None`: that plan ends before it.
    pub current: Option<String>,
}

impl Stale {
    /// What moved between two plans for the same way; `None` if nothing did.
    ///
    /// The files of a project and those of a built release have other names; they are compared by
    /// what they are. What is known of a library's state is compared where both plans know it.
    #[must_use]
    pub fn between(reviewed: &Plan, current: &Plan) -> Option<Self> {
        let (old, new) = (inputs(reviewed), inputs(current));
        let mut moved = Vec::new();
        for (what, (file, hash)) in &old {
            let now = new.get(what);
            let lenient = now.is_none() && what.starts_with("schema");
            if now.map(|(_, hash)| hash) != Some(hash) && !lenient {
                moved.push(Moved {
                    file: (*file).to_owned(),
                    from: Some((*hash).to_owned()),
                    to: now.map(|(_, hash)| (*hash).to_owned()),
                });
            }
        }
        for (what, (file, hash)) in &new {
            if !old.contains_key(what) && !what.starts_with("schema") {
                moved.push(Moved {
                    file: (*file).to_owned(),
                    from: None,
                    to: Some((*hash).to_owned()),
                });
            }
        }
        let step = other_step(reviewed, current);
        let way = |plan: &Plan| (plan.name.clone(), plan.from.clone(), plan.to.clone());
        if moved.is_empty() && step.is_none() && way(reviewed) == way(current) {
            return None;
        }
        Some(Self {
            reviewed: described(reviewed),
            current: described(current),
            moved,
            step,
        })
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let moved = self
            .moved
            .iter()
            .map(|one| json!({ "file": one.file, "from": one.from, "to": one.to }));
        json!({
            "reviewed": self.reviewed,
            "current": self.current,
            "moved": moved.collect::<Vec<_>>(),
            "step": self.step.as_ref().map(|one| json!({
                "number": one.number,
                "reviewed": one.reviewed,
                "current": one.current,
            })),
        })
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the plan is stale: reviewed was {}, and now it would be {}",
            self.reviewed, self.current
        )?;
        for one in &self.moved {
            let said =
                |hash: &Option<String>, none| hash.clone().unwrap_or_else(|| String::from(none));
            write!(
                f,
                "\n  {}: {} -> {}",
                one.file,
                said(&one.from, "(not in it)"),
                said(&one.to, "(not in it)")
            )?;
        }
        if let Some(one) = &self.step {
            let said =
                |step: &Option<String>| step.clone().unwrap_or_else(|| String::from("(the end)"));
            write!(
                f,
                "\n  step {}: {} -> {}",
                one.number,
                said(&one.reviewed),
                said(&one.current)
            )?;
        }
        write!(f, "\nmake the plan again, and review it")
    }
}

fn described(plan: &Plan) -> String {
    format!("{} {} -> {} ({})", plan.name, plan.from, plan.to, plan.id())
}

fn other_step(reviewed: &Plan, current: &Plan) -> Option<OtherStep> {
    let most = reviewed.steps.len().max(current.steps.len());
    let at = (0..most).find(|at| reviewed.steps.get(*at) != current.steps.get(*at))?;
    let step = |plan: &Plan| plan.steps.get(at).map(ToString::to_string);
    Some(OtherStep {
        number: at + 1,
        reviewed: step(reviewed),
        current: step(current),
    })
}

/// The inputs of a plan by what they are, with their names and hashes.
fn inputs(plan: &Plan) -> BTreeMap<String, (&str, &str)> {
    plan.inputs
        .iter()
        .map(|(file, hash)| (identity(file), (file.as_str(), hash.as_str())))
        .collect()
}

/// What a file is, whatever it is called: `releases/kv/1.0.0.toml` in a project is
/// `kv-1.0.0/release.toml` in a built release.
fn identity(file: &str) -> String {
    let parts: Vec<&str> = file.rsplit('/').take(3).collect();
    let built = |stem: &str, ending: &str| stem.strip_suffix(ending).map(str::to_owned);
    let known = match parts.as_slice() {
        ["release.toml", release, ..] => Some(format!("release {release}")),
        [file, "components", ..] => built(file, ".toml").map(|stem| format!("manifest {stem}")),
        [file, "appups", ..] => built(file, ".appup.toml").map(|stem| format!("appup {stem}")),
        [file, name, "releases", ..] => {
            built(file, ".toml").map(|version| format!("release {name}-{version}"))
        }
        [file, name, ..] if file.ends_with(".appup.toml") => {
            built(file, ".appup.toml").map(|version| format!("appup {name}-{version}"))
        }
        [file, name, ..] => {
            built(file, ".toml").map(|version| format!("manifest {name}-{version}"))
        }
        _ => None,
    };
    known.unwrap_or_else(|| file.to_owned())
}

/// Reads a plan file.
///
/// # Errors
///
/// If it cannot be read; [`CommandError::Altered`], if it is no plan, or no longer the one that was made.
pub fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let altered = |why: String| CommandError::Altered {
        file: path.display().to_string(),
        why,
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| altered(error.to_string()))?;
    let plan = Plan::from_json(&value).map_err(|error| altered(error.to_string()))?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Folders;
    use crate::manifests::Project;
    use semver::Version;

    fn plan() -> Plan {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folders = Folders {
            manifests: root.join("manifests"),
            releases: root.join("releases"),
        };
        let project = Project::read(&folders).expect("the demo's files");
        let [old, new] = [Version::new(1, 0, 0), Version::new(1, 1, 0)];
        project.plan("kv", &old, &new).expect("a plan")
    }

    #[test]
    fn files_are_the_same_in_a_project_and_in_a_built_release() {
        for (project, built) in [
            ("releases/kv/1.0.0.toml", "kv-1.0.0/release.toml"),
            ("/a/releases/kv/1.0.0.toml", "/b/kv-1.0.0/release.toml"),
            (
                "manifests/store/1.1.0.toml",
                "kv-1.1.0/components/store-1.1.0.toml",
            ),
            (
                "manifests/store/1.1.0.appup.toml",
                "kv-1.1.0/appups/store-1.1.0.appup.toml",
            ),
            ("schema of store 1.1.0", "schema of store 1.1.0"),
        ] {
            assert_eq!(identity(project), identity(built));
        }
    }

    #[test]
    fn nothing_moved() {
        let plan = plan();
        let mut built = plan.clone();
        built
            .inputs
            .push(("schema of store 9.9.9".into(), "x".into()));
        for (file, _) in &mut built.inputs {
            *file = file.replace("releases/kv/1.0.0.toml", "kv-1.0.0/release.toml");
        }
        assert_eq!(Stale::between(&plan, &plan), None);
        assert_eq!(Stale::between(&plan, &built), None);
    }

    #[test]
    fn what_moved_is_named() {
        let plan = plan();
        let mut other = plan.clone();
        other.inputs[0].1 = "another".into();
        other.inputs.remove(1);
        other.steps.swap(0, 1);
        let stale = Stale::between(&plan, &other).expect("stale");
        let files: Vec<_> = stale
            .moved
            .iter()
            .map(|one| (one.file.as_str(), one.to.as_deref()))
            .collect();
        assert_eq!(files.len(), 2);
        assert!(files.contains(&(plan.inputs[0].0.as_str(), Some("another"))));
        assert!(files.contains(&(plan.inputs[1].0.as_str(), None)));
        assert_eq!(stale.step.as_ref().map(|step| step.number), Some(1));
        let said = stale.to_string();
        assert!(
            said.contains("another") && said.contains(&plan.inputs[0].1),
            "{said}"
        );
        assert_eq!(stale.to_json()["moved"].as_array().map(Vec::len), Some(2));
        let mut shorter = plan.clone();
        shorter.steps.pop();
        let stale = Stale::between(&plan, &shorter).expect("stale");
        assert_eq!(stale.step.and_then(|step| step.current), None);
    }
}
