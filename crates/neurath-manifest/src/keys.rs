//! The keys of every file: one table, used by the reader and by the JSON schemas.

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string that says something: not only blanks.
    Reason,
    /// A name (see `scalar::check_name`).
    Name,
    /// A cargo package, or `package/example` (see `scalar::check_library`).
    Library,
    /// A semantic version.
    Version,
    /// A requirement on a semantic version.
    Requirement,
    /// A duration such as `"5s"`.
    Duration,
    /// A size such as `"64MiB"`, or a number of bytes.
    Size,
    /// A whole number within bounds.
    Integer { min: u64, max: u64 },
    /// `true` or `false`.
    Bool,
    /// Only `true`: for an instruction that takes nothing.
    True,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A table of anything.
    Free,
    /// An array of values of one kind.
    List { of: &'static Kind, empty: bool },
    /// An array of names, none of them twice.
    Names { empty: bool },
    /// A table from names to values of one kind.
    Map { of: &'static Kind, empty: bool },
    /// A table from codes of lints to values of one kind.
    Codes(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
    /// What an apply calls: the keys of `APPLY_HOOK`, or those of `APPLY_COMMAND`.
    Apply,
    /// One health check: the keys of one of `CHECKS`.
    Check,
    /// A string of the first kind, or a table of the second.
    Either(&'static Kind, &'static Kind),
    /// One step: a table with exactly one instruction.
    Step(Steps),
}

/// Which instructions a step may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// All (an appup).
    All,
    /// The low-level ones (a relup).
    Low,
}

/// No component manifest, appup or release has more bytes.
pub(crate) const MANIFEST_LIMIT: usize = 4 << 20;

/// No relup, and no script of a plan, has more bytes.
pub(crate) const SCRIPT_LIMIT: usize = 16 << 20;

/// A kind of file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    pub(crate) keys: &'static [Key],
    /// A larger text is refused before it is parsed.
    pub(crate) text_limit: usize,
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// One instruction: the key that names it, and its options.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Whether a relup may have it.
    pub(crate) low: bool,
    /// Set where two instructions share their first key: the key that tells them apart.
    pub(crate) with: Option<&'static str>,
    pub(crate) doc: &'static str,
    /// The instruction's own key comes first.
    pub(crate) keys: &'static [Key],
}

impl Shape {
    /// The key that names the instruction.
    pub(crate) fn verb(&self) -> &'static str {
        self.keys[0].name
    }
}

const fn must(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        required: true,
        kind,
        doc,
    }
}

const fn may(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        required: false,
        kind,
        doc,
    }
}

const NAMES: Kind = Kind::Names { empty: false };

/// What `Kind::Names` is read as.
pub(crate) const ANY_NAMES: Kind = Kind::List {
    of: &Kind::Name,
    empty: true,
};
pub(crate) const SOME_NAMES: Kind = Kind::List {
    of: &Kind::Name,
    empty: false,
};
const START_TYPES: Kind = Kind::OneOf(&["permanent", "transient", "temporary", "load", "none"]);
const PURGE_KINDS: Kind = Kind::OneOf(&["soft", "brutal"]);

/// `manifests/<component>/<version>.toml`
pub(crate) const COMPONENT: File = File {
    keys: COMPONENT_KEYS,
    text_limit: MANIFEST_LIMIT,
};

const COMPONENT_KEYS: &[Key] = &[
    must("name", Kind::Name, "Name of the component."),
    must("version", Kind::Version, "Version of the component."),
    must(
        "library",
        Kind::Library,
        "The cargo package that is built into the component's library, or `package/example`.",
    ),
    may(
        "instances",
        Kind::Integer { min: 1, max: 1024 },
        "How many instances (shards), each with its own region. Default 1.",
    ),
    may(
        "mailbox",
        Kind::Integer {
            min: 1,
            max: 100_000_000,
        },
        "So many messages may wait for an instance; another one is refused. Default 65536.",
    ),
    must(
        "region",
        Kind::Table(REGION),
        "The region of each instance.",
    ),
    may(
        "depends_on",
        Kind::Map {
            of: &Kind::Requirement,
            empty: true,
        },
        "Components it needs, each with a version requirement.",
    ),
    may("config", Kind::Free, "Defaults of the configuration."),
    may(
        "config_schema",
        Kind::Map {
            of: &Kind::Either(&CONFIG_TYPES, &Kind::Table(CONFIG_KEY)),
            empty: true,
        },
        "The keys of the configuration with their types. Default: nothing is checked.",
    ),
];

