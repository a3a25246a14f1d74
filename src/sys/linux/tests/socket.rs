use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::super::socket::*;
use super::super::{poll, process};
use super::{Scratch, holds_in_child, is_alone, no_forks, open_descriptors, settle_at};

/// A pair whose first end gets credentials.
fn pair() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = stream_pair().unwrap();
    pass_credentials(ours.as_fd()).unwrap();
    (ours, theirs)
}

fn is_close_on_exec(fd: BorrowedFd<'_>) -> bool {
    rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
}

#[test]
fn a_message_brings_bytes_descriptors_credentials_and_pidfd() {
    let (ours, theirs) = pair();
    let (left, right) = stream_pair().unwrap();
    let descriptors = [left.as_fd(), right.as_fd()];
    assert_eq!(send_with(theirs.as_fd(), b"hello", &descriptors).unwrap(), 5);
    let mut buffer = [0; 64];
    let received = receive_with(ours.as_fd(), &mut buffer).unwrap();
    assert_eq!(&buffer[..received.bytes], b"hello");
    assert_eq!(received.descriptors.len(), 2);
    assert!(!received.truncated);
    let expected =
        Credentials { pid: process::pid(), uid: process::uid(), gid: rustix::process::getegid().as_raw() };
    assert_eq!(received.credentials, Some(expected));
    let pidfd_expected = pass_pidfd(ours.as_fd()).is_ok();
    assert_eq!(received.pidfd.is_some(), pidfd_expected);
    assert!(received.descriptors.iter().map(AsFd::as_fd).all(is_close_on_exec));
    assert!(received.pidfd.iter().map(AsFd::as_fd).all(is_close_on_exec));
}

