//! The way of kernels before 6.6: a clsact queueing discipline and a cls_bpf filter that decides by itself (tc-bpf(8)).
//!
//! The filter has the first priority; cls_bpf puts a new filter before those of its priority, so a new one is in the way
//! before an old one goes.

use std::io;

use nix::sys::socket::SockProtocol;

use super::bpf::Program;
use super::layout::Direction;
use super::netlink::{self, CREATE, DUMP, EXCLUSIVE, Message, Socket, attributes, find, number};

const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
const BPF_DIRECT_ACTION: u32 = 1;

const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const PRIORITY: u32 = 1;
const ALL_PROTOCOLS: u16 = 0x0003;

/// One filter on a hook, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program's number; none if the filter is of another kind.
    pub program: Option<u32>,
    /// The filter's handle within its priority.
    pub handle: u32,
    /// Priority and protocol as the kernel packs them.
    pub info: u32,
}

/// `struct tcmsg`.
pub(super) fn head(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut head = [0; 20];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&handle.to_ne_bytes());
    head[12..16].copy_from_slice(&parent.to_ne_bytes());
    head[16..20].copy_from_slice(&info.to_ne_bytes());
    head
}

fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Egress => 0xffff_fff3,
        Direction::Ingress => 0xffff_fff2,
    }
}

/// Attaches `program` as the first filter on interface `index`, and the clsact discipline before it if it is not there.
///
/// # Errors
/// EINVAL or ENOENT where the kernel lacks clsact or cls_bpf, or something else sits in the discipline's place.
pub fn attach_first(index: u32, direction: Direction, program: &Program) -> io::Result<()> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut discipline = Message::new(NEW_QDISC, CREATE | EXCLUSIVE, &head(index, CLSACT_HANDLE, CLSACT_PARENT, 0));
    discipline.text(KIND, "clsact");
    match socket.request(discipline) {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
        _ => {}
    }

    let info = PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
    let mut filter = Message::new(NEW_FILTER, CREATE | EXCLUSIVE, &head(index, 0, parent(direction), info));
    filter.text(KIND, "bpf").nest(OPTIONS, |options| {
        options
            .attribute(BPF_FD, &program.descriptor().to_ne_bytes())
            .text(BPF_NAME, direction.program_name())
            .attribute(BPF_FLAGS, &BPF_DIRECT_ACTION.to_ne_bytes());
    });
    socket.request(filter)
}

/// Takes `filter` off.
///
/// # Errors
/// ENOENT if it is not there.
pub fn detach(index: u32, direction: Direction, filter: Filter) -> io::Result<()> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut message = Message::new(DELETE_FILTER, 0, &head(index, filter.handle, parent(direction), filter.info));
    message.text(KIND, "bpf");
    socket.request(message)
}

/// The filters on interface `index`, in the order in which they run. Empty without a clsact discipline.
///
/// # Errors
/// Those of netlink.
pub fn attached(index: u32, direction: Direction) -> io::Result<Vec<Filter>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut filters = Vec::new();
    let question = Message::new(GET_FILTER, DUMP, &head(index, 0, parent(direction), 0));
    let result = socket.dump(question, |kind, body| {
        if kind == NEW_FILTER
            && let Some(filter) = read(body)
        {
            filters.push(filter);
        }
    });
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(()) => Ok(filters),
    }
}

/// A filter's message; none for the entry of a whole priority, which has no options.
fn read(body: &[u8]) -> Option<Filter> {
    let handle = number(body.get(8..12)?)?;
    let info = number(body.get(16..20)?)?;
    let options = attributes(body.get(20..)?).find(|&(kind, _)| kind == OPTIONS).map(|(_, value)| value)?;
    let is_bpf = find(&body[20..], KIND).is_some_and(|kind| kind == b"bpf\0");
    let program = if is_bpf { find(options, BPF_ID).and_then(netlink::number) } else { None };
    Some(Filter { program, handle, info })
}
