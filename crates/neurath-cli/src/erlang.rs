//! Erlang/OTP's own planner, `systools:make_relup`, where it is installed.

use crate::processes::{Process, TemporaryFolder};
use crate::projects::{RELEASE, Shape, VERSIONS, name};
use crate::redis::installed;
use anyhow::{Context as _, bail};
use serde_json::Value;
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
    let script = folder.path().join("relup.escript");
    fs::write(&script, format!("#!/usr/bin/env escript\n{SCRIPT}"))?;
    let result = folder.path().join("result");
    let complaints = folder.path().join("complaints");
    let program = installed("escript").context("escript is not installed")?;
    let mut command = Command::new(program);
    command
        .arg(&script)
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&result)?)
        .stderr(fs::File::create(&complaints)?);
    let process = Process::start("escript", &mut command)?;
    let Some(status) = process.wait_for(patience)? else {
        process.kill();
        return Ok(None);
    };
    let said = fs::read_to_string(&result)?;
    let micros: Vec<f64> = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Value>(line).ok())
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default();
    let (true, [total, read]) = (status.success(), micros.as_slice()) else {
        let complaints = fs::read_to_string(&complaints)?;
        bail!("systools:make_relup failed ({status}): {said}{complaints}");
    };
    Ok(Some(Took {
        total_ms: total / 1e3,
        read_ms: read / 1e3,
    }))
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
