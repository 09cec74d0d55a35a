//! Erlang/OTP, where it is installed: its planner, `systools:make_relup`, and a `gen_server` whose code is
//! changed.

use crate::processes::{Process, TemporaryFolder};
use crate::projects::{RELEASE, Shape, VERSIONS, name};
use crate::redis::installed;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Why something with Erlang cannot be done, if so.
#[must_use]
pub fn missing() -> Option<String> {
    installed("escript")
        .is_none()
        .then(|| "escript is not installed".to_owned())
}

/// How long Erlang's planner took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Took {
    /// `systools:make_relup`, from its call to its return, in milliseconds.
    pub total_ms: f64,
    /// The part of it that reads both releases, measured by itself.
    pub read_ms: f64,
}

/// What is run: both releases are read, then the relup between them is made both ways, and not
/// written.
const SCRIPT: &str = r#"
main([Dir]) ->
    ok = application:load(sasl),
    Vsn = fun(App) -> _ = application:load(App), {ok, V} = application:get_key(App, vsn), {App, V} end,
    {ok, Names} = file:consult(filename:join(Dir, "apps")),
    Write = fun(V) ->
        Apps = [Vsn(kernel), Vsn(stdlib), Vsn(sasl) | [{N, V} || N <- Names]],
        Rel = {release, {"app", V}, {erts, erlang:system_info(version)}, Apps},
        File = filename:join(Dir, "app-" ++ V),
        ok = file:write_file(File ++ ".rel", io_lib:format("~p.~n", [Rel])),
        File
    end,
    Old = Write("1.0.0"),
    New = Write("1.1.0"),
    Path = [filename:join([Dir, "lib", "*", "ebin"])],
    Dirs = filelib:wildcard(hd(Path)) ++ code:get_path(),
    {Read, _} = timer:tc(fun() ->
        {ok, _, _, _} = systools_make:get_release(Old, Dirs),
        {ok, _, _, _} = systools_make:get_release(New, Dirs)
    end),
    {Total, {ok, _, _, _}} = timer:tc(fun() ->
        systools:make_relup(New, [Old], [Old], [{path, Path}, silent, noexec])
    end),
    io:format("[~b,~b]~n", [Total, Read]).
"#;

/// Plans a made-up project with Erlang's planner; `None` if it takes longer than `patience`.
///
/// # Errors
///
/// If Erlang is not installed, or fails.
pub fn make_relup(
    shape: Shape,
    components: usize,
    patience: Duration,
) -> anyhow::Result<Option<Took>> {
    let folder = TemporaryFolder::new()?;
    write(folder.path(), shape, components)?;
    let figures = run(
        folder.path(),
        SCRIPT,
        &[folder.path().as_os_str()],
        patience,
    )?;
    Ok(figures.map(|[total, read]| Took {
        total_ms: total / 1e3,
        read_ms: read / 1e3,
    }))
}

/// How a `gen_server` was upgraded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Changed {
    /// From `sys:suspend` to the end of `sys:resume`, in microseconds.
    pub stop_us: f64,
    /// What the emulator held at most, in bytes.
    pub peak_bytes: f64,
}

/// What is run: a `gen_server` whose state is a map of keys to records is suspended, its code is
/// changed, and it is resumed. Eager: each record gets two more fields.
const CHANGE_SCRIPT: &str = r#"
-mode(compile).
-export([init/1, handle_call/3, handle_cast/2, code_change/3]).
init(Entries) ->
    Value = fun(N) -> list_to_binary(io_lib:format("~64..0b", [N])) end,
    Key = fun(N) -> list_to_binary(io_lib:format("key:~12..0b", [N])) end,
    {ok, maps:from_list([{Key(N), {Value(N)}} || N <- lists:seq(1, Entries)])}.
handle_call(size, _, State) -> {reply, maps:size(State), State}.
handle_cast(_, State) -> {noreply, State}.
code_change(_, State, keep) -> {ok, State};
code_change(_, State, eager) ->
    Now = erlang:system_time(millisecond),
    {ok, maps:map(fun(_, {Value}) -> {Value, 0, Now} end, State)}.
