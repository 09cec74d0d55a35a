//! The stats, version 1.0.0: counters in a component of their own, taken over from the store and given back to it.
#![deny(unsafe_code)]

#[cfg(test)]
mod tests;

use kv_resp::Writer;
use kv_stats_common::{Counters, write_info};
use neurath::{Component, Context, Error, Message, Pmem, Result, Tx, component, move_in, move_out};

component!(
    Stats,
    name = "stats",
    version = "1.0.0",
    moves = [counters_in, counters_out],
);

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Stats {
    /// Commands that changed something, since the first release.
    pub commands: u64,
}

/// What the store has counted so far.
#[move_in("counters")]
fn counters_in(state: &mut Stats, _: &mut Tx<'_>, counters: Counters) -> Result<()> {
    state.commands += counters.commands;
    Ok(())
}

/// All that was counted, for the store.
#[move_out("counters")]
fn counters_out(state: &mut Stats, _: &mut Tx<'_>) -> Result<Counters> {
    let commands = std::mem::take(&mut state.commands);
    Ok(Counters { commands })
}

impl Component for Stats {
    type Config = ();

    fn create(_: &mut Tx<'_>, (): &()) -> Result<Self> {
        Ok(Stats { commands: 0 })
    }

    fn handle(cx: &mut Context<'_, Self>, message: Message<'_>) -> Result<()> {
        let Message::Request { token, bytes } = message else {
            return Ok(());
        };
        match kv_stats_common::Message::decode(bytes) {
            Some(kv_stats_common::Message::Changed) => cx.with(|state, _| {
                state.commands += 1;
                Ok(())
            }),
            Some(kv_stats_common::Message::Info { protocol, text }) => {
                let commands = cx.look(|state, _| Ok(state.commands))?;
                let mut out = Vec::new();
                write_info(
                    text,
                    Counters { commands },
                    &mut Writer::new(&mut out, protocol),
                );
                cx.reply(token, &out)
            }
            None => Err(Error::new("the stats do not know this message")),
        }
    }
}
