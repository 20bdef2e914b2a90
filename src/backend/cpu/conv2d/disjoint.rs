//! A slice that tasks write different parts of.

use std::marker::PhantomData;

/// A mutable slice shared by tasks whose parts do not overlap, though they are no contiguous chunks.
pub(super) struct Disjoint<'a, T> {
    pointer: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose parts are handed out under the promise of `part`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above: no two threads reach one element.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// `slice[start..start + len]`.
    ///
    /// # Safety
    /// No other part that is alive holds any of these elements.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint")]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part lies inside the slice");
        // SAFETY: inside the slice by the line above, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }

    /// Where `rows` parts of `width` elements begin, each `stride` after the one before. Writing there is the caller's to
    /// justify, as in [`Disjoint::part`].
    #[inline(always)]
    pub(super) fn rows(&self, start: usize, rows: usize, stride: usize, width: usize) -> *mut T {
        assert!(
            rows > 0 && start + (rows - 1) * stride + width <= self.len,
            "the parts lie inside the slice"
        );
        // SAFETY: inside the slice by the line above.
        unsafe { self.pointer.add(start) }
    }
}
