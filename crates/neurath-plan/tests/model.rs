//! Random graphs, random appups: what the planner accepts is legal on the model of a node, and its way down undoes it.

mod common;

use common::{catalogue, manifest, root, state, version};
use neurath_manifest::Release;
use neurath_plan::model::{Activity, Model, Part};
use neurath_plan::{Catalogue, Direction, Lints, Plan, Step, plan_with};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What becomes of a component between the two releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Still,
    Soft,
    Advanced,
    Static,
    Load,
    Hops,
    Comes,
    Goes,
    Restarts,
}

/// A random project: components, whom each needs, and what becomes of it.
#[derive(Debug, Clone)]
struct Project {
    fates: Vec<Fate>,
    needs: Vec<Vec<usize>>,
    wishes: Vec<Vec<usize>>,
    timeouts: Vec<Option<u8>>,
    applies: Vec<bool>,
    order: Vec<usize>,
    /// How each is started, in the old release and in the new one.
    starts: Vec<(&'static str, &'static str)>,
}

fn start() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just("permanent"),
        1 => Just("transient"),
        1 => Just("temporary"),
        1 => Just("load"),
        1 => Just("none"),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Still),
        2 => Just(Fate::Soft),
        4 => Just(Fate::Advanced),
        1 => Just(Fate::Static),
        2 => Just(Fate::Load),
        2 => Just(Fate::Hops),
        1 => Just(Fate::Comes),
        1 => Just(Fate::Goes),
        1 => Just(Fate::Restarts),
    ]
}

fn project() -> impl Strategy<Value = Project> {
    (1_usize..10).prop_flat_map(|count| {
        let some = prop::collection::vec(0..count, 0..3);
        (
            prop::collection::vec(fate(), count),
            prop::collection::vec(some.clone(), count),
            prop::collection::vec(prop::collection::vec(0..count, 0..2), count),
            prop::collection::vec(prop::option::of(1_u8..3), count),
            prop::collection::vec(prop::bool::weighted(0.15), count),
            Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
            prop::collection::vec((start(), start()), count),
        )
            .prop_map(
                |(fates, needs, wishes, timeouts, applies, order, starts)| Project {
                    fates,
                    needs,
                    wishes,
                    timeouts,
                    applies,
                    order,
                    starts,
                },
            )
    })
}

fn name(number: usize) -> String {
    format!("c{number}")
}

impl Project {
    /// The versions in the old and in the new release.
    fn versions(&self, number: usize) -> (Option<&'static str>, Option<&'static str>) {
        match self.fates[number] {
            Fate::Still => (Some("1.0.0"), Some("1.0.0")),
            Fate::Comes => (None, Some("1.0.0")),
            Fate::Goes => (Some("1.0.0"), None),
            Fate::Hops => (Some("1.0.0"), Some("1.2.0")),
            _ => (Some("1.0.0"), Some("1.1.0")),
        }
    }

    /// Whom a component needs in a release: no circles, and nothing that is not there.
    fn needs(&self, number: usize, new: bool) -> Vec<String> {
        let there = |other: usize| {
            let (old, now) = self.versions(other);
            if new { now } else { old }.is_some()
        };
        let mut needs: Vec<usize> = self.needs[number]
            .iter()
            .copied()
            .filter(|other| *other < number && there(*other))
            .collect();
        needs.sort_unstable();
        needs.dedup();
        needs.into_iter().map(name).collect()
    }

    fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        // A release has at least one component.
        files.push(manifest("base", "1.0.0", &[]));
        let base = String::from("base = { version = \"1.0.0\" }\n");
        let (mut old_parts, mut new_parts) = (base.clone(), base);
        for number in self.order.iter().copied() {
            let name = name(number);
            let (old, new) = self.versions(number);
            let with = |ver: &str, needs: Vec<String>| {
                let needs: Vec<(&str, &str)> =
                    needs.iter().map(|one| (one.as_str(), "^1")).collect();
                manifest(&name, ver, &needs)
            };
            match (old, new) {
                // What stays the same needs what is there in both.
                (Some(old), Some(new)) if old == new => {
                    let both = self.needs(number, true).into_iter();
                    let before = self.needs(number, false);
                    files.push(with(new, both.filter(|one| before.contains(one)).collect()));
                }
                _ => {
                    files.extend(old.map(|ver| with(ver, self.needs(number, false))));
                    files.extend(new.map(|ver| with(ver, self.needs(number, true))));
                }
            }
            if self.fates[number] == Fate::Hops {
                files.push(with("1.1.0", Vec::new()));
            }
            let (old_start, mut new_start) = self.starts[number];
            if old == new {
                // With the same version nothing is done.
                new_start = old_start;
            }
            for (ver, start, parts) in [
                (old, old_start, &mut old_parts),
                (new, new_start, &mut new_parts),
            ] {
                if let Some(ver) = ver {
                    parts.push_str(&format!(
                        "{name} = {{ version = \"{ver}\", start = \"{start}\" }}\n"
                    ));
                }
            }
            files.extend(self.appups(number));
        }
        let allowed = "\n[lints]\nD101 = { level = \"allow\", reason = \"a test\" }\n";
        for (ver, parts) in [("1.0.0", old_parts), ("1.1.0", new_parts)] {
            files.push((
                format!("releases/app/{ver}.toml"),
                format!("name = \"app\"\nversion = \"{ver}\"\nnode = \"0.1.0\"\n\n[components]\n{parts}{allowed}"),
            ));
        }
        files
    }

    fn appups(&self, number: usize) -> Vec<(String, String)> {
        let name = name(number);
        let wishes: Vec<String> = self.wishes[number]
            .iter()
            .filter(|other| {
                let (old, new) = self.versions(**other);
                old.is_some() || new.is_some()
            })
            .map(|other| format!("\"{}\"", self::name(*other)))
            .collect();
        let mut options = format!(", depends_on = [{}]", wishes.join(", "));
        if let Some(timeout) = self.timeouts[number] {
            options.push_str(&format!(", timeout = \"{timeout}s\""));
        }
        let advanced = "change = { advanced = {} }";
        let instruction = match self.fates[number] {
            Fate::Soft => format!("{{ update = \"{name}\"{options} }}"),
            Fate::Advanced | Fate::Hops => {
                format!("{{ update = \"{name}\", {advanced}{options} }}")
            }
            Fate::Static => {
                format!("{{ update = \"{name}\", {advanced}, mod_type = \"static\"{options} }}")
            }
            Fate::Load => format!("{{ load = \"{name}\"{options} }}"),
            Fate::Restarts => format!("{{ restart_component = \"{name}\" }}"),
            Fate::Still | Fate::Comes | Fate::Goes => return Vec::new(),
        };
        if self.fates[number] == Fate::Hops {
            return vec![
                common::appup(&name, "1.1.0", "~1.0", &instruction),
                common::appup(&name, "1.2.0", "~1.1", &instruction),
            ];
        }
        let apply = if self.applies[number] {
            ",\n    { apply = { command = [\"true\"] } }"
        } else {
            ""
        };
        vec![common::appup(
            &name,
            "1.1.0",
            "~1.0",
            &format!("{instruction}{apply}"),
        )]
    }

    /// The catalogue, with states that differ where a `code_change` is asked for.
    fn catalogue(&self, files: &[(String, String)]) -> Catalogue {
        let mut catalogue = catalogue(files);
        catalogue.add_facts(("base", &version("1.0.0")), state("aaaa", &[]));
        for number in 0..self.fates.len() {
            let name = name(number);
            let changes = matches!(
                self.fates[number],
                Fate::Advanced | Fate::Static | Fate::Hops
            );
            // Fields are only added, so that nothing is lost on the way up.
            let new = if changes { "bbbb" } else { "aaaa" };
            let both = [("aaaa", "bbbb"), ("bbbb", "aaaa")];
            let conversions = if changes { &both[..] } else { &[] };
            catalogue.add_facts((&name, &version("1.0.0")), state("aaaa", &[]));
            catalogue.add_facts((&name, &version("1.1.0")), state(new, conversions));
            catalogue.add_facts((&name, &version("1.2.0")), state(new, &[]));
        }
        catalogue
    }
}

type Parts = BTreeMap<String, Part>;

/// Runs a plan on the model, and asserts what must hold at each step.
fn run(catalogue: &Catalogue, plan: &Plan) -> (Parts, Parts) {
    let release = |ver| -> &Release { catalogue.release("app", ver).expect("the release") };
    let (from, to) = (release(&plan.from), release(&plan.to));
    let mut model = Model::new(catalogue, from, to);
    let parts = |model: &Model<'_>| -> Parts {
        let parts = model.parts().iter();
        parts
            .map(|(name, part)| ((*name).to_string(), part.clone()))
            .collect()
    };
    let before = parts(&model);
    for step in &plan.steps {
        let old = parts(&model);
        let faults = model.step(step);
        assert!(faults.is_empty(), "{step}: {faults:?}");
        let new = parts(&model);
        for (name, part) in &new {
            // Code and state are exchanged only while nothing runs.
            let was = old.get(name);
            let same = was.is_some_and(|was| (&was.code, &was.state) == (&part.code, &part.state));
            let stood_still = was.is_none_or(|was| was.activity != Activity::Running);
            assert!(same || stood_still, "{step}: {name}");
            // Nothing serves a state that its code does not know.
            if part.activity == Activity::Running {
                let fingerprint = |ver: &Option<semver::Version>| {
                    let ver = ver.as_ref().expect("running");
                    catalogue
                        .facts(name, ver)
                        .expect("facts")
                        .state
                        .fingerprint
                        .clone()
                };
                assert_eq!(
                    fingerprint(&part.code),
                    fingerprint(&part.state),
                    "{step}: {name}"
                );
            }
            // Before the commit all that runs is old, afterwards all that runs is new.
            if part.activity == Activity::Running {
                let side = if model.committed() { to } else { from };
                let wanted = side.component(name).map(|part| &part.version);
                assert_eq!(part.code.as_ref(), wanted, "{step}: {name}");
            }
        }
    }
    let faults = model.end();
    assert!(faults.is_empty(), "{faults:?}");
    (before, parts(&model))
}

