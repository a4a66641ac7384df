//! A model bundle on disk: manifest, prompt template, entity slots, tokenizer.
