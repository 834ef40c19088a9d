//! Platform configuration registers: which, what they hold, and the policies over them.

use crate::codes::{Command, alg};
use crate::wire::Writer;
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fmt;

/// The highest register there is on a PC (TCG PC Client Platform TPM Profile, section 4.6).
pub const PCR_MAX: u8 = 23;

/// Why numbers are not a set of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PcrError {
    /// A number above [`PCR_MAX`].
    #[error("there is no PCR {0}; they are 0 to {PCR_MAX}")]
    Number(u8),
    /// The same number twice.
    #[error("PCR {0} is named twice; name each once")]
    Twice(u8),
    /// No number at all: what is bound to nothing opens on every boot.
    #[error("no PCR is named; name at least one, 7 and 11 as a rule")]
    Empty,
}

/// Some of the registers of the SHA-256 bank, at least one. As data it is a sorted list of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct PcrSet(u32);

impl PcrSet {
    /// These registers, in any order.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn new(numbers: impl IntoIterator<Item = u8>) -> Result<Self, PcrError> {
        let mut bits = 0;
        for number in numbers {
            if number > PCR_MAX {
                return Err(PcrError::Number(number));
            }
            if bits & (1 << number) != 0 {
                return Err(PcrError::Twice(number));
            }
            bits |= 1 << number;
        }
        Self::of_bits(bits).ok_or(PcrError::Empty)
    }

    fn of_bits(bits: u32) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    /// The numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        let bits = self.0;
        (0..=PCR_MAX).filter(move |number| bits & (1 << number) != 0)
    }

    /// Whether this register is one of them.
    #[must_use]
    pub fn contains(&self, number: u8) -> bool {
        number <= PCR_MAX && self.0 & (1 << number) != 0
    }

    /// Whether every register of `other` is one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The registers of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is left of these without `other`.
    pub(crate) fn without(&self, other: &Self) -> Option<Self> {
        Self::of_bits(self.0 & !other.0)
    }

    /// How many.
    pub(crate) fn count(&self) -> u32 {
        self.0.count_ones()
    }

    /// TPML_PCR_SELECTION of the SHA-256 bank (Part 2, sections 10.6.2 and 10.9.7).
    pub(crate) fn put(&self, out: Writer) -> Writer {
        let [_, high, middle, low] = self.0.to_be_bytes();
        out.u32(1).u16(alg::SHA256).u8(3).raw(&[low, middle, high])
    }

    /// The registers that TPMS_PCR_SELECTION's three bytes name.
    pub(crate) fn of_bytes(bytes: [u8; 3]) -> Option<Self> {
        Self::of_bits(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
    }
}

/// 7, what secure boot has checked, and 11, what a unified kernel image has measured of itself.
impl Default for PcrSet {
    fn default() -> Self {
        Self(1 << 7 | 1 << 11)
    }
}

impl TryFrom<Vec<u8>> for PcrSet {
    type Error = PcrError;
    fn try_from(numbers: Vec<u8>) -> Result<Self, PcrError> {
        Self::new(numbers)
    }
}

impl From<PcrSet> for Vec<u8> {
    fn from(set: PcrSet) -> Self {
        set.numbers().collect()
    }
}

impl fmt::Display for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.numbers().enumerate() {
            write!(f, "{}{number}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcrSet({self})")
    }
}

/// What registers of the SHA-256 bank hold, at least one. As data it is a map from number to 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Sha256>", into = "BTreeMap<u8, Sha256>")]
pub struct PcrValues(BTreeMap<u8, Sha256>);

impl PcrValues {
    /// These values.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn new(values: impl IntoIterator<Item = (u8, Sha256)>) -> Result<Self, PcrError> {
        let mut all = BTreeMap::new();
        for (number, value) in values {
            if number > PCR_MAX {
                return Err(PcrError::Number(number));
            }
            if all.insert(number, value).is_some() {
                return Err(PcrError::Twice(number));
            }
        }
        if all.is_empty() { Err(PcrError::Empty) } else { Ok(Self(all)) }
    }

    /// What this register holds.
    #[must_use]
    pub fn get(&self, number: u8) -> Option<Sha256> {
        self.0.get(&number).copied()
    }

    /// Number and value of each, in the order of the numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Sha256)> + '_ {
        self.0.iter().map(|(number, value)| (*number, *value))
    }

    /// Which registers.
    #[must_use]
    pub fn set(&self) -> PcrSet {
        PcrSet(self.0.keys().fold(0, |bits, number| bits | 1 << number))
    }

    /// The registers of `set` alone; `None` if one of them is not here.
    #[must_use]
    pub fn only(&self, set: &PcrSet) -> Option<Self> {
        set.numbers().map(|number| Some((number, self.get(number)?))).collect::<Option<_>>().map(Self)
    }

    /// The numbers, in order, of the registers that do not hold the same in `now`.
    #[must_use]
    pub fn differing(&self, now: &Self) -> Vec<u8> {
        self.iter()
            .filter(|(number, value)| now.get(*number) != Some(*value))
            .map(|(number, _)| number)
            .collect()
    }

    /// TPM2_PCR_Read and TPM2_PolicyPCR hash the values one after the other, by their numbers (Part 1, section 17.5).
    pub(crate) fn digest(&self) -> Sha256 {
        let hash = self.0.values().fold(sha2::Sha256::new(), |hash, value| hash.chain_update(value.0));
        Sha256(hash.finalize().into())
    }
}

