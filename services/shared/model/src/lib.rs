//! T5 and BART in the shape of their papers, with decode state as an argument.
