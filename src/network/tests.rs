use super::*;

#[test]
fn names_that_would_act_elsewhere_are_refused() {
    let good = TapConfig::new("vm-1a2b3c4d", vec![], Ports::All);
    assert!(good.check().is_ok());
    for bad in ["", "..", "a/b", "vm-1 ", "vm-1;", "vm-\n", "-vm", "Vm-1"] {
        assert!(TapConfig { tap: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
        assert!(TapConfig { table: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
    }
    assert!(TapConfig { tap: "vm-1234567890123".into(), ..good }.check().is_err());
}
