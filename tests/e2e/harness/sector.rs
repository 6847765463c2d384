//! A guest of one disk sector: it boots in a moment, ignores the power button, and nothing stands between the test and
//! its serial port, so that bytes can be counted. It prints `READY`, then executes single letters and echoes other
//! bytes.

use std::arch::global_asm;

use super::{Console, Dir, Form, Podman, Run, Vm, directory};

/// Number of bytes that `b` prints: [`pattern`], then `READY` again.
pub const BULK: usize = 1 << 20;
/// Number of bytes, of any value, that are echoed after `e`; then `READY` again. QEMU delivers them sixteen at a time.
pub const ECHO: usize = 64 << 10;
/// Printed when the guest waits for a letter.
pub const READY: &str = "READY\r\n";
/// Claims the power button, ignores it, and prints `READY` again.
pub const IGNORE_BUTTON: &str = "d";
/// Powers off.
pub const OFF: &str = "o";
/// Resets the machine.
pub const RESET: &str = "r";
/// Reports a panic to the pvpanic device.
pub const PANIC: &str = "p";
/// Prints [`BULK`] bytes.
pub const PRINT: &str = "b";
/// Echoes [`ECHO`] bytes.
pub const CAT: &str = "e";

// Ports: 0x3f8 the first UART, 0x602 ACPI's PM1a enable register and 0x604 its control register (SeaBIOS on q35),
// 0x505 pvpanic, 0x64 the keyboard controller. The random number generator is that of `pattern`.
global_asm!(
    ".pushsection .rodata.sector, \"a\"",
    "sector_start:",
    ".code16",
    "  cli",
    "  xor ax, ax",
    "  mov ss, ax",
    "  mov sp, 0x7c00",
    "  mov dx, 0x3fa", // 16-byte queues
    "  mov al, 7",
    "  out dx, al",
    "200:",
    "  call 201f",
    "  .asciz \"READY\\r\\n\"",
    "201:",
    "  pop si",
    "202:",
    "  lodsb al, cs:[si]",
    "  test al, al",
    "  jz 203f",
    "  call 220f",
    "  jmp 202b",
    "203:", // a letter
    "  call 210f",
    "  cmp al, 'b'",
    "  je 204f",
    "  cmp al, 'd'",
    "  je 232f",
    "  cmp al, 'e'",
    "  je 206f",
    "  cmp al, 'o'",
    "  je 207f",
    "  cmp al, 'p'",
    "  je 208f",
    "  cmp al, 'r'",
    "  je 209f",
    "  call 220f",
    "  jmp 203b",
    "204:", // print
    "  mov ecx, {bulk}",
    "  mov ebx, 1",
    "205:", // the queue is empty: 16 bytes fit
    "  mov dx, 0x3fd",
    "  in al, dx",
    "  test al, 0x20",
    "  jz 205b",
    "  mov dx, 0x3f8",
    "  mov di, 16",
    "231:",
    "  imul ebx, ebx, 1664525",
    "  add ebx, 1013904223",
    "  mov eax, ebx",
    "  shr eax, 24",
    "  out dx, al",
    "  dec di",
    "  jnz 231b",
    "  sub ecx, 16",
    "  jnz 205b",
    "  jmp 200b",
    "206:", // echo
    "  mov ecx, {echo}",
    "230:",
    "  call 210f",
    "  call 220f",
    "  dec ecx",
    "  jnz 230b",
    "  jmp 200b",
    "232:", // ignore the button
    "  mov dx, 0x602",
    "  mov ax, 0x100",
    "  out dx, ax",
    "  jmp 200b",
    "207:", // off
    "  mov dx, 0x604",
    "  mov ax, 0x2000",
    "  out dx, ax",
    "  hlt",
    "208:", // panic
    "  mov dx, 0x505",
    "  mov al, 1",
    "  out dx, al",
    "  hlt",
    "209:", // reset
    "  mov al, 0xfe",
    "  out 0x64, al",
    "  hlt",
    "210:", // a byte comes into al
    "  mov dx, 0x3fd",
    "211:",
    "  in al, dx",
    "  test al, 1",
    "  jz 211b",
    "  mov dx, 0x3f8",
    "  in al, dx",
    "  ret",
    "220:", // the byte in al goes
    "  mov ah, al",
    "  mov dx, 0x3fd",
    "221:",
    "  in al, dx",
    "  test al, 0x20",
    "  jz 221b",
    "  mov al, ah",
    "  mov dx, 0x3f8",
    "  out dx, al",
    "  ret",
    ".code64",
    ".org sector_start + 510",
    ".byte 0x55, 0xaa",
    ".popsection",
    bulk = const BULK,
    echo = const ECHO,
);

unsafe extern "C" {
    static sector_start: [u8; 512];
}

/// A root directory with the guest's disk and nothing else.
pub fn rootfs(podman: Podman) -> Dir {
    // SAFETY: 512 bytes of constants, assembled above.
    let mut disk = unsafe { sector_start }.to_vec();
    disk.resize(1 << 20, 0);
    let dir = directory();
    std::fs::write(dir.join("disk.raw"), disk).unwrap();
    podman.own(dir.path());
    dir
}

/// Bytes that [`PRINT`] prints: a pseudorandom sequence, so that a lost or doubled byte shows.
pub fn pattern() -> Vec<u8> {
    let mut state: u32 = 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(BULK).collect()
}

/// `podman run` of the guest as root by the runtime executable.
pub fn run<'a>(what: &'a [&'a str], podman_options: &'a [&'a str]) -> Run<'a> {
    Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what, options: &[] }
}

/// Starts the guest in the background, with stdin open, and waits until it is ready.
#[track_caller]
pub fn start(root: &Dir) -> Vm {
    let vm = run(&root.as_root(), &["-i"]).detached();
    vm.wait_for(READY.trim(), 1);
    vm
}

/// Types a letter to a guest that runs in the background.
pub fn send(vm: &Vm, letter: &str) -> Console {
    let mut command = vm.podman.command();
    command.args(["attach", "--sig-proxy=false", &vm.name]);
    let mut console = Console::on_pipes(command);
    console.send(letter);
    console
}
