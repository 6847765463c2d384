//! The C ABI: all exports and the guard around them.
