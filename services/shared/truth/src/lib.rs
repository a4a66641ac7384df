//! What may be said about an item and a history: relations, the truth gate, the fallback template.
