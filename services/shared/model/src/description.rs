//! A model's configuration and what follows from it: every parameter's name and shape, and what others must know.

use crate::config::{Config, Tokens};
use crate::spec::{Architecture, GenerationDefaults, PairTables, Spec};
use crate::weights::Entry;

/// A model but for its weights.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) config: Config,
    /// Whether the head has weights of its own.
    pub(crate) own_head: bool,
    pub(crate) spec: Spec,
    pub(crate) tokens: Tokens,
    pub(crate) defaults: GenerationDefaults,
}

impl Description {
    pub(crate) fn new(config: Config, own_head: bool, tokens: Tokens, defaults: GenerationDefaults) -> Self {
        let parameters = manifest(&config, own_head).iter().map(Entry::parameters).sum();
        let sizes = match &config {
            Config::T5(c) => (
                Architecture::T5,
                c.d_model,
                c.num_layers,
                c.decoder_layers(),
                c.num_heads,
                c.d_kv,
            ),
            Config::Bart(c) => {
                let heads = c.decoder_attention_heads;
                (
                    Architecture::Bart,
                    c.d_model,
                    c.encoder_layers,
                    c.decoder_layers,
                    heads,
                    c.d_model / heads,
                )
            }
        };
        let (architecture, width, encoder_layers, decoder_layers, heads, head_dim) = sizes;
        let (positions_max, pair_tables) = match &config {
            Config::T5(_) => (None, None),
            Config::Bart(c) => (
                Some(c.max_position_embeddings),
                c.pair_tables.map(|sizes| PairTables {
                    users: sizes.users,
                    items: sizes.items,
                }),
            ),
        };
        let spec = Spec {
            architecture,
            vocab: config.vocab(),
            width,
            encoder_layers,
            decoder_layers,
            heads,
            head_dim,
            positions_max,
            decoder_start: tokens.decoder_start,
            eos: tokens.eos.clone(),
            pad: tokens.pad,
            bos: tokens.bos,
            forced_bos: tokens.forced_bos,
            forced_eos: tokens.forced_eos.clone(),
            pair_tables,
            parameters,
        };
        Self {
            config,
            own_head,
            spec,
            tokens,
            defaults,
        }
    }

    pub(crate) fn manifest(&self) -> Vec<Entry> {
        manifest(&self.config, self.own_head)
    }
}

/// Every parameter of a model, in the checkpoint's names.
pub(crate) fn manifest(config: &Config, own_head: bool) -> Vec<Entry> {
    match config {
        Config::T5(c) => crate::t5::manifest(c, own_head),
        Config::Bart(c) => crate::bart::manifest(c, own_head),
    }
}
