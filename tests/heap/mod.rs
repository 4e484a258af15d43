//! Counts the bytes on this process's heap, all threads together, and reads its resident memory.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

/// How long nothing may be freed for the heap to be at rest.
const REST: Duration = Duration::from_millis(300);

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches an atomic only.
#[expect(unsafe_code, reason = "a global allocator cannot be had without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes on the heap.
pub fn live() -> isize {
    LIVE.load(Ordering::SeqCst)
}

/// Bytes on the heap and resident, once closed connections have given back what they held.
#[allow(clippy::disallowed_methods, reason = "real time: the server runs on it")]
pub async fn at_rest() -> (isize, usize) {
    let mut lowest = (live(), Instant::now());
    while lowest.1.elapsed() < REST {
        if live() < lowest.0 {
            lowest = (live(), Instant::now());
        }
        tokio::task::yield_now().await;
    }
    (lowest.0, resident())
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process, in bytes, without what the allocator happens to keep for later.
pub fn resident() -> usize {
    give_back();
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's own function")]
fn give_back() {
    // SAFETY: it takes any number, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
