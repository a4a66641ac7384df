//! Threads that compute stand back for those that wait on the network.

/// The largest value that [`stand_back`] knows.
pub const NICE_MAX: u8 = 19;

/// Makes the calling thread, and no other, give way to threads of the process (and of its control group) that want the
/// processor: 0 not at all, 5 by three to one, 19 wholly. Where the system has no such thing, or does not allow it, nothing
/// changes: what a thread computes does not depend on it.
pub fn stand_back(nice: u8) {
    #[cfg(target_os = "linux")]
    if nice > 0 {
        let wanted = i32::from(nice.min(NICE_MAX));
        // SAFETY: system calls on numbers. On Linux, 0 names the calling thread, and being nicer needs no right. Being less nice than a
        // process was started with does, and is not what was asked for.
        unsafe {
            if libc::getpriority(libc::PRIO_PROCESS, 0) < wanted {
                libc::setpriority(libc::PRIO_PROCESS, 0, wanted);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn nice() -> i32 {
        // SAFETY: as above.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn the_thread_that_asks_stands_back_and_the_others_do_not() {
        let before = nice();
        let after = std::thread::spawn(move || {
            stand_back(7);
            nice()
        });
        assert_eq!(after.join().expect("it ends"), before.max(7));
        assert_eq!(nice(), before);
    }
}
