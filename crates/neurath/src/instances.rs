//! Which instance of a component a key belongs to.

/// The instance that has `key`, of `instances`: the same one in every version of this crate, on every
/// machine. The keys are divided evenly.
///
/// FNV-1a over the key, mixed by the last steps of MurmurHash3, of which the upper bits count. How
/// many instances there are does not change in a running node, so that nothing has to move.
///
/// # Panics
///
/// If `instances` is 0: nobody has the key.
///
/// ```
/// let instance = neurath::instance_of(b"user:17", 4);
/// assert!(instance < 4);
/// ```
pub fn instance_of(key: &[u8], instances: u32) -> u32 {
    assert!(instances > 0, "no instance has the key");
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    // The product of a 64-bit fraction and the count: its whole part is below the count.
    ((u128::from(hash) * u128::from(instances)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::instance_of;

    /// State that is divided among instances relies on it: these never change.
    #[test]
    fn keys_stay_where_they_are() {
        let found: Vec<u32> = ["", "a", "user:1", "user:2", "user:3", "\u{3b1}"]
            .map(|key| instance_of(key.as_bytes(), 7))
            .into();
        assert_eq!(found, [6, 3, 2, 2, 6, 4]);
    }

    #[test]
    fn keys_are_divided_evenly() {
        for instances in [1, 2, 3, 8, 1000] {
            let mut counts = vec![0_u32; instances as usize];
            for number in 0..instances * 1000 {
                counts[instance_of(format!("key:{number}").as_bytes(), instances) as usize] += 1;
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(
                least > Some(&800) && most < Some(&1200),
                "{instances}: {least:?} {most:?}"
            );
        }
    }
}
