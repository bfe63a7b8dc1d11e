//! What simulated replicas take from the operating system: the time, random bytes,
//! and waiting.
//!
//! Everything that runs here, crates included, asks libc for these. This test binary
//! defines the three functions itself, so that they are the simulation's on the thread
//! that simulates, and libc's everywhere else. So not one line of the product has to
//! know of a simulated clock, and nothing can escape it.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Poll, Waker};

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// Nanoseconds of the machine whose turn it is.
    static MONOTONIC: Cell<u64> = const { Cell::new(0) };
    static REALTIME: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// What the runtime that is idle wants to wait for, in milliseconds; negative: nothing.
    static IDLE: Cell<Option<c_int>> = const { Cell::new(None) };
    static WAITS_FOR_IDLE: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static STOPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on this thread has the simulation's time and randomness.
pub fn simulate(seed: u64) {
    RANDOM.set(seed);
    SIMULATED.set(true);
}

/// Whether this thread simulates.
pub fn is_simulated() -> bool {
    SIMULATED.get()
}

/// Sets the clocks of the machine whose turn it is.
pub fn set_clocks(monotonic: u64, realtime: u64) {
    MONOTONIC.set(monotonic);
    REALTIME.set(realtime);
}

/// Returns when the runtime that polls this has nothing left to do now, with the
/// milliseconds until it has; `None`: nothing is due ever.
pub async fn idle() -> Option<u32> {
    IDLE.set(None);
    let wait = std::future::poll_fn(|context| match IDLE.get() {
        Some(timeout) => Poll::Ready(timeout),
        None => {
            WAITS_FOR_IDLE.set(Some(context.waker().clone()));
            Poll::Pending
        }
    });
    u32::try_from(wait.await).ok()
}

/// Stands in for the end of a process: the replica that runs says why, and stops.
pub fn stop_replica(why: &str) {
    if is_simulated() {
        note_stop(why);
        panic!("the replica stops: {why}");
    }
}

/// Remembers the first reason why a replica stopped by itself.
pub fn note_stop(why: &str) {
    STOPPED.with_borrow_mut(|stopped| {
        stopped.get_or_insert_with(|| why.to_owned());
    });
}

/// Why a replica has stopped by itself, if one has.
pub fn stopped() -> Option<String> {
    STOPPED.with_borrow(Clone::clone)
}

/// `struct timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// libc's own function of that name.
fn next(cache: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;
    let known = cache.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "libc has {name:?}");
    cache.store(found, Ordering::Relaxed);
    found
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let nanoseconds = match clock {
        // CLOCK_REALTIME and its coarse kind
        0 | 5 if is_simulated() => REALTIME.get(),
        // CLOCK_MONOTONIC, raw, coarse, and CLOCK_BOOTTIME
        1 | 4 | 6 | 7 if is_simulated() => MONOTONIC.get(),
        _ => {
            // SAFETY: libc's function has this type.
            let real: unsafe extern "C" fn(c_int, *mut Timespec) -> c_int =
                unsafe { std::mem::transmute(next(&NEXT, c"clock_gettime")) };
            // SAFETY: the caller's own arguments.
            return unsafe { real(clock, time) };
        }
    };
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let seconds = i64::try_from(seconds).expect("a time that fits");
    // SAFETY: the caller's pointer, as for libc's function.
    unsafe { time.write(Timespec { seconds, nanoseconds: c_long::try_from(rest).expect("less than a second") }) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    if !is_simulated() {
        // SAFETY: libc's function has this type.
        let real: unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize =
            unsafe { std::mem::transmute(next(&NEXT, c"getrandom")) };
        // SAFETY: the caller's own arguments.
        return unsafe { real(buffer, length, flags) };
    }
    for at in 0..length {
        // SAFETY: the caller's buffer has this length.
        unsafe { buffer.cast::<u8>().add(at).write(random().to_le_bytes()[7]) };
    }
    isize::try_from(length).expect("a length that fits")
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut c_void, capacity: c_int, timeout: c_int) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    if !is_simulated() {
        // SAFETY: libc's function has this type.
        let real: unsafe extern "C" fn(c_int, *mut c_void, c_int, c_int) -> c_int =
            unsafe { std::mem::transmute(next(&NEXT, c"epoll_wait")) };
        // SAFETY: the caller's own arguments.
        return unsafe { real(epoll, events, capacity, timeout) };
    }
    // A runtime that only looks whether there is something has work to do.
    if timeout != 0 {
        IDLE.set(Some(timeout));
        if let Some(waker) = WAITS_FOR_IDLE.take() {
            waker.wake();
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant, SystemTime};

    #[test]
    fn time_randomness_and_waiting_are_the_simulations() {
        let run = || {
            let thread = std::thread::spawn(|| {
                simulate(7);
                set_clocks(5_000_000_000, 9_000_000_000);
                assert_eq!(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap(), Duration::from_secs(9));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let begun = Instant::now();
                let task = runtime.spawn(async {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    Instant::now()
                });
                let mut now = 5_000_000_000;
                while let Some(millis) = runtime.block_on(idle()) {
                    now += u64::from(millis) * 1_000_000;
                    set_clocks(now, now);
                }
                assert_eq!(runtime.block_on(task).unwrap() - begun, Duration::from_secs(3600));
                rand::random::<u64>()
            });
            thread.join().unwrap()
        };
        assert_eq!(run(), run());
    }
}
