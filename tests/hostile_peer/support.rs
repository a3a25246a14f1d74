//! An attacker's tools: the handshake by hand and raw memory, written from the numbers of the protocol and not from the
//! library, so that it also is a second implementation.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const MAGIC: u64 = u64::from_le_bytes(*b"RINGWAY\x97");
pub const RING: usize = 4096;
pub const PUBLISHED: usize = 0x80;
pub const INTENT: usize = 0x88;
pub const CLOSE: usize = 0x90;
pub const CONSUMED: usize = 0x100;
pub const DATA_SLEEP: usize = 0x180;
pub const SPACE_SLEEP: usize = 0x200;
pub const RING_BYTES: u64 = 65536;
/// SHRINK, GROW, FUTURE_WRITE, SEAL.
pub const SEALS: i32 = 0x02 | 0x04 | 0x10 | 0x01;
/// Nothing takes nearly as long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const DATA: u64 = 1 << 32;
pub const PADDING: u64 = 2 << 32;
pub const FIRST: u64 = 3 << 32;
pub const MIDDLE: u64 = 4 << 32;
pub const LAST: u64 = 5 << 32;
pub const ABANDON: u64 = 6 << 32;

/// A piece of shared memory, mapped by hand.
pub struct Memory {
    pub file: OwnedFd,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, and all access goes through atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes a memory file, maps it writable, writes the words, then seals it.
    pub fn create(bytes: usize, words: &[(usize, u64)], seals: i32) -> Self {
        let memory = Self::map(memfd(bytes), bytes, true).unwrap();
        for (offset, value) in words {
            memory.set(*offset, *value);
        }
        if seals != 0 {
            // SAFETY: a descriptor and a number.
            assert_eq!(unsafe { libc::fcntl(memory.file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
        }
        memory
    }

    /// Makes a connection segment as an honest process would.
    pub fn connection(ring_bytes: u64) -> Self {
        Self::create(RING + ring_bytes as usize, &connection_words(ring_bytes), SEALS)
    }

    /// Makes an endpoint segment for `slots` connections.
    pub fn endpoint(slots: u64) -> Self {
        let bytes = endpoint_bytes(slots);
        Self::create(bytes, &endpoint_words(slots), SEALS)
    }

    pub fn map(file: OwnedFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { file, base: base.cast(), bytes })
    }

    /// Maps all of a received file, read-only.
    pub fn receive(file: OwnedFd) -> Self {
        let bytes = size_of_file(&file);
        Self::map(file, bytes, false).unwrap()
    }

    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes);
        // SAFETY: in bounds and aligned (checked above); shared memory is used through atomics only.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    pub fn get(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    pub fn set(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Copies everything out.
    pub fn bytes(&self) -> Vec<u8> {
        (0..self.bytes).step_by(8).flat_map(|offset| self.get(offset).to_le_bytes()).collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

pub fn endpoint_bytes(slots: u64) -> usize {
    (4096 + 64 * 128 + slots as usize * 512).next_multiple_of(4096)
}

pub fn connection_words(ring_bytes: u64) -> [(usize, u64); 5] {
    [(0, MAGIC), (8, 1 | 1 << 32), (0x10, 0), (0x18, ring_bytes), (0x30, RING as u64 + ring_bytes)]
}

pub fn endpoint_words(slots: u64) -> [(usize, u64); 7] {
    let bytes = endpoint_bytes(slots) as u64;
    [(0, MAGIC), (8, 1 | 2 << 32), (0x10, 0), (0x18, 0), (0x30, bytes), (0x38, 64), (0x40, slots)]
}

pub fn memfd(bytes: usize) -> OwnedFd {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a literal with its end, and flags; a new descriptor is owned once.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"attack".as_ptr(), flags)) };
    // SAFETY: our own descriptor.
    assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), bytes as i64) }, 0);
    file
}

pub fn size_of_file(file: &OwnedFd) -> usize {
    // SAFETY: all-zero is a valid `stat`, which outlives the call.
    unsafe {
        let mut stat: libc::stat = mem::zeroed();
        assert_eq!(libc::fstat(file.as_raw_fd(), &mut stat), 0);
        stat.st_size as usize
    }
}

/// A handshake message whose fields can be bent.
#[derive(Clone, Copy)]
pub struct Hello(pub [u8; 128]);

impl Hello {
    pub fn client(ring_bytes: u64) -> Self {
        Self::new(1, ring_bytes, 0, [1, 2])
    }

    pub fn server(ring_bytes: u64, slots: u32) -> Self {
        Self::new(2, ring_bytes, slots, [1, 3])
    }

    /// What a reader of a route (purpose 2) or channel (3) says: it has no ring.
    pub fn reader(purpose: u32) -> Self {
        let purpose = purpose.to_le_bytes();
        Self::new(1, 0, 0, [1, 0]).put(20, &purpose).put(80, &1_u32.to_le_bytes())
    }

