//! A box's ruin: commands for the rig's hand inside it, and programs, written as machine code, because no compiler for the
//! box's system is needed then.

/// Nothing but interrupts runs any more: without the limit on real-time programs, one of the highest priority leaves nothing to
/// others.
pub const HANG: &str = "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; /data/bin/spin";
/// The same for three to four seconds; the kernel goes on to answer for the box all the while, and its limit is back
/// afterwards.
pub const HANG_AND_UNHANG: &str = "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; echo hangs; /data/bin/spin-a-while; \
    echo 950000 >/proc/sys/kernel/sched_rt_runtime_us";
/// The kernel panics.
pub const PANIC: &str = "echo c >/proc/sysrq-trigger";
/// The daemon's code is overwritten by breakpoints. It is PID 1: a bug that ends it is a kernel panic.
pub const KILL_INIT: &str = "a=$(bb sed -n 's/-.* r-xp .*//p' /proc/1/maps | bb head -n 1); \
    bb tr '\\000' '\\314' </dev/zero | bb dd of=/proc/1/mem bs=4096 seek=$((0x$a / 4096)) count=200 conv=notrunc";

/// Hangs a box of one CPU: takes the highest real-time priority and never gives the CPU back.
/// `sched_setscheduler(0, SCHED_FIFO, {99})` and a jump to itself.
pub fn spinner() -> Vec<u8> {
    executable(&[
        0xb8, 144, 0, 0, 0, // mov eax, SYS_sched_setscheduler
        0x31, 0xff, // xor edi, edi: this process
        0xbe, 1, 0, 0, 0, // mov esi, SCHED_FIFO
        0x6a, 99, // push 99: struct sched_param
        0x48, 0x89, 0xe2, // mov rdx, rsp
        0x0f, 0x05, // syscall
        0xeb, 0xfe, // jmp to itself
    ])
}

/// Hangs a box of one CPU as [`spinner`] does, and ends when the fourth second after the one it begins in has begun.
/// `clock_gettime(CLOCK_BOOTTIME)` again and again.
pub fn spinner_for_a_while() -> Vec<u8> {
    executable(&[
        0xb8, 144, 0, 0, 0, // mov eax, SYS_sched_setscheduler
        0x31, 0xff, // xor edi, edi: this process
        0xbe, 1, 0, 0, 0, // mov esi, SCHED_FIFO
        0x6a, 99, // push 99: struct sched_param
        0x48, 0x89, 0xe2, // mov rdx, rsp
        0x0f, 0x05, // syscall
        0x48, 0x83, 0xec, 16, // sub rsp, 16: struct timespec
        0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
        0xbf, 7, 0, 0, 0, // mov edi, CLOCK_BOOTTIME
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x0f, 0x05, // syscall
        0x48, 0x8b, 0x1c, 0x24, // mov rbx, [rsp]: its seconds
        0x48, 0x83, 0xc3, 4, // add rbx, 4
        0xb8, 228, 0, 0, 0, // again: mov eax, SYS_clock_gettime
        0xbf, 7, 0, 0, 0, // mov edi, CLOCK_BOOTTIME
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x0f, 0x05, // syscall
        0x48, 0x39, 0x1c, 0x24, // cmp [rsp], rbx
        0x7c, 0xeb, // jl again
        0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ])
}

/// Ends at once. As /init that is a kernel panic.
pub fn quitter() -> Vec<u8> {
    executable(&[
        0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ])
}

/// A module of the box's kernel that stumbles when it is loaded: an oops. Its first instruction after the call of
/// `__fentry__` becomes `ud2`; `module` is a table of characters, whose whole beginning is known.
pub fn stumbling_module(mut module: Vec<u8>) -> Vec<u8> {
    // call __fentry__; mov rsi, ...; mov rdi, ...; jmp __register_nls, before relocation
    const INIT: &[u8] =
        &[0xe8, 0, 0, 0, 0, 0x48, 0xc7, 0xc6, 0, 0, 0, 0, 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0];
    let at = module.windows(INIT.len()).position(|bytes| bytes == INIT).expect("the module's beginning");
    module[at + 5..at + 7].copy_from_slice(&[0x0f, 0x0b]);
    // One without a signature is loaded, one with a wrong signature is not: it ends with a text of 28 bytes, before which
    // stand 12 bytes with the signature's length in the last four (kernel include/linux/module_signature.h).
    if module.ends_with(b"~Module signature appended~\n") {
        let info = module.len() - 28;
        let length = u32::from_be_bytes(module[info - 4..info].try_into().unwrap()) as usize;
        module.truncate(info - 12 - length);
    }
    module
}

/// An ELF executable (elf(5)) of one segment.
fn executable(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2u16, 62].iter().flat_map(|n| n.to_le_bytes())); // ET_EXEC, x86-64
    elf.extend(1u32.to_le_bytes());
    elf.extend([BASE + HEADERS, 64, 0].iter().flat_map(|n| n.to_le_bytes())); // entry, program headers, sections
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([1u32, 5].iter().flat_map(|n| n.to_le_bytes())); // PT_LOAD, readable and executable
    elf.extend([0, BASE, BASE, size, size, 4096].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(code);
    elf
}
