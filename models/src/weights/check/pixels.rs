//! Models that train from pixels, and their losses.

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[];
