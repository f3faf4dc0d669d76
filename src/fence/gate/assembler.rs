//! A small eBPF assembler: instructions with labels in, machine words out. Pure.
//!
//! Encoding: Linux Documentation/bpf/standardization/instruction-set.rst (RFC 9669). One instruction is 64 bits in the
//! machine's own byte order: opcode 8, destination 4, source 4, offset 16, immediate 32. Only what the gate needs is
//! here, so that there is neither a compiler nor an ELF loader in the image.
//!
//! ```
//! use twobox::fence::gate::assembler::{Assembler, Register::R0};
//! let mut a = Assembler::default();
//! let end = a.label();
//! a.set(R0, 0);
//! a.jump(end);
//! a.set(R0, 2);
//! a.bind(end);
//! a.exit();
//! assert_eq!(a.finish().unwrap().len(), 4);
//! ```

/// The registers by their role in the calling convention: R0 is a result, R1 to R5 are arguments and are lost in a call,
/// R6 to R9 survive it, R10 is the frame pointer and is read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Result of a call and of the program.
    R0 = 0,
    /// First argument; the context when the program starts.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Kept over calls.
    R6,
    /// Kept over calls.
    R7,
    /// Kept over calls.
    R8,
    /// Kept over calls.
    R9,
    /// Frame pointer; the stack lies below it.
    R10,
}

/// Width of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// Condition of a jump. The comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// Equal.
    Equal = 0x10,
    /// Some bit of the operand is set.
    AnyBit = 0x40,
    /// Not equal.
    NotEqual = 0x50,
    /// Less than.
    Less = 0xa0,
}

/// A place in the program, bound at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// Why a program cannot be assembled: a mistake of the one who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A jump leads to a label that was never bound.
    Unbound(Label),
    /// A jump is longer than 16 bits can say.
    TooFar(Label),
}

const LD_IMM_DOUBLE: u8 = 0x18;
const LDX_MEM: u8 = 0x61;
const STX_MEM: u8 = 0x63;
const STX_ATOMIC_DOUBLE: u8 = 0xdb;
const ALU64: u8 = 0x07;
const ALU64_REGISTER: u8 = 0x0f;
const JMP: u8 = 0x05;
const JMP_REGISTER: u8 = 0x0d;
const JMP32: u8 = 0x06;
const ADD: u8 = 0x00;
const SHIFT_LEFT: u8 = 0x60;
const MOVE: u8 = 0xb0;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Source register of a 64-bit immediate load: the immediate is a map's descriptor, the second word an offset into its
/// first value (BPF_PSEUDO_MAP_VALUE).
const MAP_VALUE: u8 = 2;

/// Collects instructions; [`Assembler::finish`] resolves the labels.
#[derive(Default)]
pub struct Assembler {
    code: Vec<u64>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A new label, bound later by [`Assembler::bind`].
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Binds `label` to the next instruction.
    pub fn bind(&mut self, label: Label) {
        assert!(self.places[label.0].is_none(), "a label is bound once");
        self.places[label.0] = Some(self.code.len());
    }

    /// `to = value` (sign-extended to 64 bits).
    pub fn set(&mut self, to: Register, value: i32) {
        self.push(ALU64 | MOVE, to as u8, 0, 0, value);
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(ALU64_REGISTER | MOVE, to as u8, from as u8, 0, 0);
    }

    /// `to += value`.
    pub fn add(&mut self, to: Register, value: i32) {
        self.push(ALU64 | ADD, to as u8, 0, 0, value);
    }

    /// `to += from`.
    pub fn add_register(&mut self, to: Register, from: Register) {
        self.push(ALU64_REGISTER | ADD, to as u8, from as u8, 0, 0);
    }

    /// `to <<= bits`.
    pub fn shift_left(&mut self, to: Register, bits: i32) {
        self.push(ALU64 | SHIFT_LEFT, to as u8, 0, 0, bits);
    }

    /// `to = value`, all 64 bits (two instruction slots).
    pub fn set_double(&mut self, to: Register, value: u64) {
        let (high, low) = ((value >> 32) as u32, value as u32);
        self.push(LD_IMM_DOUBLE, to as u8, 0, 0, low.cast_signed());
        self.push(0, 0, 0, 0, high.cast_signed());
    }

    /// `to` = address of byte `offset` of the first value of the map open as `descriptor`.
    pub fn set_map_value(&mut self, to: Register, descriptor: i32, offset: i32) {
        self.push(LD_IMM_DOUBLE, to as u8, MAP_VALUE, 0, descriptor);
        self.push(0, 0, 0, 0, offset);
    }

    /// `to = *(from + offset)`, zero-extended.
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(LDX_MEM | width as u8, to as u8, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.push(STX_MEM | width as u8, to as u8, from as u8, offset, 0);
    }

    /// `*(to + offset) += from`, 64 bits, atomically.
    pub fn atomic_add(&mut self, to: Register, offset: i16, from: Register) {
        self.push(STX_ATOMIC_DOUBLE, to as u8, from as u8, offset, 0);
    }

    /// `r0 = helper(r1, ..)`; the number is the kernel's (enum bpf_func_id).
    pub fn call(&mut self, helper: i32) {
        self.push(CALL, 0, 0, 0, helper);
    }

