//! New inputs from old ones, the same for the same seed.
//!
//! Must not know any format: each target brings its own words.

/// Longer inputs show nothing new and take their time.
const LEN_MAX: usize = 4096;
/// Lengths and counts at their borders.
const BORDERS: &[u64] = &[
    0,
    1,
    7,
    8,
    127,
    128,
    255,
    256,
    4095,
    4096,
    4097,
    65535,
    65536,
    1 << 20,
    (1 << 20) + 1,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX as u64,
    u64::MAX,
];

/// Numbers that look random (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One of the old inputs, changed at one to four places; now and then noise.
pub fn input(random: &mut Random, old: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    if random.below(50) == 0 || old.is_empty() {
        return (0..random.below(120)).map(|_| random.next() as u8).collect();
    }
    let mut bytes = old[random.below(old.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes, old, words);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, old: &[Vec<u8>], words: &[&str]) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below((bytes.len() - at).min(32) + 1);
    match random.below(10) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.next() as u8,
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let block = bytes[at..end].to_vec();
            bytes.splice(at..at, block);
        }
        6 => {
            let other = &old[random.below(old.len())];
            let from = random.below(other.len() + 1);
            bytes.splice(at.., other[from..].iter().copied());
        }
        7 => {
            let word = words.get(random.below(words.len())).copied().unwrap_or_default();
            // In the place of something, or between.
            let end = if random.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
            bytes.splice(at..end, word.bytes());
        }
        8 => {
            let border = BORDERS[random.below(BORDERS.len())];
            let size = [1, 2, 4, 8][random.below(4)];
            let mut number = border.to_le_bytes()[..size].to_vec();
            if random.below(2) == 0 {
                number.reverse();
            }
            let end = (at + size).min(bytes.len());
            bytes.splice(at..end, number);
        }
        _ => {
            let noise: Vec<u8> = (0..random.below(8)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, noise);
        }
    }
}
