//! An administrator's document laid over a domain.

use crun_qemu::domain::Overrides;

use super::relaxng;

const DOMAIN: &str = include_str!("../../../tests/golden/kvm-hostdevs.xml");

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(over) = Overrides::parse(text) else { return };
    let merged = over.over(DOMAIN).expect("ours is XML");
    relaxng::well_formed(&merged).unwrap_or_else(|why| panic!("{why}: {merged}"));
    // It is read back as it was written.
    let again = Overrides::parse("<domain/>").expect("XML").over(&merged);
    assert_eq!(again.as_ref(), Ok(&merged));
}
