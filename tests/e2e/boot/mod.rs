//! Starting VMs: forms of the runtime, firmware, console, accelerator, devices, and what prevents a start.

mod bundle;
mod capabilities;
mod console;
mod domain_xml;
mod faults;
mod firmware;
mod kvm;
mod pci;
mod refused;
mod start;
