//! Encoders.

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[];
