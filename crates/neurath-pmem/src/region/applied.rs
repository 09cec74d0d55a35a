//! The word that says which record of a ring was applied last.
//!
//! A record that was damaged looks like one that never was whole. Of the second kind nothing
//! was applied, and the record before it may be replayed; over the words of the first that would
//! bring older values back. The word tells the two apart: it is stored once the record is sure,
//! and before the record's words are.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::error::FormatError;
use super::format::{COUNT_MAX, ROOT_AT};

/// Where the word lies: in the last line before the root, which has nothing else in it.
pub(crate) const APPLIED_AT: u64 = ROOT_AT - 64;

/// So many of its lowest bits are the record's number's.
const NUMBER_BITS: u32 = 40;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;

/// The word for a record: the lowest bits of its number, and some of the checksum of all of it.
/// Never 0, which says nothing.
#[inline]
pub(super) fn encode(number: u64, seed: u64) -> u64 {
    let sum = xxh3_64_with_seed(&number.to_le_bytes(), seed) | 1 << 63;
    sum & !NUMBER | number & NUMBER
}

/// The record that a word names; `None` if it names none, as in a region of a program that did
/// not know it. `near` is a number that is not far from it.
///
/// # Errors
///
/// If nobody can have stored it.
pub(crate) fn decode(word: u64, near: u64, seed: u64) -> Result<Option<u64>, FormatError> {
    if word == 0 {
        return Ok(None);
    }
    // How much further than `near` it is, or less far, whichever is shorter.
    let unused = u64::BITS - NUMBER_BITS;
    let further = (word.wrapping_sub(near) << unused).cast_signed() >> unused;
    near.checked_add_signed(further)
        .filter(|&number| (1..=COUNT_MAX).contains(&number) && encode(number, seed) == word)
        .map(Some)
        .ok_or_else(|| FormatError::Checksum {
            what: "the word that says which record was applied".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::{NUMBER, decode, encode};

    #[test]
    fn a_word_names_its_record() {
        for number in [
            1,
            2,
            77,
            NUMBER - 1,
            NUMBER,
            NUMBER + 1,
            NUMBER + 2,
            1 << 61,
        ] {
            for near in [number - 1, number, number + 5, number + NUMBER / 3] {
                let word = encode(number, 9);
                assert_eq!(
                    decode(word, near, 9),
                    Ok(Some(number)),
                    "{number} near {near}"
                );
            }
        }
        assert_eq!(decode(0, 5, 9), Ok(None));
    }

    #[test]
    fn no_flipped_bit_makes_it_another() {
        for number in [1, 300, NUMBER + 1] {
            for bit in 0..64 {
                let word = encode(number, 9) ^ 1 << bit;
                assert!(decode(word, number, 9).is_err(), "{number}, bit {bit}");
            }
            assert!(
                decode(encode(number, 9), number, 8).is_err(),
                "of another region"
            );
        }
    }
}
