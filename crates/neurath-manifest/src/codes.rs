//! The codes of what the reader finds. A code is never given another meaning.

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*
        /// Every code with its one line.
        pub const ALL: &[(&str, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
    SYNTAX = "M001", "The file is not TOML.";
    UNKNOWN_KEY = "M002", "A key that is not known at this place.";
    MISSING_KEY = "M003", "A key that must be there is missing.";
    WRONG_TYPE = "M004", "A value of the wrong type.";
    BAD_VERSION = "M005", "A text that is not a semantic version.";
    BAD_REQUIREMENT = "M006", "A text that is not a version requirement.";
    BAD_DURATION = "M007", "A text that is not a duration.";
    BAD_SIZE = "M008", "A value that is not a size.";
    BAD_NAME = "M009", "A text that is not a name: empty, a path, too long, other characters.";
    DUPLICATE = "M010", "Something is given twice.";
    NOT_ALLOWED = "M011", "A value that is not among those allowed.";
    OUT_OF_RANGE = "M012", "A number out of its range.";
    REGION_SIZES = "M013", "A region whose limit is smaller than its initial size.";
    NO_INSTRUCTION = "M014", "A step without an instruction that is known.";
    SEVERAL_INSTRUCTIONS = "M015", "A step with several instructions.";
    HIGH_LEVEL = "M016", "A high-level instruction in a relup.";
    TOO_LARGE = "M017", "A file that is too large or nested too deeply.";
    SELF_DEPENDENCY = "M018", "A component that depends on itself.";
    EMPTY = "M019", "A list or table that must not be empty.";
    APPLY_TARGET = "M020", "An apply that names neither a hook nor a command, or both.";
    BAD_CODE = "M021", "A text that is not the code of a lint.";
    CHECK_TARGET = "M022", "A health check that names nothing to check, or several things.";
    CHECK_NEVER_HOLDS = "M023", "A health check that can never hold.";
}
