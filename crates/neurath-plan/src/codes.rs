//! The codes of what the planner finds. A code is never given another meaning.

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*
        /// Every code with its one line.
        pub const ALL: &[(&str, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
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
    UNCHANGED = "P011", "An instruction for a component that does not change.";
    UNKNOWN_COMPONENT = "P012", "A component that is not in the releases.";
    SEVERAL_INSTRUCTIONS = "P013", "Two instructions for one component.";
    STATE_CHANGED = "P014", "The state changed, and no code_change is asked for.";
    NO_MIGRATION = "P015", "The state changed, and no migration covers this exact pair of schemas.";
    NODE_VERSION = "P016", "The releases want different nodes: not supported in this version yet.";
    MIXED_VERSIONS = "P017", "At some point versions run together that do not fit.";
    HOISTED = "P018", "An instruction would be carried across a step that the author wrote.";
    MISPLACED = "P019", "A low-level step that cannot stand where it stands.";
    UNSUPPORTED = "P020", "Something that this version does not support yet.";
    STALE = "P021", "A relup that is not what the planner makes now.";
    WRONG_ORDER = "P022", "A relup with the planner's steps in another order.";
    WRONG_END = "P023", "A script that does not end in the release it leads to.";
    OTHER_RELEASE = "P024", "Releases of different names: there is no way between them.";
}
