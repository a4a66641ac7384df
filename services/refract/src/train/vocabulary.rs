//! A tokenizer for a student that starts from nothing: byte-level BPE, learnt from the training texts.

use std::path::Path;

use anyhow::{Result, anyhow};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// BART's marks at BART's ids.
const MARKS: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// Learns `size` ids at most from `texts` and writes `dir/tokenizer.json`. The same texts give the same file.
pub(crate) fn write(dir: &Path, texts: &[String], size: usize) -> Result<()> {
    let failed = |error: tokenizers::Error| anyhow!("the tokenizer: {error}");
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_decoder(Some(ByteLevel::new(false, true, true)));
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(MARKS.map(|mark| AddedToken::from(mark, true)).to_vec())
        .build();
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), texts.iter())
        .map_err(failed)?;
    tokenizer.with_post_processor(Some(
        RobertaProcessing::new(("</s>".to_owned(), 2), ("<s>".to_owned(), 0))
            .trim_offsets(true)
            .add_prefix_space(false),
    ));
    tokenizer
        .save(dir.join(refract_bundle::TOKENIZER_FILE), false)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_and_marks_stand_where_bart_has_them() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let texts: Vec<String> = (0..50)
            .map(|n| format!("You liked Heat and Thief {n}."))
            .collect();
        write(dir.path(), &texts, 400)?;
        let tokenizer = refract_bundle::Tokenizer::read(&dir.path().join("tokenizer.json"))?;
        for text in ["You liked Heat.", "Amélie – 千と千尋", "  two  blanks"] {
            let ids = tokenizer.encode(text);
            assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&2)));
            assert_eq!(tokenizer.decode(&ids), text);
        }
        assert!(tokenizer.encode("You liked Heat").len() < 8);
        assert!(tokenizer.vocab_size() <= 400);
        let bytes = std::fs::read(dir.path().join("tokenizer.json"))?;
        write(dir.path(), &texts, 400)?;
        assert_eq!(bytes, std::fs::read(dir.path().join("tokenizer.json"))?);
        Ok(())
    }
}
