//! A frame in flash, coded by a dictionary of 256 strings.

use df11::frame::DictionaryTable;

use crate::constants::FRAME_BLOCK;
use crate::framed::{self, Buffer, Image};
use crate::ram::Ram;
use crate::weights;

weights! {
    FRAME = "dictionary";
    DAMAGED = "damaged_dictionary";
}

static BUFFER: Buffer = Ram::new([0; 2 * FRAME_BLOCK]);

/// What codes mean.
static TABLE: Ram<DictionaryTable<256>> = Ram::new(DictionaryTable::new());

/// Runs [`framed::run`].
pub(crate) fn run() -> bool {
    let image = Image { codec: "dictionary", frame: &FRAME, damaged: &DAMAGED };
    framed::run(&image, &TABLE, &BUFFER)
}
