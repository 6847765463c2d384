//! Rules of nf_tables as the kernel takes them: expressions that load a value into a register and look at it, then act.
//!
//! The names are nft's: each method is the word, or the few words, that `nft list` prints for it.

use std::net::IpAddr;

use super::attributes::Attributes;
use super::family::{AddrPrefix, Family};

/// `NFT_REG_1`: every value is looked at right after it was loaded, so that one register will do.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
/// `NFT_REG_2`: the port where an address is in the first; one has 16 bytes, room for any address.
const SECOND_REGISTER: u32 = libc::NFT_REG_2 as u32;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT as u32;

/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const EXPRESSION: (u16, u16) = (1, 2);
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
const DATA: (u16, u16) = (1, 2);
/// `NFTA_VERDICT_CODE`.
const CODE: u16 = 1;

/// `NFTA_FIB_F_DADDR`, `NFTA_FIB_F_IIF`, `NFT_FIB_RESULT_ADDRTYPE`, `RTN_LOCAL`.
const BY_DESTINATION: u32 = 1 << 1;
const OF_INTERFACE: u32 = 1 << 3;
const ADDRESS_TYPE: u32 = 3;
const LOCAL: u32 = 2;

/// Bits of `ct state`: established, related.
const KNOWN: u32 = 1 << 1 | 1 << 2;
/// `IPS_DST_NAT`, a bit of `ct status`.
const DNAT: u32 = 1 << 5;

/// Comparison of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    /// `==`.
    Eq,
    /// `!=`.
    Ne,
}

/// A rule in the making; what it looks at comes first, what it does last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule(Attributes);

impl Rule {
    /// A rule that holds for every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its expressions.
    pub fn expressions(&self) -> &Attributes {
        &self.0
    }

