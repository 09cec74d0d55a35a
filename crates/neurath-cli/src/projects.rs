//! Projects made up: whole sets of manifests, appups and releases, as texts by path.

use crate::fuzz::Random;

/// Files by their path from the project's folder.
pub type Files = Vec<(String, String)>;

/// The version before, and the version after.
pub const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

/// Name of the made-up release.
pub const RELEASE: &str = "app";

/// How the components of a made-up project depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Each on the one before.
    Chain,
    /// All on the first.
    Star,
    /// Each on up to four of those before it.
    Random,
}

impl Shape {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Star => "star",
            Self::Random => "random",
        }
    }

    /// For each of so many components, those that it depends on.
    #[must_use]
    pub fn edges(self, components: usize) -> Vec<Vec<usize>> {
        let mut random = Random::of(1, components as u64);
        let of = |at: usize| match self {
            Self::Chain => at.checked_sub(1).into_iter().collect(),
            Self::Star if at > 0 => vec![0],
            Self::Star => Vec::new(),
            Self::Random => {
                let count = random.below(5).min(at);
                let mut found: Vec<usize> = (0..count).map(|_| random.below(at)).collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        };
        (0..components).map(of).collect()
    }
}

/// A project in which every component changes, with a `code_change`.
#[must_use]
pub fn of_shape(shape: Shape, components: usize) -> Files {
    let edges = shape.edges(components);
    let mut files = Files::new();
    for (at, depends_on) in edges.iter().enumerate() {
        let name = name(at);
        let needs: Vec<(usize, &str)> = depends_on.iter().map(|on| (*on, "^1.0")).collect();
        for version in VERSIONS {
            files.push(manifest(&name, version, &needs));
        }
        let instructions = format!("{{ update = \"{name}\", change = {{ advanced = {{}} }} }}");
        files.push(appup(&name, VERSIONS[1], "~1.0", &[instructions]));
    }
    for version in VERSIONS {
        let parts: Vec<(String, &str)> = (0..components).map(|at| (name(at), version)).collect();
        files.push(release(version, &parts));
    }
    files
}

/// The name of a made-up component.
#[must_use]
pub fn name(at: usize) -> String {
    format!("c{at}")
}

fn manifest(name: &str, version: &str, needs: &[(usize, &str)]) -> (String, String) {
    let mut text = format!(
        "name = \"{name}\"\nversion = \"{version}\"\nlibrary = \"lib-{name}\"\n\n[region]\n\
         initial_size = \"1MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n\n[depends_on]\n"
    );
    for (on, requirement) in needs {
        text.push_str(&format!("c{on} = \"{requirement}\"\n"));
    }
    (format!("manifests/{name}/{version}.toml"), text)
}

fn appup(name: &str, version: &str, other: &str, instructions: &[String]) -> (String, String) {
    let list: String = instructions
        .iter()
        .map(|one| format!("    {one},\n"))
        .collect();
    let mut text = String::new();
    for (way, key) in [("up", "from"), ("down", "to")] {
        text.push_str(&format!(
            "[[{way}]]\n{key} = \"{other}\"\ninstructions = [\n{list}]\n\n"
        ));
    }
    (format!("manifests/{name}/{version}.appup.toml"), text)
}

fn release(version: &str, parts: &[(String, &str)]) -> (String, String) {
    let mut text = format!(
        "name = \"{RELEASE}\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n\n[components]\n"
    );
    for (name, version) in parts {
        text.push_str(&format!("{name} = {{ version = \"{version}\" }}\n"));
    }
    (format!("releases/{RELEASE}/{version}.toml"), text)
}