#[test]
fn eight_descriptors_pass_and_nine_are_truncated() {
    let (ours, theirs) = pair();
    let (left, _right) = stream_pair().unwrap();
    for (sent, refused) in [(8, false), (9, true), (14, true), (15, true)] {
        send_with(theirs.as_fd(), b"x", &vec![left.as_fd(); sent]).unwrap();
        let received = receive_with(ours.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!(received.truncated, refused, "{sent} descriptors");
        assert_eq!(received.pidfd.is_some(), !refused || pass_pidfd(ours.as_fd()).is_err());
    }
}

#[test]
fn a_flood_of_descriptors_is_truncated_and_none_leaks() {
    if !is_alone("sys::platform::tests::socket::a_flood_of_descriptors_is_truncated_and_none_leaks") {
        return;
    }
    let (ours, theirs) = pair();
    let (left, _right) = stream_pair().unwrap();
    let before = open_descriptors();
    send_with(theirs.as_fd(), b"x", &vec![left.as_fd(); 253]).unwrap();
    let received = receive_with(ours.as_fd(), &mut [0; 8]).unwrap();
    assert!(received.truncated && !received.descriptors.is_empty());
    drop(received);
    settle_at(before);

    let too_many = send_with(theirs.as_fd(), b"x", &vec![left.as_fd(); 254]).unwrap_err();
    assert_eq!(too_many.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_doorbell_with_descriptors_is_only_a_doorbell() {
    if !is_alone("sys::platform::tests::socket::a_doorbell_with_descriptors_is_only_a_doorbell") {
        return;
    }
    // Both kinds of end: with SO_PASSCRED and SO_PASSPIDFD (the socket itself) and without.
    for (ours, theirs) in [pair(), stream_pair().unwrap()] {
        let (left, _right) = stream_pair().unwrap();
        let before = open_descriptors();
        send_with(theirs.as_fd(), b"x", &vec![left.as_fd(); 200]).unwrap();
        assert_eq!(drain_doorbell(ours.as_fd()), Drained::Bytes(1));
        assert_eq!(drain_doorbell(ours.as_fd()), Drained::Empty);
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn descriptors_need_a_byte_to_travel_with() {
    let (ours, theirs) = pair();
    let refused = send_with(theirs.as_fd(), b"", &[ours.as_fd()]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn an_empty_socket_is_not_an_end_of_stream() {
    let _quiet = no_forks();
    let (ours, theirs) = pair();
    let mut buffer = [0; 8];
    let empty = receive_with(ours.as_fd(), &mut buffer).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::WouldBlock);
    drop(theirs);
    assert_eq!(receive_with(ours.as_fd(), &mut buffer).unwrap().bytes, 0);
    let gone = send_with(ours.as_fd(), b"x", &[]).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_doorbell_is_heard_until_the_peer_is_gone() {
    let _quiet = no_forks();
    let (ours, theirs) = stream_pair().unwrap();
    assert_eq!(drain_doorbell(ours.as_fd()), Drained::Empty);
    assert_eq!(ring_doorbell(theirs.as_fd()), Rung::Delivered);
    assert_eq!(drain_doorbell(ours.as_fd()), Drained::Bytes(1));
    drop(ours);
    assert_eq!(ring_doorbell(theirs.as_fd()), Rung::Gone);
    assert_eq!(drain_doorbell(theirs.as_fd()), Drained::Gone);
}

#[test]
fn a_doorbell_that_nobody_drains_never_blocks() {
    let (ours, theirs) = stream_pair().unwrap();
    let is_full = |socket: &OwnedFd| {
        send_with(socket.as_fd(), &[0; 4096], &[]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    // The sender's own file flags play no part: MSG_DONTWAIT is given per call.
    rustix::io::ioctl_fionbio(&theirs, false).unwrap();
    while !is_full(&theirs) {}
    while rustix::net::send(&theirs, &[0], rustix::net::SendFlags::DONTWAIT).is_ok() {}
    for _ in 0..1000 {
        assert_eq!(ring_doorbell(theirs.as_fd()), Rung::Delivered);
    }
    assert_eq!(drain_doorbell(ours.as_fd()), Drained::Bytes(256), "one bounded read");
}

#[test]
fn a_dead_peer_with_unread_bytes_is_gone() {
    let _quiet = no_forks();
    let (ours, theirs) = stream_pair().unwrap();
    ring_doorbell(ours.as_fd());
    drop(theirs);
    assert_eq!(drain_doorbell(ours.as_fd()), Drained::Gone, "ECONNRESET");
}

#[test]
fn a_connection_names_both_sides() {
    let scratch = Scratch::new("names");
    let path = scratch.0.join("a.sock");
    let refused = connect_stream(&path).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
    let listener = bind_stream(&path).unwrap();
    let early = connect_stream(&path).unwrap_err();
    assert_eq!(early.raw_os_error(), Some(libc::ECONNREFUSED));
    listen(listener.as_fd(), 8).unwrap();
    assert!(accept(listener.as_fd()).unwrap().is_none());

    let client = connect_stream(&path).unwrap();
    // Sent before accept: the credentials are attached all the same.
    send_with(client.as_fd(), b"early", &[]).unwrap();
    let server = accept(listener.as_fd()).unwrap().unwrap();
    let received = receive_with(server.as_fd(), &mut [0; 8]).unwrap();
    assert_eq!(received.credentials.unwrap().pid, process::pid());
    assert_eq!(received.pidfd.is_some(), pass_pidfd(server.as_fd()).is_ok());
    for socket in [&client, &server, &listener] {
        assert!(is_close_on_exec(socket.as_fd()));
        let flags = rustix::fs::fcntl_getfl(socket).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    }
    let named = socket_credentials(client.as_fd()).unwrap();
    assert_eq!((named.uid, named.gid), (process::uid(), rustix::process::getegid().as_raw()));
}

#[test]
fn a_full_backlog_is_reported_and_not_waited_for() {
    let scratch = Scratch::new("backlog");
    let path = scratch.0.join("a.sock");
    let listener = bind_stream(&path).unwrap();
    listen(listener.as_fd(), 1).unwrap();
    let mut clients = Vec::new();
    let full = loop {
        match connect_stream(&path) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 100);
    };
    assert_eq!(full.raw_os_error(), Some(libc::EAGAIN));
}

#[test]
fn only_connected_unix_stream_sockets_are_doorbells() {
    let scratch = Scratch::new("kinds");
    let (end, other) = stream_pair().unwrap();
    assert!(is_stream_socket(end.as_fd()).unwrap());
    drop(other);
    assert!(is_stream_socket(end.as_fd()).unwrap(), "a peer that left is found by the first ring");
    let listener = bind_stream(&scratch.0.join("a.sock")).unwrap();
    listen(listener.as_fd(), 1).unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let network = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = std::fs::File::open("/dev/zero").unwrap();
    let refused = [listener.as_fd(), pipe.as_fd(), datagram.as_fd(), network.as_fd(), file.as_fd()];
    for fd in refused {
        assert!(!is_stream_socket(fd).unwrap(), "descriptor {}", fd.as_raw_fd());
    }
}

#[test]
fn a_path_longer_than_an_address_is_refused() {
    let fits = "/".repeat(path_bytes_max());
    let too_long = "/".repeat(path_bytes_max() + 1);
    let refused = connect_stream(too_long.as_ref()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENAMETOOLONG));
    let other = connect_stream(fits.as_ref()).unwrap_err();
    assert_ne!(other.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn the_pidfd_of_a_sender_tells_of_its_death() {
    if !is_alone("sys::platform::tests::socket::the_pidfd_of_a_sender_tells_of_its_death") {
        return;
    }
    let (ours, theirs) = pair();
    if pass_pidfd(ours.as_fd()).is_err() {
        eprintln!("skipped: this kernel has no SO_PASSPIDFD");
        return;
    }
    assert!(holds_in_child(|| send_with(theirs.as_fd(), b"x", &[]).is_ok()));
    // The child has ended and been waited for; the message was sent while it lived.
    let received = receive_with(ours.as_fd(), &mut [0; 8]).unwrap();
    assert_ne!(received.credentials.unwrap().pid, process::pid());
    if let Some(pidfd) = received.pidfd {
        let mut items = [poll::PollItem::readable(pidfd.as_fd())];
        poll::poll(&mut items, Some(std::time::Duration::from_secs(10))).unwrap();
        assert!(items[0].is_readable() || items[0].is_hung_up());
    }
}

#[test]
fn at_the_descriptor_limit_the_loss_is_told_and_nothing_leaks() {
    if !is_alone("sys::platform::tests::socket::at_the_descriptor_limit_the_loss_is_told_and_nothing_leaks") {
        return;
    }
    let (ours, theirs) = pair();
    let (left, _right) = stream_pair().unwrap();
    let before = open_descriptors();
    // The lowest free number is the limit's first victim: leave room for exactly one.
    let probe = rustix::io::fcntl_dupfd_cloexec(&left, 0).unwrap();
    let limit = probe.as_raw_fd() as u64 + 1;
    drop(probe);
    let old = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let tight = rustix::process::Rlimit { current: Some(limit), maximum: old.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, tight).unwrap();
    for (sent, lost) in [(1, false), (3, true)] {
        send_with(theirs.as_fd(), b"x", &vec![left.as_fd(); sent]).unwrap();
        let received = receive_with(ours.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!(received.descriptors.len(), 1);
        assert!(received.pidfd.is_none(), "no number was left for it");
        assert!(received.truncated || !lost, "{sent} sent");
        println!("{sent} sent at the limit: truncated = {}", received.truncated);
        drop(received);
        // Closed by another thread, and counting would need a descriptor itself.
        while rustix::io::fcntl_dupfd_cloexec(&left, 0).is_err() {
            std::thread::yield_now();
        }
    }
    rustix::process::setrlimit(rustix::process::Resource::Nofile, old).unwrap();
    settle_at(before);
}
