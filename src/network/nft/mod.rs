//! nf_tables over its netlink protocol: a table, its chains and their rules in one transaction.
//!
//! Not by the nft program: a table that nft makes is removed by a command or never, but a table owned by our socket
//! ends with the socket, however its holder ends. It also saves a process at every VM's start.

mod attributes;
mod family;
mod rule;

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::error::{Error, Result};
use attributes::Attributes;
pub(super) use family::{AddrPrefix, Family};
pub(super) use rule::{Cmp, Rule};

/// Whose table it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// That of the namespace.
    Namespace,
    /// The socket's: it goes when that is closed. From Linux 5.12 on.
    Socket,
}

/// A base chain; what no rule decides is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Such as `NF_INET_PRE_ROUTING`.
    pub hook: i32,
    pub priority: i32,
    pub rules: Vec<Rule>,
}

/// `NFT_TABLE_F_OWNER`.
const OWNED: u32 = 1 << 1;
const MESSAGE_HEAD: usize = 16;
/// A family, a version, a number: `struct nfgenmsg`.
const FAMILY_HEAD: usize = 4;

/// Replaces the table of this family and name, and returns the socket that did.
///
/// # Errors
/// When the kernel refuses or lacks a part.
pub(super) fn replace(family: Family, table: &str, chains: &[Chain], lifetime: Lifetime) -> Result<OwnedFd> {
    let mut batch = Batch::begin(family, table);
    batch.make(table, chains, lifetime);
    batch.commit()
}

/// Takes the table of this family and name away, if there is one.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn remove(family: Family, table: &str) -> Result<()> {
    Batch::begin(family, table).commit().map(drop)
}

/// Has the kernel do it all; returns the socket.
fn execute(batch: &[u8], asked: u32) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (raw, netfilter) = (SockType::Raw, SockProtocol::NetlinkNetFilter);
    let socket = socket(AddressFamily::Netlink, raw, flags, netfilter).map_err(refused)?;
    sendto(socket.as_raw_fd(), batch, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(refused)?;
    // The kernel has done it all, and has queued its answers, when the call returns.
    let mut answers = vec![0; batch.len() + (64 << 10)];
    loop {
        let length = recv(socket.as_raw_fd(), &mut answers, MsgFlags::empty()).map_err(refused)?;
        if outcome(&answers[..length], asked).map_err(refused)? {
            return Ok(socket);
        }
    }
}

fn refused(errno: Errno) -> Error {
    let hint = match errno {
        Errno::EPERM => "setting up a network takes CAP_NET_ADMIN in its namespace",
        _ => {
            "the kernel needs nf_tables with nat, masquerade and fib, in a shared network namespace from Linux 5.12 on"
        }
    };
    Error::new("nf_tables", errno.desc()).hint(hint)
}

/// Result in the answers: an error, the expected answer, or neither.
fn outcome(mut answers: &[u8], asked: u32) -> std::result::Result<bool, Errno> {
    const ERROR: u16 = libc::NLMSG_ERROR as u16;
    while let Some((head, rest)) = answers.split_at_checked(MESSAGE_HEAD) {
        let number = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (length, sequence) = (number(0) as usize, number(8));
        if u16::from_ne_bytes([head[4], head[5]]) == ERROR
            && let Some(code) = rest.get(..4)
        {
            let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            if code != 0 {
                return Err(Errno::from_raw(-code));
            }
            if sequence == asked {
                return Ok(true);
            }
        }
        answers = answers.get(length.max(MESSAGE_HEAD).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// A transaction: messages, numbered from 1 on.
struct Batch {
    family: Family,
    bytes: Vec<u8>,
    count: u32,
    /// Offset of the last message.
    last: usize,
}

impl Batch {
    /// A transaction that removes a table; the table is made first if it is missing, so that the removal always
    /// succeeds.
    fn begin(family: Family, table: &str) -> Self {
        let mut batch = Self { family, bytes: Vec::new(), count: 0, last: 0 };
        batch.edge(libc::NFNL_MSG_BATCH_BEGIN);
        batch.add(libc::NFT_MSG_NEWTABLE, |message| name(message, table));
        batch.add(libc::NFT_MSG_DELTABLE, |message| name(message, table));
        batch
    }

    /// Makes a table.
    fn make(&mut self, table: &str, chains: &[Chain], lifetime: Lifetime) {
        self.add(libc::NFT_MSG_NEWTABLE, |message| {
            name(message, table);
            // NFTA_TABLE_FLAGS.
            message.number(2, if lifetime == Lifetime::Socket { OWNED } else { 0 });
        });
        for chain in chains {
            // NFTA_CHAIN_TABLE, _NAME, _HOOK with _HOOKNUM and _PRIORITY, _POLICY, _TYPE.
            self.add(libc::NFT_MSG_NEWCHAIN, |message| {
                name(message, table);
                message.text(3, chain.name);
                message.nest(4, |hook| {
                    hook.number(1, chain.hook as u32);
                    hook.number(2, chain.priority as u32);
                });
                message.number(5, libc::NF_ACCEPT as u32);
                message.text(7, chain.kind);
            });
        }
        for (chain, rule) in chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule))) {
            // NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS.
            self.add(libc::NFT_MSG_NEWRULE, |message| {
                name(message, table);
                message.text(2, chain.name);
                message.nested(4, rule.expressions());
            });
        }
    }

    /// Has the kernel do it; returns the socket that did.
    fn commit(mut self) -> Result<OwnedFd> {
        let asked = self.ask();
        self.edge(libc::NFNL_MSG_BATCH_END);
        execute(&self.bytes, asked)
    }

    fn add(&mut self, kind: i32, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        fill(&mut attributes);
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | kind;
        self.message(kind, flags, self.family.number(), 0, attributes.as_bytes());
    }

    /// Has the kernel answer the last message.
    fn ask(&mut self) -> u32 {
        const FLAGS: usize = 6;
        let flags = &mut self.bytes[self.last + FLAGS..][..2];
        flags.copy_from_slice(&(u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16).to_ne_bytes());
        self.count
    }

    /// The first or the last message.
    fn edge(&mut self, kind: i32) {
        let subsystem = libc::NFNL_SUBSYS_NFTABLES as u16;
        self.message(kind, libc::NLM_F_REQUEST, libc::NFPROTO_UNSPEC, subsystem, &[]);
    }

    fn message(&mut self, kind: i32, flags: i32, family: i32, number: u16, attributes: &[u8]) {
        (self.count, self.last) = (self.count + 1, self.bytes.len());
        let length = MESSAGE_HEAD + FAMILY_HEAD + attributes.len();
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend((kind as u16).to_ne_bytes());
        self.bytes.extend((flags as u16).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family as u8, 0]);
        self.bytes.extend(number.to_be_bytes());
        self.bytes.extend(attributes);
    }
}

/// The first attribute of every message: the table.
fn name(message: &mut Attributes, table: &str) {
    message.text(1, table);
}
