//! Applies deltas with the kernels of `delta_apply.cu`, in the emulator.

use df11_emulator::{Device, Error, Launch, Module, Options, Report};
use df11_gpu::delta::{ALL_RIGHT, DeltaFault, Launches, Placed, Upload};
use df11_gpu::kernels::THREADS;

use crate::emulate::{BASE, statuses, upload};

/// A delta, checked, and the tensor that it is applied to, at an address of its own.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// The delta.
    pub delta: Upload<'a>,
    /// The bytes of the tensor, of which the memory has as many as the result.
    pub base: &'a [u8],
    /// Bytes of the delta's blocks that are others on the device: their place, and what they are.
    pub damage: Vec<(usize, u8)>,
}

/// What became of deltas.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The elements of each tensor.
    pub elements: Vec<Vec<u8>>,
    /// What is wrong with each delta or its base.
    pub faults: Vec<Option<DeltaFault>>,
    /// The report of each launch, and its kernel's name.
    pub reports: Vec<(&'static str, Report)>,
}

/// Uploads a delta; returns what launches need, and the bytes of its result.
fn place(device: &mut Device, item: &Item<'_>) -> Placed {
    let mut parts = item.delta.parts().map(<[u8]>::to_vec);
    for (at, byte) in &item.damage {
        if let Some(to) = parts[2].get_mut(*at) {
            *to = *byte;
        }
    }
    item.delta.placed(parts.map(|part| upload(device, &part, 0)))
}

/// Applies deltas together, with at most this many thread blocks, over tensors that begin `skipped`
/// bytes after the start of a buffer. Each buffer ends with its result.
///
/// # Errors
///
/// The errors of [`Module::launch`], and [`Error::Launch`] for too many blocks.
///
/// ```
/// use df11::{delta, frame::ElementType};
/// use df11_emulator::Module;
/// use df11_gpu::{delta::Upload, kernels::DELTA_APPLY};
/// use df11_gpu_lab::delta::{Item, apply};
///
/// let (base, new) = ([1; 5000], [[1; 2500], [3; 2500]].concat());
/// let bytes = delta::encode(ElementType::U8, &new, &base)?;
/// let item = Item { delta: Upload::new(&bytes)?, base: &base, damage: Vec::new() };
/// let applied = apply(&Module::parse(DELTA_APPLY[0].text)?, &[item], 1, 0, &Default::default())?;
/// assert_eq!((applied.elements, applied.faults), (vec![new], vec![None]));
/// assert!(applied.reports.iter().all(|(_, report)| report.findings.is_empty()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn apply(
    module: &Module,
    items: &[Item<'_>],
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Applied, Error> {
    let mut device = Device::new();
    let placed: Vec<Placed> = items.iter().map(|item| place(&mut device, item)).collect();
    let tensors: Vec<u64> = items
        .iter()
        .zip(&placed)
        .map(|(item, placed)| {
            let tensor = device.allocate(skipped + placed.bytes()) + skipped as u64;
            device.write(tensor, &item.base[..item.base.len().min(placed.bytes())]);
            tensor
        })
        .collect();
    let at: Vec<(&Placed, u64)> = placed.iter().zip(tensors.iter().map(|tensor| tensor - BASE)).collect();
    let scratch = upload(&mut device, &vec![0; Launches::scratch_bytes(&placed) as usize], 0);
    let Some(launches) = Launches::new(&at, scratch) else {
        return Err(Error::Launch { problem: "too many blocks".to_owned() });
    };
    let parts = launches.parts().map(|part| upload(&mut device, part, 0));
    device.write(scratch, &ALL_RIGHT.to_le_bytes().repeat(launches.statuses() as usize));
    let mut reports = Vec::new();
    for launch in launches.launches(parts, scratch, BASE) {
        let grid = [launch.thread_blocks.min(grid).max(1), 1, 1];
        let arguments = &launch.arguments[..];
        let shape = Launch { grid, block: [THREADS, 1, 1], shared_bytes: 0, arguments };
        reports.push((launch.entry, module.launch(launch.entry, &mut device, &shape, options)?));
    }
    let faults = statuses(&mut device, scratch, items.len());
    let faults = faults.into_iter().zip(&placed).map(|(status, placed)| DeltaFault::of(status, placed));
    let elements = tensors.iter().zip(&placed);
    let elements = elements.map(|(tensor, placed)| device.read(*tensor, placed.bytes()).to_vec());
    Ok(Applied { faults: faults.collect(), elements: elements.collect(), reports })
}
