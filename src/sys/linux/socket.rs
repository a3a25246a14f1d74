//! Unix stream sockets: who is there, descriptor passing, death, doorbells.
//!
//! `recvmsg` and `sendmsg` go through libc: rustix has no `SCM_PIDFD`.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use super::suspect::Suspect;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Who a peer is, as the kernel vouches for it, in our namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Credentials {
    /// 0 when the peer lives in a pid namespace that we cannot see. Never an identity.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What one [`receive_with`] brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes written to the buffer; 0 means end of stream.
    pub(crate) bytes: usize,
    pub(crate) descriptors: Vec<Suspect>,
    /// Sender of these bytes, when [`pass_credentials`] was set on our end.
    pub(crate) credentials: Option<Credentials>,
    /// The sender's process, where the kernel has `SO_PASSPIDFD` (6.5).
    pub(crate) pidfd: Option<OwnedFd>,
    /// More came along than is allowed: something is missing, so refuse the message.
    pub(crate) truncated: bool,
}

/// Fate of a doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rung {
    /// The peer has a byte to wake up to, this one or an earlier one.
    Delivered,
    /// Nobody is left to hear it.
    Gone,
}

/// What [`drain_doorbell`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// So many rings; more may be left.
    Bytes(usize),
    Empty,
    Gone,
}

/// Longest socket path in bytes, the final NUL not counted.
pub(crate) fn path_bytes_max() -> usize {
    107
}

/// Creates a socket that passes credentials and binds it to `path`; call [`listen`] next.
///
/// # Errors
/// EADDRINUSE when the name exists, ENAMETOOLONG past [`path_bytes_max`], else the OS error.
pub(crate) fn bind_stream(path: &Path) -> io::Result<OwnedFd> {
    let address = address_of(path)?;
    let socket = stream_socket()?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Starts accepting connections.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, backlog)?)
}