const CONFIG_TYPES: Kind = Kind::OneOf(crate::config::TYPES);
const CONFIG_KEY: &[Key] = &[
    must("type", CONFIG_TYPES, "The type of the value."),
    may(
        "optional",
        Kind::Bool,
        "Whether the key may be missing. Default false.",
    ),
];

const REGION: &[Key] = &[
    must("initial_size", Kind::Size, "Size of a new region."),
    must("limit", Kind::Size, "The region never grows beyond this."),
    must(
        "durability",
        Kind::OneOf(&["process", "power"]),
        "What a write survives: a crash of the process, or a loss of power.",
    ),
];

/// `manifests/<component>/<version>.appup.toml`
pub(crate) const APPUP: File = File {
    keys: APPUP_KEYS,
    text_limit: MANIFEST_LIMIT,
};

const APPUP_KEYS: &[Key] = &[
    may(
        "name",
        Kind::Name,
        "The component; checked against the place of the file.",
    ),
    may(
        "version",
        Kind::Version,
        "The version that this leads to; checked against the place of the file.",
    ),
    may(
        "up",
        Kind::List {
            of: &Kind::Table(APPUP_UP),
            empty: true,
        },
        "From earlier versions to this one. The first match wins.",
    ),
    may(
        "down",
        Kind::List {
            of: &Kind::Table(APPUP_DOWN),
            empty: true,
        },
        "From this version back to earlier ones. The first match wins.",
    ),
    LINTS,
];

const LINTS: Key = may(
    "lints",
    Kind::Codes(&Kind::Table(LINT)),
    "Levels of lints by their codes, each with its reason.",
);

const LINT: &[Key] = &[
    must(
        "level",
        Kind::OneOf(&["allow", "warn", "deny"]),
        "How much a finding matters here.",
    ),
    must("reason", Kind::Reason, "Why. Must not be empty."),
    may(
        "components",
        NAMES,
        "The components it holds for. Default all.",
    ),
];

const INSTRUCTIONS: Kind = Kind::List {
    of: &Kind::Step(Steps::All),
    empty: true,
};

const APPUP_UP: &[Key] = &[
    must(
        "from",
        Kind::Requirement,
        "The versions this entry starts from.",
    ),
    must("instructions", INSTRUCTIONS, "What to do, in order."),
    may(
        "irreversible",
        Kind::Reason,
        "Why there is no way back, or none that undoes every instruction. Default: there is one.",
    ),
];

const APPUP_DOWN: &[Key] = &[
    must(
        "to",
        Kind::Requirement,
        "The versions this entry goes back to.",
    ),
    must("instructions", INSTRUCTIONS, "What to do, in order."),
];

/// `releases/<release>/<version>.toml`
pub(crate) const RELEASE: File = File {
    keys: RELEASE_KEYS,
    text_limit: MANIFEST_LIMIT,
};

const RELEASE_KEYS: &[Key] = &[
    must("name", Kind::Name, "Name of the release."),
    must("version", Kind::Version, "Version of the release."),
    must("node", Kind::Version, "Version of the node that runs it."),
    may(
        "node_program",
        Kind::Name,
        "Cargo package whose program of the same name is that node. It goes into the release, and takes over from another node by `restart_new_node`.",
    ),
    must(
        "components",
        Kind::Map {
            of: &Kind::Table(RELEASE_COMPONENT),
            empty: false,
        },
        "The components. Their order settles ties.",
    ),
    may(
        "confirm",
        Kind::Table(CONFIRM),
        "When a new release becomes permanent.",
    ),
    may(
        "supervision",
        Kind::Table(SUPERVISION),
        "How often components that fail are started again.",
    ),
    LINTS,
];

const RELEASE_COMPONENT: &[Key] = &[
    must("version", Kind::Version, "Version of the component."),
    may(
        "start",
        START_TYPES,
        "How it is started. Default permanent.",
    ),
    may(
        "config",
        Kind::Free,
        "Configuration; goes over the manifest's defaults.",
    ),
];

