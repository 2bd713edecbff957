//! A frame in flash, coded by rANS.

use df11::frame::RansTable;

use crate::constants::FRAME_BLOCK;
use crate::framed::{self, Buffer, Image};
use crate::ram::Ram;
use crate::weights;

weights! {
    FRAME = "frame";
    DAMAGED = "damaged_frame";
}

static BUFFER: Buffer = Ram::new([0; 2 * FRAME_BLOCK]);

/// What codes mean.
static TABLE: Ram<RansTable> = Ram::new(RansTable::new());

/// [`framed::run`].
pub(crate) fn run() -> bool {
    let image = Image { codec: "rans", frame: &FRAME, damaged: &DAMAGED };
    framed::run(&image, &TABLE, &BUFFER)
}
