//! Operations on checkpoints.

pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod inspect;
pub(crate) mod report;
mod restoration;
pub(crate) mod transcode;
pub(crate) mod verify;
pub(crate) mod weights;
