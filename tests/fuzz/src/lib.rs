//! What the targets share.

pub mod reading;

/// Returns where to cut the input in two: anywhere in it, told by its last byte, so that an input is
/// the bytes of a protocol and nothing else.
pub fn cut(data: &[u8]) -> usize {
    data.len() * usize::from(data.last().copied().unwrap_or(0)) / 255
}

/// Choices that follow from the last bytes of the input, for the same reason.
pub struct Dice(u64);

impl Dice {
    /// Seeds the choices.
    pub fn of(data: &[u8]) -> Self {
        let tail = data.len().saturating_sub(8);
        Self(
            data[tail..]
                .iter()
                .fold(data.len() as u64, |seed, &byte| (seed << 8) ^ (seed >> 56) ^ u64::from(byte)),
        )
    }

    /// Returns a number below `bound` (SplitMix64).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 33) as usize % bound.max(1)
    }
}
