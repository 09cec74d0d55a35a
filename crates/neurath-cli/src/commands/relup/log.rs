//! The history of a node.

use crate::exit::CommandError;
use crate::numbers;
use crate::output::Output;
use crate::table::Table;
use anyhow::Context as _;
use neurath_node::catalog::{Catalog, State};
use neurath_node::client::Client;
use neurath_node::journal::{Kind, Record, read_marked, replay};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub fn show(dir: &Path, steps: bool, trace: Option<&Path>, output: &Output) -> anyhow::Result<()> {
    // The catalog first: what it knows of the journal is there already.
    let state = Catalog::open(dir)?.state().clone();
    let records = read_marked(dir.join("journal"), state.journal.as_ref())?;
    if let Some(path) = trace {
        let text = format!("{:#}\n", chrome_trace(&records));
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        output.progress(&format!("wrote {}", path.display()));
    }
    for record in &records {
        output.json(&json!({ "kind": "record", "record": record }));
    }
    output.text(&table(&records, steps).render());
    let leads = replay(&records);
    let agrees = leads.agrees_with(&state);
    output.text(&summary(&records, agrees, &state));
    output.json(&json!({
        "kind": "log",
        "records": records.len(),
        "operations": leads.operations,
        "current": leads.current,
        "permanent": leads.permanent,
        "unconfirmed": leads.unconfirmed,
        "agrees": agrees,
    }));
    Ok(())
}

fn summary(records: &[Record], agrees: bool, state: &State) -> String {
    let name = |release: &Option<neurath_node::catalog::ReleaseId>| match release {
        Some(release) => release.to_string(),
        None => String::from("none"),
    };
    let says = match agrees {
        true => "leads to what the catalog says",
        false => "does not lead to what the catalog says",
    };
    format!(
        "{} records; the chain is sound, and {says}: current {}, permanent {}",
        records.len(),
        name(&state.current),
        name(&state.permanent)
    )
}

/// An operation, put together from its records.
struct Operation<'a> {
    started: &'a Record,
    steps: Vec<&'a Record>,
    ended: Option<&'a Record>,
}

fn operations(records: &[Record]) -> Vec<Operation<'_>> {
    let mut all: Vec<Operation<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        let id = record.operation_id.as_str();
        match (&record.kind, open.get(id)) {
            (Kind::Started { .. }, _) => {
                open.insert(id, all.len());
                all.push(Operation {
                    started: record,
                    steps: Vec::new(),
                    ended: None,
                });
            }
            (Kind::Step { .. }, Some(at)) => all[*at].steps.push(record),
            (Kind::Ended { .. }, Some(at)) => {
                all[*at].ended = Some(record);
                open.remove(id);
            }
            _ => {}
        }
    }
    all
}

fn table(records: &[Record], steps: bool) -> Table {
    let mut table = Table::new(&["time (UTC)", "operation", "by", "took>", "ended", "what"]);
    for one in operations(records) {
        let (verdict, text) = match one.ended.map(|record| &record.kind) {
            Some(Kind::Ended { verdict, text }) => (word(verdict), text.clone()),
            _ => ("under way".to_owned(), String::new()),
        };
        let took = one.ended.map(|end| {
            let millis = end.time_ms.saturating_sub(one.started.time_ms);
            numbers::micros(millis.saturating_mul(1000))
        });
        table.row([
            numbers::utc(one.started.time_ms),
            one.started.operation_id.clone(),
            one.started.who.clone(),
            took.unwrap_or_default(),
            verdict,
            text.lines().next().unwrap_or_default().to_owned(),
        ]);
        for record in one.steps.iter().filter(|_| steps) {
            if let Kind::Step {
                name,
                micros,
                verdict,
                ..
            } = &record.kind
            {
                let took = numbers::micros(*micros);
                let cells = [
                    String::new(),
                    String::new(),
                    String::new(),
                    took,
                    word(verdict),
                ];
                table.row(cells.into_iter().chain([name.clone()]));
            }
        }
    }
    table
}

/// A verdict as it is in JSON.
fn word(verdict: &neurath_node::journal::Verdict) -> String {
    match serde_json::to_value(verdict) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => format!("{verdict:?}"),
    }
}

