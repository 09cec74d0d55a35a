//! What `neurath state …` says as JSON; `schemas/state-*.json` describe it.

use neurath_node::protocol::SnapshotMade;
use neurath_pmem::history::History;
use neurath_pmem::inspect::{
    Data, Done, Inspection, Repair, Report, Restore, Snapshot, schema_text,
};
use neurath_pmem::region::format::{FORMAT, Log, RegionState};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A region's state in a word.
#[must_use]
pub fn state(state: RegionState) -> &'static str {
    match state {
        RegionState::Clean => "clean",
        RegionState::Open => "open",
        RegionState::Building => "building",
    }
}

fn report(report: &Report) -> Value {
    let levels: Vec<Value> = report
        .levels
        .iter()
        .map(|level| {
            let (done, why) = match level.done {
                Done::Complete => ("complete", None),
                Done::Partial => ("partial", None),
                Done::Skipped(why) => ("skipped", Some(why)),
                Done::Unavailable(why) => ("unavailable", Some(why)),
                Done::NotAsked => ("not-asked", None),
            };
            let checked: Vec<Value> = level
                .checked
                .iter()
                .map(|(what, count)| json!({ "what": what, "count": count }))
                .collect();
            json!({
                "level": level.level.as_str(),
                "done": done,
                "reason": why,
                "checked": checked,
            })
        })
        .collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level.as_str(),
                "severity": finding.severity.as_str(),
                "code": finding.code.as_str(),
                "place": finding.place,
                "message": finding.message,
            })
        })
        .collect();
    let leaks: Vec<Value> = report
        .leaks
        .iter()
        .map(|leak| {
            json!({
                "type": leak.type_name,
                "type_id": format!("{:016x}", leak.type_id),
                "objects": leak.objects,
                "bytes": leak.bytes,
            })
        })
        .collect();
    json!({
        "clean": report.is_clean(),
        "sound": report.is_sound(),
        "errors": report.errors,
        "levels": levels,
        "findings": findings,
        "more_findings": report.more,
        "leaks": leaks,
        "replayed": report.replayed,
    })
}

/// What `state check` found.
#[must_use]
pub fn check(file: &Path, found: &Report) -> Value {
    json!({
        "kind": "state-check",
        "file": file.display().to_string(),
        "report": report(found),
        "migrations": migrations(&found.history),
    })
}

/// The migrations that a region tells of.
fn migrations(history: &History) -> Value {
    let recorded: Vec<Value> = history
        .migrations
        .iter()
        .map(|one| {
            json!({
                "from_version": one.from_version,
                "to_version": one.to_version,
                "from_schema": hex(&one.from_schema),
                "to_schema": hex(&one.to_schema),
                "name": one.name,
                "library": one.library,
                "strategy": one.strategy.as_str(),
                "back": one.back,
                "release": one.release,
                "at_ms": one.at_ms,
                "generation": one.generation,
                "operation": one.operation,
            })
        })
        .collect();
    json!({
        "folded": history.folded,
        "lost": history.lost,
        "recorded": recorded,
    })
}

/// What `state inspect` shows.
#[must_use]
pub fn inspection(file: &Path, shown: &Inspection) -> Value {
    let header = &shown.header;
    let slots: Vec<Value> = shown
        .slots
        .iter()
        .map(|slot| match &slot.superblock {
            Ok(superblock) => json!({
                "current": slot.current,
                "generation": superblock.generation,
                "state": state(superblock.state),
                "boot_id": hex(&superblock.boot_id),
                "pid": superblock.pid,
                "length": superblock.length,
                "checkpoint": superblock.checkpoint,
            }),
            Err(error) => json!({ "current": slot.current, "error": error }),
        })
        .collect();
    let types: Vec<Value> = shown
        .types
        .iter()
        .map(|one| {
            json!({
                "type": one.type_name,
                "type_id": format!("{:016x}", one.type_id),
                "segments": one.segments,
                "segment_bytes": one.segment_bytes,
                "objects": one.objects,
                "bytes": one.bytes,
            })
        })
        .collect();
    let mut out = json!({
        "kind": "state-inspect",
        "file": file.display().to_string(),
        "file_bytes": shown.file_bytes,
        "header": {
            "format": FORMAT,
            "component": header.component,
            "instance": header.instance,
            "uuid": hex(&header.uuid),
            "fingerprint": hex(&header.fingerprint),
            "schema_bytes": header.schema_len,
        },
        "superblocks": slots,
        "sequence": shown.sequence,
        "chunks": shown.chunks,
        "types": types,
        "schema": schema_text(&shown.schema),
        "durability": durability(shown),
        "problems": shown.problems,
        "migrations": migrations(&shown.history),
    });
    if let Some(state) = &shown.data {
        out["data"] = data(state);
    }
    out
}

