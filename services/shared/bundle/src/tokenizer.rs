//! Text to ids and back: any Hugging Face `tokenizer.json`, and the small closed one of slot bundles.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::manifest::{Role, SlotLimits};
use crate::slots;

/// The file's name inside a bundle.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Ids of text and text of ids. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Tokens that mark places and are never text: begin, end, padding, mask.
    marks: Arc<BTreeSet<u32>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("ids", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    pub fn read(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Err(Error::Missing {
                path: path.to_owned(),
            });
        }
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::of_json(&bytes).map_err(|reason| Error::Tokenizer {
            path: path.to_owned(),
            reason,
        })
    }

    fn of_json(bytes: &[u8]) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
        // Bounds are ours: a file's own truncation or padding would cut or fill prompts behind our back.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        let marks = ["<s>", "</s>", "<pad>", "<mask>"]
            .iter()
            .filter_map(|mark| inner.token_to_id(mark))
            .collect();
        Ok(Self {
            inner: Arc::new(inner),
            marks: Arc::new(marks),
        })
    }

    /// With the post-processor's own tokens (an end for T5, begin and end for BART). No text at all gives no ids.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.inner
            .encode_fast(text, true)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default()
    }

    /// The text of ids without begin, end and padding; slots and unknown tokens stay visible.
    pub fn decode(&self, ids: &[u32]) -> String {
        let ids: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !self.marks.contains(id))
            .collect();
        self.inner.decode(&ids, false).unwrap_or_default()
    }

    /// Number of ids, added tokens included: what a model's embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Refuses a model that has no row for an id that text may become: the tokenizer is of another model. Special tokens are left
    /// aside: checkpoints come with some that nothing writes (BART's `<mask>`) and that their embedding has no room for.
    pub fn fits(&self, rows: usize) -> Result<(), String> {
        let special = self.inner.get_added_tokens_decoder();
        let is_special = |id: &u32| special.get(id).is_some_and(|token| token.special);
        let vocabulary = self.inner.get_vocab(true);
        let largest = vocabulary.values().filter(|id| !is_special(id)).max();
        match largest {
            Some(largest) if *largest as usize >= rows => Err(format!(
                "its ids go up to {largest}, the model knows {rows}, from 0: they are not of one model; put the tokenizer.json beside the \
                 weights that they came with"
            )),
            _ => Ok(()),
        }
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Turns ids into text as they come.
    pub fn stream(&self) -> TextStream {
        TextStream {
            tokenizer: self.clone(),
            ids: Vec::new(),
            from: 0,
            read: 0,
        }
    }
}

/// Text of ids as they come: what is handed out is never taken back, and never half a character.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    ids: Vec<u32>,
    /// Ids before `from` no longer matter; those before `read` have been handed out.
    from: usize,
    read: usize,
}

impl TextStream {
    /// The text that this id completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let before = self.tokenizer.decode(&self.ids[self.from..self.read]);
        let now = self.tokenizer.decode(&self.ids[self.from..]);
        if now.len() <= before.len() || now.ends_with('\u{FFFD}') || !now.starts_with(&before) {
            return String::new();
        }
        self.from = self.read;
        self.read = self.ids.len();
        now[before.len()..].to_owned()
    }
}

/// The words that stand around slots in a prompt.
const PROMPT_WORDS: &str = "weigh item history facts of seen none alone premise verb clause coliked director cast author artist \
    maker genre series source year place other w0 w1 w2 w3 w4 ; , . :";

/// Writes the closed tokenizer of a slot bundle to `dir/tokenizer.json`: one id a word of our own sentences, one a slot. Special
/// tokens stand where BART (begin 0, padding 1, end 2, unknown 3) and T5 (padding 0, end 1, unknown 2) expect them.
pub fn write_slot_tokenizer(dir: &Path, role: Role, limits: &SlotLimits) -> Result<Tokenizer, Error> {
    let specials: &[&str] = match role {
        Role::Prism => &["<s>", "<pad>", "</s>", "<unk>"],
        Role::Oracle => &["<pad>", "</s>", "<unk>"],
    };
    let mut words: BTreeSet<String> = PROMPT_WORDS.split_whitespace().map(str::to_owned).collect();
    if role == Role::Oracle {
        words.extend((1..=crate::template::CANDIDATES_MAX).map(|n| format!("c{n}")));
    }
    if role == Role::Prism {
        words.extend((0..refract_truth::STYLES).map(slots::style_word));
        words.extend(refract_truth::phrase::all_patterns().flat_map(slots::tokens_of_pattern));
    }
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for special in specials {
        added.push(added_token(vocab.len(), special, true));
        vocab.insert((*special).to_owned(), json!(vocab.len()));
    }
    for word in words {
        vocab.insert(word, json!(vocab.len()));
    }
    let words_end = vocab.len();
    for (n, slot) in slots::all_slots(limits).into_iter().enumerate() {
        added.push(added_token(words_end + n, &slot, false));
    }
    let end = specials.iter().position(|s| *s == "</s>").unwrap_or_default();
    let special = |token: &str, id: usize| json!({ "id": token, "ids": [id], "tokens": [token] });
    let place = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let (single, table) = match role {
        Role::Prism => (
            json!([place("<s>"), sequence("A"), place("</s>")]),
            json!({ "<s>": special("<s>", 0), "</s>": special("</s>", end) }),
        ),
        Role::Oracle => (
            json!([sequence("A"), place("</s>")]),
            json!({ "</s>": special("</s>", end) }),
        ),
    };
    let tokenizer: Value = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": { "type": "TemplateProcessing", "single": single,
            "pair": [sequence("A"), sequence("B"), place("</s>")], "special_tokens": table },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    let path = dir.join(TOKENIZER_FILE);
    let text = tokenizer.to_string();
    std::fs::write(&path, &text).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    Tokenizer::of_json(text.as_bytes()).map_err(|reason| Error::Tokenizer { path, reason })
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}
