//! The commit, what serves together after it, and where a script leads.

use super::{Activity, Fault, Model, fault};
use crate::codes;
use neurath_manifest::{Component, StartType};

impl<'a> Model<'a> {
    /// Resumes or starts; the first of both is the commit.
    pub(super) fn serve(
        &mut self,
        components: &[String],
        before: Activity,
        faults: &mut Vec<Fault>,
    ) {
        if self.past_the_point && !self.committed {
            self.together(faults);
            self.committed = true;
        }
        let mut serving: Vec<&'a str> = Vec::new();
        for name in components {
            let Some((key, activity)) = self
                .parts
                .get_key_value(name.as_str())
                .map(|(key, part)| (*key, part.activity))
            else {
                faults.push(fault(
                    codes::MISPLACED,
                    format!("{name} has no code to run"),
                    "load it first",
                ));
                continue;
            };
            if activity != before {
                let (message, help) = match (before, activity) {
                    (Activity::Suspended, _) => (
                        format!("{name} is not suspended"),
                        "suspend it first, and resume it once",
                    ),
                    (_, Activity::Suspended) => {
                        (format!("{name} is suspended, not stopped"), "resume it")
                    }
                    _ => (
                        format!("{name} runs already"),
                        "stop it first, and start it once",
                    ),
                };
                faults.push(fault(codes::MISPLACED, message, help));
                continue;
            }
            serving.push(key);
            if let Some(part) = self.part(name) {
                part.activity = Activity::Running;
                if part.state.is_none() {
                    // A new component makes itself a new, empty state.
                    part.state = part.code.clone();
                }
            }
        }
        for name in serving {
            self.fits(name, faults);
        }
    }

    /// Everything has changed before anything serves again.
    fn together(&self, faults: &mut Vec<Fault>) {
        for part in &self.sides.to.components {
            let wanted = (part.start != StartType::None).then_some(&part.version);
            if self.code(&part.name) != wanted && part.start != StartType::None {
                let now = self
                    .code(&part.name)
                    .map_or("not there".into(), |version| format!("still {version}"));
                faults.push(fault(
                    codes::NOT_TOGETHER,
                    format!(
                        "{} is {now}, and this is the commit of {} {}",
                        part.name, self.sides.to.name, self.sides.to.version
                    ),
                    "load everything before the first resume or start",
                ));
            }
        }
        for part in &self.sides.from.components {
            if self.sides.new_one(&part.name).is_none()
                && self.parts.contains_key(part.name.as_str())
            {
                faults.push(fault(
                    codes::NOT_TOGETHER,
                    format!("{} is still there, and this is the commit", part.name),
                    "stop and remove it before the first resume or start",
                ));
            }
        }
    }

    fn manifest(&self, name: &str) -> Option<&'a Component> {
        let version = self.code(name)?;
        self.catalogue.component(name, version)
    }

    /// What serves now fits to what serves beside it. What stands still exchanges no message, and is not looked at.
    fn fits(&mut self, name: &'a str, faults: &mut Vec<Fault>) {
        let dependants = self.dependants.get(name).cloned().unwrap_or_default();
        let mut found = Vec::new();
        for one in std::iter::once(name).chain(dependants) {
            let Some(component) = self.manifest(one) else {
                continue;
            };
            if self.activity(one) != Activity::Running {
                continue;
            }
            for dependency in &component.depends_on {
                let other = dependency.component.as_str();
                if (one != name && other != name) || self.activity(other) != Activity::Running {
                    continue;
                }
                if let Some(version) = self.code(other)
                    && !dependency.requirement.matches(version)
                {
                    let message = format!(
                        "{one} {} runs beside {other} {version}, but needs {}",
                        component.version, dependency.requirement
                    );
                    found.push(((one, other), message));
                }
            }
        }
        for (pair, message) in found {
            if self.mixed.insert(pair) {
                faults.push(fault(
                    codes::MIXED_VERSIONS,
                    message,
                    "change both under one suspension: resume them in one step",
                ));
            }
        }
    }

    /// Says what is wrong with where the script has led.
    pub fn end(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut say = |code: &'static str, message: String, help: String| {
            faults.push(Fault {
                code,
                message,
                help,
            })
        };
        if !self.past_the_point {
            say(
                codes::MISPLACED,
                "the script has no point of no return".into(),
                "add { point_of_no_return = true } after the load_object_code steps".into(),
            );
        }
        for (name, version) in &self.spare {
            say(
                codes::MISPLACED,
                format!("{name} {version} is made ready, and nothing uses it"),
                "name the version that the release has, or leave it out".into(),
            );
        }
        let left = |activity: Activity| -> Vec<&str> {
            let parts = self.parts.iter();
            parts
                .filter(|(name, part)| part.activity == activity && self.sides.will_run(name))
                .map(|(name, _)| *name)
                .collect()
        };
        for (activity, word, help) in [
            (Activity::Suspended, "suspended", "resume them at the end"),
            (Activity::Stopped, "stopped", "start them at the end"),
        ] {
            let names = left(activity);
            if !names.is_empty() {
                let message = format!("the script leaves {} {word}", names.join(", "));
                say(codes::MISPLACED, message, help.into());
            }
        }
        let (to, version) = (&self.sides.to.name, &self.sides.to.version);
        for part in &self.sides.to.components {
            let name = &part.name;
            match (self.code(name), part.start) {
                (_, StartType::None) => {}
                (Some(found), _) if *found == part.version => {}
                (Some(found), _) => say(
                    codes::WRONG_END,
                    format!(
                        "the script ends with {name} {found}, but {to} {version} has {}",
                        part.version
                    ),
                    format!("load {name} {}", part.version),
                ),
                (None, _) => say(
                    codes::WRONG_END,
                    format!("the script ends without {name}, which {to} {version} has"),
                    format!("load {name} {}, and start it", part.version),
                ),
            }
        }
        for name in self.parts.keys() {
            if self.sides.new_one(name).is_none() {
                say(
                    codes::WRONG_END,
                    format!("the script ends with {name}, which {to} {version} has not"),
                    format!("stop and remove {name}"),
                );
            }
        }
        faults
    }
}