/// What a region asks of its medium, and what that gives.
fn durability(shown: &Inspection) -> Value {
    let journal = matches!(shown.header.log, Log::Journal(_));
    let mut out = json!({
        "demanded": shown.durability.to_string(),
        "log": if journal { "journal" } else { "ring" },
    });
    if let Some(medium) = &shown.medium {
        let domains: Vec<Value> = medium
            .domains
            .iter()
            .map(|(region, domain)| json!({ "region": region, "domain": domain }))
            .collect();
        let opens = medium.opens(shown.durability, journal);
        out["backend"] = json!(opens.as_ref().ok().map(ToString::to_string));
        out["refusal"] = json!(opens.err());
        out["medium"] = json!({
            "file_system": medium.file_system,
            "dax": medium.dax,
            "map_sync": medium.map_sync,
            "line_flush": medium.line_flush,
            "persistence_domains": domains,
            "caches_survive": medium.caches_survive,
            "power": medium.power.outcome.as_ref().ok().map(ToString::to_string),
            "steps": medium.power.steps,
        });
    }
    out
}

/// A state as JSON. Numbers that JSON's readers may not know are text.
#[must_use]
pub fn data(value: &Data) -> Value {
    match value {
        Data::Null => Value::Null,
        Data::Bool(value) => Value::Bool(*value),
        Data::Unsigned(number) => match u64::try_from(*number) {
            Ok(number) => json!(number),
            Err(_) => Value::String(number.to_string()),
        },
        Data::Signed(number) => match i64::try_from(*number) {
            Ok(number) => json!(number),
            Err(_) => Value::String(number.to_string()),
        },
        Data::Float(number) if number.is_finite() => json!(number),
        Data::Float(number) => Value::String(number.to_string()),
        Data::Text(text) => Value::String(text.clone()),
        Data::List(list) => Value::Array(list.iter().map(data).collect()),
        Data::Fields(fields) => {
            let mut out = Map::new();
            for (name, value) in fields {
                out.insert(name.clone(), data(value));
            }
            Value::Object(out)
        }
    }
}

/// What `state snapshot` made.
#[must_use]
pub fn snapshot(file: &Path, out: &Path, made: &Snapshot) -> Value {
    json!({
        "kind": "state-snapshot",
        "file": file.display().to_string(),
        "snapshot": out.display().to_string(),
        "owner": made.owner,
        "bytes": made.bytes,
        "sequence": made.sequence,
        "report": report(&made.report),
    })
}

/// What `state snapshot --dir` made.
#[must_use]
pub fn live_snapshot(node: &Path, made: &SnapshotMade) -> Value {
    json!({
        "kind": "state-snapshot-live",
        "node": node.display().to_string(),
        "snapshot": made.out,
        "owner": made.owner,
        "bytes": made.bytes,
        "sequence": made.sequence,
        "leaked": made.leaked,
        "micros": made.micros,
    })
}

/// What `state restore` did, or would do.
#[must_use]
pub fn restore(snapshot: &Path, file: &Path, done: &Restore) -> Value {
    json!({
        "kind": "state-restore",
        "snapshot": snapshot.display().to_string(),
        "file": file.display().to_string(),
        "owner": done.owner,
        "bytes": done.bytes,
        "kept": done.kept.as_ref().map(|path| path.display().to_string()),
        "executed": done.executed,
        "report": report(&done.report),
    })
}

/// What `state repair` did, or would do.
#[must_use]
pub fn repair(file: &Path, out: &Path, done: &Repair) -> Value {
    let actions: Vec<Value> = done
        .actions
        .iter()
        .map(|action| json!({ "kind": action.kind, "message": action.message }))
        .collect();
    json!({
        "kind": "state-repair",
        "file": file.display().to_string(),
        "copy": out.display().to_string(),
        "actions": actions,
        "written": done.written,
        "before": report(&done.before),
        "after": report(&done.after),
    })
}
