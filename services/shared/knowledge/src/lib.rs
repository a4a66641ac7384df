//! Remembering what the Oracle said: key, envelope, stores, cached, coalesced.
