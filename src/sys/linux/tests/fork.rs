use super::super::fork::{ForkToken, PerProcess};
use super::super::memory::Mapping;
use super::{holds_in_child, is_alone};

#[test]
fn a_token_stays_current_in_its_own_process() {
    let token = ForkToken::current().unwrap();
    assert!(token.is_current());
    assert_eq!(ForkToken::current().unwrap(), token);
}

#[test]
fn a_token_of_the_parent_is_never_current_in_descendants() {
    if !is_alone("sys::platform::tests::fork::a_token_of_the_parent_is_never_current_in_descendants") {
        return;
    }
    let parent = ForkToken::current().unwrap();
    let held = holds_in_child(|| {
        let stale_before = !parent.is_current();
        let child = ForkToken::current().unwrap();
        let fresh = child.is_current() && child != parent && !parent.is_current();
        let grandchild_held = holds_in_child(|| {
            let grandchild = ForkToken::current().unwrap();
            let differs = grandchild != child && grandchild != parent;
            differs && grandchild.is_current() && !child.is_current() && !parent.is_current()
        });
        stale_before && fresh && grandchild_held && child.is_current()
    });
    assert!(held);
    assert!(parent.is_current(), "a child's tokens do not reach the parent");
}

#[test]
fn what_a_process_has_one_of_is_made_once_and_anew_in_a_child() {
    if !is_alone("sys::platform::tests::fork::what_a_process_has_one_of_is_made_once_and_anew_in_a_child") {
        return;
    }
    static NUMBER: PerProcess<u64> = PerProcess::new();
    assert_eq!(NUMBER.get(), None);
    NUMBER.get_or_make(|| Err(std::io::ErrorKind::OutOfMemory.into())).unwrap_err();
    assert_eq!(NUMBER.get_or_make(|| Ok(1)).unwrap(), &1);
    assert_eq!(NUMBER.get_or_make(|| panic!("made twice")).unwrap(), &1);
    let held = holds_in_child(|| {
        let forgotten = NUMBER.get().is_none();
        let anew = NUMBER.get_or_make(|| Ok(2)).unwrap() == &2;
        let grandchild = holds_in_child(|| NUMBER.get_or_make(|| Ok(3)).unwrap() == &3);
        forgotten && anew && grandchild && NUMBER.get() == Some(&2)
    });
    assert!(held);
    assert_eq!(NUMBER.get(), Some(&1));
}

#[test]
fn threads_that_make_it_at_the_same_time_get_the_same() {
    static OWNER: PerProcess<std::thread::ThreadId> = PerProcess::new();
    let barrier = std::sync::Barrier::new(8);
    let got: Vec<_> = std::thread::scope(|scope| {
        let make = || {
            barrier.wait();
            *OWNER.get_or_make(|| Ok(std::thread::current().id())).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(got.iter().all(|id| *id == got[0]));
}

#[test]
fn a_mapping_dropped_in_a_child_leaves_the_childs_memory_alone() {
    if !is_alone("sys::platform::tests::fork::a_mapping_dropped_in_a_child_leaves_the_childs_memory_alone") {
        return;
    }
    let mapping = Mapping::anonymous(4096).unwrap();
    let base = mapping.base().as_ptr();
    let held = holds_in_child(move || {
        assert_eq!(mapping.prefault().unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping; it fails where one exists, so
        // success shows that the parent's range is not mapped here.
        let own = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            libc::mmap(base.cast(), 4096, protection, flags, -1, 0)
        };
        if own != base.cast() {
            return false;
        }
        // SAFETY: `base` is the page mapped just above, readable and writable.
        unsafe { base.write_volatile(7) };
        drop(mapping);
        // SAFETY: as above, provided that the drop did not unmap it, which is the test.
        unsafe { base.read_volatile() == 7 }
    });
    assert!(held);
}
