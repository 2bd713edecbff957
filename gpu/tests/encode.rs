//! The kernels that encode, run by the emulator: what they write is what core writes, byte for
//! byte, and nothing else is wrong with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

use df11::Error;
use df11::frame::{self, Codec, ElementType, Frame};
use df11::huffman::CodeLengths;
use df11::{EncodeOptions, EncodedUnit, Plan};
use df11_emulator::{Counters, Kind, Options, Policy};
use df11_gpu::encode::{Kernels, Machine, Pass, Tensor, Tiling, frame_of_blocks, planned_unit};
use df11_gpu_lab::machine::{Emulated, Error as EmulatedError};
use df11_tests::weights::{Random, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{cases, corpus};

/// Compute capabilities of which each has kernels of its own.
const CAPABILITIES: [i32; 4] = [75, 80, 90, 100];

/// Options that differ with a number: who goes first, in which order.
fn options(number: u64) -> Options {
    let policy = if number.is_multiple_of(2) { Policy::Together } else { Policy::Apart { seed: number } };
    Options { policy, order: number, ..Options::default() }
}

fn machines() -> [Emulated; 4] {
    CAPABILITIES.map(|capability| Emulated::new(capability, Options::default()).unwrap())
}

#[track_caller]
fn is_clean(machine: &Emulated, what: &str) {
    let found: Vec<String> = machine.findings().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
    assert_eq!(machine.undefined(), 0, "{what}: bytes that no kernel has written");
}

/// Puts tensors to addresses that are not multiples of anything: `skipped` bytes, and more for
/// each, after those of buffers.
fn upload(machine: &mut Emulated, tensors: &[&[u8]], skipped: usize) -> (Vec<Tensor>, Vec<u64>) {
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

/// Encodes a unit on a machine, and gives all memory back.
fn encode(
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

/// The best code for the weights.
fn best(tensors: usize) -> impl Fn(&[u64; 256]) -> Result<Plan, Error> {
    move |frequencies| Plan::from_frequencies(frequencies, tensors, &EncodeOptions::default())
}

/// Says which part of two units is another, and from where on.
#[track_caller]
fn is_same(found: &EncodedUnit, expected: &EncodedUnit, what: &str) {
    for ((name, _), (found, expected)) in df11::PARTS
        .iter()
        .zip(found.as_slices().into_array().into_iter().zip(expected.as_slices().into_array()))
    {
        let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (expected.len(), None), "{what}: {name}");
    }
}

/// Exponents of all kinds: few and many, flat and skewed, long runs, long codewords.
fn exponents(random: &mut Random, n: usize) -> Vec<u8> {
    let first = random.below(200) as u8;
    let alphabet = 1 + random.below(40) as u8;
    match random.below(7) {
        0 => (0..n).map(|_| (random.next() % 240) as u8).collect(),
        1 => (0..n).map(|_| first + random.below(u64::from(alphabet)) as u8).collect(),
        // Halving in frequency: a codeword of each length.
        2 => (0..n).map(|_| first + (random.next().trailing_zeros() as u8).min(39)).collect(),
        // Runs of one bit each, and now and then something else.
        3 => (0..n).map(|i| first + u8::from(i % 977 == 0)).collect(),
        // Codewords of up to 23 bits, in clusters.
        4 => {
            let mut all = fibonacci_exponents(first, 24, random.next());
            let at = random.below(all.len() as u64) as usize;
            all.rotate_left(at);
            all.into_iter().cycle().take(n).collect()
        }
        // The rare ones side by side, so that four codewords fit no register.
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

/// A number of weights: often few.
fn size(random: &mut Random) -> usize {
    let most = [3, 40, 600, 4000, 12_000][random.below(5) as usize];
    1 + random.below(most) as usize
}

/// Cuts weights into tensors anywhere, some of them empty.
fn cut<'a>(random: &mut Random, weights: &'a [u8]) -> Vec<&'a [u8]> {
    let n = weights.len() / 2;
    let mut cuts: Vec<usize> =
        (0..random.below(5)).map(|_| 2 * random.below(n as u64 + 1) as usize).collect();
    cuts.extend([0, weights.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &weights[cut[0]..cut[1]]).collect()
}

#[test]
fn units_are_those_of_core_whatever_their_weights_addresses_and_tiles() {
    let mut random = Random(11);
    let mut machines = machines();
    for round in 0..cases(1000) as usize {
        let n = size(&mut random);
        let exponents = exponents(&mut random, n);
        let weights = bytes(&with_exponents(exponents, random.next()));
        let tensors = cut(&mut random, &weights);
        let least = [1, 1, 1, 2, 8][random.below(5) as usize];
        let encode_options = EncodeOptions::new().least_code_length(least);
        let plan = |frequencies: &_| Plan::from_frequencies(frequencies, tensors.len(), &encode_options);
        let expected = encode_options.encode(&tensors).unwrap();
        let skipped = [0, 16, 2, 4, 6, 8, 10, 12, 14, 1, 3, 7, 13][random.below(13) as usize];
        let tiling = match random.below(4) {
            0 => Tiling { weights: 1 + random.below(40) as usize },
            1 => Tiling { weights: 1 + random.below(9000) as usize },
            2 => Tiling { weights: 1 << 16 },
            _ => Tiling::of(n),
        };
        let machine = &mut machines[round % 4];
        machine.set_options(options(round as u64 / 4));
        machine.set_thread_blocks(1 + random.below(7) as u32);
        let found = encode(machine, &tensors, skipped, tiling, plan).unwrap();
        let what = format!("round {round}: {n} weights, {skipped} bytes skipped, {tiling:?}");
        is_clean(machine, &what);
        is_same(&found, &expected, &what);
    }
}

#[test]
fn units_of_codewords_of_up_to_32_bits_are_those_of_core() {
    let mut random = Random(13);
    let mut machines = machines();
    for round in 0..cases(60) as usize {
        // A codeword of each length from some on, and two of the last, for exponents in any order.
        let first = 1 + random.below(12) as u8;
        let mut lengths = [0; 256];
        (first..=32).zip(first..).for_each(|(length, exponent)| lengths[usize::from(exponent)] = length);
        lengths[33] = 32;
        let n = size(&mut random);
        let exponents: Vec<u8> = (0..n).map(|_| first + random.below(34 - u64::from(first)) as u8).collect();
        let weights = bytes(&with_exponents(exponents, random.next()));
        let tensors = cut(&mut random, &weights);
        let plan = |frequencies: &_| {
            Plan::with_lengths(frequencies, tensors.len(), &CodeLengths::new(&lengths).unwrap())
        };
        let frequencies = frame::count(ElementType::Bf16, &weights).unwrap();
        let expected = plan(&frequencies).unwrap().encode(&tensors).unwrap();
        let tiling = Tiling { weights: 1 + random.below(9000) as usize };
        let machine = &mut machines[round % 4];
        machine.set_options(options(round as u64 / 4));
        let found = encode(machine, &tensors, 2 * round % 18, tiling, plan).unwrap();
        let what = format!("round {round}: {n} weights, {tiling:?}");
        is_clean(machine, &what);
        is_same(&found, &expected, &what);
    }
}

#[test]
fn what_the_layout_cannot_hold_is_refused_as_core_does() {
    let mut random = Random(12);
    let mut machine = Emulated::new(90, Options::default()).unwrap();
    for round in 0..cases(40) {
        let n = size(&mut random);
        let mut weights = bytes(&like_trained(n, random.next()));
        for _ in 0..1 + random.below(3) {
            let at = random.below(n as u64) as usize;
            let exponent = 240 + random.below(16) as u16;
            weights[2 * at..2 * at + 2].copy_from_slice(&(exponent << 7 | 0x8001).to_le_bytes());
        }
        let tensors = cut(&mut random, &weights);
        let expected = EncodeOptions::new().encode(&tensors).unwrap_err();
        assert!(matches!(expected, Error::UnrepresentableExponent { element: Some(_), .. }));
        let tiling = Tiling { weights: 1 + random.below(5000) as usize };
        let Err(EmulatedError::Core(found)) = encode(&mut machine, &tensors, 6, tiling, best(tensors.len()))
        else {
            panic!("round {round}");
        };
        assert_eq!(found, expected, "round {round}");
    }
    for tensors in [&[][..], &[&[][..]], &[&[], &[]]] {
        let found = encode(&mut machine, tensors, 0, Tiling::of(0), best(tensors.len()));
        assert!(matches!(found, Err(EmulatedError::Core(Error::EmptyUnit))));
    }
    // A plan of other weights, and of other tensors.
    let weights = bytes(&like_trained(100, 1));
    let other = |_: &[u64; 256]| Plan::new(&[&weights[2..]], &EncodeOptions::default());
    let found = encode(&mut machine, &[&weights], 0, Tiling::of(100), other);
    assert!(matches!(found, Err(EmulatedError::Core(Error::PlanMismatch { .. }))));
    let found = encode(&mut machine, &[&weights], 0, Tiling::of(100), best(2));
    assert!(matches!(found, Err(EmulatedError::Core(Error::PlanMismatch { .. }))));
    is_clean(&machine, "refused units");
}

const TYPES: [ElementType; 6] = ElementType::ALL;

/// Elements whose coded bytes are of all kinds.
fn elements(random: &mut Random, element_type: ElementType, n: usize) -> Vec<u8> {
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

/// Encodes a frame on a machine, and gives all memory back.
fn encode_frame(
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

/// The same by core.
fn frame_of_core(block_len: usize, element_type: ElementType, elements: &[u8]) -> Vec<u8> {
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

#[test]
fn frames_are_those_of_core_whatever_their_elements_addresses_and_blocks() {
    let mut random = Random(14);
    let mut machines = machines();
    let mut codecs = [0; 2];
    for round in 0..cases(1000) as usize {
        let element_type = TYPES[round % 6];
        let n = size(&mut random) - usize::from(random.below(20) == 0);
        let elements = elements(&mut random, element_type, n);
        let block_len = [4096, 4096, 4160, 8192, 65_536][random.below(5) as usize];
        let expected = frame_of_core(block_len, element_type, &elements);
        let codec = Frame::new(&expected).unwrap().header().codec();
        codecs[usize::from(codec == Codec::Rans)] += 1;
        let skipped = [0, 16, 4, 8, 12, 2, 6, 1, 3, 13][random.below(10) as usize];
        let machine = &mut machines[round / 6 % 4];
        machine.set_options(options(round as u64 / 24));
        machine.set_thread_blocks(1 + random.below(7) as u32);
        let found = encode_frame(machine, block_len, element_type, &elements, skipped);
        let what = format!(
            "round {round}: {n} of {element_type:?}, {skipped} bytes skipped, blocks of {block_len}, {codec:?}"
        );
        is_clean(machine, &what);
        let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (expected.len(), None), "{what}");
    }
    assert!(cases(1000) < 1000 || codecs.iter().all(|times| *times > 100), "{codecs:?}");
}

#[test]
fn shapes_that_no_frame_has_are_refused_as_core_does() {
    let mut machine = Emulated::new(90, Options::default()).unwrap();
    for (block_len, shape) in [(4096, &[1; 33][..]), (4096, &[u64::MAX, 2]), (100, &[5])] {
        let counts = [1; 256];
        let expected = frame::EncodeOptions::new()
            .block_len(block_len)
            .encoder(ElementType::U8, shape, &counts)
            .unwrap_err();
        let found = frame_of_blocks(&mut machine, block_len, ElementType::U8, shape, 0);
        assert!(matches!(found, Err(EmulatedError::Core(found)) if found == expected), "{shape:?}");
    }
}

/// Counts for each element.
fn per_element(counters: &Counters, elements: usize) -> [String; 5] {
    let Counters {
        warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts, ..
    } = counters;
    [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts]
        .map(|count| format!("{:.4}", *count as f64 / elements as f64))
}

/// What the kernels do with trained weights that begin so many bytes after a multiple of 256, for
/// each weight: instructions, sectors read and written, wavefronts of shared memory, of which
/// conflicts.
const WORK: &str = "
    df11_encode_count 0 0.2268 0.1260 0.0021 1.0122 0.0000
    df11_encode_emit 0 1.0060 0.1316 0.0501 0.2697 0.0000
    df11_encode_scan 0 0.0038 0.0000 0.0001 0.0001 0.0000
    df11_encode_sizes 0 0.0073 0.0172 0.0009 0.0000 0.0000
    frame_encode_check 0 1.2725 0.1817 0.0001 0.4235 0.2845
    frame_encode_count 0 0.2148 0.1250 0.0011 1.0122 0.0000
    frame_encode_layout 0 0.0026 0.0000 0.0000 0.0001 0.0000
    frame_encode_pack 0 0.1403 0.1353 0.0431 0.0000 0.0000
    rans_encode 0 1.0610 0.0627 0.0391 0.0626 0.0000
    df11_encode_count 6 0.3362 0.1922 0.0021 1.0122 0.0000
    df11_encode_emit 6 1.1845 0.2018 0.0522 0.2756 0.0000
    df11_encode_scan 6 0.0038 0.0000 0.0001 0.0001 0.0000
    df11_encode_sizes 6 0.0073 0.0172 0.0009 0.0000 0.0000
    frame_encode_check 6 2.1844 0.6034 0.0001 0.4235 0.2845
    frame_encode_count 6 0.2847 0.1877 0.0011 1.0122 0.0000
    frame_encode_layout 6 0.0026 0.0000 0.0000 0.0001 0.0000
    frame_encode_pack 6 0.2233 0.1988 0.0436 0.0000 0.0000
    rans_encode 6 1.0610 0.0940 0.0391 0.0626 0.0000
";

#[test]
fn the_kernels_do_as_much_as_they_did() {
    // Whoever changes a kernel looks whether it became better, and writes down what it became.
    let weights = bytes(&like_trained(300_000, 1));
    let mut found = String::from("\n");
    for skipped in [0, 6] {
        let mut machine = Emulated::new(90, Options::default()).unwrap();
        let tiling = Tiling { weights: 16_384 };
        let unit = encode(&mut machine, &[&weights], skipped, tiling, best(1)).unwrap();
        let frame = encode_frame(&mut machine, frame::BLOCK, ElementType::Bf16, &weights, skipped);
        // Of several rounds a tile, and of whole blocks of the usual size.
        is_same(&unit, &df11::encode(&weights).unwrap(), "a unit");
        assert!(frame == frame_of_core(frame::BLOCK, ElementType::Bf16, &weights));
        for (entry, counters) in machine.counters() {
            let counts = per_element(counters, 300_000).join(" ");
            found += &format!("    {entry} {skipped} {counts}\n");
        }
    }
    assert!(found == WORK, "{found}");
}

/// The lines of a text of PTX at which threads wait for each other, counted from 0, and the kernels
/// that they are in.
fn barriers(text: &str) -> Vec<(usize, String)> {
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

/// Runs a kernel that adds up what there is for many tiles or blocks, of which it takes some at a
/// time.
fn add_up(machine: &mut Emulated, kernels: Kernels, entry: &'static str) {
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

#[test]
fn every_barrier_of_the_kernels_is_needed_and_is_missed() {
    let weights = bytes(&like_trained(10_000, 1));
    for kernels in Kernels::ALL {
        let text = kernels.ptx()[2].text;
        let barriers = barriers(text);
        assert!(barriers.len() >= 8, "{barriers:?}");
        for (line, entry) in barriers {
            let mut machine = Emulated::new(90, Options::default()).unwrap();
            let lines = text.lines().enumerate().filter(|(number, _)| *number != line);
            let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
            machine.set_kernels(kernels, &lines.join("\n")).unwrap();
            // For several tiles or blocks. What comes out may be wrong, and is not looked at.
            machine.set_thread_blocks(1);
            match (kernels, entry.as_str()) {
                (_, "df11_encode_scan") => add_up(&mut machine, kernels, "df11_encode_scan"),
                (_, "frame_encode_layout") => add_up(&mut machine, kernels, "frame_encode_layout"),
                (Kernels::Df11, _) => {
                    drop(encode(&mut machine, &[&weights], 0, Tiling { weights: 6000 }, best(1)))
                }
                _ => {
                    for element_type in
                        [ElementType::U8, ElementType::Bf16, ElementType::F16, ElementType::F32]
                    {
                        let elements = &weights[..4200 * element_type.bytes()];
                        encode_frame(&mut machine, 4096, element_type, elements, 0);
                    }
                }
            }
            let is_race = |kind| matches!(kind, Kind::Race | Kind::RaceInWarp);
            let found = machine.findings().iter().any(|finding| is_race(finding.kind));
            assert!(found, "{entry}, without the barrier of line {}", line + 1);
        }
    }
}

/// A machine on which units begin after so many weights and bits of others that are not there: the
/// kernel that writes gets addresses that lie so far before the memory that it is to write.
struct Far<'m> {
    machine: &'m mut Emulated,
    weights: u64,
    bits: u64,
}

impl Machine for Far<'_> {
    type Error = EmulatedError;

    fn allocate(&mut self, bytes: usize) -> Result<u64, EmulatedError> {
        self.machine.allocate(bytes)
    }

    fn free(&mut self, address: u64) -> Result<(), EmulatedError> {
        self.machine.free(address)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), EmulatedError> {
        self.machine.write(address, bytes)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), EmulatedError> {
        self.machine.read(address, bytes)
    }

    fn run(&mut self, pass: &Pass) -> Result<(), EmulatedError> {
        if pass.entry != "df11_encode_emit" {
            return self.machine.run(pass);
        }
        let mut pass = pass.clone();
        let [tiles, number, offsets, _, code, sign_mantissa, positions, gaps, elements, windows, _] =
            pass.arguments.first_chunk_mut().unwrap();
        // The second number of a tile has its first weight in the low half.
        for tile in 0..*number {
            self.add(*tiles + 16 * tile + 8, self.weights);
        }
        for offset in 0..=*number {
            self.add(*offsets + 8 * offset, self.bits);
        }
        let blocks = self.bits / df11::BLOCK_BITS;
        *code = code.wrapping_sub(self.bits / 8);
        *sign_mantissa = sign_mantissa.wrapping_sub(self.weights);
        *positions = positions.wrapping_sub(4 * blocks);
        *gaps = gaps.wrapping_sub(df11::GAP_BYTES_PER_BLOCK as u64 * blocks);
        *elements += self.weights;
        *windows += self.bits / df11::WINDOW_BITS;
        self.machine.run(&pass)
    }
}

impl Far<'_> {
    /// Adds to a number in memory.
    fn add(&mut self, address: u64, number: u64) {
        let mut bytes = [0; 8];
        self.machine.read(address, &mut bytes).unwrap();
        let sum = u64::from_le_bytes(bytes) + number;
        self.machine.write(address, &sum.to_le_bytes()).unwrap();
    }
}

#[test]
fn units_are_written_as_well_at_the_limits_of_the_layout() {
    let weights = bytes(&like_trained(40_000, 1));
    let tensors = [&weights[..30_002], &weights[30_002..]];
    let mut expected = EncodeOptions::new().encode(&tensors).unwrap();
    // Whole groups of weights and whole blocks of code, as many as can be before these.
    let before = (df11::MAX_ELEMENTS - 40_000) / 16 * 16;
    let blocks = (df11::MAX_ELEMENTS - expected.encoded_exponent.len()) / df11::BLOCK_BYTES;
    // Output positions count the weights before; the first and the last come from elsewhere.
    let positions = expected.output_positions.as_chunks_mut::<4>().0;
    assert!(positions.len() > 3);
    let inner = positions.len() - 1;
    for position in &mut positions[1..inner] {
        *position = (u32::from_le_bytes(*position) + before as u32).to_le_bytes();
    }
    for capability in CAPABILITIES {
        let mut machine = Emulated::new(capability, Options::default()).unwrap();
        let (placed, _) = upload(&mut machine, &tensors, 2);
        let bits = blocks as u64 * df11::BLOCK_BITS;
        let mut far = Far { machine: &mut machine, weights: before as u64, bits };
        let unit = planned_unit(&mut far, &placed, Tiling { weights: 9000 }, best(2)).unwrap();
        let found = unit.download(&mut far).unwrap();
        is_clean(&machine, "a unit far away");
        is_same(&found, &expected, &format!("sm_{capability}"));
    }
}

/// A machine whose memory somebody changes after the first kernel, which counts.
struct Changed<'m> {
    machine: &'m mut Emulated,
    at: u64,
    bytes: Vec<u8>,
    runs: usize,
}

impl Machine for Changed<'_> {
    type Error = EmulatedError;

    fn allocate(&mut self, bytes: usize) -> Result<u64, EmulatedError> {
        self.machine.allocate(bytes)
    }

    fn free(&mut self, address: u64) -> Result<(), EmulatedError> {
        self.machine.free(address)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), EmulatedError> {
        self.machine.write(address, bytes)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), EmulatedError> {
        self.machine.read(address, bytes)
    }

    fn run(&mut self, pass: &Pass) -> Result<(), EmulatedError> {
        if self.runs == 1 {
            self.machine.write(self.at, &self.bytes)?;
        }
        self.runs += 1;
        self.machine.run(pass)
    }
}

#[test]
fn weights_that_change_after_they_were_counted_do_no_harm() {
    let mut random = Random(15);
    let (mut machine, mut refused) = (Emulated::new(90, Options::default()).unwrap(), 0);
    for _ in 0..cases(60) {
        let n = size(&mut random);
        let mut sample = || bytes(&with_exponents(exponents(&mut random, n), random.next()));
        let (before, after) = (sample(), sample());
        let at = machine.upload(&before).unwrap();
        machine.set_thread_blocks(1 + random.below(3) as u32);
        let mut changed = Changed { machine: &mut machine, at, bytes: after.clone(), runs: 0 };
        let tensor = Tensor { address: at, elements: n };
        match planned_unit(&mut changed, &[tensor], Tiling { weights: 5000 }, best(1)) {
            Ok(unit) => unit.free(&mut changed).unwrap(),
            Err(error) => {
                assert!(matches!(error, EmulatedError::Core(Error::PlanMismatch { .. })), "{error}");
                refused += 1;
            }
        }
        changed.write(at, &before).unwrap();
        changed.runs = 0;
        let frame = frame_of_blocks(&mut changed, 4096, ElementType::Bf16, &[n as u64], at).unwrap();
        changed.free(frame.address).unwrap();
        changed.free(at).unwrap();
        // Where it is refused, nobody reads what was not written.
        is_clean(&machine, "changed weights");
    }
    assert!(cases(60) < 60 || refused > 20, "{refused}");
}

#[test]
fn real_weights_become_the_units_and_frames_of_core_for_every_target() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // All of them take some minutes.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let expected = df11::encode(weights).unwrap();
    let shape = [weights.len() as u64 / 2];
    let expected_frame = frame::encode(ElementType::Bf16, &shape, weights).unwrap();
    std::thread::scope(|scope| {
        for capabilities in [[75, 80], [90, 100]] {
            let (expected, expected_frame) = (&expected, &expected_frame);
            scope.spawn(move || {
                for capability in capabilities {
                    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
                    let mut machine = Emulated::new(capability, options).unwrap();
                    let tiling = Tiling::of(weights.len() / 2);
                    let found = encode(&mut machine, &[weights], 0, tiling, best(1)).unwrap();
                    let what = format!("sm_{capability}");
                    is_clean(&machine, &what);
                    is_same(&found, expected, &what);
                    let found = encode_frame(&mut machine, frame::BLOCK, ElementType::Bf16, weights, 0);
                    is_clean(&machine, &what);
                    assert!(found == *expected_frame, "{what}: the frame");
                }
            });
        }
    });
    println!("{} weights for {} targets, nothing found", weights.len() / 2, CAPABILITIES.len());
}
