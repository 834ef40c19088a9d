//! A set of places in a run, and how it stands in the index.

/// How many entries a run has.
pub(crate) const RUN: u64 = 4096;
/// The last place of a run.
pub(super) const LAST: u16 = 4095;
/// Bytes of a set with one bit for each place.
const BITMAP: usize = 512;
const WORDS: usize = BITMAP / 8;

/// A set of places, each below [`RUN`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places([u64; WORDS]);

impl Places {
    pub(super) fn none() -> Self {
        Self([0; WORDS])
    }

    /// The places from `low` to `high`, both included.
    pub(super) fn range(low: u16, high: u16) -> Self {
        let below = |word: usize, place: u16| match usize::from(place).saturating_sub(word * 64) {
            bits @ 0..64 => (1_u64 << bits) - 1,
            _ => u64::MAX,
        };
        let mut places = Self::none();
        for (at, word) in places.0.iter_mut().enumerate() {
            *word = below(at, high.saturating_add(1)) & !below(at, low);
        }
        places
    }

    /// Adds a place; one beyond the run is left out.
    pub(super) fn insert(&mut self, place: u16) {
        if let Some(word) = self.0.get_mut(usize::from(place / 64)) {
            *word |= 1 << (place % 64);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    /// The places in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0_u16..).step_by(64).zip(self.0).flat_map(|(start, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let place = u16::try_from(left.trailing_zeros()).ok().filter(|place| *place < 64)?;
                left &= left - 1;
                Some(start + place)
            })
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        if count as usize >= BITMAP / 2 {
            return self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        self.iter().flat_map(u16::to_le_bytes).collect()
    }

    /// None when the bytes are not in the form that [`Places::encode`] writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut places = Self::none();
        if bytes.len() == BITMAP {
            for (word, bytes) in places.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        } else {
            bytes.as_chunks::<2>().0.iter().for_each(|pair| places.insert(u16::from_le_bytes(*pair)));
        }
        // Written again it must be the same: that leaves no second form, no place out of order or beyond the run.
        (!places.is_empty() && places.encode() == bytes).then_some(places)
    }
}
