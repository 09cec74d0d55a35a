//! Relups: made from plans, and compared with them.

use crate::catalogue::Catalogue;
use crate::codes;
use crate::lints;
use crate::plan::Plan;
use crate::planner::{Lints, check_releases, plan, plan_with};
use crate::sides::Sides;
use crate::simulate::simulate;
use crate::translate::Origin;
use neurath_manifest::{Diagnostic, Diagnostics, Located, Relup, RelupEntry, Source, Step};
use semver::Version;

/// What comes of planning one way.
pub type OneWay = Result<Plan, Diagnostics>;

/// Makes the relup of a release: a script up from every base release, and one back down to it.
///
/// # Errors
///
/// All that stands in the way of any of them.
pub fn generate_relup(
    catalogue: &Catalogue,
    target: (&str, &Version),
    bases: &[Version],
) -> Result<Relup, Diagnostics> {
    generate_relup_by(catalogue, target, bases, |up, down| (up(), down()))
}

/// The same. `both` carries out the planning up and the planning down of a base: side by side, where the caller has a
/// thread to spare. What comes of it does not depend on that.
///
/// # Errors
///
/// As for [`generate_relup`].
pub fn generate_relup_by(
    catalogue: &Catalogue,
    target: (&str, &Version),
    bases: &[Version],
    both: impl Fn(&(dyn Fn() -> OneWay + Sync), &(dyn Fn() -> OneWay + Sync)) -> (OneWay, OneWay),
) -> Result<Relup, Diagnostics> {
    let (name, version) = target;
    let mut problems: Vec<Diagnostic> = Vec::new();
    let mut relup = Relup {
        name: name.to_string(),
        version: version.clone(),
        handwritten: false,
        up: Vec::new(),
        down: Vec::new(),
        source: Source::default(),
    };
    for (number, base) in bases.iter().enumerate() {
        if bases[..number].contains(base) {
            continue;
        }
        let mut keep = |found: OneWay, entries: &mut Vec<RelupEntry>| match found {
            Ok(plan) => entries.push(entry(base, plan)),
            Err(found) => add_new(&mut problems, found),
        };
        let (up, down) = both(&|| plan(catalogue, (name, base), target), &|| {
            plan(catalogue, target, (name, base))
        });
        keep(up, &mut relup.up);
        keep(down, &mut relup.down);
    }
    if problems.is_empty() {
        Ok(relup)
    } else {
        Err(problems.into())
    }
}

fn entry(base: &Version, plan: Plan) -> RelupEntry {
    let script = plan
        .steps
        .into_iter()
        .map(|step| Located::new(step, 0..0))
        .collect();
    RelupEntry {
        base: base.clone(),
        span: 0..0,
        script,
    }
}

/// Adds what is not there yet: up and down often find the same.
fn add_new(problems: &mut Vec<Diagnostic>, found: Diagnostics) {
    for one in found {
        if !problems.contains(&one) {
            problems.push(one);
        }
    }
}

/// Plans again, and compares. `Ok` has what is wrong with the relup, or nothing; `Err` says why it cannot be compared.
///
/// A script that differs is walked through, so that what is wrong with it is named by its step. A relup that says
/// `handwritten = true` is only walked through: that it differs is a warning.
pub fn check_relup(catalogue: &Catalogue, relup: &Relup) -> Result<Vec<Diagnostic>, Diagnostics> {
    let (mut findings, mut obstacles) = (Vec::new(), Vec::new());
    let ups = relup
        .up
        .iter()
        .map(|entry| (entry, &entry.base, &relup.version));
    let downs = relup
        .down
        .iter()
        .map(|entry| (entry, &relup.version, &entry.base));
    for (entry, from, to) in ups.chain(downs) {
        let (from, to) = ((relup.name.as_str(), from), (relup.name.as_str(), to));
        let planned = plan_with(catalogue, from, to, Lints::Enforce).map(|planned| {
            add_new(&mut findings, planned.findings.into());
            planned.plan
        });
        if let Ok(planned) = &planned
            && planned.steps.iter().eq(entry.steps())
        {
            continue;
        }
        let (Some(old), Some(new)) = (
            catalogue.release(from.0, from.1),
            catalogue.release(to.0, to.1),
        ) else {
            add_new(&mut obstacles, planned.err().unwrap_or_default());
            continue;
        };
        let mut found = Vec::new();
        let sides = Sides::new(old, new);
        if relup.handwritten {
            check_releases(catalogue, &sides, &mut found);
        }
        let script = Origin::of_script(&relup.source, &entry.script);
        simulate(catalogue, old, new, &script, &mut found);
        let lints = lints::of_script(catalogue, &sides, &script);
        found.extend(lints::with_levels(catalogue, &sides, lints));
        add_new(&mut findings, found.into());
        match planned {
            Ok(planned) => findings.push(difference(relup, entry, &planned)),
            Err(_) if relup.handwritten => {}
            Err(found) => add_new(&mut obstacles, found),
        }
    }
    if obstacles.is_empty() {
        Ok(findings)
    } else {
        Err(obstacles.into())
    }
}

/// In what a script differs from the planner's.
fn difference(relup: &Relup, entry: &RelupEntry, planned: &Plan) -> Diagnostic {
    let written: Vec<&Step> = entry.steps().collect();
    let at = written
        .iter()
        .zip(&planned.steps)
        .take_while(|(written, planned)| **written == *planned)
        .count();
    let span = entry
        .script
        .get(at)
        .map_or(entry.span.clone(), |step| step.span.clone());
    let way = format!(
        "the script {} from {} to {}",
        planned.direction.as_str(),
        planned.from,
        planned.to
    );
    let sorted = |steps: &mut dyn Iterator<Item = &Step>| {
        let mut lines: Vec<String> = steps.map(ToString::to_string).collect();
        lines.sort_unstable();
        lines
    };
    let same_steps = sorted(&mut written.iter().copied()) == sorted(&mut planned.steps.iter());
    let label = match planned.steps.get(at) {
        Some(step) => format!("the planner has {step} here"),
        None => "the planner's script ends before this".to_string(),
    };
    let diagnostic = if same_steps {
        Diagnostic::error(
            codes::WRONG_ORDER,
            format!("{way} has the planner's steps in another order"),
        )
    } else {
        Diagnostic::error(codes::STALE, format!("{way} is not what the planner makes"))
    };
    let diagnostic = diagnostic
        .at(&relup.source, span, label)
        .help("generate the relup again, or say `handwritten = true` if it is meant to differ");
    if relup.handwritten {
        diagnostic.warning()
    } else {
        diagnostic
    }
}
