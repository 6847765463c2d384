//! An administrator's document merged into a domain.

use crun_qemu::domain::Overrides;
use crun_qemu::domain::tree::Element;

use super::relaxng;

const DOMAIN: &str = include_str!("../../../tests/golden/kvm-hostdevs.xml");

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(overrides) = Overrides::parse(text) else { return };
    let mut domain = Element::parse(DOMAIN).expect("our own XML");
    overrides.merge_into(&mut domain);
    let merged = domain.document();
    relaxng::well_formed(&merged).unwrap_or_else(|why| panic!("{why}: {merged}"));
    // It is read back as it was written.
    assert_eq!(Element::parse(&merged).map(|domain| domain.document()), Ok(merged));
}