/// From text, since that is what JSON's keys are: serde reads them as numbers only where nothing stands between, which an
/// enum with a tag does.
impl TryFrom<BTreeMap<String, Sha256>> for PcrValues {
    type Error = PcrError;
    fn try_from(values: BTreeMap<String, Sha256>) -> Result<Self, PcrError> {
        let number = |text: &String| text.parse::<u8>().ok().filter(|number| number.to_string() == *text);
        let row = |(text, value)| number(&text).map(|number| (number, value)).ok_or(PcrError::Number(u8::MAX));
        Self::new(values.into_iter().map(row).collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<PcrValues> for BTreeMap<u8, Sha256> {
    fn from(values: PcrValues) -> Self {
        values.0
    }
}

/// The digest of the policy that demands exactly these values: TPM2_PolicyPCR in a fresh session (Part 3, section
/// 23.7.1).
#[must_use]
pub fn pcr_policy(values: &PcrValues) -> Sha256 {
    let selection = values.set().put(Writer::new());
    let hash =
        sha2::Sha256::new().chain_update([0; 32]).chain_update(Command::PolicyPcr.code().to_be_bytes());
    Sha256(hash.chain_update(selection.as_slice()).chain_update(values.digest().0).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_wherever_they_stand() {
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            Values { values: PcrValues },
        }
        let values = PcrValues::new([(4, Sha256([4; 32])), (11, Sha256([11; 32]))]).unwrap();
        let text = serde_json::to_string(&Tagged::Values { values: values.clone() }).unwrap();
        let Tagged::Values { values: again } = serde_json::from_str(&text).unwrap();
        assert_eq!(again, values);
        for bad in ["04", "+4", "24", "x", ""] {
            let text = text.replace("\"4\"", &format!("\"{bad}\""));
            assert!(serde_json::from_str::<Tagged>(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_is_a_sorted_list_of_numbers() {
        let set = PcrSet::new([11, 7, 0, 23]).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), "[0,7,11,23]");
        assert_eq!(serde_json::from_str::<PcrSet>("[23,0,7,11]").unwrap(), set);
        assert_eq!(set.to_string(), "0, 7, 11, 23");
        assert_eq!(serde_json::to_string(&PcrSet::default()).unwrap(), "[7,11]");
        for bad in ["[24]", "[7,7]", "[]", "[-1]", "[256]", "7", "[\"7\"]"] {
            assert!(serde_json::from_str::<PcrSet>(bad).is_err(), "{bad}");
        }
        assert!(set.covers(&PcrSet::default()) && !PcrSet::default().covers(&set));
        assert_eq!(set.without(&PcrSet::default()), Some(PcrSet::new([0, 23]).unwrap()));
        assert_eq!(set.without(&set), None);
    }

    #[test]
    fn a_selection_has_its_bits_where_the_specification_has_them() {
        let bytes = PcrSet::new([0, 7, 11, 23]).unwrap().put(Writer::new()).finish().unwrap();
        assert_eq!(**bytes, [0, 0, 0, 1, 0, 0x0b, 3, 0b1000_0001, 0b0000_1000, 0b1000_0000]);
        assert_eq!(PcrSet::of_bytes([0x81, 0x08, 0x80]), Some(PcrSet::new([0, 7, 11, 23]).unwrap()));
    }

    #[test]
    fn values_are_told_apart_and_cut_down() {
        let sealed = PcrValues::new([(7, Sha256([1; 32])), (11, Sha256([2; 32]))]).unwrap();
        let now = PcrValues::new([(11, Sha256([3; 32])), (7, Sha256([1; 32])), (4, Sha256::ZERO)]).unwrap();
        assert_eq!((sealed.differing(&now), sealed.differing(&sealed)), (vec![11], vec![]));
        assert_eq!(now.only(&sealed.set()).unwrap().set(), PcrSet::default());
        assert_eq!(sealed.only(&now.set()), None);
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(serde_json::from_str::<PcrValues>(&text).unwrap(), sealed);
        for bad in ["{}", "{\"24\":\"\"}", "{\"7\":\"00\"}"] {
            assert!(serde_json::from_str::<PcrValues>(bad).is_err(), "{bad}");
        }
    }

    /// The formula of Part 3, section 23.7.1, written out byte by byte.
    #[test]
    fn the_policy_is_the_specifications_formula() {
        let (seven, eleven) = ([0x17; 32], [0x2b; 32]);
        let values = PcrValues::new([(11, Sha256(eleven)), (7, Sha256(seven))]).unwrap();
        let inner = sha2::Sha256::digest([seven, eleven].concat());
        let mut outer = vec![0; 32];
        outer.extend([0x00, 0x00, 0x01, 0x7f]);
        outer.extend([0x00, 0x00, 0x00, 0x01, 0x00, 0x0b, 0x03, 0x80, 0x08, 0x00]);
        outer.extend(inner);
        assert_eq!(pcr_policy(&values).0[..], sha2::Sha256::digest(&outer)[..]);
    }
}
