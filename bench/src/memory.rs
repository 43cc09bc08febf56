//! What the allocator does with freed memory.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` in the enumeration of mimalloc's header; the bindings do not name it.
const PURGE_DELAY: mi_option_t = 15;

/// Milliseconds that freed memory is kept for the next allocation.
const KEPT: c_long = 10_000;

/// Keeps freed memory of a program that asks for the same buffers over and over.
///
/// By default mimalloc gives memory back that was free for 10 ms, and the kernel clears the pages when they are asked for
/// again: that was a fifth of the CPU time of a training step (docs/performance.md). Who sets `MIMALLOC_PURGE_DELAY`
/// decides for themselves.
pub(crate) fn keep_freed() {
    // SAFETY: the option exists, and a default may be set at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_the_environment_variable_sets() {
        keep_freed();
        // SAFETY: reading an option changes nothing.
        let kept = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let asked = std::env::var("MIMALLOC_PURGE_DELAY").ok();
        let asked = asked.and_then(|value| value.parse().ok());
        assert_eq!(kept, asked.unwrap_or(KEPT));
    }
}
