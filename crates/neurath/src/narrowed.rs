//! Floating-point numbers as what they were before they were widened: `TryFrom` does not know them.

/// A floating-point type that a field of type `N` was widened to.
pub trait Narrowed<N> {
    /// The number as it was before, on the way back: as an integer only if it is one, as a narrower floating-point
    /// number the nearest. None if there is no room for it.
    fn narrowed(self) -> Option<N>;
}

impl Narrowed<f32> for f64 {
    fn narrowed(self) -> Option<f32> {
        let nearest = self as f32;
        (nearest.is_finite() || !self.is_finite()).then_some(nearest)
    }
}

macro_rules! from_integers {
    ($float:ty: $($integer:ty),*) => {
        $(impl Narrowed<$integer> for $float {
            fn narrowed(self) -> Option<$integer> {
                // Saturates, and so differs from a number without room.
                let integer = self as $integer;
                (<$float>::from(integer) == self).then_some(integer)
            }
        })*
    };
}

from_integers!(f64: i8, i16, i32, u8, u16, u32);
from_integers!(f32: i8, i16, u8, u16);
