use super::*;

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

#[test]
fn names_that_would_act_elsewhere_are_refused() {
    let good = Network::new("vm-1a2b3c4d", vec![], Ports::All);
    assert!(good.check().is_ok());
    for bad in ["", "..", "a/b", "vm-1 ", "vm-1;", "vm-\n", "-vm", "Vm-1"] {
        assert!(Network { tap: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
        assert!(Network { table: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
    }
    assert!(Network { tap: "vm-1234567890123".into(), ..good }.check().is_err());
}
