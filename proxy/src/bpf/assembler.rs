//! Programs for the kernel's BPF machine, instruction by instruction (RFC 9669).

/// A register. Calls take their arguments in `R1` to `R5` and leave them undefined, answer in
/// `R0`, and keep `R6` to `R9`; `R10` is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6 = 6,
    R7,
    R8,
    R10 = 10,
}

/// How much a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// A function of the kernel, by its number in `enum bpf_func_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helper {
    Lookup = 1,
    Update = 2,
    Random = 7,
    Cookie = 46,
}

/// One instruction, as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

/// A place in a program that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label was placed.
    labels: Vec<usize>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label that has to be placed before the program is finished.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(0);
        Label(self.labels.len() - 1)
    }

    /// Jumps to the label arrive here; only forwards, as is fit for programs that must end.
    pub(crate) fn place(&mut self, label: Label) {
        self.labels[label.0] = self.code.len();
    }

    pub(crate) fn copy(&mut self, to: Reg, from: Reg) {
        self.push(0xbf, to, from as u8, 0, 0);
    }

    pub(crate) fn set(&mut self, to: Reg, number: i32) {
        self.push(0xb7, to, 0, 0, number);
    }

    pub(crate) fn add(&mut self, to: Reg, number: i32) {
        self.push(0x07, to, 0, 0, number);
    }

    pub(crate) fn shift_right(&mut self, to: Reg, bits: i32) {
        self.push(0x77, to, 0, 0, bits);
    }

    /// `to` becomes its remainder by `divisor`, both of 32 bits.
    pub(crate) fn remainder(&mut self, to: Reg, divisor: Reg) {
        self.push(0x9c, to, divisor as u8, 0, 0);
    }

    pub(crate) fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(0x61 | size as u8, to, from as u8, offset, 0);
    }

    pub(crate) fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.push(0x63 | size as u8, to, from as u8, offset, 0);
    }

    pub(crate) fn store_number(&mut self, size: Size, to: Reg, offset: i16, number: i32) {
        self.push(0x62 | size as u8, to, 0, offset, number);
    }

    /// The map of a file descriptor; takes two instructions.
    pub(crate) fn map(&mut self, to: Reg, descriptor: i32) {
        self.push(0x18, to, 1, 0, descriptor);
        self.push(0, Reg::R0, 0, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        self.push(0x85, Reg::R0, 0, 0, helper as i32);
    }

    pub(crate) fn jump_if(&mut self, register: Reg, equals: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x15, register, 0, 0, equals);
    }

    pub(crate) fn jump_unless(&mut self, register: Reg, equals: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x55, register, 0, 0, equals);
    }

    pub(crate) fn exit(&mut self) {
        self.push(0x95, Reg::R0, 0, 0, 0);
    }

    /// The program, with its jumps resolved.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        for (at, Label(label)) in self.jumps {
            // A jump counts from the instruction after it. Programs here are short.
            self.code[at].offset = (self.labels[label] - at - 1) as i16;
        }
        self.code
    }

    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, number: i32) {
        let to = to as u8;
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.code.push(Instruction { code, registers, offset, number });
    }
}

#[cfg(test)]
mod tests {
    use super::Reg::*;
    use super::*;

    #[test]
    fn instructions_are_as_the_standard_has_them() {
        type Write = fn(&mut Assembler);
        let cases: [(Write, [u8; 8]); 12] = [
            (|a| a.copy(R6, R1), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]),
            (|a| a.set(R0, 1), [0xb7, 0x00, 0, 0, 1, 0, 0, 0]),
            (|a| a.add(R2, -8), [0x07, 0x02, 0, 0, 0xf8, 0xff, 0xff, 0xff]),
            (|a| a.shift_right(R8, 32), [0x77, 0x08, 0, 0, 32, 0, 0, 0]),
            (|a| a.remainder(R0, R8), [0x9c, 0x80, 0, 0, 0, 0, 0, 0]),
            (|a| a.load(Size::Word, R2, R6, 36), [0x61, 0x62, 36, 0, 0, 0, 0, 0]),
            (|a| a.load(Size::Double, R7, R0, 0), [0x79, 0x07, 0, 0, 0, 0, 0, 0]),
            (|a| a.store(Size::Half, R10, -4, R2), [0x6b, 0x2a, 0xfc, 0xff, 0, 0, 0, 0]),
            (|a| a.store_number(Size::Byte, R10, -1, 6), [0x72, 0x0a, 0xff, 0xff, 6, 0, 0, 0]),
            (|a| a.call(Helper::Cookie), [0x85, 0, 0, 0, 46, 0, 0, 0]),
            (|a| a.map(R1, 5), [0x18, 0x11, 0, 0, 5, 0, 0, 0]),
            (|a| a.exit(), [0x95, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (write, bytes) in cases {
            let mut assembler = Assembler::default();
            write(&mut assembler);
            let Instruction { code, registers, offset, number } = assembler.finish()[0];
            let [low, high] = offset.to_le_bytes();
            let mut is = [code, registers, low, high, 0, 0, 0, 0];
            is[4..].copy_from_slice(&number.to_le_bytes());
            assert_eq!(is, bytes);
        }
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut assembler = Assembler::default();
        let (middle, end) = (assembler.label(), assembler.label());
        assembler.jump_if(R0, 0, end);
        assembler.jump_unless(R2, 6, middle);
        assembler.map(R1, 3);
        assembler.place(middle);
        assembler.set(R0, 1);
        assembler.place(end);
        assembler.exit();
        let offsets: Vec<i16> = assembler.finish().iter().map(|instruction| instruction.offset).collect();
        assert_eq!(offsets, [4, 2, 0, 0, 0, 0]);
    }
}
