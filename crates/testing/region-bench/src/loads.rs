//! What memory alone takes: the loads of an update, and nothing else.

use crate::random::Random;
use crate::row::cpu_time;

/// Objects of a cache line in ordinary memory, and references to them.
pub struct Loads {
    references: Vec<u64>,
    objects: Vec<[u64; 8]>,
    random: Random,
}

impl Loads {
    /// So many of each.
    pub fn new(objects: u64) -> Loads {
        Loads {
            references: (0..objects).collect(),
            objects: vec![[0; 8]; objects as usize],
            random: Random::new(1),
        }
    }

    /// So many steps of so many loads among the first `among` objects: of a reference, and of what
    /// it leads to. Each waits for the one before, as transactions do. Nanoseconds a step.
    pub fn run(&mut self, each: u64, among: u64, steps: u64) -> f64 {
        let objects = std::hint::black_box(&mut self.objects);
        let among = objects.len().min(among as usize);
        let mut seen = 0;
        let begun = cpu_time();
        for _ in 0..steps * each {
            let next = self.random.below(among) ^ seen;
            let object = &mut objects[self.references[next] as usize];
            // They are all zero; only the compiler does not know.
            seen = object[1] as usize;
            object[0] += 1;
        }
        (cpu_time() - begun) / steps as f64
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_load_is_of_one_object() {
        let mut loads = super::Loads::new(100);
        assert!(loads.run(4, 100, 25) >= 0.0);
        assert_eq!(
            loads.objects.iter().map(|object| object[0]).sum::<u64>(),
            100
        );
    }
}
