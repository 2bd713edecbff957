//! Machines, and the expected output of core.

use df11::frame::{self, ElementType};
use df11::{EncodeOptions, EncodedUnit, Error, Plan};
use df11_emulator::{Counters, Options, Policy};
use df11_gpu::encode::{Kernels, Machine, Pass, Tensor, Tiling, frame_of_blocks, planned_unit};
use df11_gpu_lab::machine::{Emulated, Error as EmulatedError};
use df11_tests::weights::{Random, fibonacci_exponents, like_trained};

/// The compute capabilities that have kernels of their own.
pub(crate) const CAPABILITIES: [i32; 4] = [75, 80, 90, 100];

/// Makes options that depend on a number: the order of lanes, and the order of warps.
pub(crate) fn options(number: u64) -> Options {
    let policy = if number.is_multiple_of(2) { Policy::Together } else { Policy::Apart { seed: number } };
    Options { policy, order: number, ..Options::default() }
}

pub(crate) fn machines() -> [Emulated; 4] {
    CAPABILITIES.map(|capability| Emulated::new(capability, Options::default()).unwrap())
}

#[track_caller]
pub(crate) fn is_clean(machine: &Emulated, what: &str) {
    let found: Vec<String> = machine.findings().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
    assert_eq!(machine.undefined(), 0, "{what}: bytes that no kernel has written");
}

/// Uploads tensors to unaligned addresses: `skipped` bytes, and more for each tensor, after those
/// of buffers.
pub(crate) fn upload(machine: &mut Emulated, tensors: &[&[u8]], skipped: usize) -> (Vec<Tensor>, Vec<u64>) {
    let (mut placed, mut buffers) = (Vec::new(), Vec::new());
    for (i, tensor) in tensors.iter().enumerate() {
        let skipped = skipped * (i + 1);
        let buffer = machine.allocate(tensor.len() + skipped).unwrap();
        machine.write(buffer + skipped as u64, tensor).unwrap();
        placed.push(Tensor { address: buffer + skipped as u64, elements: tensor.len() / 2 });
        buffers.push(buffer);
    }
    (placed, buffers)
}

/// Encodes a unit on a machine, and frees all memory.
pub(crate) fn encode(
    machine: &mut Emulated,
    tensors: &[&[u8]],
    skipped: usize,
    tiling: Tiling,
    plan: impl Fn(&[u64; 256]) -> Result<Plan, Error>,
) -> Result<EncodedUnit, EmulatedError> {
    let (placed, buffers) = upload(machine, tensors, skipped);
    let result = planned_unit(machine, &placed, tiling, plan).and_then(|unit| {
        let found = unit.download(machine)?;
        unit.free(machine)?;
        Ok(found)
    });
    buffers.into_iter().for_each(|buffer| machine.free(buffer).unwrap());
    result
}

/// Makes the best code for the weights.
pub(crate) fn best(tensors: usize) -> impl Fn(&[u64; 256]) -> Result<Plan, Error> {
    move |frequencies| Plan::from_frequencies(frequencies, tensors, &EncodeOptions::default())
}

/// Compares two units, and reports the first part that differs, and from where on.
#[track_caller]
pub(crate) fn is_same(found: &EncodedUnit, expected: &EncodedUnit, what: &str) {
    for ((name, _), (found, expected)) in df11::PARTS
        .iter()
        .zip(found.as_slices().into_array().into_iter().zip(expected.as_slices().into_array()))
    {
        let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (expected.len(), None), "{what}: {name}");
    }
}

/// Makes exponents of all kinds: few and many, flat and skewed, long runs, long codewords.
pub(crate) fn exponents(random: &mut Random, n: usize) -> Vec<u8> {
    let first = random.below(200) as u8;
    let alphabet = 1 + random.below(40) as u8;
    match random.below(7) {
        0 => (0..n).map(|_| (random.next() % 240) as u8).collect(),
        1 => (0..n).map(|_| first + random.below(u64::from(alphabet)) as u8).collect(),
        // The frequencies halve, so there is a codeword of each length.
        2 => (0..n).map(|_| first + (random.next().trailing_zeros() as u8).min(39)).collect(),
        // Runs of one bit each, occasionally interrupted.
        3 => (0..n).map(|i| first + u8::from(i % 977 == 0)).collect(),
        // Codewords of up to 23 bits, in clusters.
        4 => {
            let mut all = fibonacci_exponents(first, 24, random.next());
            let at = random.below(all.len() as u64) as usize;
            all.rotate_left(at);
            all.into_iter().cycle().take(n).collect()
        }
        // The rare exponents stand side by side, so that four codewords do not fit a register.
        5 => {
            let mut all = fibonacci_exponents(first, 22, random.next());
            all.sort_unstable();
            let at = random.below(all.len() as u64) as usize;
            all.rotate_left(at);
            all.into_iter().cycle().take(n).collect()
        }
        _ => like_trained(n, random.next()).into_iter().map(|bits| (bits >> 7) as u8).collect(),
    }
}

