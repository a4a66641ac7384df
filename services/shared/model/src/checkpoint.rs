//! A directory's tensors, resolved: which are stored, which are tied to which, and which are known to be harmless.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::bart;
use crate::config::{Config, PairSizes, read_generation};
use crate::description::Description;
use crate::error::Error;
use crate::parallel::{Part, Split};
use crate::t5;
use crate::weights::Checkpoint;

/// A model's description and its tensors by name, ready to be built.
pub(crate) struct Loaded {
    pub(crate) description: Description,
    pub(crate) tensors: HashMap<String, Tensor>,
    /// BART's `[1, vocab]`, f32; no parameter, so it is kept apart.
    pub(crate) final_logits_bias: Option<Tensor>,
}

/// Left by old versions of the reference; it does not read them either.
const T5_HARMLESS: [&str; 1] = ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"];
const BART_HARMLESS: [&str; 2] = ["model.encoder.version", "model.decoder.version"];

/// Reads and checks the weights of `dir`, held as `dtype` where the architecture allows; of several ranks, one's part.
pub(crate) fn read(
    dir: &Path,
    config: Config,
    dtype: DType,
    device: &Device,
    part: &Part,
) -> Result<Loaded, Error> {
    let (description, checkpoint) = open(dir, config)?;
    let mut tensors = checkpoint.load(device, |name, shape| {
        let (dtype, split) = held(&description.config, name, dtype);
        (dtype, part.stretch(split, shape))
    })?;
    let final_logits_bias = tensors.remove(bart::FINAL_LOGITS_BIAS);
    Ok(Loaded {
        description,
        tensors,
        final_logits_bias,
    })
}

/// In what a tensor is held where the model is held as `dtype`, and how ranks divide it.
pub(crate) fn held(config: &Config, name: &str, dtype: DType) -> (DType, Split) {
    let (wide, split) = match config {
        Config::T5(_) => (t5::stays_f32(name), t5::split(name)),
        Config::Bart(_) => (name == bart::FINAL_LOGITS_BIAS, Split::Whole),
    };
    (if wide { DType::F32 } else { dtype }, split)
}

/// Describes what is in `dir` and checks that it is whole; reads headers, and of the data only aliases.
pub(crate) fn open(dir: &Path, mut config: Config) -> Result<(Description, Checkpoint), Error> {
    let (tokens, defaults) = read_generation(dir, &config)?;
    let mut checkpoint = match &config {
        Config::T5(_) => Checkpoint::open(dir, str::to_owned)?,
        Config::Bart(_) => Checkpoint::open(dir, bart::canonical)?,
    };
    let own_head = match &mut config {
        Config::T5(c) => {
            T5_HARMLESS.iter().for_each(|name| checkpoint.ignore(name));
            let aliases = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
            resolve_tied(&mut checkpoint, "shared.weight", &aliases, c.tie_word_embeddings)?
        }
        Config::Bart(c) => {
            BART_HARMLESS.iter().for_each(|name| checkpoint.ignore(name));
            if let Some(sizes) = pair_sizes(&checkpoint) {
                c.pair_tables = Some(sizes);
            }
            let aliases = [
                "model.encoder.embed_tokens.weight",
                "model.decoder.embed_tokens.weight",
            ];
            resolve_tied(
                &mut checkpoint,
                "model.shared.weight",
                &aliases,
                c.tie_word_embeddings,
            )?
        }
    };
    let description = Description::new(config, own_head, tokens, defaults);
    let mut manifest = description.manifest();
    // A bare encoder–decoder is stored without the bias of its head; it is then zero.
    if checkpoint.has(bart::FINAL_LOGITS_BIAS) && matches!(description.config, Config::Bart(_)) {
        manifest.push(bart::final_logits_bias_entry(description.spec.vocab));
    }
    checkpoint.check(&manifest)?;
    Ok((description, checkpoint))
}

/// Makes `shared` the one name of the embeddings; says whether the head has weights of its own.
///
/// A head that is stored with other numbers than the embeddings is its own, whatever the configuration says: newer
/// versions of the reference write `tie_word_embeddings: true` for every T5.
fn resolve_tied(
    checkpoint: &mut Checkpoint,
    shared: &str,
    aliases: &[&str],
    tied: bool,
) -> Result<bool, Error> {
    const HEAD: &str = "lm_head.weight";
    if !checkpoint.has(shared) {
        let stored = aliases
            .iter()
            .chain(tied.then_some(&HEAD))
            .find(|alias| checkpoint.has(alias));
        if let Some(alias) = stored {
            checkpoint.rename(alias, shared);
        }
    }
    for alias in aliases {
        checkpoint.drop_alias(alias, shared)?;
    }
    if !checkpoint.has(HEAD) {
        return Ok(!tied);
    }
    if tied && checkpoint.has(shared) && checkpoint.is_same(HEAD, shared)? {
        checkpoint.ignore(HEAD);
        return Ok(false);
    }
    Ok(true)
}

/// The sizes of the gated tables, if any of them is stored.
fn pair_sizes(checkpoint: &Checkpoint) -> Option<PairSizes> {
    let (users, items) = (checkpoint.shape(bart::USERS), checkpoint.shape(bart::ITEMS));
    match (users, items) {
        (None, None) => None,
        (Some(&[users, user_width]), Some(&[items, item_width])) => Some(PairSizes {
            users,
            items,
            user_width,
            item_width,
        }),
        // Half a pair: the manifest will name what is missing or of the wrong shape.
        _ => Some(PairSizes::default()),
    }
}
