//! How much a kernel does.

/// Counts of one launch, or the sums of several. They depend on the kernel and its data alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions of PTX, once for each group of lanes of a warp that runs it.
    pub warp_instructions: u64,
    /// The same, once for each lane. Divided by 32 times
    /// [`warp_instructions`](Self::warp_instructions) it tells how many lanes had something to do.
    pub lane_instructions: u64,
    /// Sectors of 32 bytes of global memory that instructions read.
    pub load_sectors: u64,
    /// Sectors of 32 bytes of global memory that instructions wrote.
    pub store_sectors: u64,
    /// Accesses of shared memory by warps.
    pub shared_accesses: u64,
    /// How often shared memory was used for these: of 32 banks of 4 bytes, each can give one word
    /// at a time.
    pub shared_wavefronts: u64,
    /// How many of these would not have been necessary had each bank been asked for as many words:
    /// bank conflicts.
    pub shared_conflicts: u64,
    /// By line of the PTX text, from 1 on: how often warps ran the instruction on it.
    pub by_line: Vec<u64>,
}

impl Counters {
    /// The part of lanes that had something to do, from 0 to 1.
    #[must_use]
    pub fn lane_efficiency(&self) -> f64 {
        self.lane_instructions as f64 / (32 * self.warp_instructions).max(1) as f64
    }

    /// Adds the counts of another launch.
    pub fn add(&mut self, other: &Counters) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.load_sectors += other.load_sectors;
        self.store_sectors += other.store_sectors;
        self.shared_accesses += other.shared_accesses;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_conflicts += other.shared_conflicts;
        if self.by_line.len() < other.by_line.len() {
            self.by_line.resize(other.by_line.len(), 0);
        }
        self.by_line.iter_mut().zip(&other.by_line).for_each(|(sum, count)| *sum += count);
    }

    /// Notes an access of shared memory: `words` are the addresses of lanes, all of `size` bytes.
    pub(crate) fn shared(&mut self, addresses: &[u64], size: u64) {
        // Accesses of 8 and 16 bytes are served by half and quarter warps.
        let together = (128 / size.max(4)) as usize;
        self.shared_accesses += 1;
        for lanes in addresses.chunks(together) {
            let mut words: Vec<u64> =
                lanes.iter().flat_map(|address| (address / 4)..(address + size).div_ceil(4)).collect();
            words.sort_unstable();
            words.dedup();
            let mut banks = [0u64; 32];
            words.iter().for_each(|word| banks[(word % 32) as usize] += 1);
            let wavefronts = banks.into_iter().max().unwrap_or(0);
            self.shared_wavefronts += wavefronts;
            self.shared_conflicts += wavefronts - (words.len() as u64).div_ceil(32);
        }
    }

    /// The sectors of some accesses of global memory.
    pub(crate) fn sectors(addresses: &[u64], size: u64) -> u64 {
        let mut sectors: Vec<u64> =
            addresses.iter().flat_map(|address| address / 32..=(address + size - 1) / 32).collect();
        sectors.sort_unstable();
        sectors.dedup();
        sectors.len() as u64
    }
}