fn planned(catalogue: &Catalogue, up: bool) -> Option<Plan> {
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let (from, to) = if up { (&old, &new) } else { (&new, &old) };
    match plan_with(catalogue, ("app", from), ("app", to), Lints::Enforce) {
        Ok(planned) => Some(planned.plan),
        Err(found) => {
            // An `apply` that stands between two that change together is rightly refused; nothing else is.
            let allowed = found.codes().into_iter().all(|code| code == "P018");
            assert!(allowed, "{found}");
            None
        }
    }
}

/// The code and the activity of everything, and whose state it holds as far as it matters.
fn essence(catalogue: &Catalogue, parts: &Parts) -> Vec<(String, String, String, Activity)> {
    let essence = parts.iter().map(|(name, part)| {
        let code = part.code.as_ref().map(ToString::to_string);
        // A region that nothing uses stays as it is.
        let used = part
            .state
            .as_ref()
            .filter(|_| part.activity == Activity::Running);
        let state = used.map(|ver| {
            let facts = catalogue.facts(name, ver).expect("facts");
            facts.state.fingerprint.clone()
        });
        (
            name.clone(),
            code.unwrap_or_default(),
            state.unwrap_or_default(),
            part.activity,
        )
    });
    essence.collect()
}

/// How many cases: more with `NEURATH_CASES`.
fn cases() -> u32 {
    let wanted = std::env::var("NEURATH_CASES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(192)
}

proptest! {
    #![proptest_config(common::seed::config(cases()))]

    /// Every accepted plan is legal at each step, ends in its release, and the way down undoes the way up.
    #[test]
    fn accepted_plans_are_legal_and_undone(project in project()) {
        let files = project.files();
        let catalogue = project.catalogue(&files);
        if let (Some(up), Some(down)) = (planned(&catalogue, true), planned(&catalogue, false)) {
            prop_assert_eq!((up.direction, down.direction), (Direction::Up, Direction::Down));
            let (old, new) = run(&catalogue, &up);
            let (new_again, old_again) = run(&catalogue, &down);
            prop_assert_eq!(essence(&catalogue, &new), essence(&catalogue, &new_again));
            prop_assert_eq!(essence(&catalogue, &old), essence(&catalogue, &old_again));
        }
    }

    /// The order in which files are read does not matter.
    #[test]
    fn plans_do_not_depend_on_the_order_of_files(project in project(), seed: u64) {
        let files = project.files();
        let mut shuffled = files.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        for up in [true, false] {
            let one = planned(&project.catalogue(&files), up).map(|plan| plan.to_json());
            let other = planned(&project.catalogue(&shuffled), up).map(|plan| plan.to_json());
            prop_assert_eq!(one, other);
        }
    }

    /// A script with a step left out, or moved to the end, is noticed.
    #[test]
    fn the_model_notices_what_is_wrong(project in project(), at: prop::sample::Index, kind in 0..2_u8) {
        let files = project.files();
        let catalogue = project.catalogue(&files);
        let Some(plan) = planned(&catalogue, true) else { return Ok(()) };
        let mut steps = plan.steps.clone();
        let at = at.index(steps.len());
        let harmless = matches!(steps[at], Step::Purge { .. } | Step::Apply { .. });
        prop_assume!(!harmless);
        let removed = steps.remove(at);
        if kind == 1 {
            // What serves later than it could is no fault.
            prop_assume!(!matches!(removed, Step::Resume { .. } | Step::Start { .. }));
            // Nor is code that nothing runs and that is there later.
            let idle = |component: &String| {
                steps.iter().all(|step| {
                    !matches!(step, Step::Start { components } | Step::Suspend { components, .. }
                        if components.contains(component))
                })
            };
            prop_assume!(!matches!(&removed, Step::Load { component, .. } if idle(component)));
            prop_assume!(at < steps.len());
            steps.push(removed);
        }
        let release = |ver| catalogue.release("app", ver).expect("the release");
        let found = neurath_plan::prove(&catalogue, release(&plan.from), release(&plan.to), &steps);
        prop_assert!(!found.is_empty(), "{:?}", steps);
    }
}

#[test]
fn the_demos_relups_are_legal() {
    let catalogue = common::demo();
    for minor in [1_u64, 2] {
        let file = root().join(format!("releases/kv/1.1.{}.relup.toml", minor - 1));
        let text = std::fs::read_to_string(&file).expect("the relup");
        let relup = neurath_manifest::Relup::parse("relup", &text).expect("a relup");
        for entry in &relup.up {
            let steps: Vec<Step> = entry.steps().cloned().collect();
            let release = |ver| catalogue.release("kv", ver).expect("the release");
            let found = neurath_plan::prove(
                &catalogue,
                release(&entry.base),
                release(&relup.version),
                &steps,
            );
            assert!(found.is_empty(), "{found}");
        }
    }
}