const SUPERVISION: &[Key] = &[
    may(
        "intensity",
        Kind::Integer {
            min: 0,
            max: 10_000,
        },
        "So often an instance is started again within the period; once more, and what depends on it is started again with it. Default 20.",
    ),
    may(
        "period",
        Kind::Duration,
        "The time in which that is counted. Default 10s.",
    ),
    may(
        "escalations",
        Kind::Integer { min: 0, max: 1000 },
        "So often that is done within as many periods and one; once more, and the node ends. Default 3.",
    ),
];

const CONFIRM: &[Key] = &[
    may(
        "window",
        Kind::Duration,
        "How long the release must hold. Default 60s.",
    ),
    may(
        "interval",
        Kind::Duration,
        "How often each check is made. Default 1s.",
    ),
    may(
        "failures",
        Kind::Integer { min: 1, max: 1000 },
        "So many failures of one check, one after the other, send the node back. Default 2.",
    ),
    may(
        "starts",
        Kind::Integer { min: 1, max: 1000 },
        "So many starts of the node go back from the release before one of them comes up; then a person decides. Default 10.",
    ),
    may(
        "checks",
        Kind::List {
            of: &Kind::Check,
            empty: true,
        },
        "Health checks: if all hold for the window, the release becomes permanent.",
    ),
];

const CHECK_TIMEOUT: Key = may(
    "timeout",
    Kind::Duration,
    "How long one check may take. Default 1s.",
);

const SEND_DOC: &str = "The request. Default PING.";
const EXPECT_DOC: &str =
    "What the answer must be, as text. Any answer but an error when not given.";

/// The health checks that there are: each has the key that its first key is.
pub(crate) const CHECKS: &[&[Key]] = &[
    &[
        must(
            "command",
            COMMAND,
            "A command with its arguments, which ends with 0.",
        ),
        CHECK_TIMEOUT,
    ],
    &[
        must("tcp", Kind::Text, "An address that accepts a connection."),
        CHECK_TIMEOUT,
    ],
    &[
        must(
            "resp",
            Kind::Text,
            "An address that answers a RESP request.",
        ),
        may("send", COMMAND, SEND_DOC),
        may("expect", Kind::Text, EXPECT_DOC),
        CHECK_TIMEOUT,
    ],
    &[
        must(
            "component",
            Kind::Name,
            "A component whose own `check_state` holds.",
        ),
        CHECK_TIMEOUT,
    ],
];

/// The keys of all of them, as the reader takes them in before it says which do not go together.
pub(crate) const CHECK: &[Key] = &[
    may(
        "command",
        COMMAND,
        "A command with its arguments, which ends with 0.",
    ),
    may("tcp", Kind::Text, "An address that accepts a connection."),
    may(
        "resp",
        Kind::Text,
        "An address that answers a RESP request.",
    ),
    may(
        "component",
        Kind::Name,
        "A component whose own `check_state` holds.",
    ),
    may("send", COMMAND, SEND_DOC),
    may("expect", Kind::Text, EXPECT_DOC),
    CHECK_TIMEOUT,
];

/// `releases/<release>/<version>.relup.toml`
pub(crate) const RELUP: File = File {
    keys: RELUP_KEYS,
    text_limit: SCRIPT_LIMIT,
};

const RELUP_KEYS: &[Key] = &[
    must("name", Kind::Name, "Name of the release."),
    must(
        "version",
        Kind::Version,
        "The release version that this leads to.",
    ),
    may(
        "handwritten",
        Kind::Bool,
        "True when the planner's own scripts are not wanted. Default false.",
    ),
    may(
        "up",
        Kind::List {
            of: &Kind::Table(RELUP_UP),
            empty: true,
        },
        "From earlier releases to this one.",
    ),
    may(
        "down",
        Kind::List {
            of: &Kind::Table(RELUP_DOWN),
            empty: true,
        },
        "From this release back to earlier ones.",
    ),
];

const SCRIPT: Kind = Kind::List {
    of: &Kind::Step(Steps::Low),
    empty: false,
};

const RELUP_UP: &[Key] = &[
    must("from", Kind::Version, "The release version it starts from."),
    must("script", SCRIPT, "The low-level steps, in order."),
];

