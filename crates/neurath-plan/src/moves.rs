//! Which function is an end of a `move_state`: pure rules, for the proof of a plan and for the node that carries
//! it out.

/// One of the two versions of a component in an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The one that is left.
    Old,
    /// The one that comes.
    New,
}

/// Where the function of one end may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The version whose state it works on.
    pub state: Version,
    /// The version whose library has it.
    pub library: Version,
}

/// Where the function of one end is looked for, in this order: the first that is there is taken.
///
/// Who takes does so in its new state. Who gives does so from its old state if the step stands before its
/// `code_change` (`early`), else from its new one; if there is no function for that, from the other. The new
/// version's library is asked first: on the way down it is the old one that knows both.
pub fn places(incoming: bool, early: bool) -> impl Iterator<Item = Place> {
    let states: &[Version] = match (incoming, early) {
        (true, _) => &[Version::New],
        (false, true) => &[Version::Old, Version::New],
        (false, false) => &[Version::New, Version::Old],
    };
    states.iter().flat_map(|state| {
        [Version::New, Version::Old].map(|library| Place {
            state: *state,
            library,
        })
    })
}

/// Finds the function of one end, by what is known of the two versions: the fingerprints of their states, and
/// whether a library has a function for one.
///
/// A version that a component has not is `None`, as the new one of a component that goes. Of two versions with
/// one state only the new one counts: there is one state, and it stays.
pub fn find<F: PartialEq + Copy, R>(
    (incoming, early): (bool, bool),
    (old, new): (Option<F>, Option<F>),
    has: impl Fn(Version, F) -> Option<R>,
) -> Option<(Place, R)> {
    let old = old.filter(|old| Some(*old) != new);
    places(incoming, early).find_map(|place| {
        let state = match place.state {
            Version::Old => old,
            Version::New => new,
        };
        Some((place, has(place.library, state?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds by lists of the states that each library has a function for.
    fn found(
        end: (bool, bool),
        states: (Option<u8>, Option<u8>),
        old: &[u8],
        new: &[u8],
    ) -> Option<(Version, Version)> {
        let has = |library, state| {
            let known = match library {
                Version::Old => old,
                Version::New => new,
            };
            known.contains(&state).then_some(())
        };
        find(end, states, has).map(|(place, ())| (place.state, place.library))
    }

    const OUT_EARLY: (bool, bool) = (false, true);
    const OUT_LATE: (bool, bool) = (false, false);
    const IN: (bool, bool) = (true, false);

    #[test]
    fn who_gives_does_so_from_the_state_that_the_step_stands_at() {
        use Version::{New, Old};
        let both = (Some(1), Some(2));
        assert_eq!(found(OUT_EARLY, both, &[], &[1, 2]), Some((Old, New)));
        assert_eq!(found(OUT_LATE, both, &[], &[1, 2]), Some((New, New)));
        // From the other, if that is the only one.
        assert_eq!(found(OUT_EARLY, both, &[], &[2]), Some((New, New)));
        assert_eq!(found(OUT_LATE, both, &[], &[1]), Some((Old, New)));
        // On the way down the old version's library knows both states.
        assert_eq!(found(OUT_EARLY, both, &[1, 2], &[]), Some((Old, Old)));
        // One that goes has only its own.
        assert_eq!(
            found(OUT_LATE, (Some(1), None), &[1], &[]),
            Some((Old, Old))
        );
        assert_eq!(found(OUT_LATE, both, &[3], &[3]), None);
    }

    #[test]
    fn who_takes_does_so_in_its_new_state() {
        use Version::{New, Old};
        assert_eq!(
            found(IN, (Some(1), Some(2)), &[1, 2], &[1]),
            Some((New, Old))
        );
        assert_eq!(found(IN, (Some(1), Some(2)), &[1], &[1]), None);
        assert_eq!(found(IN, (None, Some(2)), &[], &[2]), Some((New, New)));
        assert_eq!(found(IN, (Some(1), None), &[1], &[1]), None);
    }

    /// A state that stays as it is is one state, and not an old one that is left behind.
    #[test]
    fn one_state_in_both_versions_is_the_new_one() {
        use Version::New;
        let same = (Some(1), Some(1));
        for end in [OUT_EARLY, OUT_LATE, IN] {
            assert_eq!(found(end, same, &[1], &[1]), Some((New, New)));
        }
    }
}
