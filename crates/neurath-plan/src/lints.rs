//! What is allowed, but should be looked at: found, and given the level that the files say.

mod appups;
mod script;

use crate::catalogue::Catalogue;
use crate::codes;
use crate::instructions::Way;
use crate::sides::Sides;
use crate::translate::Origin;
use neurath_manifest::{Diagnostic, LintLevel, LintSetting, Source};

/// Something found, with the component that it is about.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) component: Option<String>,
    pub(crate) diagnostic: Diagnostic,
}

/// What is found in the appups and releases of a plan.
pub(crate) fn of_appups(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    ways: &[Way<'_>],
    restarted: &dyn Fn(&str) -> bool,
) -> Vec<Finding> {
    appups::find(catalogue, sides, ways, restarted)
}

/// What is found in a script.
pub(crate) fn of_script(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    script: &[Origin],
) -> Vec<Finding> {
    script::find(catalogue, sides, script)
}

/// The settings that hold for a finding: those of the newer release, then those of the appup.
fn setting<'a>(
    catalogue: &'a Catalogue,
    sides: &Sides<'a>,
    code: &str,
    component: Option<&str>,
) -> Option<&'a LintSetting> {
    let find = |settings: &'a [LintSetting]| settings.iter().find(|one| one.holds(code, component));
    find(&sides.newer().lints).or_else(|| {
        let name = component?;
        let versions = [sides.old(name), sides.new_one(name)].into_iter().flatten();
        let newer = versions.map(|part| &part.version).max()?;
        find(&catalogue.appup(name, newer)?.lints)
    })
}

/// Gives every finding its level; what is allowed is dropped.
pub(crate) fn with_levels(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    findings: Vec<Finding>,
) -> Vec<Diagnostic> {
    let mut kept = Vec::new();
    for Finding {
        component,
        diagnostic,
    } in findings
    {
        let default = codes::LINTS
            .iter()
            .find(|(code, _)| *code == diagnostic.code)
            .map_or(LintLevel::Deny, |(_, level)| *level);
        let setting = setting(catalogue, sides, diagnostic.code, component.as_deref());
        match setting.map_or(default, |setting| setting.level) {
            LintLevel::Allow => {}
            LintLevel::Warn => kept.push(diagnostic.warning()),
            LintLevel::Deny => {
                let place = match &component {
                    Some(name) => format!("the release, or of {name}'s appup"),
                    None => "the release".into(),
                };
                let way_out = format!(
                    "or allow it, in [lints] of {place}: {} = {{ level = \"allow\", reason = \"…\" }}",
                    diagnostic.code
                );
                let help = match &diagnostic.help {
                    Some(help) => format!("{help}; {way_out}"),
                    None => way_out,
                };
                kept.push(diagnostic.help(help));
            }
        }
    }
    kept
}

/// Every setting is for a lint that there is.
pub(crate) fn check_settings(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    ways: &[Way<'_>],
    problems: &mut Vec<Diagnostic>,
) {
    let mut check = |settings: &[LintSetting], source: &Source| {
        for one in settings.iter().filter(|one| !codes::is_lint(&one.code)) {
            let known = codes::ALL.iter().any(|(code, _)| *code == one.code);
            let (message, help) = if known {
                (
                    format!("{} is an error, and has no level", one.code),
                    "mend what it is about",
                )
            } else {
                (
                    format!("there is no lint {}", one.code),
                    "see docs/lints for those that there are",
                )
            };
            problems.push(
                Diagnostic::error(codes::NOT_A_LINT, message)
                    .at(source, one.span.clone(), "no lint")
                    .help(help),
            );
        }
    };
    let newer = sides.newer();
    check(&newer.lints, &newer.source);
    for (change, _) in ways {
        if let Some(appup) = catalogue.appup(change.component, change.newer()) {
            check(&appup.lints, &appup.source);
        }
    }
}