/// A small project of any kind: most are sound, some are not in one way or another.
#[must_use]
pub fn any(random: &mut Random) -> Files {
    let count = 1 + random.below(10);
    let sound = !random.once_in(3);
    let mut files = Files::new();
    let mut parts: [Vec<(String, &str)>; 2] = [Vec::new(), Vec::new()];
    for at in 0..count {
        let name = name(at);
        let changes = !random.once_in(4);
        let newer = if changes { VERSIONS[1] } else { VERSIONS[0] };
        for version in VERSIONS {
            let mut needs: Vec<(usize, &str)> = Vec::new();
            for _ in 0..random.below(3) {
                let on = random.below(if sound { at } else { count });
                if on != at && needs.iter().all(|(other, _)| *other != on) {
                    needs.push((on, requirement(random, sound)));
                }
            }
            files.push(manifest(&name, version, &needs));
        }
        if changes {
            let list = instructions(random, at, count, sound);
            files.push(appup(&name, VERSIONS[1], "~1.0", &list));
        }
        for (parts, version) in parts.iter_mut().zip([VERSIONS[0], newer]) {
            if sound || !random.once_in(12) {
                parts.push((name.clone(), version));
            }
        }
    }
    for (version, parts) in VERSIONS.iter().zip(&parts) {
        files.push(release(version, parts));
    }
    files
}

fn requirement(random: &mut Random, sound: bool) -> &'static str {
    let most = if sound { 2 } else { 6 };
    ["^1.0", "*", "~1.0", ">=1.1", "=1.0.0", ">=1.0, <1.1"][random.below(most)]
}

/// What an appup says; at times a list that cannot be right.
fn instructions(random: &mut Random, at: usize, count: usize, sound: bool) -> Vec<String> {
    let own = name(at);
    let other = name(random.below(count));
    let main = match random.below(4) {
        0 => format!("{{ load = \"{own}\" }}"),
        1 => format!("{{ update = \"{own}\" }}"),
        2 => format!(
            "{{ update = \"{own}\", change = {{ advanced = {{ n = {at} }} }}, timeout = \"2s\" }}"
        ),
        _ => format!(
            "{{ update = \"{own}\", change = {{ advanced = {{}} }}, depends_on = [\"{other}\"] }}"
        ),
    };
    let mut list = vec![main];
    if sound {
        return list;
    }
    for _ in 0..random.below(4) {
        let one = match random.below(14) {
            0 => format!("{{ load_object_code = \"{own}\", version = \"1.1.0\" }}"),
            1 => "{ point_of_no_return = true }".into(),
            2 => format!("{{ suspend = [\"{other}\"] }}"),
            3 => format!("{{ resume = [\"{other}\"] }}"),
            4 => format!("{{ load = \"{own}\", version = \"1.1.0\" }}"),
            5 => format!("{{ code_change = \"{own}\", from = \"1.0.0\", to = \"1.1.0\" }}"),
            6 => format!("{{ purge = \"{own}\", version = \"1.0.0\", kind = \"brutal\" }}"),
            7 => format!("{{ apply = {{ component = \"{other}\", hook = \"warm\" }} }}"),
            8 => "{ apply = { command = [\"true\"] } }".into(),
            9 => format!("{{ restart_component = \"{other}\" }}"),
            10 => format!("{{ add_component = \"{other}\" }}"),
            11 => format!("{{ move_state = \"m\", from = [\"{own}\"], to = [\"{other}\"] }}"),
            12 => "{ restart_new_node = true }".into(),
            _ => format!("{{ stop = [\"{other}\"] }}"),
        };
        list.insert(random.below(list.len() + 1), one);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_edges() {
        assert_eq!(Shape::Chain.edges(3), [vec![], vec![0], vec![1]]);
        assert_eq!(Shape::Star.edges(3), [vec![], vec![0], vec![0]]);
        let random = Shape::Random.edges(100);
        assert_eq!(random, Shape::Random.edges(100));
        let acyclic = |(at, on): (usize, &Vec<usize>)| on.iter().all(|on| *on < at);
        assert!(random.iter().enumerate().all(acyclic));
        assert!(random.iter().map(Vec::len).sum::<usize>() > 100);
    }
}
