//! Safe looks below an untrusted root: the image is the only file that is ever opened there.
