//! The program: a firmware of 16 KiB that reports its progress on a port, and halts. `tests/e2e/boot/kvm.rs` runs it on
//! a CPU that is known to be correct.

/// Length of the firmware, bytes; it ends where the address space of 32 bits does.
pub const LENGTH: usize = 16 << 10;
/// Address of its first byte.
pub const ADDRESS: u64 = (1 << 32) - LENGTH as u64;
/// Port to which it writes; also QEMU's debug console.
pub const PORT: u16 = 0xe9;
/// The marks that it writes.
pub const MARKS: &[u8; 5] = b"ripjl";
/// The steps before each mark, for people.
pub const NAMES: &[&str; 5] = &[
    "the reset vector",
    "an interrupt in protected mode",
    "an interrupt's return in protected mode",
    "an interrupt in long mode",
    "an interrupt's return in long mode",
];

/// Length of the code; the handlers of interrupts are its end.
const CODE: usize = 0x220;
const HANDLER_32: u32 = 0x200;
const HANDLER_64: u32 = 0x210;
/// The interrupt.
const VECTOR: usize = 0x20;
/// The last page of the firmware: code, tables, reset vector. The pages before are the page tables of long mode.
const LAST: usize = LENGTH - 0x1000;
const IDT_32: usize = LAST + 0x400;
const IDT_64: usize = LAST + 0x600;
const GDT: usize = LAST + 0xa00;
/// Operand of `lgdt` and `lidt`; the code below contains these addresses.
const GDT_POINTER: usize = LAST + 0xa40;
const IDT_32_POINTER: usize = LAST + 0xa50;
const IDT_64_POINTER: usize = LAST + 0xa60;
const RESET_VECTOR: usize = LENGTH - 16;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.crun_qemu_kvm, \"a\", @progbits",
    ".globl crun_qemu_kvm_code",
    "crun_qemu_kvm_code:",
    ".code16",
    "    movw $0xe9, %dx",
    "    movb $'r', %al",
    "    outb %al, %dx",
    "    lgdtl %cs:0xfa40",
    "    movl %cr0, %eax",
    "    orl $1, %eax",
    "    movl %eax, %cr0",
    "    ljmpl $0x08, $(0xfffff000 + 2f - crun_qemu_kvm_code)",
    ".code32",
    "2:  movl $0x10, %eax",
    "    movl %eax, %ds",
    "    movl %eax, %es",
    "    movl %eax, %fs",
    "    movl %eax, %gs",
    "    movl %eax, %ss",
    "    movl $0x8000, %esp",
    "    lidtl 0xfffffa50",
    "    int $0x20",
    "    movb $'p', %al",
    "    outb %al, %dx",
    // Page tables, 64-bit mode, paging: long mode.
    "    movl %cr4, %eax",
    "    orl $0x20, %eax",
    "    movl %eax, %cr4",
    "    movl $0xffffc000, %eax",
    "    movl %eax, %cr3",
    "    movl $0xc0000080, %ecx",
    "    rdmsr",
    "    orl $0x100, %eax",
    "    wrmsr",
    "    movw $0xe9, %dx",
    "    movl %cr0, %eax",
    "    orl $0x80000000, %eax",
    "    movl %eax, %cr0",
    "    ljmpl $0x18, $(0xfffff000 + 3f - crun_qemu_kvm_code)",
    ".code64",
    "3:  movl $0x8000, %esp",
    "    movl $0xfffffa60, %eax",
    "    lidt (%rax)",
    "    int $0x20",
    "    movb $'l', %al",
    "    outb %al, %dx",
    "4:  hlt",
    "    jmp 4b",
    ".org crun_qemu_kvm_code + 0x200",
    ".code32",
    "    movb $'i', %al",
    "    outb %al, %dx",
    "    iretl",
    ".org crun_qemu_kvm_code + 0x210",
    ".code64",
    "    movb $'j', %al",
    "    outb %al, %dx",
    "    iretq",
    ".org crun_qemu_kvm_code + 0x220",
    ".popsection",
    options(att_syntax)
);

#[cfg(target_arch = "x86_64")]
fn code() -> &'static [u8; CODE] {
    unsafe extern "C" {
        static crun_qemu_kvm_code: [u8; CODE];
    }
    // SAFETY: the bytes above, which nobody writes.
    unsafe { &crun_qemu_kvm_code }
}

/// On other machines there is nothing to try.
#[cfg(not(target_arch = "x86_64"))]
fn code() -> &'static [u8; CODE] {
    &[0; CODE]
}

/// The firmware.
pub fn image() -> Vec<u8> {
    let mut image = vec![0; LENGTH];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let address = |at: usize| ADDRESS + at as u64;
    put(LAST, code());
    // jmp, from 0xfff3 to 0xf000
    put(RESET_VECTOR, &[0xe9, 0x0d, 0xf0]);
    // Null, 32-bit code, data, 64-bit code: flat, and marked as accessed, because this memory cannot be written to.
    let gdt = [0u64, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff];
    gdt.iter().zip(0..).for_each(|(entry, n)| put(GDT + 8 * n, &entry.to_le_bytes()));
    let gate = |handler: u32, selector: u64| {
        let offset = (address(LAST) as u32 + handler) as u64;
        offset & 0xffff | selector << 16 | 0x8e00 << 32 | (offset & 0xffff_0000) << 32
    };
    put(IDT_32 + 8 * VECTOR, &gate(HANDLER_32, 0x08).to_le_bytes());
    put(IDT_64 + 16 * VECTOR, &gate(HANDLER_64, 0x18).to_le_bytes());
    for (pointer, table, length) in [
        (GDT_POINTER, GDT, 8 * gdt.len()),
        (IDT_32_POINTER, IDT_32, 8 * (VECTOR + 1)),
        (IDT_64_POINTER, IDT_64, 16 * (VECTOR + 1)),
    ] {
        put(pointer, &(length as u16 - 1).to_le_bytes());
        put(pointer + 2, &address(table).to_le_bytes());
    }
    // The first 2 MiB, where the stack is, and the last 2 MiB of 4 GiB, each where it is: present, writable, accessed,
    // and for large pages written to.
    const TABLE: u64 = 0x23;
    const LARGE: u64 = 0xe3;
    for (at, entry) in [
        (0, address(0x1000) | TABLE),
        (0x1000, address(0x2000) | TABLE),
        (0x1000 + 8 * 3, address(0x2000) | TABLE),
        (0x2000, LARGE),
        (0x2000 + 8 * 511, 0xffe0_0000 | LARGE),
    ] {
        put(at, &entry.to_le_bytes());
    }
    image
}