    /// Ends the program with the result in R0.
    pub fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// Jumps always.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JMP, 0, 0, 0, 0);
    }

    /// Jumps if the whole of `left` stands in `condition` to `right` (sign-extended).
    pub fn jump_if(&mut self, left: Register, condition: Condition, right: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JMP | condition as u8, left as u8, 0, 0, right);
    }

    /// Jumps if the lower 32 bits of `left` stand in `condition` to `right`.
    pub fn jump_if_word(&mut self, left: Register, condition: Condition, right: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JMP32 | condition as u8, left as u8, 0, 0, right.cast_signed());
    }

    /// Jumps if `left` stands in `condition` to the register `right`.
    pub fn jump_if_register(&mut self, left: Register, condition: Condition, right: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JMP_REGISTER | condition as u8, left as u8, right as u8, 0, 0);
    }

    /// The machine words, every jump resolved.
    ///
    /// # Errors
    /// A label without a place, or a jump over more than 32,767 instructions.
    pub fn finish(mut self) -> Result<Vec<u64>, Error> {
        for &(at, label) in &self.jumps {
            let place = self.places[label.0].ok_or(Error::Unbound(label))?;
            let distance = i64::try_from(place).ok().zip(i64::try_from(at).ok()).map(|(place, at)| place - at - 1);
            let offset = distance.and_then(|d| i16::try_from(d).ok()).ok_or(Error::TooFar(label))?;
            self.code[at] = with_offset(self.code[at], offset);
        }
        Ok(self.code)
    }

    fn push(&mut self, opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.code.push(encode(opcode, to, from, offset, immediate));
    }
}

fn encode(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, o0, o1, i0, i1, i2, i3])
}

fn with_offset(instruction: u64, offset: i16) -> u64 {
    let mut bytes = instruction.to_ne_bytes();
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Register::*, *};

    /// The bytes as a disassembler of the kernel's tree prints them, little endian.
    #[cfg(target_endian = "little")]
    #[test]
    fn encodings_are_those_of_the_instruction_set() {
        let mut a = Assembler::default();
        a.set(R0, 2);
        a.copy(R6, R1);
        a.add(R7, -4);
        a.add_register(R1, R8);
        a.shift_left(R2, 3);
        a.set_double(R1, 0x1122_3344_5566_7788);
        a.set_map_value(R9, 5, 8);
        a.load(Width::Half, R2, R10, -18);
        a.load(Width::Byte, R2, R10, -26);
        a.load(Width::Word, R2, R10, -24);
        a.load(Width::Double, R1, R9, 0);
        a.store(Width::Double, R9, 64, R0);
        a.atomic_add(R9, 72, R1);
        a.call(125);
        a.exit();
        let golden: [[u8; 8]; 17] = [
            [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x07, 0x07, 0, 0, 0xfc, 0xff, 0xff, 0xff],
            [0x0f, 0x81, 0, 0, 0, 0, 0, 0],
            [0x67, 0x02, 0, 0, 3, 0, 0, 0],
            [0x18, 0x01, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0x00, 0x00, 0, 0, 0x44, 0x33, 0x22, 0x11],
            [0x18, 0x29, 0, 0, 5, 0, 0, 0],
            [0x00, 0x00, 0, 0, 8, 0, 0, 0],
            [0x69, 0xa2, 0xee, 0xff, 0, 0, 0, 0],
            [0x71, 0xa2, 0xe6, 0xff, 0, 0, 0, 0],
            [0x61, 0xa2, 0xe8, 0xff, 0, 0, 0, 0],
            [0x79, 0x91, 0, 0, 0, 0, 0, 0],
            [0x7b, 0x09, 64, 0, 0, 0, 0, 0],
            [0xdb, 0x19, 72, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 125, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        let code: Vec<[u8; 8]> = a.finish().unwrap().into_iter().map(u64::to_le_bytes).collect();
        assert_eq!(code, golden);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn jumps_count_from_the_next_instruction_both_ways() {
        let mut a = Assembler::default();
        let (back, ahead) = (a.label(), a.label());
        a.bind(back);
        a.jump_if(R1, Condition::Less, 7, ahead);
        a.jump_if_word(R2, Condition::Equal, 0xc0a8_0001, ahead);
        a.jump_if_register(R0, Condition::NotEqual, R1, back);
        a.bind(ahead);
        a.jump(back);
        let golden: [[u8; 8]; 4] = [
            [0xa5, 0x01, 2, 0, 7, 0, 0, 0],
            [0x16, 0x02, 1, 0, 0x01, 0x00, 0xa8, 0xc0],
            [0x5d, 0x10, 0xfd, 0xff, 0, 0, 0, 0],
            [0x05, 0x00, 0xfc, 0xff, 0, 0, 0, 0],
        ];
        let code: Vec<[u8; 8]> = a.finish().unwrap().into_iter().map(u64::to_le_bytes).collect();
        assert_eq!(code, golden);
    }

    #[test]
    fn mistakes_are_told() {
        let mut a = Assembler::default();
        let nowhere = a.label();
        a.jump(nowhere);
        assert_eq!(a.finish(), Err(Error::Unbound(nowhere)));

        let mut a = Assembler::default();
        let far = a.label();
        a.jump(far);
        for _ in 0..40_000 {
            a.exit();
        }
        a.bind(far);
        assert_eq!(a.finish(), Err(Error::TooFar(far)));
    }
}
