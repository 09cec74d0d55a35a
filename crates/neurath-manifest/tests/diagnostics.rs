//! Every diagnostic of the reader, as it looks.

use neurath_manifest::{Appup, Component, Diagnostics, Release, Relup, codes};

fn component(text: &str) -> Diagnostics {
    Component::parse("manifests/store/1.0.0.toml", text).expect_err("must be refused")
}

fn appup(text: &str) -> Diagnostics {
    Appup::parse("manifests/store/1.1.0.appup.toml", text).expect_err("must be refused")
}

fn release(text: &str) -> Diagnostics {
    Release::parse("releases/kv/1.0.0.toml", text).expect_err("must be refused")
}

fn relup(text: &str) -> Diagnostics {
    Relup::parse("releases/kv/1.1.0.relup.toml", text).expect_err("must be refused")
}

/// A good component manifest with one line replaced.
fn with(old: &str, new: &str) -> String {
    let good = "name = \"store\"\nversion = \"1.0.0\"\nlibrary = \"kv-store-1-0-0\"\ninstances = 1\n\n\
        [region]\ninitial_size = \"64MiB\"\nlimit = \"16GiB\"\ndurability = \"process\"\n\n[depends_on]\nlog = \"^1.0\"\n";
    assert!(good.contains(old));
    good.replace(old, new)
}

fn up(instructions: &str) -> String {
    format!("[[up]]\nfrom = \"~1.0\"\ninstructions = [\n    {instructions},\n]\n")
}

fn script(steps: &str) -> String {
    format!(
        "name = \"kv\"\nversion = \"1.1.0\"\n\n[[up]]\nfrom = \"1.0.0\"\nscript = [\n    {steps},\n]\n"
    )
}

/// One case a code; the snapshot shows how it is rendered.
fn cases() -> Vec<(&'static str, Diagnostics)> {
    vec![
        (codes::SYNTAX, component("name = store\n")),
        (
            codes::UNKNOWN_KEY,
            component(&with("instances = 1", "instnaces = 1")),
        ),
        (
            codes::MISSING_KEY,
            component(&with("limit = \"16GiB\"\n", "")),
        ),
        (codes::WRONG_TYPE, component(&with("\"1.0.0\"", "1.0"))),
        (codes::BAD_VERSION, component(&with("\"1.0.0\"", "\"1.0\""))),
        (
            codes::BAD_REQUIREMENT,
            component(&with("\"^1.0\"", "\"newest\"")),
        ),
        (
            codes::BAD_DURATION,
            appup(&up("{ update = \"store\", timeout = \"5 days\" }")),
        ),
        (codes::BAD_SIZE, component(&with("\"64MiB\"", "\"64MB\""))),
        (codes::BAD_NAME, component(&with("\"store\"", "\"../x\""))),
        (
            codes::DUPLICATE,
            component(&with("instances = 1", "instances = 1\ninstances = 2")),
        ),
        (
            codes::NOT_ALLOWED,
            component(&with("\"process\"", "\"proces\"")),
        ),
        (
            codes::OUT_OF_RANGE,
            component(&with("instances = 1", "instances = 99999999999999999999")),
        ),
        (
            codes::REGION_SIZES,
            component(&with("\"16GiB\"", "\"16MiB\"")),
        ),
        (codes::NO_INSTRUCTION, appup(&up("{ udpate = \"store\" }"))),
        (
            codes::SEVERAL_INSTRUCTIONS,
            appup(&up("{ update = \"store\", suspend = [\"store\"] }")),
        ),
        (codes::HIGH_LEVEL, relup(&script("{ update = \"store\" }"))),
        (
            codes::TOO_LARGE,
            component(&format!("x = {}{}", "[".repeat(200), "]".repeat(200))),
        ),
        (
            codes::SELF_DEPENDENCY,
            component(&with("log = ", "store = ")),
        ),
        (
            codes::EMPTY,
            release("name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n[components]\n"),
        ),
        (
            codes::APPLY_TARGET,
            appup(&up("{ apply = { component = \"store\" } }")),
        ),
        (
            codes::CHECK_TARGET,
            release(
                "name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n[components]\n\
                 store = { version = \"1.0.0\" }\n[confirm]\nchecks = [{ expect = \"PONG\" }]\n",
            ),
        ),
        (
            codes::CHECK_NEVER_HOLDS,
            release(
                "name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n[components]\n\
                 store = { version = \"1.0.0\" }\nlog = { version = \"1.0.0\", start = \"load\" }\n\
                 [confirm]\nchecks = [\n    { component = \"nobody\" },\n    { component = \"log\" },\n    \
                 { tcp = \"x\" },\n    { tcp = \"\" },\n    { resp = \"127.0.0.1:99999\" },\n    \
                 { tcp = \"[::1]:7379\", timeout = \"0s\" },\n]\n",
            ),
        ),
        (
            codes::BAD_CODE,
            appup("[lints]\nd101 = { level = \"allow\", reason = \"it is meant\" }\n"),
        ),
    ]
}

