//! The ACPI power button, and whether the guest's kernel listens to it.

use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use crate::lifecycle::Button;

/// Monitor command that reads the register in which the guest's kernel enables fixed ACPI events. Both firmwares of
/// QEMU's x86 machines put the register there; reading it changes nothing.
const ENABLED: &str = "i /2hx 0x602";
/// The power button's bit in it.
const POWER_BUTTON: u16 = 1 << 8;

/// Presses the button, unless no kernel listens: QEMU would drop such a press.
pub fn press(domain: &Domain) -> Result<Button, Error> {
    // If the register cannot be read, pressing is the best option.
    let enabled = domain.qemu_monitor_command(ENABLED, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP).ok();
    if enabled.and_then(|answer| register(&answer)).is_none_or(hears) {
        domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)?;
        return Ok(Button::Pressed);
    }
    // No disk named: all of them together.
    let written = domain.block_stats("")?.wr_req;
    Ok(if written == 0 { Button::NothingToLose } else { Button::Unheard })
}

/// Whether the guest listens. All ones is read where no device answers: the firmware has not set up the register yet.
fn hears(register: u16) -> bool {
    register != u16::MAX && register & POWER_BUTTON != 0
}

/// Parses `portw[0x0602] = 0x0100`.
fn register(answer: &str) -> Option<u16> {
    let (_, value) = answer.trim().split_once("] = 0x")?;
    u16::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_the_button() {
        for (answer, want) in [
            ("portw[0x0602] = 0x0000\r\n", Some(false)),
            ("portw[0x0602] = 0x0100\r\n", Some(true)),
            ("portw[0x0602] = 0x0321\n", Some(true)),
            ("portw[0x0602] = 0x0021", Some(false)),
            ("portw[0x0602] = 0xffff", Some(false)),
            ("unknown command: 'i'", None),
            ("", None),
        ] {
            assert_eq!(register(answer).map(hears), want, "{answer}");
        }
    }
}
