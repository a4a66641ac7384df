//! Pair, History and Knowledge to Explanation, by a BART-class model.