const RELUP_DOWN: &[Key] = &[
    must("to", Kind::Version, "The release version it goes back to."),
    must("script", SCRIPT, "The low-level steps, in order."),
];

/// A script alone, as in a plan.
pub(crate) const SCRIPT_ALONE: File = File {
    keys: SCRIPT_ALONE_KEYS,
    text_limit: SCRIPT_LIMIT,
};

const SCRIPT_ALONE_KEYS: &[Key] = &[must("script", SCRIPT, "The low-level steps, in order.")];

const CHANGE: Kind = Kind::Either(&Kind::OneOf(&["soft"]), &Kind::Table(CHANGE_TABLE));
const CHANGE_TABLE: &[Key] = &[must(
    "advanced",
    Kind::Free,
    "Call code_change; this table reaches it as `extra`.",
)];

/// An apply that calls a hook.
pub(crate) const APPLY_HOOK: &[Key] = &[
    must(
        "component",
        Kind::Name,
        "The component that exports the hook.",
    ),
    must("hook", Kind::Name, "The hook to call."),
    may("args", Kind::Free, "What the hook is given."),
];

/// An apply that calls a command.
pub(crate) const APPLY_COMMAND: &[Key] = &[must("command", COMMAND, COMMAND_DOC)];

const COMMAND: Kind = Kind::List {
    of: &Kind::Text,
    empty: false,
};
const COMMAND_DOC: &str = "A command with its arguments, in place of a hook.";

/// The keys of both, as the reader takes them in before it says which do not go together.
pub(crate) const APPLY: &[Key] = &[
    may(
        "component",
        Kind::Name,
        "The component that exports the hook.",
    ),
    may("hook", Kind::Name, "The hook to call."),
    may("command", COMMAND, COMMAND_DOC),
    may("args", Kind::Free, "What the hook is given."),
];

const ALL_DEPENDS: Key = may(
    "depends_on",
    Kind::Names { empty: true },
    "Changed after these components, suspended before them.",
);
const TYPE: Key = may(
    "type",
    START_TYPES,
    "How it is started; the release must say the same. Default: what the release says.",
);
const TIMEOUT: Key = may(
    "timeout",
    Kind::Duration,
    "How long the instances may take to suspend.",
);
const PRE_PURGE: Key = may(
    "pre_purge",
    PURGE_KINDS,
    "soft: refuse while code of an earlier upgrade is still in use. brutal: go on. Default brutal.",
);
const POST_PURGE: Key = may(
    "post_purge",
    PURGE_KINDS,
    "soft: the old code stays for the way back, until the release is confirmed. brutal: it goes with the upgrade. Default soft.",
);

const STRATEGY: Key = may(
    "strategy",
    Kind::OneOf(&["eager", "incremental"]),
    "How the state is converted. Default eager.",
);
const VIA: Key = may(
    "via",
    Kind::Name,
    "Another component of the release, whose library has the code_change.",
);
const HOP: &[Key] = &[
    must("from", Kind::Version, "The version whose state is there."),
    must("to", Kind::Version, "The version whose state is wanted."),
    may("extra", Kind::Free, "The table that reaches code_change."),
    VIA,
];