    /// What a monitor says: it has nothing at all.
    pub fn monitor() -> Self {
        Self::new(1, 0, 0, [0, 0]).put(20, &4_u32.to_le_bytes()).put(56, &[0; 8]).put(80, &[0; 4])
    }

    fn new(kind: u16, ring_bytes: u64, slots: u32, files: [u8; 2]) -> Self {
        Self([0; 128])
            .put(0, b"RINGWAYH")
            .put(8, &1_u16.to_le_bytes())
            .put(10, &kind.to_le_bytes())
            .put(12, &1_u32.to_le_bytes())
            .put(16, &128_u32.to_le_bytes())
            .put(20, &1_u32.to_le_bytes())
            .put(48, &ring_bytes.to_le_bytes())
            .put(56, &(1_u64 << 20).to_le_bytes())
            .put(72, &slots.to_le_bytes())
            .put(80, &2_u32.to_le_bytes())
            .put(84, &files)
    }

    #[must_use]
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// Sends bytes and descriptors together.
pub fn send_files(socket: RawFd, bytes: &[u8], files: &[RawFd]) -> io::Result<usize> {
    send_flagged(socket, bytes, files, libc::MSG_NOSIGNAL)
}

pub fn send_flagged(socket: RawFd, bytes: &[u8], files: &[RawFd], flags: i32) -> io::Result<usize> {
    let mut control = [0_u64; 160];
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`; every pointer in it outlives the call, and `control` (1280 bytes) has room
    // for the 253 descriptors that the kernel takes at most.
    let sent = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &mut vector;
        message.msg_iovlen = 1;
        if !files.is_empty() {
            assert!(files.len() <= 253);
            let data_bytes = mem::size_of_val(files) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(data_bytes) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(data_bytes) as _;
            ptr::copy_nonoverlapping(files.as_ptr(), libc::CMSG_DATA(header).cast(), files.len());
        }
        libc::sendmsg(socket, &message, flags)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives one message of 128 bytes with its descriptors; fewer bytes mean that the other side hung up.
pub fn receive_files(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut bytes, mut files) = (Vec::new(), Vec::new());
    while bytes.len() < 128 {
        let mut control = [0_u64; 32];
        let mut buffer = [0_u8; 128];
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 128 - bytes.len() };
        // SAFETY: as in `send_flagged`; descriptors in the control data are new and owned once.
        let received = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &mut vector;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = mem::size_of_val(&control) as _;
            let received = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC);
            let mut header = libc::CMSG_FIRSTHDR(&message);
            while received > 0 && !header.is_null() {
                if (*header).cmsg_type == libc::SCM_RIGHTS {
                    let count = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4;
                    for index in 0..count {
                        let file = libc::CMSG_DATA(header).cast::<RawFd>().add(index).read_unaligned();
                        files.push(OwnedFd::from_raw_fd(file));
                    }
                }
                header = libc::CMSG_NXTHDR(&message, header);
            }
            received
        };
        match received {
            0 => break,
            1.. => bytes.extend_from_slice(&buffer[..received as usize]),
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Ok((bytes, files))
}

/// A connection made by hand.
pub struct Raw {
    /// Data doorbell.
    pub socket: UnixStream,
    /// Space doorbell: our end, and a copy of the end that the peer was given.
    pub space: UnixStream,
    pub their_space: UnixStream,
    pub own: Memory,
    pub theirs: Memory,
    pub endpoint: Memory,
    pub answer: Vec<u8>,
}

/// How a listener answered something else than a welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// With this refusal code.
    Down(u32),
    /// By hanging up.
    Away,
}

pub const VERSION: Turned = Turned::Down(1);
pub const FEATURES: Turned = Turned::Down(2);
pub const NOT_ALLOWED: Turned = Turned::Down(3);
pub const LIMIT: Turned = Turned::Down(4);
pub const DESCRIPTORS: Turned = Turned::Down(5);
pub const MALFORMED: Turned = Turned::Down(6);
pub const PURPOSE: Turned = Turned::Down(7);

pub fn open(path: &str) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads the answer to a hello.
pub fn answer_of(socket: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), Turned> {
    match receive_files(socket) {
        Ok((bytes, files)) if bytes.len() == 128 && bytes[10] == 2 => Ok((bytes, files)),
        Ok((bytes, _)) if bytes.len() == 128 => {
            assert_eq!((&bytes[..8], bytes[10]), (&b"RINGWAYH"[..], 3), "neither welcome nor refusal");
            Err(Turned::Down(u32::from_le_bytes(bytes[68..72].try_into().unwrap())))
        }
        Ok((bytes, _)) => {
            assert!(bytes.is_empty(), "half an answer");
            Err(Turned::Away)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Turned::Away),
        Err(error) => panic!("no answer: {error}"),
    }
}

impl Raw {
    pub fn connect(path: &str) -> Self {
        Self::with(path, Memory::connection(RING_BYTES), &Hello::client(RING_BYTES)).unwrap()
    }

    /// Says this hello and offers this segment.
    pub fn with(path: &str, own: Memory, hello: &Hello) -> Result<Self, Turned> {
        let socket = open(path);
        let (space, their_space) = UnixStream::pair().unwrap();
        send_files(socket.as_raw_fd(), &hello.0, &[own.file.as_raw_fd(), their_space.as_raw_fd()]).unwrap();
        let (answer, mut files) = answer_of(&socket)?;
        assert_eq!(files.len(), 2);
        let endpoint = Memory::receive(files.remove(1));
        let theirs = Memory::receive(files.remove(0));
        Ok(Self { socket, space, their_space, own, theirs, endpoint, answer })
    }

    /// Rings "there is data".
    pub fn ring(&self) {
        let _ = send_flagged(self.socket.as_raw_fd(), &[1], &[], libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
    }

    /// Says whether the other side has hung up. Takes what it rang meanwhile.
    pub fn is_hung_up(&self) -> bool {
        let mut item = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one item, alive during the call.
        unsafe { libc::poll(&mut item, 1, 0) };
        item.revents & (libc::POLLRDHUP | libc::POLLHUP) != 0
    }

    /// Waits until the other side hangs up.
    pub fn wait_for_hang_up(&self) {
        let mut item = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one item, alive during the call.
        unsafe { libc::poll(&mut item, 1, PATIENCE.as_millis() as i32) };
    }

    /// Writes one record of a legal kind at `position` of a ring of [`RING_BYTES`] and publishes it; returns the next
    /// position.
    pub fn put(&self, position: u64, kind: u64, payload: &[u8]) -> u64 {
        let at = |position: u64| RING + (position % RING_BYTES) as usize;
        for (index, chunk) in payload.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.own.set(at(position + 8 + 8 * index as u64), u64::from_le_bytes(word));
        }
        let next = position + 8 + (payload.len() as u64).next_multiple_of(8);
        self.own.set(at(next), 0);
        self.own.set(at(position), kind | payload.len() as u64);
        next
    }
}

/// A listener made by hand: answers one hello at a time with whatever it is told to.
pub struct RawListener {
    socket: UnixListener,
}

impl RawListener {
    pub fn bind(path: &str) -> Self {
        Self { socket: UnixListener::bind(path).unwrap() }
    }

    /// Takes in one client and reads its hello.
    pub fn accept(&self) -> (UnixStream, Vec<u8>, Vec<OwnedFd>) {
        let (socket, _) = self.socket.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (hello, files) = receive_files(&socket).unwrap();
        (socket, hello, files)
    }
}

/// Numbers that look random, from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Returns a figure of `/proc/self/status` in KiB.
pub fn status_kib(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Role: a listener of the library that echoes, and answers questions about itself: a group, or a pool of so many `WORKERS`.
pub fn serve() {
    use ringway::Config;
    let set = |name: &str| std::env::var(name).ok();
    let number = |name: &str| set(name).map(|text| text.parse::<u32>().unwrap());
    if let Some(uid) = number("RUN_AS") {
        become_user(uid);
    }
    let mut config = Config::new().ring_bytes(RING_BYTES);
    if let Some(uid) = number("ALLOW_UID") {
        config = config.allow_uid(uid);
    }
    if let Some(gid) = number("ALLOW_GID") {
        config = config.allow_gid(gid);
    }
    if let Some(most) = number("MOST") {
        config = config.connections_max(most as usize);
    }
    if let Some(ms) = number("HANDSHAKE_MS") {
        config = config.handshake_timeout(Duration::from_millis(ms.into()));
    }
    if let Some(segments) = number("WARM") {
        config = config.warm_segments(segments as usize).prefault(true);
    }
    let listener = match config.bind(&set("SOCKET").unwrap()) {
        Ok(listener) => listener,
        Err(error) => return crate::common::say(&format!("{error:?}: {error}")),
    };
    match number("WORKERS") {
        Some(workers) => serve_by_pool(listener, workers as usize),
        None => serve_by_group(listener),
    }
}

fn serve_by_pool(listener: ringway::Listener, workers: usize) {
    use ringway::{Event, Handler, Member, Pool};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    struct Echo(Arc<[AtomicU64; 2]>);
    impl Handler for Echo {
        fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
            let [messages, last_uid] = &*self.0;
            last_uid.store(member.peer_cred().uid.into(), Ordering::Relaxed);
            if let Event::Message(bytes) = event {
                messages.fetch_add(1, Ordering::Relaxed);
                let _ = member.sender().try_send(bytes);
            }
        }
    }
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let theirs = Arc::clone(&counts);
    let pool = Pool::builder(listener).workers(workers).serve(move |_| Echo(Arc::clone(&theirs))).unwrap();
    crate::common::say("ready");
    loop {
        match crate::common::hear().as_str() {
            "status" => {
                let stats = pool.stats();
                let (files, most) = (crate::common::descriptors(), status_kib("VmHWM:"));
                let [messages, last_uid] = [0, 1].map(|index: usize| counts[index].load(Ordering::Relaxed));
                let (refused, members) = (stats.refused, stats.connections);
                crate::common::say(&format!("{files} {refused} {members} {most} {messages} {last_uid}"));
            }
            "quit" => return,
            other => panic!("unknown command {other}"),
        }
    }
}

fn serve_by_group(listener: ringway::Listener) {
    use ringway::{Event, Group};
    use std::sync::mpsc;
    let mut group = Group::new(listener).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || while tell.send(crate::common::hear()).is_ok() {});
    crate::common::say("ready");
    let mut messages = 0_u64;
    let mut last_uid = 0;
    loop {
        let turned =
            group.turn(Some(std::time::Instant::now() + Duration::from_millis(5)), |member, event| {
                last_uid = member.peer_cred().uid;
                if let Event::Message(bytes) = event {
                    messages += 1;
                    let _ = member.sender().try_send(bytes);
                }
            });
        turned.unwrap();
        match told.try_recv().as_deref() {
            Ok("status") => {
                let (refused, most) = (group.listener().refused(), status_kib("VmHWM:"));
                let (files, members) = (crate::common::descriptors(), group.len());
                crate::common::say(&format!("{files} {refused} {members} {most} {messages} {last_uid}"));
            }
            Ok("quit") => return,
            Ok(other) => panic!("unknown command {other}"),
            Err(_) => {}
        }
    }
}

/// Gives up root for good: the credentials of everything that follows are these.
pub fn become_user(uid: u32) {
    // SAFETY: numbers only; groups first, since the last right to change them goes with the user.
    unsafe {
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setresgid(uid, uid, uid), 0);
        assert_eq!(libc::setresuid(uid, uid, uid), 0);
        // The signal for the parent's death is cleared with the identity.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// What a [`serve`] role says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    pub files: u64,
    pub refused: u64,
    pub members: u64,
    pub most_kib: u64,
    pub messages: u64,
    pub last_uid: u64,
}

pub fn status(server: &mut crate::common::Peer) -> Status {
    server.send_line("status");
    let line = server.next_line();
    let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    Status {
        files: numbers[0],
        refused: numbers[1],
        members: numbers[2],
        most_kib: numbers[3],
        messages: numbers[4],
        last_uid: numbers[5],
    }
}

/// Asks again and again until the answer is as wanted.
#[track_caller]
pub fn await_status(server: &mut crate::common::Peer, wanted: impl Fn(&Status) -> bool) -> Status {
    let start = std::time::Instant::now();
    loop {
        let status = status(server);
        if wanted(&status) {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "never as wanted: {status:?}");
    }
}

/// Role: an honest client that sends numbered messages and gets each back, exactly.
pub fn honest() {
    let count = crate::common::number_variable("COUNT");
    let config = ringway::Config::new().ring_bytes(RING_BYTES);
    let mut connection = config.connect(&crate::common::variable("SOCKET")).unwrap();
    for number in 0..count {
        let len = crate::common::mixed_len(number, 2000);
        connection.send_timeout(&crate::common::message(number, len), PATIENCE).unwrap();
        let echo = connection.recv_timeout(PATIENCE).unwrap();
        crate::common::check(&echo, number, len);
    }
    crate::common::say("served");
}

impl Memory {
    /// Makes another descriptor of the same file.
    pub fn file_copy(&self) -> OwnedFd {
        self.file.try_clone().unwrap()
    }
}

/// Opens a descriptor that names a path and grants nothing.
pub fn open_path(path: &str) -> OwnedFd {
    let path = std::ffi::CString::new(path).unwrap();
    // SAFETY: a string with its end; a new descriptor is owned once.
    unsafe { OwnedFd::from_raw_fd(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC)) }
}

/// Makes a descriptor whose last close blocks for half a minute: a TCP socket that lingers over bytes which nobody reads.
/// The second socket is the one that does not read.
pub fn slow_to_close() -> io::Result<(OwnedFd, OwnedFd)> {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut socket = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (idle, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    while socket.write(&[0; 65536]).is_ok() {}
    socket.set_nonblocking(false)?;
    let linger = libc::linger { l_onoff: 1, l_linger: 30 };
    let bytes = mem::size_of::<libc::linger>() as u32;
    // SAFETY: the option's value outlives the call and has the stated size.
    let set = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, bytes)
    };
    if set == 0 { Ok((socket.into(), idle.into())) } else { Err(io::Error::last_os_error()) }
}
