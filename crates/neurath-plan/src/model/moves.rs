//! Whether both ends of a move have a function for it, and agree in what is moved.

use super::{Fault, Model, fault};
use crate::codes;
use crate::moves::{self, Version};
use crate::schema::{ComponentFacts, MoveFunction};

/// A version of a component, and what its library says.
type Side<'a> = Option<(&'a semver::Version, &'a ComponentFacts)>;

/// One end of a move that was found, and in which version of the component.
struct End<'a> {
    function: &'a MoveFunction,
    version: &'a semver::Version,
}

impl<'a> Model<'a> {
    pub(super) fn move_state(
        &self,
        name: &str,
        from: &[String],
        to: &[String],
        faults: &mut Vec<Fault>,
    ) {
        for component in from.iter().chain(to) {
            self.stands_still(component, faults);
            self.not_committed(component, faults);
        }
        for component in to {
            if from.contains(component) {
                faults.push(fault(
                    codes::MISPLACED,
                    format!("{component} would give to itself"),
                    "name it once",
                ));
            }
            if !self.sides.will_run(component) {
                faults.push(fault(
                    codes::MISPLACED,
                    format!(
                        "{component} has no state to put it into in the release that it leads to"
                    ),
                    "name a component that runs there",
                ));
                return;
            }
        }
        let givers: Vec<_> = from
            .iter()
            .map(|one| self.end_of_move(name, one, false, faults))
            .collect();
        let takers: Vec<_> = to
            .iter()
            .map(|one| self.end_of_move(name, one, true, faults))
            .collect();
        for (giver, out) in from.iter().zip(&givers) {
            for (taker, into) in to.iter().zip(&takers) {
                if let (Some(out), Some(into)) = (out, into)
                    && out.function.value != into.function.value
                {
                    faults.push(fault(
                        codes::OTHER_VALUE,
                        format!(
                            "move_out `{name}` of {giver} {} gives another type ({}) than move_in `{name}` of \
                             {taker} {} takes ({})",
                            out.version, out.function.value, into.version, into.function.value
                        ),
                        "let both be of one type, with the same names in it",
                    ));
                }
            }
        }
    }

    /// The function of one end; a fault if the libraries are known and have none.
    fn end_of_move(
        &self,
        name: &str,
        component: &str,
        incoming: bool,
        faults: &mut Vec<Fault>,
    ) -> Option<End<'a>> {
        let of = |part: Option<&'a neurath_manifest::ReleaseComponent>| {
            part.map(|part| {
                (
                    &part.version,
                    self.catalogue.facts(component, &part.version),
                )
            })
        };
        let old = of(self.sides.old(component)).filter(|_| self.sides.ran(component));
        let new = of(self.sides.new_one(component)).filter(|_| self.sides.will_run(component));
        // Without what the libraries say nothing is proved.
        let unknown = |side: &Option<(_, Option<&ComponentFacts>)>| {
            side.as_ref().is_some_and(|(_, facts)| facts.is_none())
        };
        if unknown(&old) || unknown(&new) {
            return None;
        }
        let known = |side: Option<(&'a semver::Version, Option<&'a ComponentFacts>)>| -> Side<'a> {
            side.and_then(|(version, facts)| Some((version, facts?)))
        };
        let (old, new) = (known(old), known(new));
        let held = self
            .parts
            .get(component)
            .and_then(|part| part.state.as_ref());
        let early = old.is_some_and(|(version, _)| held == Some(version));
        let print = |side: Side<'a>| side.map(|(_, facts)| facts.state.fingerprint.as_str());
        let has = |library, state: &str| {
            let (version, facts) = match library {
                Version::Old => old?,
                Version::New => new?,
            };
            let mut all = facts.moves.iter();
            let function =
                all.find(|one| one.name == name && one.incoming == incoming && one.state == state)?;
            Some(End { function, version })
        };
        let found = moves::find((incoming, early), (print(old), print(new)), has);
        if found.is_none() {
            faults.push(no_function(name, component, incoming, (old, new)));
        }
        found.map(|(_, end)| end)
    }
}

/// Neither library has the function.
fn no_function(
    name: &str,
    component: &str,
    incoming: bool,
    (old, new): (Side<'_>, Side<'_>),
) -> Fault {
    let state = |(version, facts): (&semver::Version, &ComponentFacts)| {
        format!("{version} ({})", facts.state.fingerprint)
    };
    // Who takes does so in its new state.
    let sides = [old.filter(|_| !incoming), new];
    let states: Vec<String> = sides.into_iter().flatten().map(state).collect();
    let newer = match (old, new) {
        (Some(one), Some(other)) => Some(if one.0 > other.0 { one } else { other }),
        (one, other) => other.or(one),
    };
    let (attribute, arguments) = match incoming {
        true => ("move_in", ", value: Value) -> Result<()>"),
        false => ("move_out", ") -> Result<Value>"),
    };
    let (version, ty) = newer.map_or_else(
        || (String::new(), String::from("State")),
        |(version, facts)| (format!(" {version}"), facts.state.name.clone()),
    );
    fault(
        codes::NO_MOVE,
        format!(
            "no library of {component} has a {attribute} `{name}` for the state of {}",
            states.join(" or ")
        ),
        &format!(
            "write `#[{attribute}(\"{name}\")] fn {name}(state: &mut {ty}, tx: &mut Tx<'_>{arguments}` in \
             {component}{version}, and add it to `moves = […]` of its `component!`"
        ),
    )
}