/// Connects once, without waiting.
///
/// # Errors
/// EAGAIN when the listener's backlog is full (try again later), ECONNREFUSED when nobody
/// listens, ENOENT when there is no such name, EACCES when the path is closed to us.
pub(crate) fn connect_stream(path: &Path) -> io::Result<OwnedFd> {
    let address = address_of(path)?;
    let socket = stream_socket()?;
    // A Unix connect that was interrupted has not begun, so it may simply be repeated.
    retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Accepts one connection; `None` when there is none now.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: back off, the connection stays in the backlog.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match retry_on_intr(|| rustix::net::accept_with(listener, flags)) {
        Ok(socket) => {
            pass_credentials(socket.as_fd())?;
            Ok(Some(socket))
        }
        Err(Errno::AGAIN | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Creates two connected sockets; call [`pass_credentials`] on an end that needs it.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Asks the kernel to attach the sender's credentials, and its pidfd where it can.
pub(crate) fn pass_credentials(socket: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(socket, true)?;
    match pass_pidfd(socket) {
        // Before Linux 6.5 death shows by the socket alone.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        other => other,
    }
}

/// Asks the kernel to attach the sender's pidfd; ENOPROTOOPT before Linux 6.5.
pub(crate) fn pass_pidfd(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_flag(socket, SO_PASSPIDFD, true)
}

/// Lets a peer send descriptors to this socket, or not; ENOPROTOOPT before Linux 6.16, which always lets it.
pub(crate) fn set_pass_rights(socket: BorrowedFd<'_>, allowed: bool) -> io::Result<()> {
    set_flag(socket, SO_PASSRIGHTS, allowed)
}

/// Turns off waiting for unsent bytes when a socket is closed. Nothing happens to what is no socket.
pub(crate) fn forget_linger(descriptor: BorrowedFd<'_>) {
    let _ = rustix::net::sockopt::set_socket_linger(descriptor, None);
}

fn set_flag(socket: BorrowedFd<'_>, option: libc::c_int, on: bool) -> io::Result<()> {
    let on = libc::c_int::from(on);
    // SAFETY: `socket` is open for the call, and the kernel reads exactly the stated number of
    // bytes from `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names whoever called `connect` or `listen` at the other end (`SO_PEERCRED`).
///
/// Good only for accounting before the hello: under socket activation it is root, not the
/// service, and a connected descriptor may have been handed on. Decide by
/// [`Received::credentials`].
pub(crate) fn socket_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut found_bytes = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `socket` is open for the call; the kernel writes at most `found_bytes` bytes to
    // `found`, and any bytes are a valid `ucred`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &mut found_bytes,
        )
    };
    if result == 0 { Ok(credentials_of(found)) } else { Err(io::Error::last_os_error()) }
}

/// Tells whether a received descriptor is a connected Unix stream socket.
pub(crate) fn is_stream_socket(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match rustix::net::sockopt::socket_domain(fd) {
        Ok(AddressFamily::UNIX) => {}
        Ok(_) | Err(Errno::NOTSOCK | Errno::BADF) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    if rustix::net::sockopt::socket_type(fd)? != SocketType::STREAM {
        return Ok(false);
    }
    match rustix::net::getpeername(fd) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends bytes, with descriptors attached to the first of them; never waits, never signals.
///
/// Returns the bytes taken, possibly fewer; the descriptors then went with them.
///
/// # Errors
/// EAGAIN when the peer does not read, EPIPE or ECONNRESET when it is gone, EINVAL for more than
/// 253 descriptors or descriptors without a byte to travel with.
pub(crate) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.len() > SEND_DESCRIPTORS_MAX || (bytes.is_empty() && !descriptors.is_empty()) {
        return Err(Errno::INVAL.into());
    }
    let mut control = [0_u64; SEND_CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = empty_message(&mut vector);
    if !descriptors.is_empty() {
        let rights_bytes = mem::size_of_val(descriptors);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control_space(rights_bytes) as _;
        // SAFETY: `msg_control` points at `control`, which is aligned for a `cmsghdr` (8 bytes)
        // and holds SEND_CONTROL_WORDS * 8 >= CMSG_SPACE(253 * 4) bytes, so the header and the at
        // most 253 numbers written here stay inside it. `BorrowedFd` is a transparent `RawFd`.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(rights_bytes as u32) as _;
            let data = libc::CMSG_DATA(header);
            ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), data, rights_bytes);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    retry_interrupted(|| {
        // SAFETY: `message` points at `vector`, `bytes` and `control`, all alive during the call
        // and as long as stated; `sendmsg` only reads them. The descriptors are borrowed, so open.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) }
    })
}

/// Receives bytes and what came with them; never waits.
///
/// At most 8 descriptors are accepted; every one that arrived is owned by the result, also when
/// it is truncated, so none leaks. All are close-on-exec.
///
/// # Errors
/// EAGAIN when nothing has come, ECONNRESET when the peer died with bytes unread.
pub(crate) fn receive_with(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0_u64; RECEIVE_CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty_message(&mut vector);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let bytes = retry_interrupted(|| {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: `message` points at `vector`, `buffer` and `control`, all borrowed exclusively
        // and alive during the call; the kernel writes no more than the stated lengths.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) }
    })?;
    let mut received = Received {
        bytes,
        descriptors: Vec::new(),
        credentials: None,
        pidfd: None,
        truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
    };
    // SAFETY: `message` was filled by the successful recvmsg above, its control data is still
    // untouched in `control`, and this is the only call that takes the descriptors over.
    unsafe { take_control(&message, &mut received) };
    // Without a pidfd its room lets a few more descriptors through.
    received.truncated |= received.descriptors.len() > RECEIVE_DESCRIPTORS_MAX;
    Ok(received)
}

/// Says whether a call failed because this process or the whole machine has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Hangs up in both directions; the other end sees it at once, whoever else holds our end.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    // An error means that it is down already.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Wakes the peer with one byte; never waits, never signals.
///
/// A full queue counts as delivered: the peer has bytes to wake up to. Any other failure counts as
/// gone: a peer that cannot be woken is better closed than left asleep.
pub(crate) fn ring_doorbell(socket: BorrowedFd<'_>) -> Rung {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match retry_on_intr(|| rustix::net::send(socket, &[1], flags)) {
        Ok(_) | Err(Errno::AGAIN) => Rung::Delivered,
        Err(_) => Rung::Gone,
    }
}

/// Takes at most 256 rings, whatever they contain; never waits.
///
/// Descriptors that a hostile peer attached are closed by the kernel.
pub(crate) fn drain_doorbell(socket: BorrowedFd<'_>) -> Drained {
    let mut ignored = [0_u8; DRAIN_BYTES_MAX];
    match retry_on_intr(|| rustix::net::recv(socket, &mut ignored[..], RecvFlags::DONTWAIT)) {
        Ok((0, _)) => Drained::Gone,
        Ok((bytes, _)) => Drained::Bytes(bytes),
        Err(Errno::AGAIN) => Drained::Empty,
        Err(_) => Drained::Gone,
    }
}

/// Sends a last byte that says why we hang up, if there is room for it; never waits.
pub(crate) fn say_farewell(socket: BorrowedFd<'_>, why: u8) {
    // Who does not hear it sees us hang up without a reason.
    let _ = retry_on_intr(|| rustix::net::send(socket, &[why], SendFlags::DONTWAIT | SendFlags::NOSIGNAL));
}

/// What came on a socket whose bytes say something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Words {
    /// So many bytes, and the last.
    Bytes(usize, u8),
    /// Nothing now.
    Silence,
    /// The other end is gone.
    Gone,
}

