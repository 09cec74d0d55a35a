//! The limits that `docs/manifests.md` names: beyond each there is an error of its own, at once and in few words.

use neurath_manifest::{Appup, Component, Diagnostics, Release, Relup, codes};

const REGION: &str =
    "[region]\ninitial_size = \"1MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n";

fn component(head: &str, tail: &str) -> String {
    format!("name = \"store\"\nlibrary = \"kv-store\"\n{head}\n{REGION}{tail}")
}

fn release(components: &str) -> String {
    format!("name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n[components]\n{components}")
}

fn script(steps: &str) -> String {
    format!("name = \"kv\"\nversion = \"1.1.0\"\n[[up]]\nfrom = \"1.0.0\"\nscript = [\n{steps}]\n")
}

/// The codes, when what is said is short in every form.
#[track_caller]
fn codes_of<T>(read: Result<T, Diagnostics>) -> Vec<&'static str> {
    let Err(found) = read else { return Vec::new() };
    for said in [
        found.render(),
        found.render_coloured(),
        found.to_json().to_string(),
    ] {
        assert!(said.len() < 4096, "{} bytes are said", said.len());
    }
    found.codes()
}

#[test]
fn a_manifest_of_10_megabytes() {
    let filler =
        "# a line that says nothing at all, and is only there to be long\n".repeat(170_000);
    assert!(filler.len() > 10 << 20);
    let large = component("version = \"1.0.0\"", &filler);
    assert_eq!(codes_of(Component::parse("f", &large)), [codes::TOO_LARGE]);
    assert_eq!(codes_of(Appup::parse("f", &filler)), [codes::TOO_LARGE]);
    let large = release("store = { version = \"1.0.0\" }\n") + &filler;
    assert_eq!(codes_of(Release::parse("f", &large)), [codes::TOO_LARGE]);
    // A relup has a script for each base, and may have 16 MiB.
    let large = script("{ point_of_no_return = true },\n") + &filler;
    assert!(Relup::parse("f", &large).is_ok());
    let large = large + &filler;
    assert_eq!(codes_of(Relup::parse("f", &large)), [codes::TOO_LARGE]);
}

#[test]
fn a_hundred_thousand_entries() {
    let names: Vec<String> = (0..100_000).map(|n| format!("c{n}")).collect();
    let each = |line: &dyn Fn(&String) -> String| names.iter().map(line).collect::<String>();

    let parts = each(&|name| format!("{name} = {{ version = \"1.0.0\" }}\n"));
    assert_eq!(
        codes_of(Release::parse("f", &release(&parts))),
        [codes::TOO_LARGE]
    );
    let needs = "[depends_on]\n".to_string() + &each(&|name| format!("{name} = \"^1\"\n"));
    let needs = component("version = \"1.0.0\"", &needs);
    assert_eq!(codes_of(Component::parse("f", &needs)), [codes::TOO_LARGE]);
    let settings = "[config]\n".to_string() + &each(&|name| format!("{name} = 1\n"));
    let settings = component("version = \"1.0.0\"", &settings);
    assert_eq!(
        codes_of(Component::parse("f", &settings)),
        [codes::TOO_LARGE]
    );
    let loads = each(&|name| format!("{{ load = \"{name}\" }},\n"));
    let loads = format!("[[up]]\nfrom = \"*\"\ninstructions = [\n{loads}]\n");
    assert_eq!(codes_of(Appup::parse("f", &loads)), [codes::TOO_LARGE]);
    let entries = "[[up]]\nfrom = \"*\"\ninstructions = []\n".repeat(100_000);
    assert_eq!(codes_of(Appup::parse("f", &entries)), [codes::TOO_LARGE]);
    let loads = each(&|name| format!("{{ load = \"{name}\", version = \"1.0.0\" }},\n"));
    assert_eq!(
        codes_of(Relup::parse("f", &script(&loads))),
        [codes::TOO_LARGE]
    );
    let quoted = each(&|name| format!("\"{name}\","));
    let suspend = script(&format!("{{ suspend = [{quoted}] }}\n"));
    assert_eq!(codes_of(Relup::parse("f", &suspend)), [codes::TOO_LARGE]);
}

/// As many as there may be are read, and none of them in a time that grows with the square of their number.
#[test]
fn the_most_entries() {
    let parts: String = (0..65_536)
        .map(|n| format!("c{n}.version = \"1.0.0\"\n"))
        .collect();
    assert_eq!(
        Release::parse("f", &release(&parts)).map(|read| read.components.len()),
        Ok(65_536)
    );
    let names: String = (0..65_536).map(|n| format!("\"c{n}\",")).collect();
    let suspend = script(&format!(
        "{{ suspend = [{names}] }}, {{ resume = [{names}] }}\n"
    ));
    assert!(Relup::parse("f", &suspend).is_ok());
    let bases: String = (0..20_000)
        .map(|n| {
            format!("[[up]]\nfrom = \"1.0.{n}\"\nscript = [{{ point_of_no_return = true }}]\n")
        })
        .collect();
    let relup = Relup::parse("f", &format!("name = \"kv\"\nversion = \"1.1.0\"\n{bases}"));
    assert_eq!(relup.map(|read| read.up.len()), Ok(20_000));
}

