//! The low-level steps of a relup and of a plan.

use crate::codes;
use crate::diagnostic::Diagnostics;
use crate::keys::SCRIPT_ALONE;
use crate::reader::{Reader, read};
use crate::record::Record;
use crate::scalar::format_duration;
use crate::source::Span;
use crate::toml_text::inline_table;
use semver::Version;
use serde_json::Value as Json;
use std::fmt;
use std::time::Duration;
use toml::Value;

/// One low-level instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make a version's library ready to run. Can fail without a trace.
    LoadObjectCode {
        /// The component.
        component: String,
        /// The version whose library is made ready.
        version: Version,
        /// `Soft` refuses while code of an earlier upgrade of the component is still in use.
        pre_purge: Option<PurgeKind>,
    },
    /// What stands before it can fail without a trace.
    PointOfNoReturn,
    /// Suspend all instances of these components, in this order.
    Suspend {
        /// The components, dependants first.
        components: Vec<String>,
        /// How long they may take; the node's default if none.
        timeout: Option<Duration>,
    },
    /// Switch a component's code to a version that was made ready.
    Load {
        /// The component.
        component: String,
        /// The version to switch to.
        version: Version,
    },
    /// Call `code_change` for every instance of a component.
    CodeChange {
        /// The component.
        component: String,
        /// The version whose state is there.
        from: Version,
        /// The version whose state is wanted.
        to: Version,
        /// The table that reaches `code_change`.
        extra: Option<toml::Table>,
        /// How the state is converted.
        strategy: Strategy,
        /// Another component, whose library has the `code_change`.
        via: Option<String>,
        /// The calls by way of versions between the two, in order. None: one call, from `from` to `to`.
        hops: Vec<Hop>,
    },
    /// Take a version's code out of use.
    Remove {
        /// The component.
        component: String,
        /// The version.
        version: Version,
    },
    /// Drop a version's code.
    Purge {
        /// The component.
        component: String,
        /// The version to drop.
        version: Version,
        /// When.
        kind: PurgeKind,
    },
    /// Resume all instances of these components, in this order.
    Resume {
        /// The components, dependencies first.
        components: Vec<String>,
    },
    /// Stop components, in this order.
    Stop {
        /// The components.
        components: Vec<String>,
    },
    /// Start components, in this order.
    Start {
        /// The components.
        components: Vec<String>,
    },
    /// Take state out of regions and give it to others: all of it or none.
    MoveState {
        /// Name of the move.
        name: String,
        /// The components that give.
        from: Vec<String>,
        /// The components that take.
        to: Vec<String>,
        /// The table that reaches the callback.
        extra: Option<toml::Table>,
    },
    /// Wait for other nodes to reach the same place.
    SyncNodes {
        /// Name of the meeting point.
        id: String,
        /// The other nodes.
        nodes: Vec<String>,
        /// How long to wait.
        deadline: Duration,
    },
    /// Call a hook or a command; its failure counts.
    Apply {
        /// What to call.
        target: ApplyTarget,
        /// What undoes it, if the upgrade fails before its commit.
        undo: Option<ApplyTarget>,
    },
    /// Replace the node itself, then run the rest of the script.
    RestartNewNode,
    /// Replace the node itself at the end of the script.
    RestartNode,
    /// Throw the regions of components away and make them anew.
    ResetNode {
        /// The components.
        components: Vec<String>,
        /// Whether a snapshot of the old regions is kept.
        keep_snapshot: bool,
    },
}

/// One call of `code_change` on the way through several versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// The version whose state is there.
    pub from: Version,
    /// The version whose state is wanted.
    pub to: Version,
    /// The table that reaches `code_change`.
    pub extra: Option<toml::Table>,
    /// Another component, whose library has the `code_change`.
    pub via: Option<String>,
}

/// How state is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// All of it while suspended.
    #[default]
    Eager,
    /// On first touch, and by a sweep between messages.
    Incremental,
}

impl Strategy {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Incremental => "incremental",
        }
    }

    pub(crate) fn from_key(text: Option<String>) -> Self {
        match text.as_deref() {
            Some("incremental") => Self::Incremental,
            _ => Self::Eager,
        }
    }
}

