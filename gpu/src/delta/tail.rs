//! The elements of a delta that a frame holds: those beyond the common ones, or all.

use df11::Error;
use df11::frame::{Codec, Frame};
use df11::hazmat::frame::crc;
use df11::hazmat::rans;

use crate::kernels::{RansBlock, element_kind};

/// A frame that the host has decoded, and so checked (B-3.2).
#[derive(Clone, Debug)]
pub(crate) struct Tail<'a> {
    pub(crate) content: Content<'a>,
    /// The checksum of its elements.
    pub(crate) result: u32,
}

/// What the kernels get.
#[derive(Clone, Debug)]
pub(crate) enum Content<'a> {
    /// The elements.
    Raw(Vec<u8>),
    /// The bytes of the frame, the slots of its table and the descriptions of its blocks.
    Rans { data: &'a [u8], slots: Vec<u8>, chunks: Vec<u8>, n_chunks: usize, scale_bits: u8, kind: u32 },
}

impl<'a> Tail<'a> {
    pub(crate) fn new(frame: &Frame<'a>, data: &'a [u8]) -> Result<Self, Error> {
        let header = frame.header();
        let elements = frame.decode()?;
        let result = crc(0, &elements);
        let Some(frequencies) = header.frequencies().filter(|_| header.codec() == Codec::Rans) else {
            return Ok(Tail { content: Content::Raw(elements), result });
        };
        let mut table = Box::new(rans::DecodeTable::new());
        table.build(frequencies);
        let mut chunks = Vec::with_capacity(40 * header.blocks());
        for block in 0..header.blocks() {
            let (layout, range) = (frame.block_layout(block)?, header.block_range(block));
            let (states, words, raw) = (layout.states, layout.words, layout.raw.start);
            let block = RansBlock { states, words, raw, first: range.start, symbols: range.len() };
            chunks.extend(block.describe().into_iter().flat_map(u64::to_le_bytes));
        }
        let content = Content::Rans {
            data,
            slots: table.slots().iter().flat_map(|slot| slot.to_le_bytes()).collect(),
            chunks,
            n_chunks: header.blocks(),
            scale_bits: frequencies.scale_bits(),
            kind: element_kind(header.element_type()),
        };
        Ok(Tail { content, result })
    }
}
