//! Machines with changed behaviour: far addresses, and weights that change while they are encoded.

use df11::frame::ElementType;
use df11::{EncodeOptions, Error};
use df11_emulator::Options;
use df11_gpu::encode::{Machine, Pass, Tensor, Tiling, frame_of_blocks, planned_unit};
use df11_gpu_lab::machine::{Emulated, Error as EmulatedError};
use df11_tests::cases;
use df11_tests::weights::{Random, bytes, like_trained, with_exponents};

use crate::support::{CAPABILITIES, best, exponents, is_clean, is_same, size, upload};

/// A machine on which units begin after this many weights and bits of others that do not exist. The
/// kernel that writes gets addresses that lie this far before its memory.
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
        // The low half of a tile's second number is its first weight.
        for tile in 0..*number {
            self.add(*tiles + 16 * tile + 8, self.weights);
        }
        for offset in 0..=*number {
            self.add(*offsets + 8 * offset, self.bits);
        }
        let blocks = self.bits / df11::hazmat::layout::BLOCK_BITS;
        *code = code.wrapping_sub(self.bits / 8);
        *sign_mantissa = sign_mantissa.wrapping_sub(self.weights);
        *positions = positions.wrapping_sub(4 * blocks);
        *gaps = gaps.wrapping_sub(df11::hazmat::layout::GAP_BYTES_PER_BLOCK as u64 * blocks);
        *elements += self.weights;
        *windows += self.bits / df11::hazmat::layout::WINDOW_BITS;
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
    // Whole groups of weights and whole blocks of code, the largest number that can come before
    // these.
    let before = (df11::MAX_ELEMENTS - 40_000) / 16 * 16;
    let blocks = (df11::MAX_ELEMENTS - expected.encoded_exponent.len()) / df11::hazmat::layout::BLOCK_BYTES;
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
        let bits = blocks as u64 * df11::hazmat::layout::BLOCK_BITS;
        let mut far = Far { machine: &mut machine, weights: before as u64, bits };
        let unit = planned_unit(&mut far, &placed, Tiling { weights: 9000 }, best(2)).unwrap();
        let found = unit.download(&mut far).unwrap();
        is_clean(&machine, "a unit far away");
        is_same(&found, &expected, &format!("sm_{capability}"));
    }
}

/// A machine whose memory changes after the first kernel, which counts.
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
        // If the unit is refused, no kernel has read undefined bytes.
        is_clean(&machine, "changed weights");
    }
    assert!(cases(60) < 60 || refused > 20, "{refused}");
}
