//! An sshd that is the guest's, and so may do anything.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::super::login::SSH;
use super::*;

/// An unbounded wait ends here as a failure.
const GUARD: Duration = Duration::from_secs(60);

/// A guest whose sshd does that with every connection.
fn guest(dir: &Path, sshd: impl Fn(&mut TcpStream) -> io::Result<()> + Clone + Send + 'static) -> Guest {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let sshd = sshd.clone();
            thread::spawn(move || sshd(&mut stream));
        }
    });
    let since = Instant::now();
    let deadline = since + Duration::from_secs(3);
    Guest { address, user: "u".into(), key: dir.join("id"), dir: dir.join("ssh"), since, deadline }
}

/// How an exec into it fails, which has to be soon.
fn failure(guest: &Guest) -> String {
    let (sender, ended) = channel();
    let guest = guest.clone();
    thread::spawn(move || {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let session = guest.open(b"true", None, [null.as_fd(); 3]);
        sender.send(session.map(drop).unwrap_err().to_string()).unwrap();
    });
    ended.recv_timeout(GUARD).expect("it waits for ever")
}

/// ssh runs with this directory on its command line.
fn ssh_runs(dir: &Path) -> bool {
    Command::new("pgrep").args(["-f", &format!("^{SSH} .*{}", dir.display())]).output().unwrap().status.success()
}

/// Version and no more but packets that say nothing: no timeout of ssh's own counts here.
fn ignores(stream: &mut TcpStream) -> io::Result<()> {
    /// RFC 4253: length, length of the padding, the message (an empty string for `SSH_MSG_IGNORE`), padding.
    const IGNORE: [u8; 16] = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.write_all(b"SSH-2.0-x\r\n")?;
    loop {
        stream.write_all(&IGNORE)?;
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_login_that_is_dragged_out() {
    let dir = tempfile::tempdir().unwrap();
    let guest = guest(dir.path(), ignores);
    let queued = {
        let guest = guest.clone();
        thread::spawn(move || failure(&guest))
    };
    let (said, queued) = (failure(&guest), queued.join().unwrap());
    for said in [said, queued] {
        assert!(said.starts_with("exec u: the guest's sshd does not finish the login, after "), "{said}");
        assert!(said.ends_with(" s (its log in the guest says why: podman attach CONTAINER)"), "{said}");
    }
    assert!(!ssh_runs(dir.path()), "ssh goes on");
}

#[test]
fn an_sshd_that_greets_and_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let said = failure(&guest(dir.path(), |stream| stream.write_all(b"SSH-2.0-x\r\n")));
    assert!(said.starts_with("exec u: the guest's sshd ends the login: "), "{said}");
}

/// A master that does not answer is passed over, and so is one with no room for one more to ask.
#[test]
fn a_master_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let guest = guest(dir.path(), ignores);
    fs::create_dir(&guest.dir).unwrap();
    let path = guest.socket(0);
    let master = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(master.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&master, Backlog::new(1).unwrap()).unwrap();
    let (sender, ended) = channel();
    thread::spawn(move || {
        for _ in 0..4 {
            let e = Client::connect(&path, Instant::now()).map(drop).unwrap_err();
            sender.send(e.kind()).unwrap();
        }
    });
    for _ in 0..4 {
        assert_eq!(ended.recv_timeout(GUARD), Ok(io::ErrorKind::WouldBlock));
    }
    let said = failure(&guest);
    assert!(said.starts_with("exec u: the guest's sshd does not finish the login, after "), "{said}");
    assert!(guest.socket(1).with_extension("1.log").exists(), "no other was tried");
}