/// Every instruction, high-level ones first.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        low: false,
        with: None,
        doc: "Suspend, load, code_change if asked for, resume.",
        keys: &[
            must("update", Kind::Name, "The component."),
            may(
                "change",
                CHANGE,
                "`\"soft\"` (default): no code_change. `{ advanced = { … } }`: call it with that table.",
            ),
            may(
                "mod_type",
                Kind::OneOf(&["dynamic", "static"]),
                "On the way down: `\"dynamic\"` (default) calls code_change before load, `\"static\"` after it.",
            ),
            TIMEOUT,
            ALL_DEPENDS,
            PRE_PURGE,
            POST_PURGE,
            STRATEGY,
            VIA,
        ],
    },
    // The low-level `load` stands before the high-level one: `version` tells them apart.
    Shape {
        low: true,
        with: Some("version"),
        doc: "Low-level: switch a component's code to that version.",
        keys: &[
            must("load", Kind::Name, "The component."),
            must("version", Kind::Version, "The version to switch to."),
        ],
    },
    Shape {
        low: false,
        with: None,
        doc: "Code only: no state change, no code_change.",
        keys: &[
            must("load", Kind::Name, "The component."),
            TIMEOUT,
            ALL_DEPENDS,
            PRE_PURGE,
            POST_PURGE,
        ],
    },
    Shape {
        low: false,
        with: None,
        doc: "Add a component.",
        keys: &[must("add_component", Kind::Name, "The component."), TYPE],
    },
    Shape {
        low: false,
        with: None,
        doc: "Remove a component; what depends on it is stopped first.",
        keys: &[must("remove_component", Kind::Name, "The component.")],
    },
    Shape {
        low: false,
        with: None,
        doc: "Restart a component, and what depends on it.",
        keys: &[
            must("restart_component", Kind::Name, "The component."),
            TYPE,
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Make a version's library ready, before the point of no return.",
        keys: &[
            must("load_object_code", Kind::Name, "The component."),
            must("version", Kind::Version, "The version."),
            PRE_PURGE,
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "What stands before it can fail without a trace.",
        keys: &[must("point_of_no_return", Kind::True, "Always true.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Suspend components, in this order.",
        keys: &[must("suspend", NAMES, "The components."), TIMEOUT],
    },
    Shape {
        low: true,
        with: None,
        doc: "Call code_change for every instance of a component.",
        keys: &[
            must("code_change", Kind::Name, "The component."),
            must("from", Kind::Version, "The version whose state is there."),
            must("to", Kind::Version, "The version whose state is wanted."),
            may("extra", Kind::Free, "The table that reaches code_change."),
            STRATEGY,
            VIA,
            may(
                "hops",
                Kind::List {
                    of: &Kind::Table(HOP),
                    empty: false,
                },
                "The calls of code_change by way of versions between the two, in order, in place of one.",
            ),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Take a version's code out of use.",
        keys: &[
            must("remove", Kind::Name, "The component."),
            must("version", Kind::Version, "The version."),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Drop a version's code.",
        keys: &[
            must("purge", Kind::Name, "The component."),
            must("version", Kind::Version, "The version."),
            may(
                "kind",
                PURGE_KINDS,
                "soft (default): when nothing runs it. brutal: at once.",
            ),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Resume components, in this order.",
        keys: &[must("resume", NAMES, "The components.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Stop components, in this order.",
        keys: &[must("stop", NAMES, "The components.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Start components, in this order.",
        keys: &[must("start", NAMES, "The components.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Take state out of regions and give it to others: all of it or none.",
        keys: &[
            must("move_state", Kind::Name, "Name of the move."),
            must("from", NAMES, "The components that give."),
            must("to", NAMES, "The components that take."),
            may("extra", Kind::Free, "The table that reaches the callback."),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Wait for other nodes to reach the same place, before the point of no return.",
        keys: &[
            must("sync_nodes", Kind::Name, "Name of the meeting point."),
            must(
                "nodes",
                Kind::List {
                    of: &Kind::Text,
                    empty: false,
                },
                "The other nodes.",
            ),
            must("deadline", Kind::Duration, "How long to wait for them."),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Call a hook of a component, or a command; its failure counts.",
        keys: &[
            must(
                "apply",
                Kind::Apply,
                "What to call: `component` and `hook`, or `command`.",
            ),
            may(
                "undo",
                Kind::Apply,
                "What undoes it if the upgrade fails before its commit. Default: nothing.",
            ),
        ],
    },
    Shape {
        low: true,
        with: None,
        doc: "Replace the node itself, then run the rest.",
        keys: &[must("restart_new_node", Kind::True, "Always true.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Replace the node itself at the end.",
        keys: &[must("restart_node", Kind::True, "Always true.")],
    },
    Shape {
        low: true,
        with: None,
        doc: "Throw the regions of components away and make them anew.",
        keys: &[
            must("reset_node", NAMES, "The components."),
            may(
                "keep_snapshot",
                Kind::Bool,
                "Whether a snapshot of the old regions is kept. Default true.",
            ),
        ],
    },
];

/// The instructions that may stand at such a place.
pub(crate) fn shapes(steps: Steps) -> impl Iterator<Item = &'static Shape> {
    SHAPES.iter().filter(move |shape| match steps {
        Steps::All => true,
        Steps::Low => shape.low,
    })
}
