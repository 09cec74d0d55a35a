//! What can be taken out of one region and put into another.

use crate::schema::{self, Fingerprint};
use crate::types::{Pmem, as_bytes, from_bytes};

/// A value that goes from one region to another as bytes: what a `move_out` gives and the `move_in` at the
/// other end gets.
///
/// Every [`Pmem`] type without references is one: numbers, arrays, structs and enums of such. What a region
/// keeps in objects of its own goes in their place as `Vec<u8>` for bytes, `Vec` for many, and pairs. A type
/// with a reference does not compile here, as it would lead nowhere in the other region.
pub trait Parcel: Sized {
    /// The hash of what it is made of: both ends must agree in it.
    const PARCEL: Fingerprint;

    /// Appends it.
    fn pack(&self, out: &mut Vec<u8>);

    /// Takes it from the beginning of `bytes`; `None` if that is no such value.
    fn unpack(bytes: &mut &[u8]) -> Option<Self>;
}

impl<T: Pmem> Parcel for T {
    const PARCEL: Fingerprint = {
        assert!(
            schema::is_plain(T::SCHEMA),
            "a value that is moved must not refer to objects of its region: give copies of what they hold"
        );
        <T as Pmem>::FINGERPRINT
    };

    fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(as_bytes(self));
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(size_of::<T>())?;
        *bytes = rest;
        from_bytes(first)
    }
}

impl<T: Parcel> Parcel for Vec<T> {
    const PARCEL: Fingerprint = schema::combined("list", &[<T as Parcel>::PARCEL]);

    fn pack(&self, out: &mut Vec<u8>) {
        (self.len() as u64).pack(out);
        for one in self {
            one.pack(out);
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let count = usize::try_from(u64::unpack(bytes)?).ok()?;
        // What is claimed costs nothing before it is there.
        let mut all = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            let before = bytes.len();
            all.push(T::unpack(bytes)?);
            if bytes.len() == before {
                // Elements of no bytes: nothing bounds how many of them there are said to be.
                return None;
            }
        }
        Some(all)
    }
}

impl<A: Parcel, B: Parcel> Parcel for (A, B) {
    const PARCEL: Fingerprint =
        schema::combined("pair", &[<A as Parcel>::PARCEL, <B as Parcel>::PARCEL]);

    fn pack(&self, out: &mut Vec<u8>) {
        self.0.pack(out);
        self.1.pack(out);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::unpack(bytes)?, B::unpack(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Bytes, P, Pmem};

    type Many = Vec<(Vec<u8>, u32)>;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    struct Flag {
        on: bool,
    }

    fn packed<T: Parcel>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        value.pack(&mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_packed_is_unpacked(many in any::<Many>(), behind in any::<u8>()) {
            let mut bytes = packed(&many);
            bytes.push(behind);
            let mut rest = &bytes[..];
            prop_assert_eq!(Many::unpack(&mut rest), Some(many));
            prop_assert_eq!(rest, &[behind][..]);
        }

        #[test]
        fn any_bytes_are_a_value_or_none(bytes in any::<Vec<u8>>()) {
            let mut rest = &bytes[..];
            if let Some(many) = Many::unpack(&mut rest) {
                prop_assert_eq!(packed(&many), bytes[..bytes.len() - rest.len()].to_vec());
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_no_value_is_none() {
        let whole = packed(&vec![(b"key".to_vec(), 7u32)]);
        for len in 0..whole.len() {
            assert_eq!(Many::unpack(&mut &whole[..len]), None, "{len}");
        }
        assert_eq!(Flag::unpack(&mut &[2u8][..]), None);
        let endless = packed(&u64::MAX);
        assert_eq!(Vec::<u8>::unpack(&mut &endless[..]), None);
        assert_eq!(Vec::<[u8; 0]>::unpack(&mut &endless[..]), None);
    }

    #[test]
    fn types_differ_in_their_fingerprints() {
        let all = [
            <u32 as Parcel>::PARCEL,
            <Vec<u32> as Parcel>::PARCEL,
            <Vec<Vec<u32>> as Parcel>::PARCEL,
            <(u32, u32) as Parcel>::PARCEL,
            <(u32, Vec<u32>) as Parcel>::PARCEL,
            <(Vec<u32>, u32) as Parcel>::PARCEL,
            <Flag as Parcel>::PARCEL,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn what_refers_to_objects_is_not_plain() {
        assert!(schema::is_plain(<[Flag; 3]>::SCHEMA));
        assert!(!schema::is_plain(P::<u64>::SCHEMA));
        assert!(!schema::is_plain(<[Bytes; 2]>::SCHEMA));
        assert!(!schema::is_plain(crate::Map::<u64, u64>::SCHEMA));
    }
}