/// The operations as the trace format of Chrome: a line for operations, one for their steps.
fn chrome_trace(records: &[Record]) -> Value {
    let mut events = vec![
        json!({ "ph": "M", "name": "process_name", "pid": 1, "args": { "name": "node" } }),
        json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": { "name": "operations" } }),
        json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": { "name": "steps" } }),
    ];
    for one in operations(records) {
        let start = one.started.time_ms.saturating_mul(1000);
        let end = one
            .ended
            .map_or(start, |end| end.time_ms.saturating_mul(1000));
        let verdict = match one.ended.map(|record| &record.kind) {
            Some(Kind::Ended { verdict, text }) => json!({ "verdict": verdict, "text": text }),
            _ => Value::Null,
        };
        events.push(json!({
            "ph": "X", "name": one.started.operation_id, "cat": "operation", "pid": 1, "tid": 1,
            "ts": start, "dur": end.saturating_sub(start).max(1),
            "args": { "who": one.started.who, "started": one.started.kind, "ended": verdict },
        }));
        // A record has the millisecond in which its step ended: the steps are laid end to end, so that their
        // lengths are exact.
        let mut at = start;
        for record in one.steps {
            if let Kind::Step {
                name,
                micros,
                verdict,
                index,
            } = &record.kind
            {
                let ended = record.time_ms.saturating_mul(1000).saturating_add(999);
                at = at.max(ended.saturating_sub(micros.saturating_add(999)));
                events.push(json!({
                    "ph": "X", "name": name, "cat": "step", "pid": 1, "tid": 2,
                    "ts": at, "dur": (*micros).max(1),
                    "args": { "index": index, "verdict": verdict },
                }));
                at = at.saturating_add((*micros).max(1));
            }
        }
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

pub fn set_aside(dir: &Path, execute: bool, output: &Output) -> anyhow::Result<()> {
    if Client::connect(dir).is_ok() {
        let message = "a node runs there, and writes its history: stop it first".to_owned();
        return Err(CommandError::Usage(message).into());
    }
    if !execute {
        output.text("the history would be moved aside, and a new one begun; --execute does it");
        output.json(&json!({ "kind": "set_aside", "done": false }));
        return Ok(());
    }
    let who = format!(
        "uid {} pid {}",
        rustix::process::getuid().as_raw(),
        std::process::id()
    );
    let aside = neurath_node::node::set_aside(dir, &who)?;
    output.text(&format!("the history before is in {}", aside.display()));
    output.json(&json!({ "kind": "set_aside", "done": true, "folder": aside }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_node::journal::Verdict;

    #[test]
    fn a_trace_has_operations_and_steps_that_do_not_overlap() {
        let record = |sequence, time_ms, kind| Record {
            sequence,
            time_ms,
            operation_id: "apply-1".into(),
            who: "uid 0".into(),
            kind,
        };
        let step = |index, micros| Kind::Step {
            index,
            name: format!("step {index}"),
            micros,
            verdict: Verdict::Done,
        };
        let records = [
            record(
                1,
                1000,
                Kind::Started {
                    operation: "apply".into(),
                    plan_id: None,
                    from: None,
                    to: None,
                },
            ),
            record(2, 1002, step(0, 1500)),
            record(3, 1002, step(1, 90)),
            record(4, 1009, step(2, 6000)),
            record(
                5,
                1010,
                Kind::Ended {
                    verdict: Verdict::Done,
                    text: String::new(),
                },
            ),
        ];
        let trace = chrome_trace(&records);
        let events = trace["traceEvents"].as_array().expect("events");
        let spans: Vec<(u64, u64)> = events
            .iter()
            .filter(|event| event["cat"] == "step")
            .map(|event| {
                (
                    event["ts"].as_u64().unwrap_or(0),
                    event["dur"].as_u64().unwrap_or(0),
                )
            })
            .collect();
        assert_eq!(spans.len(), 3);
        assert_eq!(
            spans.iter().map(|one| one.1).collect::<Vec<_>>(),
            [1500, 90, 6000]
        );
        for pair in spans.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{spans:?}");
        }
        let whole = events
            .iter()
            .find(|event| event["cat"] == "operation")
            .expect("one");
        assert_eq!(
            (&whole["ts"], &whole["dur"]),
            (&json!(1_000_000), &json!(10_000))
        );
    }
}
