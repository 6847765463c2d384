//! Names and numbers derived from the container's id.

/// FNV-1a: identifiers derived from the container's have to be stable, not secret.
pub(super) fn digest(id: &str) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    id.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// RFC 9562 version 8: the layout is ours.
pub(super) fn uuid(digest: u128) -> String {
    let bits = digest & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 52:54:00 is the prefix that QEMU's guests have by custom.
pub(super) fn mac(digest: u128) -> String {
    let [a, b, c, ..] = digest.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Name of the container's tap: `vm-` and eight hexadecimal digits, those of the id if it begins with them.
pub(super) fn tap(id: &str, digest: u128) -> String {
    match id.get(..8) {
        Some(prefix) if prefix.bytes().all(|b| b.is_ascii_hexdigit()) => format!("vm-{}", prefix.to_ascii_lowercase()),
        _ => format!("vm-{:08x}", digest >> 96),
    }
}
