//! The codes of what the planner finds. A code is never given another meaning.
//!
//! `P0…` are errors: nothing can be planned until they are mended. The others are lints, by families: `D` destructive,
//! `R` reversibility, `C` compatibility, `S` dependent on the data, `F` several nodes, `P1…` the pause. A lint has a
//! level, which `[lints]` of the newer release or of the newer version's appup can change, with a reason.

pub use neurath_manifest::LintLevel;

macro_rules! codes {
    (
        errors { $($name:ident = $code:literal, $title:literal;)* }
        lints { $($lint:ident = $lint_code:literal, $level:ident, $lint_title:literal;)* }
    ) => {
        $(#[doc = $title] pub const $name: &str = $code;)*
        $(#[doc = $lint_title] pub const $lint: &str = $lint_code;)*
        /// Every code with its one line.
        pub const ALL: &[(&str, &str)] = &[$(($code, $title),)* $(($lint_code, $lint_title)),*];
        /// Every lint with the level that it has unless a file says otherwise.
        pub const LINTS: &[(&str, LintLevel)] = &[$(($lint_code, LintLevel::$level)),*];
    };
}

codes! {
    errors {
        NO_RELEASE = "P001", "A release that is not among the inputs.";
        NO_MANIFEST = "P002", "A component version of a release has no manifest.";
        NO_APPUP = "P003", "A component changes, and its newer version has no appup.";
        NOT_COVERED = "P004", "An appup has no entry for the version at the other end.";
        NAME_MISMATCH = "P005", "A file says another name or version than its place.";
        DUPLICATE = "P006", "Two inputs for the same name and version.";
        CYCLE = "P007", "Components that depend on each other in a circle.";
        NOT_IN_RELEASE = "P008", "A dependency that is not in the release.";
        REQUIREMENT = "P009", "A version in the release that does not meet a component's requirement.";
        NO_INSTRUCTION = "P010", "A component changes, and no instruction changes it.";
        UNCHANGED = "P011", "An instruction for a component that does not change in this way.";
        UNKNOWN_COMPONENT = "P012", "A component that is not in the releases.";
        SEVERAL_INSTRUCTIONS = "P013", "Two instructions for one component.";
        STATE_CHANGED = "P014", "The state changed, and no code_change is asked for.";
        NO_MIGRATION = "P015", "The state changed, and no migration covers this exact pair of schemas.";
        MIXED_VERSIONS = "P017", "At some point versions run together that do not fit.";
        HOISTED = "P018", "An instruction would be carried across a step that the author wrote.";
        MISPLACED = "P019", "A low-level step that cannot stand where it stands.";
        STALE = "P021", "A relup that is not what the planner makes now.";
        WRONG_ORDER = "P022", "A relup with the planner's steps in another order.";
        WRONG_END = "P023", "A script that does not end in the release it leads to.";
        OTHER_RELEASE = "P024", "Releases of different names: there is no way between them.";
        NOT_COMPOSABLE = "P025", "A way through several versions has an instruction that cannot be composed.";
        STILL_NEEDED = "P026", "A component is removed, and another one still needs it.";
        WRONG_RESULT = "P027", "A code_change whose result is not the schema that the library declares.";
        START_TYPE = "P028", "An instruction starts a component otherwise than the release does.";
        NOT_A_LINT = "P029", "A level for a code that is no lint.";
        NOT_SUSPENDED = "P030", "A code_change of a component that is not suspended.";
        NOT_TOGETHER = "P031", "A component would serve before all have changed: an upgrade has one commit.";
        SYNC_TOO_LATE = "P032", "A sync_nodes that is not before the point of no return.";
        NO_SUCH_VIA = "P033", "A `via` that names no component of the newer release.";
        CONFIGURATION = "P034", "A configuration that does not fit the component's schema.";
        OTHER_INSTANCES = "P035", "The number of a component's instances changes.";
        NO_MOVE = "P036", "A move_state for which a library has no function.";
        OTHER_VALUE = "P037", "A move_state whose ends do not agree in what is moved.";
        ANOTHER_FILE = "P038", "An incremental conversion of a state that gets another file at the same time.";
        VIA_NOT_KEPT = "P039", "An incremental conversion by the library of another component.";
    }
    lints {
        REMOVES_STATE = "D101", Deny, "A component is removed, and its regions with it.";
        RESETS_STATE = "D102", Deny, "Regions are thrown away and made anew.";
        NO_SNAPSHOT = "D103", Deny, "Regions are thrown away, and no snapshot of them is kept.";
        LOSES_FIELD = "D104", Deny, "A conversion up that has nowhere to put a field or a variant.";
        NO_WAY_DOWN = "R101", Warn, "An upgrade without a way down.";
        NO_INVERSE = "R102", Warn, "An instruction that the way down does not undo.";
        NOT_MIRRORED = "R103", Warn, "A way down with an instruction that undoes nothing of the way up.";
        LOSES_ON_THE_WAY_DOWN = "R104", Warn, "A conversion down that has nowhere to put a field or a variant.";
        START_TYPE_CHANGED = "C101", Deny, "The start type changes, the version does not: nothing would change it now.";
        OVERLAPPING = "C103", Warn, "Two appup entries cover the same version: the first is taken.";
        UNREACHABLE = "C104", Deny, "An appup entry that is never taken.";
        CHANGES_NOTHING = "C105", Warn, "A release that is the same as an older one: no node is brought from the one to the other.";
        NARROWED = "S101", Warn, "A conversion into a smaller number, which may not hold every value.";
        LONG_DEADLINE = "F101", Warn, "A sync_nodes that may wait longer than ten minutes.";
        LONG_PAUSE = "P101", Warn, "A suspension that may last longer than a minute.";
    }
}

/// Whether the code is that of a lint, whose level can be set.
pub fn is_lint(code: &str) -> bool {
    LINTS.iter().any(|(lint, _)| *lint == code)
}