#[test]
fn every_code_has_its_rendering() {
    let cases = cases();
    for (code, _) in codes::ALL {
        assert!(
            cases.iter().any(|(covered, _)| covered == code),
            "{code} has no case"
        );
    }
    for (code, found) in cases {
        assert!(
            found.codes().contains(&code),
            "{code} is not among {:?}",
            found.codes()
        );
        insta::assert_snapshot!(code, found.render());
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let found = component(
        "name = \"../x\"\nverison = \"1.0.0\"\nversion = \"one\"\nlibrary = 3\ninstances = 0\n\
         [region]\ninitial_size = \"big\"\nlimit = -1\ndurability = \"ram\"\n[depends_on]\n\"a/b\" = \"x\"\n",
    );
    insta::assert_snapshot!(found.codes().join(" "));
    insta::assert_snapshot!(serde_json::to_string_pretty(&found.to_json()).expect("json"));
}

#[test]
fn a_relup_needs_the_version_of_a_load() {
    assert_eq!(relup(&script("{ load = \"store\" }")).codes(), ["M003"]);
}

#[test]
fn hostile_texts_are_refused_without_a_panic() {
    let long_name = "a".repeat(100_000);
    let texts = [
        String::new(),
        "\0\u{1b}[31m".into(),
        "= = =".into(),
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        with("\"store\"", &format!("\"{long_name}\"")),
        with("\"store\"", "\"\\u001b[31m\""),
        with("instances = 1", "instances = 0xffffffffffffffffffff"),
        with("instances = 1", "instances = -9223372036854775809"),
        with("\"64MiB\"", "1e999"),
        with("\"1.0.0\"", "\"18446744073709551616.0.0\""),
        with("\"1.0.0\"", "1979-05-27T07:32:00Z"),
        "é = \"ü".into(),
        " ".repeat(5 << 20),
    ];
    for text in texts {
        assert!(!component(&text).render().is_empty());
        assert!(!release(&text).render_coloured().is_empty());
        let _ = Appup::parse("a", &text).map_err(|found| found.render());
        let _ = relup(&text).to_json();
    }
}

#[test]
fn a_flood_of_problems_is_counted() {
    let text: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    let found = component(&text);
    assert_eq!(found.len(), 1001);
    assert_eq!(found.codes().last(), Some(&codes::TOO_LARGE));
}

/// A cheap fuzz: good files with bytes changed, dropped and doubled, always the same way.
#[test]
fn damaged_files_never_panic() {
    let good = [
        with("a", "a"),
        up("{ update = \"store\", change = { advanced = { n = 1 } } }"),
        script("{ suspend = [\"store\"], timeout = \"5s\" }"),
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("small")
    };
    for _ in 0..2000 {
        let mut bytes = good[next(3)].clone().into_bytes();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = b"\"'[]{}=.,#\n\\ 09az-"[next(17)],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        for found in [
            Component::parse("f", &text).err(),
            Appup::parse("f", &text).err(),
            Release::parse("f", &text).err(),
            Relup::parse("f", &text).err(),
        ] {
            let _ = found.map(|found| found.render());
        }
    }
}
