//! Levels of instructions.

use core::fmt;

use df11_simd::Operation;

/// An instruction set that this machine has: AVX-512, AVX2, NEON or the portable baseline.
///
/// The best level is chosen automatically. The `at_level` methods take a lower one, for tests and
/// benchmarks. A level can only be obtained where its instructions are.
///
/// ```
/// use df11::Level;
///
/// assert_eq!(Level::all().next().map(Level::name), Some("scalar"));
/// assert!(Level::all().any(|level| level == Level::best()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(df11_simd::Level);

impl Level {
    /// The levels of this machine, from the lowest to the best; at least one, `scalar`.
    pub fn all() -> impl Iterator<Item = Level> {
        df11_simd::Level::all().map(Level)
    }

    /// The best level of this machine, or the one that the build was told to stop at.
    #[must_use]
    pub fn best() -> Level {
        Level(df11_simd::Level::best())
    }

    /// The level with this name, if the machine has it.
    ///
    /// ```
    /// use df11::Level;
    ///
    /// assert!(Level::named("scalar").is_some());
    /// assert!(Level::named("abacus").is_none());
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Level> {
        df11_simd::Level::named(name).map(Level)
    }

    /// `scalar`, `avx2`, `avx512` or `neon`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether this level codes 64 symbols at a time.
    #[cfg(feature = "alloc")]
    pub(crate) const fn has_groups(self) -> bool {
        self.0.has_groups()
    }

    /// Runs an operation, compiled for this level.
    #[inline]
    pub(crate) fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        self.0.dispatch(operation)
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
