//! A delta and its base as one input, as the batch protocol carries them: four bytes, the length of
//! the base, little-endian; the base; the delta.

/// Bytes of the length.
const LENGTH: usize = 4;

/// Joins a delta and its base.
///
/// # Errors
///
/// If the base has 2^32 bytes or more.
///
/// ```
/// use df11_judge::pair;
///
/// let input = pair::join(b"delta", b"the base")?;
/// assert_eq!(pair::split(&input), Some((&b"delta"[..], &b"the base"[..])));
/// # Ok::<(), String>(())
/// ```
pub fn join(delta: &[u8], base: &[u8]) -> Result<Vec<u8>, String> {
    let len = u32::try_from(base.len()).map_err(|_| "the base is too long".to_owned())?;
    Ok([&len.to_le_bytes()[..], base, delta].concat())
}

/// The delta and the base of an input; `None` if the input ends before the base does.
#[must_use]
pub fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = input.split_first_chunk::<LENGTH>()?;
    let (base, delta) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((delta, base))
}