/// Returns a number of weights, often a small one.
pub(crate) fn size(random: &mut Random) -> usize {
    let most = [3, 40, 600, 4000, 12_000][random.below(5) as usize];
    1 + random.below(most) as usize
}

/// Cuts weights into tensors at random places; some tensors are empty.
pub(crate) fn cut<'a>(random: &mut Random, weights: &'a [u8]) -> Vec<&'a [u8]> {
    let n = weights.len() / 2;
    let mut cuts: Vec<usize> =
        (0..random.below(5)).map(|_| 2 * random.below(n as u64 + 1) as usize).collect();
    cuts.extend([0, weights.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &weights[cut[0]..cut[1]]).collect()
}

pub(crate) const TYPES: [ElementType; 6] = ElementType::ALL;

/// Makes elements whose coded bytes are of all kinds.
pub(crate) fn elements(random: &mut Random, element_type: ElementType, n: usize) -> Vec<u8> {
    let exponents = exponents(random, n);
    let flat = random.below(5) == 0;
    let element = |exponent: u8| {
        let (other, exponent) = (random.next() as u32, if flat { random.next() as u8 } else { exponent });
        let bytes = match element_type {
            ElementType::Bf16 => (u32::from(exponent) << 7 | other & 0x807f).to_le_bytes(),
            ElementType::F16 => (u32::from(exponent) << 8 | other & 0xff).to_le_bytes(),
            ElementType::F32 => (u32::from(exponent) << 23 | other & 0x807f_ffff).to_le_bytes(),
            _ => u32::from(exponent).to_le_bytes(),
        };
        bytes.into_iter().take(element_type.bytes())
    };
    exponents.into_iter().flat_map(element).collect()
}

/// Encodes a frame on a machine, and frees all memory.
pub(crate) fn encode_frame(
    machine: &mut Emulated,
    block_len: usize,
    element_type: ElementType,
    elements: &[u8],
    skipped: usize,
) -> Vec<u8> {
    let buffer = machine.allocate(elements.len() + skipped).unwrap();
    machine.write(buffer + skipped as u64, elements).unwrap();
    let shape = [(elements.len() / element_type.bytes()) as u64];
    let frame = frame_of_blocks(machine, block_len, element_type, &shape, buffer + skipped as u64).unwrap();
    let found = machine.download(frame.address, frame.bytes).unwrap();
    machine.free(buffer).unwrap();
    machine.free(frame.address).unwrap();
    found
}

/// Encodes the frame with core.
pub(crate) fn frame_of_core(block_len: usize, element_type: ElementType, elements: &[u8]) -> Vec<u8> {
    let shape = [(elements.len() / element_type.bytes()) as u64];
    let counts = frame::count(element_type, elements).unwrap();
    let mut encoder =
        frame::EncodeOptions::new().block_len(block_len).encoder(element_type, &shape, &counts).unwrap();
    let mut bytes = encoder.header();
    for block in elements.chunks(block_len * element_type.bytes()) {
        bytes.extend_from_slice(encoder.blocks(block).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

/// Divides the counts by the number of elements.
pub(crate) fn per_element(counters: &Counters, elements: usize) -> [String; 5] {
    let Counters {
        warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts, ..
    } = counters;
    [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts]
        .map(|count| format!("{:.4}", *count as f64 / elements as f64))
}

/// Finds the lines of a PTX text at which threads wait for each other, counted from 0, and the
/// kernels that contain them.
pub(crate) fn barriers(text: &str) -> Vec<(usize, String)> {
    let mut entry = String::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some((_, rest)) = line.split_once(".entry ") {
            entry = rest.trim_end_matches('(').to_owned();
        } else if line.trim().starts_with("bar.") {
            found.push((number, entry.clone()));
        }
    }
    found
}

/// Runs a kernel that sums over many tiles or blocks, several at a time.
pub(crate) fn add_up(machine: &mut Emulated, kernels: Kernels, entry: &'static str) {
    let number = 3000;
    let [offsets, code, status] = [8 * (number + 1), 4 * number, 8].map(|len| machine.allocate(len).unwrap());
    let positions = machine.allocate(8).unwrap();
    let n = number as u64;
    let arguments = match kernels {
        Kernels::Df11 => {
            let bits = machine.upload(&[7, 0, 0, 0].repeat(number)).unwrap();
            vec![bits, n, offsets, code, 7 * n, positions, 1, n, status]
        }
        _ => vec![0, 4096 * n, 4096, n, 1, 64, offsets],
    };
    machine.run(&Pass { kernels, entry, thread_blocks: 1, arguments }).unwrap();
}
