//! What several tests use.

/// Numbers that are the same in every run.
pub struct Xorshift(pub u64);

impl Xorshift {
    pub fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }
}
