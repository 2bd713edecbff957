//! A frame taken to pieces, so that one of them can be changed and all that depends on it made
//! right again: sizes, offsets and checksums.

use df11_reference::frame::crc;

/// The pieces of a frame of codec raw or rANS.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    /// The header up to its checksum, without the padding before that.
    pub(crate) header: Vec<u8>,
    /// Each block, without its checksum.
    pub(crate) blocks: Vec<Vec<u8>>,
    /// The number that each block's checksum begins with.
    pub(crate) seeds: Vec<u32>,
    /// The digest of the trailer.
    pub(crate) digest: [u8; 4],
    /// A place, 0 for that behind the header, `j + 1` for that behind block `j`; and bytes that
    /// stand there and belong to nothing.
    pub(crate) strangers: Option<(usize, Vec<u8>)>,
}

/// Where a block's words begin, behind its checksum, its sizes and its states.
pub(crate) const WORDS: usize = 12 + 128;

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

impl Pieces {
    /// Takes a sound frame to pieces.
    pub(crate) fn of(frame: &[u8]) -> Self {
        let field = |at: usize| u64::from_le_bytes(*frame[at..].first_chunk().unwrap()) as usize;
        let (directory, number) = (field(frame.len() - 24), field(frame.len() - 16));
        let mut places: Vec<usize> = (0..number).map(|block| field(directory + 12 * block)).collect();
        places.push(directory);
        let mut header = 32 + 8 * usize::from(frame[13]);
        if frame[11] == 1 {
            let marks = &frame[header..header + 32];
            header += 32 + 2 * marks.iter().map(|marks| marks.count_ones() as usize).sum::<usize>();
        }
        let blocks: Vec<Vec<u8>> =
            places.windows(2).map(|pair| frame[pair[0] + 4..pair[1]].to_vec()).collect();
        Pieces {
            header: frame[..header].to_vec(),
            seeds: (0..blocks.len() as u32).collect(),
            blocks,
            digest: *frame[..frame.len() - 4].last_chunk().unwrap(),
            strangers: None,
        }
    }

    /// Puts the frame together, with everything right that is not given.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = self.header.clone();
        pad(&mut frame, 4);
        frame.extend(crc(0, &frame).to_le_bytes());
        pad(&mut frame, 16);
        let strangers = |frame: &mut Vec<u8>, place: usize| {
            frame.extend(self.strangers.iter().filter(|(at, _)| *at == place).flat_map(|(_, bytes)| bytes));
        };
        strangers(&mut frame, 0);
        let mut directory = Vec::new();
        for (j, (block, seed)) in self.blocks.iter().zip(&self.seeds).enumerate() {
            let checksum = crc(*seed, block).to_le_bytes();
            directory.extend((frame.len() as u64).to_le_bytes());
            directory.extend(checksum);
            frame.extend(checksum);
            frame.extend(block);
            strangers(&mut frame, j + 1);
        }
        let start = frame.len();
        frame.extend(directory);
        frame.extend((start as u64).to_le_bytes());
        frame.extend((self.blocks.len() as u64).to_le_bytes());
        frame.extend(self.digest);
        frame.extend(crc(0, &frame[start..]).to_le_bytes());
        frame
    }

    /// Replaces bytes of the header.
    pub(crate) fn with_header(&self, at: usize, bytes: &[u8]) -> Self {
        let mut pieces = self.clone();
        pieces.header[at..at + bytes.len()].copy_from_slice(bytes);
        pieces
    }

    /// Replaces bytes of a block.
    pub(crate) fn with_block(&self, block: usize, at: usize, bytes: &[u8]) -> Self {
        let mut pieces = self.clone();
        pieces.blocks[block][at..at + bytes.len()].copy_from_slice(bytes);
        pieces
    }

    /// Puts bytes that belong to nothing at a [place](Pieces::strangers).
    pub(crate) fn with_strangers(&self, place: usize, bytes: &[u8]) -> Self {
        Pieces { strangers: Some((place, bytes.to_vec())), ..self.clone() }
    }

    /// Replaces the words of a block of codec rANS, given the bytes of its raw part.
    pub(crate) fn with_words(&self, block: usize, raw: usize, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut pieces = self.clone();
        let bytes = &mut pieces.blocks[block];
        let len = u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let mut words = bytes[WORDS..WORDS + len].to_vec();
        // The checksum, of four bytes, counts for offsets.
        let planes = (4 + WORDS + len).next_multiple_of(16) - 4;
        let raw = bytes[planes..planes + raw].to_vec();
        change(&mut words);
        bytes.truncate(WORDS);
        bytes[..4].copy_from_slice(&(words.len() as u32).to_le_bytes());
        bytes.extend(words);
        bytes.resize((4 + bytes.len()).next_multiple_of(16) - 4, 0);
        bytes.extend(raw);
        bytes.resize((4 + bytes.len()).next_multiple_of(16) - 4, 0);
        pieces
    }
}
