//! Losses, gradients and optimiser steps of token-grid models.

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[];
