//! Pair and History to Knowledge, by a FLAN-T5-class model.