/// Takes at most 256 bytes; never waits.
pub(crate) fn drain_words(socket: BorrowedFd<'_>) -> Words {
    let mut bytes = [0_u8; DRAIN_BYTES_MAX];
    match retry_on_intr(|| rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT)) {
        Ok((count @ 1.., _)) => bytes.get(count - 1).map_or(Words::Gone, |last| Words::Bytes(count, *last)),
        Err(Errno::AGAIN) => Words::Silence,
        Ok(_) | Err(_) => Words::Gone,
    }
}

/// Returns the last byte that arrived on a socket whose other end has hung up. Bounded: a peer that filled it with more
/// has said nothing.
pub(crate) fn last_words(socket: BorrowedFd<'_>) -> Option<u8> {
    let mut last = None;
    for _ in 0..LAST_WORDS_READS {
        match drain_words(socket) {
            Words::Bytes(_, byte) => last = Some(byte),
            Words::Silence | Words::Gone => return last,
        }
    }
    None
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before connect or listen, so that not even the first message comes without credentials.
    pass_credentials(socket.as_fd())?;
    Ok(socket)
}

/// The socket address of `path`, which must leave room for a final NUL.
pub(super) fn address_of(path: &Path) -> io::Result<SocketAddrUnix> {
    if path.as_os_str().len() > path_bytes_max() {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(SocketAddrUnix::new(path)?)
}

fn empty_message(vector: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message
}

fn retry_interrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(bytes) = usize::try_from(call()) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Takes over everything in the control data of a received message.
///
/// # Safety
/// - `message` was filled by a successful `recvmsg`; its control buffer is alive and unchanged.
/// - It is called once per message: a second call would own the same descriptors again.
unsafe fn take_control(message: &libc::msghdr, received: &mut Received) {
    // SAFETY: the caller vouches for `message`; FIRSTHDR returns null or a whole header in it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: `header` is non-null and from FIRSTHDR / NXTHDR, so a whole header lies there,
        // aligned, because the control buffer is an array of u64.
        let (level, kind, length) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        // SAFETY: CMSG_LEN(0) is arithmetic; CMSG_DATA is the address just behind the header.
        let (data, head_bytes) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0) as usize) };
        // musl declares the length narrower than glibc does.
        let length: usize = length as _;
        let data_bytes = length.saturating_sub(head_bytes);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..data_bytes / mem::size_of::<libc::c_int>() {
                    // SAFETY: the kernel wrote `data_bytes` bytes of descriptors that are new in
                    // this process and that nobody owns yet (the caller's second duty).
                    let fd = unsafe { data.cast::<libc::c_int>().add(index).read_unaligned() };
                    // SAFETY: as above: `fd` is open and from here on owned once.
                    received.descriptors.push(Suspect::new(unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if data_bytes >= mem::size_of::<libc::ucred>() => {
                // SAFETY: the guard checked that a whole `ucred` lies at `data`; any bytes are one.
                let found = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                received.credentials = Some(credentials_of(found));
            }
            (libc::SOL_SOCKET, SCM_PIDFD) if data_bytes >= mem::size_of::<libc::c_int>() => {
                // SAFETY: the guard checked that a whole `c_int` lies at `data`.
                let fd = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                // Negative: the kernel could not make one, for example at the descriptor limit.
                // SAFETY: a non-negative number is a new descriptor that nobody owns yet.
                received.pidfd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
            }
            _ => {}
        }
        // SAFETY: `header` lies in the control buffer of `message`; NXTHDR stays inside it and
        // ends with null. The kernel wrote the lengths, so the walk always advances.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}

fn credentials_of(found: libc::ucred) -> Credentials {
    Credentials { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid, gid: found.gid }
}

const fn control_space(data_bytes: usize) -> usize {
    // SAFETY: CMSG_SPACE is arithmetic on its argument.
    unsafe { libc::CMSG_SPACE(data_bytes as u32) as usize }
}

/// Descriptors that one hello may carry.
const RECEIVE_DESCRIPTORS_MAX: usize = 8;

/// The kernel's own bound, `SCM_MAX_FD`.
const SEND_DESCRIPTORS_MAX: usize = 253;

/// Room for 8 descriptors, credentials and a pidfd, in u64 words so that headers are aligned.
const RECEIVE_CONTROL_WORDS: usize = (control_space(RECEIVE_DESCRIPTORS_MAX * 4)
    + control_space(mem::size_of::<libc::ucred>())
    + control_space(4))
    / 8;

const SEND_CONTROL_WORDS: usize = control_space(SEND_DESCRIPTORS_MAX * 4).div_ceil(8);

const DRAIN_BYTES_MAX: usize = 256;
/// More bytes than that were never rings.
const LAST_WORDS_READS: usize = 16;

/// Linux 6.5; libc has no constant for it yet.
const SO_PASSPIDFD: libc::c_int = 76;
/// Linux 6.16; not in libc.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Linux 6.5: control message with the sender's pidfd.
const SCM_PIDFD: libc::c_int = 4;
