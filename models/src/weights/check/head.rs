//! Decoders and perceptual distance.

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[];
