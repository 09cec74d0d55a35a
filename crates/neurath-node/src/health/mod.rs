//! Whether a new release holds: what its health checks say over the window, beside what they
//! said before the upgrade. Pure: who makes the checks is `probe.rs`.

mod probe;
mod window;

pub(crate) use window::{Prober, Window};

use neurath_manifest::Confirm;

/// Why a release without checks is left at the end of its window.
pub(crate) const NOBODY: &str = "nobody has confirmed it within its window";

/// What one look found: nothing, or what is wrong.
pub(crate) type Sample = Result<(), String>;

/// What is known of one check.
#[derive(Debug)]
struct Track {
    name: String,
    /// What it said before the upgrade.
    before: Sample,
    samples: u64,
    failures: u64,
    /// Failures since it last held.
    in_a_row: u32,
    last: Sample,
}

/// The checks of a release that is not confirmed yet.
#[derive(Debug)]
pub(crate) struct Watch {
    tracks: Vec<Track>,
    /// So many failures in a row are one too many.
    limit: u32,
}

/// What the samples say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Open,
    /// The release holds.
    Holds {
        /// How often that was looked at.
        samples: u64,
    },
    /// It does not; the node goes back.
    Fails(String),
    /// The window is over, and it cannot be told. The release is not confirmed by it.
    Inconclusive(String),
}

impl Watch {
    /// What each check said before the upgrade.
    pub(crate) fn before(&self) -> Vec<Sample> {
        let tracks = self.tracks.iter();
        tracks.map(|track| track.before.clone()).collect()
    }

    /// Begins with what each check of the release said before the upgrade.
    pub(crate) fn new(confirm: &Confirm, before: Vec<Sample>) -> Watch {
        let tracks = confirm.checks.iter().zip(before);
        let tracks = tracks.map(|(check, before)| Track {
            name: check.probe.to_string(),
            before,
            samples: 0,
            failures: 0,
            in_a_row: 0,
            last: Ok(()),
        });
        Watch {
            tracks: tracks.collect(),
            limit: confirm.failures,
        }
    }

    /// Takes a sample of the check of this number.
    pub(crate) fn sample(&mut self, check: usize, sample: Sample) {
        let Some(track) = self.tracks.get_mut(check) else {
            return;
        };
        track.samples += 1;
        match &sample {
            Ok(()) => track.in_a_row = 0,
            Err(_) => {
                track.failures += 1;
                track.in_a_row += 1;
            }
        }
        track.last = sample;
    }

    /// What can be said now; `over` says that the window is.
    ///
    /// A check that failed before the upgrade as well says nothing against the release, and,
    /// unless it holds now, nothing for it.
    pub(crate) fn verdict(&self, over: bool) -> Verdict {
        for track in self.tracks.iter().filter(|track| track.before.is_ok()) {
            if let Err(why) = &track.last
                && track.in_a_row >= self.limit
            {
                let name = &track.name;
                let times = track.in_a_row;
                return Verdict::Fails(format!(
                    "the health check `{name}` failed {times} times in a row, and held before \
                     the upgrade: {why}"
                ));
            }
        }
        if !over {
            return Verdict::Open;
        }
        if self.tracks.is_empty() {
            return Verdict::Inconclusive("the release names no health check".into());
        }
        for track in &self.tracks {
            let name = &track.name;
            if track.samples == 0 {
                let why = format!("the health check `{name}` was never made");
                return Verdict::Inconclusive(why);
            }
            if let (Err(before), Err(why)) = (&track.before, &track.last) {
                return Verdict::Inconclusive(format!(
                    "the health check `{name}` fails as it did before the upgrade ({before}): {why}"
                ));
            }
            if let Err(why) = &track.last {
                let why = format!("the health check `{name}` failed at the end: {why}");
                return Verdict::Inconclusive(why);
            }
        }
        Verdict::Holds {
            samples: self.tracks.iter().map(|track| track.samples).sum(),
        }
    }

    /// Each check in a line: what it says, and how often it was made and failed.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |track: &Track| {
            let Track {
                name,
                samples,
                failures,
                ..
            } = track;
            match &track.last {
                _ if *samples == 0 => format!("{name}: not made yet"),
                Ok(()) => format!("{name}: holds ({failures} of {samples} failed)"),
                Err(why) => format!("{name}: fails ({failures} of {samples} failed): {why}"),
            }
        };
        self.tracks.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_manifest::{HealthCheck, Probe};
    use std::time::Duration;

    fn watch(before: &[Sample]) -> Watch {
        let check = |address: usize| HealthCheck {
            probe: Probe::Tcp(format!("host:{address}")),
            timeout: Duration::from_secs(1),
        };
        let confirm = Confirm {
            checks: (0..before.len()).map(check).collect(),
            failures: 2,
            ..Confirm::default()
        };
        Watch::new(&confirm, before.to_vec())
    }

    fn no(why: &str) -> Sample {
        Err(why.into())
    }

    #[track_caller]
    fn assert_inconclusive(watch: &Watch, why: &str) {
        assert_eq!(watch.verdict(false), Verdict::Open);
        match watch.verdict(true) {
            Verdict::Inconclusive(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_looked_at_is_no_success() {
        assert_inconclusive(&watch(&[]), "names no health check");
        let mut watch = watch(&[Ok(()), Ok(())]);
        watch.sample(0, Ok(()));
        assert_inconclusive(&watch, "`tcp host:1` was never made");
    }

    #[test]
    fn what_holds_to_the_end_of_the_window_holds() {
        let mut watch = watch(&[Ok(()), Ok(())]);
        for check in [0, 1, 0, 1] {
            watch.sample(check, Ok(()));
        }
        watch.sample(0, no("slow"));
        watch.sample(0, Ok(()));
        assert_eq!(watch.verdict(false), Verdict::Open);
        assert_eq!(watch.verdict(true), Verdict::Holds { samples: 6 });
        assert_eq!(
            watch.lines(),
            [
                "tcp host:0: holds (1 of 4 failed)",
                "tcp host:1: holds (0 of 2 failed)"
            ]
        );
    }

    #[test]
    fn failures_in_a_row_send_back_before_the_window_is_over() {
        let mut watch = watch(&[Ok(())]);
        watch.sample(0, no("refused"));
        assert_eq!(watch.verdict(false), Verdict::Open);
        watch.sample(0, Ok(()));
        watch.sample(0, no("refused"));
        assert_inconclusive(&watch, "failed at the end: refused");
        watch.sample(0, no("refused"));
        let Verdict::Fails(why) = watch.verdict(false) else {
            panic!("{:?}", watch.verdict(false));
        };
        assert!(why.contains("2 times in a row"), "{why}");
    }

    #[test]
    fn what_failed_before_says_nothing_unless_it_holds_now() {
        let mut watch = watch(&[no("no route")]);
        for _ in 0..9 {
            watch.sample(0, no("no route"));
        }
        assert_inconclusive(&watch, "as it did before the upgrade");
        watch.sample(0, Ok(()));
        assert_eq!(watch.verdict(true), Verdict::Holds { samples: 10 });
    }
}