#[test]
fn deep_nesting() {
    let deep = |open: &str, close: &str, levels: usize| {
        let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        component("version = \"1.0.0\"", &format!("[config]\nx = {value}\n"))
    };
    assert!(Component::parse("f", &deep("[", "]", 60)).is_ok());
    assert!(Component::parse("f", &deep("{a=", "}", 60)).is_ok());
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        for levels in [100, 10_000, 1_000_000] {
            let codes = codes_of(Component::parse("f", &deep(open, close, levels)));
            assert_eq!(codes, [codes::TOO_LARGE], "{levels} of {open}");
        }
    }
    let dotted = component(
        "version = \"1.0.0\"",
        &format!("[config]\n{}a = 1\n", "a.".repeat(100_000)),
    );
    assert_eq!(codes_of(Component::parse("f", &dotted)), [codes::TOO_LARGE]);
    let header = component(
        "version = \"1.0.0\"",
        &format!("[config.{}a]\n", "a.".repeat(100_000)),
    );
    assert_eq!(codes_of(Component::parse("f", &header)), [codes::TOO_LARGE]);
}

#[test]
fn versions_of_1000_digits() {
    let digits = "1".repeat(1000);
    for version in [
        format!("{digits}.0.0"),
        format!("1.0.{digits}"),
        format!("1.0.0-{digits}"),
        format!("1.0.0+{digits}"),
        format!("1.0.0-{}", "a.".repeat(500)),
    ] {
        let text = component(&format!("version = \"{version}\""), "");
        assert_eq!(codes_of(Component::parse("f", &text)), [codes::BAD_VERSION]);
        let needs = format!("[depends_on]\nlog = \"^{version}\"\n");
        let text = component("version = \"1.0.0\"", &needs);
        assert_eq!(
            codes_of(Component::parse("f", &text)),
            [codes::BAD_REQUIREMENT]
        );
    }
    let longest = format!("1.0.0-{}", "a".repeat(122));
    assert!(Component::parse("f", &component(&format!("version = \"{longest}\""), "")).is_ok());
}

#[test]
fn paths_that_escape_the_directory() {
    let paths = [
        "../store",
        "..",
        ".",
        "/etc/passwd",
        "a/../../b",
        "..\\\\store",
        "store/..",
        "./store",
        "~/store",
        "a//b",
        "store\\u0000",
        "C:\\\\store",
        "%2e%2e",
        "store ",
        "\\u202estore",
        "con:",
    ];
    for path in paths {
        let text =
            component("version = \"1.0.0\"", "").replace("\"store\"", &format!("\"{path}\""));
        assert_eq!(
            codes_of(Component::parse("f", &text)),
            [codes::BAD_NAME],
            "{path}"
        );
        let text =
            component("version = \"1.0.0\"", "").replace("\"kv-store\"", &format!("\"{path}\""));
        assert_eq!(
            codes_of(Component::parse("f", &text)),
            [codes::BAD_NAME],
            "{path}"
        );
        let parts = format!("\"{path}\" = {{ version = \"1.0.0\" }}\n");
        assert_eq!(
            codes_of(Release::parse("f", &release(&parts))),
            [codes::BAD_NAME],
            "{path}"
        );
        let via = format!(
            "[[up]]\nfrom = \"*\"\ninstructions = [{{ update = \"a\", via = \"{path}\" }}]\n"
        );
        assert_eq!(
            codes_of(Appup::parse("f", &via)),
            [codes::BAD_NAME],
            "{path}"
        );
        let text = component(&format!("version = \"1.0.0-{path}\""), "");
        assert_eq!(
            codes_of(Component::parse("f", &text)),
            [codes::BAD_VERSION],
            "{path}"
        );
    }
}

#[test]
fn long_texts_are_not_repeated_in_messages() {
    let long = "x".repeat(3 << 20);
    let text = component("version = \"1.0.0\"", "").replace("\"store\"", &format!("\"{long}\""));
    assert_eq!(codes_of(Component::parse("f", &text)), [codes::BAD_NAME]);
    let text = component("version = \"1.0.0\"", &format!("[{long}]\n"));
    assert_eq!(codes_of(Component::parse("f", &text)), [codes::UNKNOWN_KEY]);
    let text = component("version = \"1.0.0\"", "").replace("\"process\"", &format!("\"{long}\""));
    assert_eq!(codes_of(Component::parse("f", &text)), [codes::NOT_ALLOWED]);
    let text = component(
        "version = \"1.0.0\"",
        &format!("[depends_on]\nlog = \"{long}\"\n"),
    );
    assert_eq!(
        codes_of(Component::parse("f", &text)),
        [codes::BAD_REQUIREMENT]
    );
    let text = component("version = \"1.0.0\"", "").replace("\"1MiB\"", &format!("\"{long}\""));
    assert_eq!(codes_of(Component::parse("f", &text)), [codes::BAD_SIZE]);
    let text = component("version = \"1.0.0\"", "").replace("\"1MiB\"", &"9".repeat(3 << 20));
    assert_eq!(codes_of(Component::parse("f", &text)).len(), 1);
}

/// A file with as many problems as are kept is rendered by its lines, not as a whole for each.
#[test]
fn many_problems_in_a_large_file() {
    let text: String = (0..200_000).map(|n| format!("key_{n} = 1\n")).collect();
    let found = Component::parse("f", &text).expect_err("refused");
    assert!(found.len() <= 1001 && found.render().len() < 1 << 20);
    assert!(found.to_json().to_string().len() < 1 << 20);
}
