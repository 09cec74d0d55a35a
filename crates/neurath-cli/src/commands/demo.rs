//! `neurath demo`: the whole story.

mod load;
mod report;

use crate::cli::Demo;
use crate::control;
use crate::exit::{CommandError, OPERATOR, code_of};
use crate::numbers::{self, as_micros, count};
use crate::output::Output;
use crate::processes;
use crate::resp::Connection;
use crate::stage::{FILLERS, NAME, Stage, VALUE_LEN, fill, release};
use crate::testing::NodeProcess;
use anyhow::Context as _;
use kv_resp::Value;
use load::Load;
use neurath_node::protocol::{Status, Upgraded};
use neurath_verify::{Report, check_fill, fill_key, fill_value};
use report::{Change, Story};
use std::time::{Duration, Instant};

const FIRST: &str = "1.0.0";
const SECOND: &str = "1.1.0";
/// How long after an upgrade the requests are still counted to it.
const AFTER: Duration = Duration::from_millis(100);

pub fn run(args: &Demo, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let stage = Stage::new(&args.folders, &[FIRST, SECOND], output)?;
    let node = stage.start(FIRST)?;
    output.progress(&format!(
        "{NAME} {FIRST} runs as process {}, and listens on {}",
        node.pid(),
        node.address()
    ));
    let told = play(&node, args, output);
    // A node that died is the reason for whatever failed after it.
    let story = match (told, node.check()) {
        // Unless that is what it says itself.
        (Err(failure), Err(death)) if code_of(&failure) != OPERATOR => {
            return Err(death.context(format!("{failure:#}")));
        }
        (told, _) => told?,
    };
    node.stop()?;
    output.text(&story.text());
    output.json(&story.json());
    if story.is_clean() {
        Ok(())
    } else {
        let message = format!(
            "{} lost, {} wrong, {} errors",
            story.lost, story.wrong, story.errors
        );
        Err(CommandError::Found(message).into())
    }
}

fn play(node: &NodeProcess, args: &Demo, output: &Output) -> anyhow::Result<Story> {
    let mut story = Story::new(args.keys);
    output.progress(&format!("filling {} keys", count(args.keys)));
    let begun = Instant::now();
    let filled = fill(node.address(), args.keys)?;
    output.progress(&format!(
        "filled in {}",
        numbers::micros(as_micros(begun.elapsed()))
    ));
    story.add(&filled);

    let load = Load::start(node, output)?;
    story.benchmark = load.has_benchmark();
    let pause = Duration::from_secs_f64(args.seconds);
    load.run_for(pause, node)?;

    upgrade(node, &load, &mut story, "upgrade", output, |node| {
        control::apply(node.directory(), &release(SECOND), None, output)
    })?;
    // `TTL` is asked only now: what expires when is not kept on the way back.
    load.expiry(true);
    let mut keys = OldKeys::expire(node, args.keys, &mut story)?;
    load.run_for(pause.max(Duration::from_millis(1_500)), node)?;
    keys.after_expiry(&mut story)?;
    load.expiry(false);
    load.settle(node)?;

    upgrade(node, &load, &mut story, "roll back", output, |node| {
        control::rollback(node.directory(), false, output)
    })?;
    keys.after_rollback(&mut story)?;
    load.run_for(pause, node)?;

    upgrade(node, &load, &mut story, "upgrade again", output, |node| {
        control::apply(node.directory(), &release(SECOND), None, output)
    })?;
    load.run_for(pause, node)?;
    let confirmed = control::confirm(node.directory(), output)?;
    output.progress(&format!("{} is permanent", confirmed.release));

    output.progress("reading everything back");
    let (report, benchmark) = load.finish();
    if let Some(problem) = benchmark {
        story.error(problem);
    }
    story.serving(&report);
    // All but the last key, which has expired.
    story.add(&check_fill(
        node.address(),
        args.keys - 1,
        VALUE_LEN,
        FILLERS,
    ));
    story.memory = node.memory()?;
    let status: Status = control::status(node.directory())?;
    let expected = Some(release(SECOND));
    if status.release != expected || status.permanent != expected {
        story.wrong(format!(
            "after all that, the node says that it runs {:?}",
            status.release
        ));
    }
    story.confirmed = Some(confirmed);
    Ok(story)
}

/// Goes to another release while the load runs.
fn upgrade(
    node: &NodeProcess,
    load: &Load,
    story: &mut Story,
    title: &'static str,
    output: &Output,
    act: impl FnOnce(&NodeProcess) -> anyhow::Result<Upgraded>,
) -> anyhow::Result<()> {
    output.progress(title);
    let normal = load.window();
    let upgraded = act(node).context(title)?;
    load.run_for(AFTER, node)?;
    let during = load.window();
    story.changes.push(Change {
        title,
        upgraded,
        normal,
        during,
    });
    Ok(())
}

/// The last two keys of those from before the upgrade: one to expire, one to keep for long.
struct OldKeys {
    connection: Connection,
    kept: String,
    kept_value: Vec<u8>,
    gone: String,
}

impl OldKeys {
    /// Sets their expiry.
    fn expire(node: &NodeProcess, keys: u64, story: &mut Story) -> anyhow::Result<Self> {
        let mut all = Self {
            connection: Connection::open(node.address())?,
            kept: fill_key(keys - 2),
            kept_value: fill_value(keys - 2, VALUE_LEN),
            gone: fill_key(keys - 1),
        };
        let (kept, gone) = (all.kept.clone(), all.gone.clone());
        all.expect(story, &["TTL", &kept], "-1", |reply| {
            *reply == Value::Integer(-1)
        })?;
        all.expect(story, &["EXPIRE", &kept, "1000"], "1", |reply| {
            *reply == Value::Integer(1)
        })?;
        all.expect(story, &["EXPIRE", &gone, "1"], "1", |reply| {
            *reply == Value::Integer(1)
        })?;
        all.expect(story, &["TTL", &kept], "about 1000", |reply| {
            matches!(reply, Value::Integer(990..=1000))
        })?;
        Ok(all)
    }

    /// A second later or more.
    fn after_expiry(&mut self, story: &mut Story) -> anyhow::Result<()> {
        let gone = self.gone.clone();
        self.expect(
            story,
            &["GET", &gone],
            "nothing, for it has expired",
            |reply| *reply == Value::Null,
        )?;
        self.still_kept(story)
    }

    /// Under the release that knows no expiry.
    fn after_rollback(&mut self, story: &mut Story) -> anyhow::Result<()> {
        let gone = self.gone.clone();
        self.expect(
            story,
            &["GET", &gone],
            "nothing, for it had expired",
            |reply| *reply == Value::Null,
        )?;
        self.still_kept(story)
    }

    fn still_kept(&mut self, story: &mut Story) -> anyhow::Result<()> {
        let (kept, value) = (self.kept.clone(), self.kept_value.clone());
        self.expect(story, &["GET", &kept], "its value", |reply| {
            *reply == Value::Bulk(value.clone())
        })
    }

    fn expect(
        &mut self,
        story: &mut Story,
        command: &[&str],
        expected: &str,
        right: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let reply = self.connection.ask(command)?;
        story.requests += 1;
        if !right(&reply) {
            story.wrong(format!(
                "{} answered {reply}, and {expected} was expected",
                command.join(" ")
            ));
        }
        Ok(())
    }
}

/// Adds a report to the story's counts.
fn sum(story: &mut Story, report: &Report) {
    story.requests += report.requests;
    story.lost += report.lost;
    story.wrong += report.wrong;
    story.errors += report.errors;
    story
        .findings
        .extend(report.samples.iter().map(ToString::to_string));
}
