use super::*;

#[test]
fn reads_gather_and_writes_take_up_where_they_stopped() {
    let mut queue = Queue::default();
    for word in ["one", "two"] {
        queue.read_from(|buffer| {
            buffer[..3].copy_from_slice(word.as_bytes());
            Ok(3)
        });
    }
    queue.read_from(|_| Err(io::ErrorKind::WouldBlock.into()));
    let mut got = Vec::new();
    let mut room = [4, 0, 4].into_iter();
    for want in ["onet", "onetwo"] {
        queue.write_to(|bytes| match room.next() {
            Some(n @ 1..) => Ok(got.write(&bytes[..n.min(bytes.len())])?),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        });
        assert_eq!(String::from_utf8_lossy(&got), want);
    }
    assert!(queue.is_empty());
}

#[test]
fn every_byte_once_through_short_writes() {
    let sent: Vec<u8> = (0..CHUNK as u32 * 3).map(|n| (n % 251) as u8).collect();
    let (mut source, mut got, mut calls) = (sent.as_slice(), Vec::new(), 0);
    let mut queue = Queue::default();
    loop {
        while !queue.is_empty() {
            queue.write_to(|bytes| {
                calls += 1;
                if calls % 3 == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let n = bytes.len().min(1000);
                got.extend_from_slice(&bytes[..n]);
                Ok(n)
            });
        }
        if let Flow::Closed = queue.read_from(|buffer| source.read(buffer)) {
            break;
        }
    }
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

#[test]
fn a_write_that_would_wait_keeps_the_rest() {
    let mut queue = Queue::default();
    queue.push(b"abc");
    let mut answers = vec![Err(io::ErrorKind::WouldBlock.into()), Ok(1)];
    assert!(matches!(queue.write_to(|_| answers.pop().expect("two calls")), Flow::Wait));
    queue.push(b"d");
    assert_eq!(&queue.bytes[queue.gone..], b"bcd");
    assert!(matches!(queue.write_to(|_| Err(io::ErrorKind::BrokenPipe.into())), Flow::Closed));
}

#[test]
fn escape_only_on_a_terminal() {
    for (tty, typed, want) in [
        (true, &b"\x1d"[..], true),
        (true, b"ab\x1dc", true),
        (true, b"a]\x1b[\x1c", false),
        (true, b"", false),
        (false, b"ab\x1dc", false),
    ] {
        assert_eq!(is_escape(tty, typed), want, "{tty} {typed:?}");
    }
}
