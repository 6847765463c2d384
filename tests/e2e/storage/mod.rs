//! The guest's disks, shared directories and files.

mod attachments;
mod durability;
mod failing;
mod full;
mod images;
mod persistent;
mod replaced;
mod shares;
mod submounts;
mod volumes;