/// When the code of a version is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PurgeKind {
    /// When the release is confirmed, and nothing runs it any more.
    #[default]
    Soft,
    /// With the upgrade, or as soon as nothing runs it any more: the way back loads it again.
    Brutal,
}

impl PurgeKind {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Brutal => "brutal",
        }
    }

    pub(crate) fn from_key(text: Option<String>) -> Self {
        if text.as_deref() == Some("brutal") {
            Self::Brutal
        } else {
            Self::Soft
        }
    }
}

/// What an apply calls.
#[derive(Debug, Clone, PartialEq)]
pub enum ApplyTarget {
    /// A hook that a component exports.
    Hook {
        /// The component.
        component: String,
        /// The hook.
        hook: String,
        /// What it is given.
        args: toml::Table,
    },
    /// A command with its arguments.
    Command(Vec<String>),
}

impl Step {
    /// The key that names the instruction in a file.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::LoadObjectCode { .. } => "load_object_code",
            Self::PointOfNoReturn => "point_of_no_return",
            Self::Suspend { .. } => "suspend",
            Self::Load { .. } => "load",
            Self::CodeChange { .. } => "code_change",
            Self::Remove { .. } => "remove",
            Self::Purge { .. } => "purge",
            Self::Resume { .. } => "resume",
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::MoveState { .. } => "move_state",
            Self::SyncNodes { .. } => "sync_nodes",
            Self::Apply { .. } => "apply",
            Self::RestartNewNode => "restart_new_node",
            Self::RestartNode => "restart_node",
            Self::ResetNode { .. } => "reset_node",
        }
    }

    /// The components that the step names, in order.
    pub fn components(&self) -> Vec<&str> {
        match self {
            Self::LoadObjectCode { component, .. }
            | Self::Load { component, .. }
            | Self::CodeChange { component, .. }
            | Self::Remove { component, .. }
            | Self::Purge { component, .. } => vec![component],
            Self::Apply { target, undo } => {
                let mut names: Vec<&str> = [Some(target), undo.as_ref()]
                    .into_iter()
                    .flatten()
                    .filter_map(ApplyTarget::component)
                    .collect();
                names.dedup();
                names
            }
            Self::Suspend { components, .. }
            | Self::Resume { components }
            | Self::Stop { components }
            | Self::Start { components }
            | Self::ResetNode { components, .. } => components.iter().map(String::as_str).collect(),
            Self::MoveState { from, to, .. } => from.iter().chain(to).map(String::as_str).collect(),
            Self::PointOfNoReturn
            | Self::SyncNodes { .. }
            | Self::RestartNewNode
            | Self::RestartNode => Vec::new(),
        }
    }

    /// The step's keys and values in the order in which they are written.
    pub fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let text = |text: &str| Value::String(text.to_string());
        let version = |version: &Version| Value::String(version.to_string());
        let names =
            |names: &[String]| Value::Array(names.iter().cloned().map(Value::String).collect());
        let verb = self.verb();
        match self {
            Self::LoadObjectCode {
                component,
                version: v,
                pre_purge,
            } => {
                let mut pairs = vec![(verb, text(component)), ("version", version(v))];
                pairs.extend(pre_purge.map(|kind| ("pre_purge", text(kind.as_str()))));
                pairs
            }
            Self::Load {
                component,
                version: v,
            }
            | Self::Remove {
                component,
                version: v,
            } => vec![(verb, text(component)), ("version", version(v))],
            Self::PointOfNoReturn | Self::RestartNewNode | Self::RestartNode => {
                vec![(verb, Value::Boolean(true))]
            }
            Self::Suspend {
                components,
                timeout,
            } => {
                let mut pairs = vec![(verb, names(components))];
                pairs.extend(
                    timeout.map(|timeout| ("timeout", Value::String(format_duration(timeout)))),
                );
                pairs
            }
            Self::CodeChange {
                component,
                from,
                to,
                extra,
                strategy,
                via,
                hops,
            } => {
                let mut pairs = vec![
                    (verb, text(component)),
                    ("from", version(from)),
                    ("to", version(to)),
                ];
                pairs.extend(extra.clone().map(|extra| ("extra", Value::Table(extra))));
                if *strategy != Strategy::Eager {
                    pairs.push(("strategy", text(strategy.as_str())));
                }
                pairs.extend(via.as_deref().map(|via| ("via", text(via))));
                if !hops.is_empty() {
                    let hops = hops.iter().map(|hop| Value::Table(hop.to_table()));
                    pairs.push(("hops", Value::Array(hops.collect())));
                }
                pairs
            }
            Self::Purge {
                component,
                version: v,
                kind,
            } => {
                vec![
                    (verb, text(component)),
                    ("version", version(v)),
                    ("kind", text(kind.as_str())),
                ]
            }
            Self::Resume { components }
            | Self::Stop { components }
            | Self::Start { components } => {
                vec![(verb, names(components))]
            }
            Self::MoveState {
                name,
                from,
                to,
                extra,
            } => {
                let mut pairs = vec![(verb, text(name)), ("from", names(from)), ("to", names(to))];
                pairs.extend(extra.clone().map(|extra| ("extra", Value::Table(extra))));
                pairs
            }
            Self::SyncNodes {
                id,
                nodes,
                deadline,
            } => {
                vec![
                    (verb, text(id)),
                    ("nodes", names(nodes)),
                    ("deadline", Value::String(format_duration(*deadline))),
                ]
            }
            Self::Apply { target, undo } => {
                let mut pairs = vec![(verb, Value::Table(target.to_table()))];
                pairs.extend(
                    undo.as_ref()
                        .map(|undo| ("undo", Value::Table(undo.to_table()))),
                );
                pairs
            }
            Self::ResetNode {
                components,
                keep_snapshot,
            } => {
                vec![
                    (verb, names(components)),
                    ("keep_snapshot", Value::Boolean(*keep_snapshot)),
                ]
            }
        }
    }

    /// The step as JSON, with the keys of the file.
    pub fn to_json(&self) -> Json {
        let pairs = self.to_pairs().into_iter();
        Json::Object(
            pairs
                .map(|(key, value)| (key.to_string(), crate::toml_text::to_json(&value)))
                .collect(),
        )
    }

    /// Reads steps from the JSON that [`Step::to_json`] gives, by the rules of a relup. What JSON has no word for
    /// (dates, infinite numbers) comes back as a string.
    pub fn script_from_json(steps: &[Json]) -> Result<Vec<Self>, Diagnostics> {
        let mut text = String::from("script = [\n");
        for step in steps {
            text.push_str(&format!("    {},\n", crate::toml_text::inline_json(step)));
        }
        text.push_str("]\n");
        read("script", &text, SCRIPT_ALONE, |record, reader| {
            let steps = record.tables("script");
            Some(
                steps
                    .filter_map(|(step, span)| Self::build(step, span, reader))
                    .collect(),
            )
        })
    }

    pub(crate) fn build(record: &Record, span: &Span, reader: &mut Reader) -> Option<Self> {
        let component = || record.text(record.verb);
        let components = || record.texts(record.verb);
        Some(match record.verb {
            "load_object_code" => Self::LoadObjectCode {
                component: component()?,
                version: record.version("version")?,
                pre_purge: record
                    .text("pre_purge")
                    .map(|text| PurgeKind::from_key(Some(text))),
            },
            "point_of_no_return" => Self::PointOfNoReturn,
            "suspend" => Self::Suspend {
                components: components(),
                timeout: record.duration("timeout"),
            },
            "load" => Self::Load {
                component: component()?,
                version: record.version("version")?,
            },
            "code_change" => Self::CodeChange {
                component: component()?,
                from: record.version("from")?,
                to: record.version("to")?,
                extra: record.free("extra"),
                strategy: Strategy::from_key(record.text("strategy")),
                via: record.text("via"),
                hops: Hop::build_all(record, reader)?,
            },
            "remove" => Self::Remove {
                component: component()?,
                version: record.version("version")?,
            },
            "purge" => Self::Purge {
                component: component()?,
                version: record.version("version")?,
                kind: PurgeKind::from_key(record.text("kind")),
            },
            "resume" => Self::Resume {
                components: components(),
            },
            "stop" => Self::Stop {
                components: components(),
            },
            "start" => Self::Start {
                components: components(),
            },
            "move_state" => Self::MoveState {
                name: component()?,
                from: record.texts("from"),
                to: record.texts("to"),
                extra: record.free("extra"),
            },
            "sync_nodes" => Self::SyncNodes {
                id: component()?,
                nodes: record.texts("nodes"),
                deadline: record.duration("deadline")?,
            },
            "apply" => Self::Apply {
                target: ApplyTarget::build(record.table("apply")?, span, reader)?,
                undo: match record.table("undo") {
                    Some(undo) => Some(ApplyTarget::build(undo, span, reader)?),
                    None => None,
                },
            },
            "restart_new_node" => Self::RestartNewNode,
            "restart_node" => Self::RestartNode,
            "reset_node" => Self::ResetNode {
                components: components(),
                keep_snapshot: record.bool("keep_snapshot").unwrap_or(true),
            },
            _ => return None,
        })
    }
}

