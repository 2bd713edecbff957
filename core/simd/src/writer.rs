//! Weights on their way to memory.

use crate::Simd;

/// Merges planes into weights, past the caches if asked to.
///
/// A store that goes past the caches spares the read of the line it overwrites: with outputs that
/// no cache could hold anyway, decoding gained a quarter from it. Such stores become visible late;
/// so a writer has the weights to itself, and everything is visible when [`lend`](Self::lend)
/// returns.
#[derive(Debug)]
pub struct Writer<'a, S: Simd> {
    simd: S,
    weights: &'a mut [u8],
    stream: bool,
    /// What has to be added to the index of a weight so that multiples of 64 begin at an address
    /// that is a multiple of 128.
    phase: usize,
}

impl<S: Simd> Drop for Writer<'_, S> {
    fn drop(&mut self) {
        self.simd.fence();
    }
}

/// Work that a [`Writer`] is lent to.
pub trait Write {
    /// What it gives back.
    type Output;

    /// Does the work; should be `#[inline(always)]`, as an [`Operation`](crate::Operation).
    fn run<S: Simd>(self, simd: S, writer: &mut Writer<'_, S>) -> Self::Output;
}

impl<S: Simd> Writer<'_, S> {
    /// Weights that are merged as one vector operation.
    pub const GROUP: usize = 64;

    /// Lends `work` a writer of these weights, two bytes each. With `stream`, it goes past the
    /// caches.
    #[inline(always)]
    pub fn lend<W: Write>(simd: S, weights: &mut [u8], stream: bool, work: W) -> W::Output {
        let address = weights.as_ptr().addr();
        // Weights at an odd address are never aligned.
        let stream = stream && address.is_multiple_of(2);
        // The writer is not given away, only lent: so it is surely dropped here, with the fence in
        // it.
        work.run(simd, &mut Writer { simd, weights, stream, phase: address / 2 })
    }

    /// How many of the `pending` weights from index `at` on to merge now, so that the next begin a
    /// group.
    #[inline(always)]
    #[must_use]
    pub fn whole_groups(&self, at: usize, pending: usize) -> usize {
        pending.saturating_sub((self.phase + at + pending) % Self::GROUP)
    }

    /// Merges weights from index `at` on.
    ///
    /// # Panics
    ///
    /// If the planes differ in length, or the weights end before.
    #[inline(always)]
    pub fn merge(&mut self, at: usize, exponents: &[u8], sign_mantissas: &[u8]) {
        assert_eq!(exponents.len(), sign_mantissas.len(), "planes of one tensor");
        let weights = &mut self.weights[2 * at..2 * (at + exponents.len())];
        let first = self.phase + at;
        if first.is_multiple_of(Self::GROUP) {
            // Nearly always, since `whole_groups` arranges it.
            return Self::merge_groups(self.simd, self.stream, exponents, sign_mantissas, weights);
        }
        let head = (Self::GROUP - first % Self::GROUP).min(exponents.len());
        let (head_weights, weights) = weights.split_at_mut(2 * head);
        merge_few(&exponents[..head], &sign_mantissas[..head], head_weights);
        Self::merge_groups(self.simd, self.stream, &exponents[head..], &sign_mantissas[head..], weights);
    }

    /// Merges planes that begin with a group.
    #[inline(always)]
    fn merge_groups(simd: S, stream: bool, exponents: &[u8], sign_mantissas: &[u8], weights: &mut [u8]) {
        let (groups, rest) = exponents.as_chunks::<64>();
        let (groups_sm, rest_sm) = sign_mantissas.as_chunks::<64>();
        let (groups_weights, rest_weights) = weights.as_chunks_mut::<128>();
        for ((e, sm), weights) in groups.iter().zip(groups_sm).zip(groups_weights) {
            let (e, sm, weights) = (e.as_ptr(), sm.as_ptr(), weights.as_mut_ptr());
            // SAFETY: the arrays are as long as `merge_64` asks for. Groups begin at multiples of
            // 128 bytes if the address of the first weight is even, which `lend` has made sure of
            // where `stream` is true; dropping the writer fences.
            unsafe {
                if stream {
                    simd.merge_64::<true>(e, sm, weights);
                } else {
                    simd.merge_64::<false>(e, sm, weights);
                }
            }
        }
        if !rest.is_empty() {
            merge_few(rest, rest_sm, rest_weights);
        }
    }

    /// Asks for the sign and mantissa at index `at`, which may lie past the end, ahead of time.
    #[inline(always)]
    pub fn prefetch(&self, sign_mantissas: &[u8], at: usize) {
        self.simd.prefetch(sign_mantissas.as_ptr().wrapping_add(at));
    }
}

/// Merges one by one.
#[inline(never)]
fn merge_few(exponents: &[u8], sign_mantissas: &[u8], weights: &mut [u8]) {
    for ((weight, e), sm) in weights.as_chunks_mut::<2>().0.iter_mut().zip(exponents).zip(sign_mantissas) {
        let (e, sm) = (u16::from(*e), u16::from(*sm));
        *weight = ((sm & 0x80) << 8 | e << 7 | sm & 0x7f).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Operation};

    struct Merge<'a> {
        at: usize,
        planes: (&'a [u8], &'a [u8]),
    }

    impl Write for Merge<'_> {
        type Output = ();

        fn run<S: Simd>(self, _: S, writer: &mut Writer<'_, S>) {
            let whole = writer.whole_groups(self.at, self.planes.0.len());
            let (first, last) = self.planes.0.split_at(whole);
            let (first_sm, last_sm) = self.planes.1.split_at(whole);
            writer.merge(self.at, first, first_sm);
            writer.merge(self.at + whole, last, last_sm);
        }
    }

    struct MergeInto<'a>(&'a mut [u8], bool, Merge<'a>);

    impl Operation for MergeInto<'_> {
        type Output = ();

        fn run<S: Simd>(self, simd: S) {
            Writer::lend(simd, self.0, self.1, self.2);
        }
    }

    #[test]
    fn every_level_merges_alike_at_every_alignment_and_length() {
        let e: [u8; 400] = core::array::from_fn(|i| (i * 151 % 256) as u8);
        let sm: [u8; 400] = core::array::from_fn(|i| (i * 91 % 253) as u8);
        for level in Level::all() {
            for stream in [false, true] {
                for offset in [0, 1, 2, 62, 126, 127] {
                    for len in [0, 1, 63, 64, 65, 127, 128, 200, 300] {
                        let (mut found, mut expected) = ([7u8; 1024], [7u8; 1024]);
                        let planes = (&e[..len], &sm[..len]);
                        merge_few(planes.0, planes.1, &mut expected[offset + 6..][..2 * len]);
                        level.dispatch(MergeInto(&mut found[offset..], stream, Merge { at: 3, planes }));
                        assert_eq!(found, expected, "{level:?} {stream} {offset} {len}");
                    }
                }
            }
        }
    }
}
