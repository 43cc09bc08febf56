//! The pages as a whole: every place renders, and text of strangers stays text.
