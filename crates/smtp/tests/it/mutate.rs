//! Seeded mutations of stored inputs, for the fuzz functions (T-09).

/// A small generator (xorshift64*): the same seed gives the same inputs everywhere.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let n = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(n).unwrap() % bound.max(1)
    }

    /// One to eight changes: octets flipped, set, cut, doubled, words of `words` put in, or a part
    /// of another of the inputs.
    pub fn mutate(&mut self, inputs: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut data = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(40)).min(data.len());
            match self.below(7) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 if at < data.len() => data[at] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(data.drain(at..end)),
                3 => {
                    let part = data[at..end].to_vec();
                    data.splice(at..at, part);
                }
                4 | 5 => {
                    let word = words[self.below(words.len())];
                    data.splice(at..at, word.iter().copied());
                }
                _ => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(200)).min(other.len());
                    data.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        data.truncate(1 << 16);
        data
    }
}
