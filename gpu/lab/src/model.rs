//! Computes from counted work how fast a card could be at most.
//!
//! Three limits are considered, each as if it were alone: the instructions that schedulers issue,
//! the wavefronts of shared memory, and the bytes of the card's memory. Waiting is not considered,
//! so a card is slower than this: docs/gpu.md lists what cards reached.

use serde::Serialize;

use crate::report::Row;

/// A card, by the figures of its data sheet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Card {
    /// Its name.
    pub name: &'static str,
    /// The target of the kernels that it runs, such as `sm_90`.
    pub target: &'static str,
    /// Multiprocessors, each with four schedulers.
    pub multiprocessors: u32,
    /// The boost clock in GHz.
    pub gigahertz: f64,
    /// The memory's speed in GB/s.
    pub memory: f64,
}

/// The cards that limits are computed for. The figures are from NVIDIA's data sheets and white
/// papers of these cards (SXM modules of the first three).
pub const CARDS: [Card; 6] = [
    card("H200", "sm_90", 132, 1.98, 4800.0),
    card("H100", "sm_90", 132, 1.98, 3350.0),
    card("A100 80 GB", "sm_80", 108, 1.41, 2039.0),
    card("RTX 4090", "sm_80", 128, 2.52, 1008.0),
    card("L40S", "sm_80", 142, 2.52, 864.0),
    card("T4", "sm_75", 40, 1.59, 320.0),
];

const fn card(
    name: &'static str,
    target: &'static str,
    multiprocessors: u32,
    gigahertz: f64,
    memory: f64,
) -> Card {
    Card { name, target, multiprocessors, gigahertz, memory }
}

/// Schedulers of a multiprocessor, each of which issues an instruction in a cycle.
const SCHEDULERS: f64 = 4.0;
/// Bytes of a weight.
const WEIGHT: f64 = 2.0;

/// What limits a kernel on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Limit {
    /// The instructions that its schedulers issue.
    Instructions,
    /// The wavefronts of shared memory.
    Wavefronts,
    /// The bytes that its memory reads and writes.
    Memory,
}

/// Returns the most GB/s of BF16 that a kernel with this work can decode on a card, and what limits
/// it. Machine instructions count; where they are not known, PTX instructions do. A kernel that
/// makes or loads tables does this once for each thread block, so the work of few weights is high.
///
/// ```
/// # use df11_gpu_lab::{model::{CARDS, Limit, most}, report};
/// let weights: Vec<u8> = (0..40_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
/// let rows = report::rows(&weights, None, None)?;
/// let of_fast = |row: &&report::Row| row.kernel == "fast_decode_batch" && row.target == "sm_80";
/// let row = rows.iter().find(of_fast).ok_or("no such row")?;
/// let l40s = CARDS.iter().find(|card| card.name == "L40S").ok_or("no such card")?;
/// let (speed, limit) = most(row, l40s);
/// assert!(limit == Limit::Memory && speed < 864.0);
/// # Ok::<(), String>(())
/// ```
#[must_use]
pub fn most(row: &Row, card: &Card) -> (f64, Limit) {
    let cycles = f64::from(card.multiprocessors) * card.gigahertz;
    let instructions = row.machine_instructions.unwrap_or(row.ptx_instructions);
    // Tables are read again and again, but from caches.
    let bytes = row.stored_bytes + WEIGHT;
    // Billions of weights a second.
    let limits = [
        (cycles * SCHEDULERS / instructions, Limit::Instructions),
        (cycles / row.shared_wavefronts, Limit::Wavefronts),
        (card.memory / bytes, Limit::Memory),
    ];
    let least = |a: (f64, Limit), b: (f64, Limit)| if b.0 < a.0 { b } else { a };
    let (weights, limit) = limits.into_iter().fold((f64::INFINITY, Limit::Memory), least);
    (WEIGHT * weights, limit)
}
