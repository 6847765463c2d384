//! Disk images: what a header says, what the first sectors say, and the overlay that takes the writes.