main([Entries, Strategy]) ->
    N = list_to_integer(Entries),
    {ok, Pid} = gen_server:start(?MODULE, N, [{timeout, infinity}]),
    N = gen_server:call(Pid, size, infinity),
    Extra = list_to_atom(Strategy),
    {Time, ok} = timer:tc(fun() ->
        ok = sys:suspend(Pid, infinity),
        ok = sys:change_code(Pid, ?MODULE, "1.0", Extra, infinity),
        sys:resume(Pid, infinity)
    end),
    N = gen_server:call(Pid, size, infinity),
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Peak]} = re:run(Status, "VmHWM:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    io:format("[~b,~b]~n", [Time, 1024 * list_to_integer(Peak)]).
"#;

/// Changes the code of a `gen_server` with so many entries; `None` if all of it takes longer than
/// `patience`.
///
/// # Errors
///
/// If Erlang is not installed, or fails.
pub fn change_code(
    entries: u64,
    eager: bool,
    patience: Duration,
) -> anyhow::Result<Option<Changed>> {
    let folder = TemporaryFolder::new()?;
    let entries = entries.to_string();
    let strategy = if eager { "eager" } else { "keep" };
    let arguments = [entries.as_ref(), strategy.as_ref()];
    let figures = run(folder.path(), CHANGE_SCRIPT, &arguments, patience)?;
    Ok(figures.map(|[stop_us, peak_bytes]| Changed {
        stop_us,
        peak_bytes,
    }))
}

/// Runs a script of Erlang, whose last line is `[figure,…]`; `None` if it takes longer than `patience`.
fn run<const N: usize>(
    folder: &Path,
    text: &str,
    arguments: &[&OsStr],
    patience: Duration,
) -> anyhow::Result<Option<[f64; N]>> {
    let script = folder.join("script.escript");
    fs::write(&script, format!("#!/usr/bin/env escript\n{text}"))?;
    let result = folder.join("result");
    let complaints = folder.join("complaints");
    let program = installed("escript").context("escript is not installed")?;
    let mut command = Command::new(program);
    command
        .arg(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&result)?)
        .stderr(fs::File::create(&complaints)?);
    let process = Process::start("escript", &mut command)?;
    let Some(status) = process.wait_for(patience)? else {
        process.kill();
        return Ok(None);
    };
    let said = fs::read_to_string(&result)?;
    let figures: Vec<f64> = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Value>(line).ok())
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default();
    match (status.success(), <[f64; N]>::try_from(figures)) {
        (true, Ok(figures)) => Ok(Some(figures)),
        _ => {
            let complaints = fs::read_to_string(&complaints)?;
            bail!("Erlang failed ({status}): {said}{complaints}")
        }
    }
}

/// The same project as files of Erlang: an application with one module for each component.
fn write(folder: &Path, shape: Shape, components: usize) -> anyhow::Result<()> {
    let mut names = String::new();
    for (at, depends_on) in shape.edges(components).iter().enumerate() {
        let own = name(at);
        let on: Vec<String> = depends_on.iter().map(|on| name(*on)).collect();
        let on = on.join(",");
        let comma = if on.is_empty() { "" } else { "," };
        for version in VERSIONS {
            let place = folder.join(format!("lib/{own}-{version}/ebin"));
            fs::create_dir_all(&place)?;
            let app = format!(
                "{{application,{own},[{{description,\"\"}},{{vsn,\"{version}\"}},\
                 {{modules,[{own}]}},{{registered,[]}},\
                 {{applications,[kernel,stdlib{comma}{on}]}}]}}.\n"
            );
            fs::write(place.join(format!("{own}.app")), app)?;
        }
        let script = format!("[{{update,{own},{{advanced,[]}},[{on}]}}]");
        let [old, new] = VERSIONS;
        let appup = format!("{{\"{new}\",[{{\"{old}\",{script}}}],[{{\"{old}\",{script}}}]}}.\n");
        let place = folder.join(format!("lib/{own}-{new}/ebin/{own}.appup"));
        fs::write(place, appup)?;
        names.push_str(&format!("{own}.\n"));
    }
    debug_assert_eq!(RELEASE, "app");
    fs::write(folder.join("apps"), names)?;
    Ok(())
}
