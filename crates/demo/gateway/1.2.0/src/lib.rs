//! The gateway, version 1.2.0: that of 1.1, which also takes a store of version 2.
#![deny(unsafe_code)]

use kv_commands::KvVersion;
use kv_gateway_common::{Config, Parts, State};
use neurath::{Bytes, Component, Context, Map, Message, Pmem, Result, Tx, component};

component!(Gateway, name = "gateway", version = "1.2.0");

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Gateway {
    /// Connections accepted.
    pub connections: u64,
    /// Requests read.
    pub commands: u64,
    /// The names that connections gave themselves.
    pub names: Map<u64, Bytes>,
}

impl State for Gateway {
    const VERSION: KvVersion = KvVersion::V1_1;
    const TEXT: &'static str = "1.2.0";

    fn parts(&mut self) -> Parts<'_> {
        let Gateway {
            connections,
            commands,
            names,
        } = self;
        Parts {
            connections,
            commands,
            names,
        }
    }
}

impl Component for Gateway {
    type Config = Config;

    fn create(_: &mut Tx<'_>, _: &Config) -> Result<Self> {
        Ok(Gateway {
            connections: 0,
            commands: 0,
            names: Map::EMPTY,
        })
    }

    fn init(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_gateway_common::init(cx)
    }

    fn handle(cx: &mut Context<'_, Self>, message: Message<'_>) -> Result<()> {
        kv_gateway_common::handle(cx, message)
    }

    fn quiesce(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_gateway_common::quiesce(cx)
    }

    fn terminate(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_gateway_common::terminate(cx)
    }
}