    /// `iifname`; a name that ends in `*` stands for all that begin so.
    pub fn iifname(self, cmp: Cmp, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME).compare(cmp, &interface(name))
    }

    /// `oifname`.
    pub fn oifname(self, cmp: Cmp, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME).compare(cmp, &interface(name))
    }

    /// `ip saddr`, `ip6 saddr`.
    pub fn saddr(self, cmp: Cmp, prefix: impl Into<AddrPrefix>) -> Self {
        let prefix = prefix.into();
        self.address(prefix.family().offsets().0, cmp, prefix)
    }

    /// `ip daddr`, `ip6 daddr`.
    pub fn daddr(self, cmp: Cmp, prefix: impl Into<AddrPrefix>) -> Self {
        let prefix = prefix.into();
        self.address(prefix.family().offsets().1, cmp, prefix)
    }

    /// `meta l4proto`, a number such as `IPPROTO_TCP`.
    pub fn protocol(self, number: i32) -> Self {
        self.meta(libc::NFT_META_L4PROTO).compare(Cmp::Eq, &[number as u8])
    }

    /// `th sport`, after [`Rule::protocol`].
    pub fn sport(self, port: u16) -> Self {
        self.payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2).compare(Cmp::Eq, &port.to_be_bytes())
    }

    /// `th dport`, after [`Rule::protocol`].
    pub fn dport(self, port: u16) -> Self {
        self.payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2).compare(Cmp::Eq, &port.to_be_bytes())
    }

    /// `icmp type`, `icmpv6 type`.
    pub fn icmp(self, family: Family, kind: u8) -> Self {
        let protocol = match family {
            Family::Ip => libc::IPPROTO_ICMP,
            Family::Ip6 => libc::IPPROTO_ICMPV6,
        };
        let header = self.protocol(protocol).payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1);
        header.compare(Cmp::Eq, &[kind])
    }

    /// `fib daddr type local`: sent to an address of this namespace.
    pub fn fib_daddr_local(self) -> Self {
        self.fib(BY_DESTINATION)
    }

    /// `fib daddr . iif type local`: sent to an address of the interface that it came in by.
    pub fn for_this_interface(self) -> Self {
        self.fib(BY_DESTINATION | OF_INTERFACE)
    }

    /// `ct state established,related`.
    pub fn ct_established(self) -> Self {
        self.connection(libc::NFT_CT_STATE, KNOWN)
    }

    /// `ct status dnat`.
    pub fn ct_dnat(self) -> Self {
        self.connection(libc::NFT_CT_STATUS, DNAT)
    }

    /// `accept`.
    pub fn accept(self) -> Self {
        self.verdict(libc::NF_ACCEPT)
    }

    /// `drop`.
    pub fn drop(self) -> Self {
        self.verdict(libc::NF_DROP)
    }

    /// `masquerade`.
    pub fn masquerade(self) -> Self {
        self.expression("masq", |_| {})
    }

    /// `dnat to ADDRESS` or `ADDRESS:PORT`.
    pub fn dnat(self, address: IpAddr, port: Option<u16>) -> Self {
        let mut rule = self.immediate(REGISTER, &AddrPrefix::from(address).bytes());
        if let Some(port) = port {
            rule = rule.immediate(SECOND_REGISTER, &port.to_be_bytes());
        }
        // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
        rule.expression("nat", |data| {
            data.number(1, libc::NFT_NAT_DNAT as u32);
            data.number(2, Family::of(address).number() as u32);
            data.number(3, REGISTER);
            if port.is_some() {
                data.number(5, SECOND_REGISTER);
            }
        })
    }

    fn address(self, offset: u32, cmp: Cmp, prefix: AddrPrefix) -> Self {
        let bytes = prefix.bytes();
        self.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, bytes.len() as u32).compare(cmp, &bytes)
    }

    fn meta(self, key: i32) -> Self {
        // NFTA_META_DREG, _KEY.
        self.expression("meta", |data| {
            data.number(1, REGISTER);
            data.number(2, key as u32);
        })
    }

    fn payload(self, base: i32, offset: u32, length: u32) -> Self {
        // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN.
        self.expression("payload", |data| {
            for (kind, value) in [(1, REGISTER), (2, base as u32), (3, offset), (4, length)] {
                data.number(kind, value);
            }
        })
    }

    fn compare(self, cmp: Cmp, value: &[u8]) -> Self {
        let operator = if cmp == Cmp::Eq { libc::NFT_CMP_EQ } else { libc::NFT_CMP_NEQ };
        // NFTA_CMP_SREG, _OP, _DATA.
        self.expression("cmp", |data| {
            data.number(1, REGISTER);
            data.number(2, operator as u32);
            data.nest(3, |data| data.bytes(DATA.0, value));
        })
    }

    fn fib(self, flags: u32) -> Self {
        // NFTA_FIB_DREG, _RESULT, _FLAGS.
        let lookup = self.expression("fib", |data| {
            for (kind, value) in [(1, REGISTER), (2, ADDRESS_TYPE), (3, flags)] {
                data.number(kind, value);
            }
        });
        lookup.compare(Cmp::Eq, &LOCAL.to_ne_bytes())
    }

    fn connection(self, key: i32, bits: u32) -> Self {
        // NFTA_CT_DREG, _KEY.
        let loaded = self.expression("ct", |data| {
            data.number(1, REGISTER);
            data.number(2, key as u32);
        });
        // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
        let masked = loaded.expression("bitwise", |data| {
            for (kind, value) in [(1, REGISTER), (2, REGISTER), (3, 4)] {
                data.number(kind, value);
            }
            data.nest(4, |data| data.bytes(DATA.0, &bits.to_ne_bytes()));
            data.nest(5, |data| data.bytes(DATA.0, &[0; 4]));
        });
        masked.compare(Cmp::Ne, &[0; 4])
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        // NFTA_IMMEDIATE_DREG, _DATA.
        self.expression("immediate", |data| {
            data.number(1, register);
            data.nest(2, |data| data.bytes(DATA.0, value));
        })
    }

    fn verdict(self, code: i32) -> Self {
        self.expression("immediate", |data| {
            data.number(1, VERDICT_REGISTER);
            data.nest(2, |data| data.nest(DATA.1, |data| data.number(CODE, code as u32)));
        })
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.0.nest(ELEMENT, |element| {
            element.text(EXPRESSION.0, name);
            element.nest(EXPRESSION.1, fill);
        });
        self
    }
}

/// Data to compare with a register that contains an interface's name: a prefix, or the whole name with its zeros.
fn interface(name: &str) -> Vec<u8> {
    match name.strip_suffix('*') {
        Some(beginning) => beginning.into(),
        None => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(libc::IFNAMSIZ, 0);
            bytes
        }
    }
}
