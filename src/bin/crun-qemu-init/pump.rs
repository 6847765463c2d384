//! Bytes from one descriptor to another without loss: nothing is read before what was read is written.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

/// What a pipe takes at once on Linux, bytes.
const SIZE: usize = 64 << 10;

/// The buffer between two descriptors that do not block.
pub struct Pump {
    buffer: Box<[u8; SIZE]>,
    start: usize,
    end: usize,
    /// The source has said that nothing more comes.
    pub finished: bool,
}

impl Pump {
    /// An empty one.
    pub fn new() -> Self {
        Self { buffer: Box::new([0; SIZE]), start: 0, end: 0, finished: false }
    }

    /// Whether the source is to be polled for reading.
    pub fn wants_input(&self) -> bool {
        !self.finished && self.is_empty()
    }

    /// Whether everything that was read has been written.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes what the source has; call when it is readable and [`Pump::wants_input`]. Returns the bytes taken.
    pub fn fill(&mut self, source: BorrowedFd) -> &[u8] {
        match read(source, &mut self.buffer[..]) {
            Ok(n) if n > 0 => (self.start, self.end) = (0, n),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // End of file, or a terminal whose other end is gone.
            _ => self.finished = true,
        }
        &self.buffer[self.start..self.end]
    }

    /// Drops all but the first `len` bytes of what was taken last.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.start + len;
    }

    /// Writes what the sink takes. A sink that is gone for good takes everything: nobody is there to miss it.
    pub fn drain(&mut self, sink: impl AsFd) {
        while !self.is_empty() {
            match write(&sink, &self.buffer[self.start..self.end]) {
                Ok(n) => self.start += n,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => self.start = self.end,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn every_byte_arrives_once_though_the_sink_is_slow() {
        let (mut source, input) = UnixStream::pair().unwrap();
        let (output, mut sink) = UnixStream::pair().unwrap();
        [&input, &output].map(|s| s.set_nonblocking(true).unwrap());
        let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut source, &copy).unwrap());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            sink.read_to_end(&mut got).unwrap();
            got
        });
        let mut pump = Pump::new();
        while !(pump.finished && pump.is_empty()) {
            if pump.wants_input() {
                pump.fill(input.as_fd());
            }
            pump.drain(&output);
        }
        drop(output);
        writer.join().unwrap();
        assert!(reader.join().unwrap() == sent);
    }
}
