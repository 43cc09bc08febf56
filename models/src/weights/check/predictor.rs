//! Predictors and unrolls of token-grid models.

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[];
