//! Netlink's attributes: length, kind, value, padded to four bytes, one after the other or inside each other.

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// Bytes of an attribute's head.
const HEAD: usize = 4;

/// Attributes, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A value as it is.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.with_head(kind, |bytes| bytes.extend_from_slice(value));
    }

    /// Text with a zero byte after it.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.with_head(kind, |bytes| {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        });
    }

    /// A number, in network order as all of nf_tables' are.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Attributes in an attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.with_head(kind | NESTED, |bytes| {
            let mut inner = Self(std::mem::take(bytes));
            fill(&mut inner);
            *bytes = inner.0;
        });
    }

    /// Attributes that are complete, in an attribute.
    pub fn nested(&mut self, kind: u16, inner: &Self) {
        self.bytes(kind | NESTED, &inner.0);
    }

    fn with_head(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; HEAD]);
        fill(&mut self.0);
        // Values stay far below 64 KiB: names, numbers, and rules of a dozen expressions.
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + HEAD].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn as_the_kernel_reads_them() {
        let mut attributes = Attributes::default();
        attributes.text(1, "ab");
        attributes.nest(2, |inner| {
            inner.number(3, 258);
            inner.bytes(4, &[9]);
        });
        let want = [7, 0, 1, 0, b'a', b'b', 0, 0, 20, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 1, 2, 5, 0, 4, 0, 9, 0, 0, 0];
        assert_eq!(attributes.as_bytes(), want);
        let mut again = Attributes::default();
        again.nested(5, &attributes);
        assert_eq!(again.as_bytes()[..4], [32, 0, 5, 0x80]);
    }
}
