//! Support for the tests of the whole: a cluster in one process, real processes, scripted faults.
