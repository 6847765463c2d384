//! Commands and scripts around the runtime, examples, and other versions of crun.

mod bench;
mod doctor;
mod examples;
mod utilities;
mod versions;
