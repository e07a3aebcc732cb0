//! What keeps agents that began together from coming back together.

/// Spreads seeds that are near each other, such as the starts of two agents, over all bits
/// (SplitMix64's finaliser): their jitter would be the same otherwise.
pub(crate) fn spread(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
