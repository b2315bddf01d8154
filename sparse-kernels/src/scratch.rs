//! Growing buffers of every thread, so that a run allocates nothing once it is warm.

use std::cell::Cell;

/// Cache line size in floats: buffers start on such a boundary.
pub(crate) const LINE: usize = 16;

/// Floats from `start` to where the next line begins, at most one line.
pub(crate) fn to_line(start: *const f32) -> usize {
    // an interpreter may not say
    start.align_offset(LINE * size_of::<f32>()).min(LINE)
}

thread_local! {
    /// Those that are not lent.
    static BUFFERS: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Lends `f` a slice of `len` floats aligned to 64 bytes, with unspecified contents (never uninitialised).
///
/// A nested call gets another buffer, the same one every time.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = take();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let skip = to_line(buffer.as_ptr());
    let result = f(&mut buffer[skip..skip + len]);
    let mut buffers = BUFFERS.take();
    buffers.push(buffer);
    BUFFERS.set(buffers);
    result
}

fn take() -> Vec<f32> {
    let mut buffers = BUFFERS.take();
    let buffer = buffers.pop().unwrap_or_default();
    BUFFERS.set(buffers);
    buffer
}

#[cfg(test)]
mod tests {
    #[test]
    fn buffers_are_aligned_and_nest() {
        super::with(100, |outer| {
            outer.fill(1.0);
            super::with(10, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|v| *v == 1.0));
            if !cfg!(miri) {
                assert_eq!(outer.as_ptr() as usize % 64, 0);
            }
        });
    }
}
