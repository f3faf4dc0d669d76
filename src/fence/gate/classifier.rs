//! The way of kernels before 6.6: a clsact queueing discipline and a cls_bpf filter that decides by itself (tc-bpf(8)).
//!
//! The filter has the first priority; cls_bpf puts a new filter before those of its priority, so a new one is in the way
//! before an old one goes.

use std::io;

use super::bpf::Program;
use super::layout::Direction;
use crate::netlink::{self, Attributes, QueueBody, Request, Socket};

const NEW: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

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

fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Egress => 0xffff_fff3,
        Direction::Ingress => 0xffff_fff2,
    }
}

fn body(index: u32, handle: u32, parent: u32, info: u32) -> QueueBody {
    QueueBody { index: index.cast_signed(), handle, parent, info, ..QueueBody::default() }
}

/// Attaches `program` as the first filter on interface `index`, and the clsact discipline before it if it is not there.
///
/// # Errors
/// EINVAL or ENOENT where the kernel lacks clsact or cls_bpf, or something else sits in the discipline's place.
pub fn attach_first(index: u32, direction: Direction, program: &Program) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let mut discipline = Request::new(libc::RTM_NEWQDISC, NEW, &body(index, CLSACT_HANDLE, CLSACT_PARENT, 0));
    match socket.change(discipline.text(KIND, "clsact")) {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
        _ => {}
    }

    let info = PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
    let mut filter = Request::new(libc::RTM_NEWTFILTER, NEW, &body(index, 0, parent(direction), info));
    filter.text(KIND, "bpf");
    let options = filter.open(OPTIONS);
    filter.attribute(BPF_FD, &program.descriptor().to_ne_bytes());
    filter.text(BPF_NAME, direction.program_name());
    filter.attribute(BPF_FLAGS, &BPF_DIRECT_ACTION.to_ne_bytes());
    socket.change(filter.close(options))
}

/// Takes `filter` off.
///
/// # Errors
/// ENOENT if it is not there.
pub fn detach(index: u32, direction: Direction, filter: Filter) -> io::Result<()> {
    let body = body(index, filter.handle, parent(direction), filter.info);
    Socket::open()?.change(Request::new(libc::RTM_DELTFILTER, 0, &body).text(KIND, "bpf"))
}

/// The filters on interface `index`, in the order in which they run. Empty without a clsact discipline.
///
/// # Errors
/// Those of netlink.
pub fn attached(index: u32, direction: Direction) -> io::Result<Vec<Filter>> {
    let mut filters = Vec::new();
    let mut question = Request::new(libc::RTM_GETTFILTER, 0, &body(index, 0, parent(direction), 0));
    let result = Socket::open()?.dump(&mut question, &mut filters, Vec::clear, |filters, kind, payload| {
        if kind == libc::RTM_NEWTFILTER {
            filters.extend(read(payload));
        }
    });
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(()) => Ok(filters),
    }
}

/// A filter's message; none for the entry of a whole priority, which has no options.
fn read(payload: &[u8]) -> Option<Filter> {
    let (body, attributes) = netlink::body::<QueueBody>(payload)?;
    let options = Attributes::new(attributes.get(OPTIONS)?);
    let is_bpf = attributes.get(KIND) == Some(b"bpf\0");
    let program = if is_bpf { netlink::attribute(options.get(BPF_ID)) } else { None };
    Some(Filter { program, handle: body.handle, info: body.info })
}
