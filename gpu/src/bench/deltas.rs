//! The speed of updates, which apply deltas in place.

use df11::delta::EncodeOptions;
use df11::frame::ElementType;

use super::{Bench, Options, Row};
use crate::{Delta, Error, Gpu, Memory, Update};

/// Tensors begin at multiples of this number of bytes.
const ALIGNED: usize = 256;

/// Tensors and what they became, in the memory of a device.
struct Placed<'a> {
    /// A tensor and its place, for each copy.
    tensors: Vec<(&'a [u8], usize)>,
    /// The bases, to begin again from.
    bases: Memory,
    /// What is updated.
    elements: Memory,
}

/// Makes a delta of each BF16 tensor, given as what it became and as it was, and applies all of
/// them in one update, in as many copies as `at_least` demands. Compares the result with what the
/// tensors became, and then times each repetition. Each begins with the bases again, which are
/// copied there before the time runs.
///
/// The first row is that of a copy. Then come deltas as `df11` makes them, and others whose blocks
/// are shorter: a warp takes a block, so a card has more to do at a time.
///
/// # Errors
///
/// An error for tensors of which no delta can be made; [`Error::Driver`]; [`Error::Different`] if
/// the device gives another result.
pub fn delta_rows(gpu: &Gpu, pairs: &[(&[u8], &[u8])], options: &Options<'_>) -> Result<Vec<Row>, Error> {
    let bytes: usize = pairs.iter().map(|(new, _)| new.len()).sum();
    let copies = options.at_least.div_ceil(bytes.max(1)).max(1);
    let placed = place(gpu, pairs, copies)?;
    let total = Options { at_least: copies * bytes, ..*options };
    let mut rows = vec![Bench { gpu, weights: &[], options: &total }.copy()?];
    for block in [None, Some(1 << 16), Some(1 << 14)] {
        rows.push(update_row(gpu, pairs, &placed, block, options)?);
    }
    Ok(rows)
}

/// Measures an update by deltas with blocks of this many elements, or as many as `df11` chooses.
fn update_row(
    gpu: &Gpu,
    pairs: &[(&[u8], &[u8])],
    placed: &Placed<'_>,
    block: Option<usize>,
    options: &Options<'_>,
) -> Result<Row, Error> {
    let how = block.map_or(EncodeOptions::new(), |block| EncodeOptions::new().block(block));
    let encoded = pairs.iter().map(|(new, base)| how.encode(ElementType::Bf16, new, base));
    let encoded: Vec<Vec<u8>> = encoded.collect::<Result<_, df11::Error>>()?;
    let bytes: usize = pairs.iter().map(|(new, _)| new.len()).sum();
    let copies = placed.tensors.len() / pairs.len().max(1);
    // Each copy has deltas of its own, so that no cache has them from the copy before.
    let all = (0..copies).flat_map(|_| &encoded);
    let deltas: Vec<Delta> = all.map(|bytes| gpu.upload_delta(bytes)).collect::<Result<_, Error>>()?;
    let items: Vec<(&Delta, u64)> =
        deltas.iter().zip(placed.tensors.iter().map(|(_, at)| *at as u64)).collect();
    let update = Update::new(gpu, &items)?;

    let seconds = times(gpu, &update, placed, options.repetitions)?;
    let size = encoded.iter().map(Vec::len).sum::<usize>() as f64 / bytes.max(1) as f64;
    let blocks = block.map_or(String::new(), |block| format!(", blocks of {block}"));
    let name = format!("an update of {} deltas, in place{blocks}", update.len());
    Ok(Row { name, bytes: (copies * bytes) as u64, size, seconds })
}

/// Uploads copies of the bases, and makes room for what they become.
fn place<'a>(gpu: &Gpu, pairs: &[(&'a [u8], &[u8])], copies: usize) -> Result<Placed<'a>, Error> {
    let (mut bytes, mut tensors) = (Vec::new(), Vec::new());
    for _ in 0..copies {
        for (new, base) in pairs {
            tensors.push((*new, bytes.len()));
            let end = bytes.len() + new.len().max(base.len());
            bytes.extend_from_slice(base);
            bytes.resize(end.next_multiple_of(ALIGNED), 0);
        }
    }
    Ok(Placed { tensors, bases: gpu.copy(&bytes)?, elements: gpu.allocate(bytes.len())? })
}

/// Applies an update once and compares what it gives, and then times it.
fn times(gpu: &Gpu, update: &Update, placed: &Placed<'_>, repetitions: usize) -> Result<Vec<f64>, Error> {
    let Placed { bases, elements, .. } = placed;
    let stream = gpu.stream();
    // SAFETY: both are memory of this device of this many bytes, and stay until the stream is done.
    // Nothing else uses them.
    let restore =
        || unsafe { gpu.enqueue_copy(stream.as_raw(), bases.address(), elements.address(), bases.len()) };
    // SAFETY: the stream is the device's own. The memory has room for all results, which do not
    // overlap. It and the update stay until the stream is done.
    let apply = || unsafe { update.enqueue(stream.as_raw(), elements.address()) };
    // SAFETY: the stream is that of all launches.
    let check = || unsafe { update.check(stream.as_raw()) };
    restore()?;
    apply()?;
    check()?;
    let found = elements.to_host()?;
    let is_right = |(new, at): &(&[u8], usize)| found.get(*at..at + new.len()) == Some(*new);
    if let Some(item) = placed.tensors.iter().position(|tensor| !is_right(tensor)) {
        return Err(Error::Different { item });
    }
    let mut seconds = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        restore()?;
        seconds.push(gpu.time(stream, apply)?.as_secs_f64());
        check()?;
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}