impl Hop {
    fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        table.insert("from".into(), Value::String(self.from.to_string()));
        table.insert("to".into(), Value::String(self.to.to_string()));
        if let Some(extra) = &self.extra {
            table.insert("extra".into(), Value::Table(extra.clone()));
        }
        if let Some(via) = &self.via {
            table.insert("via".into(), Value::String(via.clone()));
        }
        table
    }

    fn build_all(record: &Record, reader: &mut Reader) -> Option<Vec<Self>> {
        let mut hops = Vec::new();
        for (hop, _) in record.tables("hops") {
            hops.push(Self {
                from: hop.version("from")?,
                to: hop.version("to")?,
                extra: hop.free("extra"),
                via: hop.text("via"),
            });
        }
        if let (false, Some(span)) = (hops.is_empty(), record.span("hops"))
            && (record.has("extra") || record.has("via"))
        {
            let message = "a code_change with `hops` has `extra` and `via` in the hops".to_string();
            let help = "write them in each of the hops";
            reader.report(codes::NOT_ALLOWED, &span, message, "with hops", help);
        }
        Some(hops)
    }
}

impl ApplyTarget {
    /// The component whose hook it is.
    pub fn component(&self) -> Option<&str> {
        match self {
            Self::Hook { component, .. } => Some(component),
            Self::Command(_) => None,
        }
    }

    fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        match self {
            Self::Hook {
                component,
                hook,
                args,
            } => {
                table.insert("component".into(), Value::String(component.clone()));
                table.insert("hook".into(), Value::String(hook.clone()));
                if !args.is_empty() {
                    table.insert("args".into(), Value::Table(args.clone()));
                }
            }
            Self::Command(words) => {
                table.insert(
                    "command".into(),
                    Value::Array(words.iter().cloned().map(Value::String).collect()),
                );
            }
        }
        table
    }

    fn build(record: &Record, span: &Span, reader: &mut Reader) -> Option<Self> {
        let hook = record.has("component") && record.has("hook");
        let partly = record.has("component") || record.has("hook") || record.has("args");
        match (hook, partly, record.has("command")) {
            (true, _, false) => Some(Self::Hook {
                component: record.text("component")?,
                hook: record.text("hook")?,
                args: record.free("args").unwrap_or_default(),
            }),
            (_, false, true) => Some(Self::Command(record.texts("command"))),
            _ => {
                let message = "an apply names either a `component` and its `hook`, or a `command`"
                    .to_string();
                let help = "write { apply = { component = \"store\", hook = \"warm\" } }";
                reader.report(codes::APPLY_TARGET, span, message, "", help);
                None
            }
        }
    }
}

impl fmt::Display for Step {
    /// The step as it is written in a relup.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&inline_table(
            self.to_pairs().iter().map(|(key, value)| (*key, value)),
        ))
    }
}
