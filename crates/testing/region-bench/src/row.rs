//! Rows of the result: one kind of work, ours beside a peer's.

use serde_json::{Value, json};

/// What the numbers of a row count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Space,
}

/// The other side of a row.
#[derive(Clone, PartialEq, Debug)]
pub enum Peer {
    /// There is nothing to compare with.
    None,
    /// What it took.
    Measured(String, f64),
    /// Why it was not measured.
    Skipped(String, String),
}

/// One line of the table.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub work: String,
    pub unit: Unit,
    pub ours: f64,
    pub peer: Peer,
}

impl Row {
    /// As the command puts it out: the peer's share over ours, so that more is better.
    pub fn json(&self) -> Value {
        let (peer, theirs, skipped) = match &self.peer {
            Peer::None => (None, None, None),
            Peer::Measured(name, value) => (Some(name), Some(*value), None),
            Peer::Skipped(name, why) => (Some(name), None, Some(why)),
        };
        let ratio = theirs.filter(|_| self.ours > 0.0).map(|t| t / self.ours);
        let mut row = match self.unit {
            Unit::Time => json!({ "work": self.work, "ours_ns": self.ours, "peer": peer,
                "peer_ns": theirs, "ratio": ratio }),
            Unit::Space => json!({ "work": self.work, "ours_ns": null, "peer": peer,
                "peer_ns": null, "ratio": ratio, "ours_bytes": self.ours, "peer_bytes": theirs }),
        };
        if let Some(why) = skipped {
            row["skipped"] = why.as_str().into();
        }
        row
    }
}

/// One side of a measurement: a run's nanoseconds or bytes.
pub type Side<'a> = Box<dyn FnMut() -> anyhow::Result<f64> + 'a>;

/// A peer: its name, and how it is measured or why it is not.
pub struct Other<'a> {
    pub name: &'static str,
    pub side: Result<Side<'a>, String>,
}

/// Measures ours and each peer in turn, as often as told, and takes the medians. Who is
/// first changes from run to run: whoever it is meets a machine in another state.
///
/// # Errors
///
/// The first of a side.
pub fn measure(
    work: &str,
    unit: Unit,
    runs: usize,
    mut ours: Side<'_>,
    mut others: Vec<Other<'_>>,
) -> anyhow::Result<Vec<Row>> {
    let mut own = Vec::new();
    let mut theirs = vec![Vec::new(); others.len()];
    for run in 0..runs {
        if run % 2 == 0 {
            own.push(ours()?);
        }
        for (other, found) in others.iter_mut().zip(&mut theirs) {
            if let Ok(side) = &mut other.side {
                found.push(side()?);
            }
        }
        if run % 2 == 1 {
            own.push(ours()?);
        }
    }
    let ours = median(&own);
    let mut peers: Vec<Peer> = others
        .into_iter()
        .zip(&theirs)
        .map(|(other, found)| match other.side {
            Ok(_) => Peer::Measured(other.name.into(), median(found)),
            Err(why) => Peer::Skipped(other.name.into(), why),
        })
        .collect();
    if peers.is_empty() {
        peers.push(Peer::None);
    }
    let row = |peer| Row {
        work: work.into(),
        unit,
        ours,
        peer,
    };
    Ok(peers.into_iter().map(row).collect())
}

/// The processor time of this thread, in nanoseconds: what is measured of works that never
/// wait, so that what else the machine does counts less.
pub fn cpu_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the struct is ours. It cannot fail: every thread has such a clock. (The same
    // function of rustix does not run under valgrind.)
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_theirs_over_ours() {
        let mut order = Vec::new();
        let order = std::cell::RefCell::new(&mut order);
        let side = |name: &'static str, value: f64| -> Side<'_> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(value)
            })
        };
        let others = vec![
            Other {
                name: "a",
                side: Ok(side("a", 30.0)),
            },
            Other {
                name: "b",
                side: Err("not installed".into()),
            },
        ];
        let rows = measure("w", Unit::Time, 2, side("ours", 10.0), others).expect("measured");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].json()["ratio"], 3.0);
        assert_eq!(rows[0].json()["peer_ns"], 30.0);
        assert!(rows[1].json()["peer_ns"].is_null() && rows[1].json()["ratio"].is_null());
        assert_eq!(rows[1].json()["skipped"], "not installed");
        assert_eq!(**order.borrow(), ["ours", "a", "a", "ours"]);
    }

    #[test]
    fn bytes_are_not_told_as_a_time() {
        let rows = measure("w", Unit::Space, 1, Box::new(|| Ok(64.0)), Vec::new()).expect("row");
        let row = rows[0].json();
        assert!(row["ours_ns"].is_null() && row["peer"].is_null());
        assert_eq!(row["ours_bytes"], 64.0);
    }
}
