//! From a line of scores to the next token: first what a request forbids or forces, then the choice.
//!
//! The order of the rules is that of Hugging Face's `generate`: repetition penalty, n-grams, bad words, minimum length,
//! forced BOS, forced EOS, suppressed tokens; then, for sampling, temperature, top-k, top-p. Beam search hands in
//! log-probabilities, the others logits; the rules are the same.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::logits::Best;
use crate::params::GenerationParams;
use crate::scores::Spread;

/// Buffers reused from step to step.
#[derive(Debug, Default)]
pub struct Scratch {
    seen: Vec<u32>,
    best: Best<u32>,
    ranked: Vec<(f32, u32)>,
    pub(crate) beams: Best<(u32, u32)>,
    pub(crate) spread: Spread,
}

/// Applies the rules of `params` to `line`, the scores of what may follow `ids` (the decoder start id included).
pub fn apply_rules(params: &GenerationParams, ids: &[u32], line: &mut [f32], scratch: &mut Scratch) {
    const NO: f32 = f32::NEG_INFINITY;
    let produced = ids.len() - 1;
    if params.repetition_penalty != 1.0 {
        // Each id is penalised once, however often it came.
        scratch.seen.clear();
        scratch.seen.extend_from_slice(ids);
        scratch.seen.sort_unstable();
        scratch.seen.dedup();
        for id in &scratch.seen {
            if let Some(score) = line.get_mut(*id as usize) {
                let by = params.repetition_penalty;
                *score = if *score < 0.0 { *score * by } else { *score / by };
            }
        }
    }
    let size = params.no_repeat_ngram_size;
    if size > 0 && ids.len() >= size {
        let prefix = &ids[ids.len() + 1 - size..];
        for window in ids.windows(size) {
            if window[..size - 1] == *prefix {
                forbid(line, window[size - 1]);
            }
        }
    }
    for run in &params.bad_words {
        let (last, prefix) = run.split_last().expect("checked: no run is empty");
        let is_eos = prefix.is_empty() && params.eos.contains(last);
        if !is_eos && ids.ends_with(prefix) {
            forbid(line, *last);
        }
    }
    if produced < params.min_new_tokens {
        for id in &params.eos {
            forbid(line, *id);
        }
    }
    if let Some(id) = params.forced_bos.filter(|_| produced == 0) {
        line.fill(NO);
        line[id as usize] = 0.0;
    }
    if !params.forced_eos.is_empty() && produced + 1 == params.max_new_tokens {
        line.fill(NO);
        for id in &params.forced_eos {
            line[*id as usize] = 0.0;
        }
    }
    for id in &params.suppress_tokens {
        forbid(line, *id);
    }
    if produced == usize::from(params.forced_bos.is_some()) {
        for id in &params.begin_suppress_tokens {
            forbid(line, *id);
        }
    }
}

/// How many tokens of a line the rules lower at most, after so many ids (the decoder start id included): as many more must be
/// known of it. `None` where they may raise one.
pub(crate) fn lowered_at_most(params: &GenerationParams, ids: usize) -> Option<usize> {
    let penalised = match params.repetition_penalty {
        1.0 => 0,
        by if by > 1.0 => ids,
        _ => return None,
    };
    let repeated = if params.no_repeat_ngram_size > 0 { ids } else { 0 };
    let early = if params.min_new_tokens > 0 {
        params.eos.len()
    } else {
        0
    };
    let words = [&params.suppress_tokens, &params.begin_suppress_tokens];
    let words = words.map(Vec::len).iter().sum::<usize>() + params.bad_words.len();
    Some(penalised + repeated + early + words)
}

fn forbid(line: &mut [f32], id: u32) {
    if let Some(score) = line.get_mut(id as usize) {
        *score = f32::NEG_INFINITY;
    }
}

/// Whether a sequence that has produced `ids` (the decoder start id included) ends with its last token.
pub fn is_stopped(params: &GenerationParams, ids: &[u32]) -> bool {
    let Some((last, _)) = ids.split_last() else {
        return false;
    };
    params.eos.contains(last) || params.stop.iter().any(|run| ids[1..].ends_with(run))
}

/// The likeliest token, the lowest of equals; `None` where all are forbidden.
pub fn choose_greedily(line: &[f32]) -> Option<u32> {
    let max = crate::logits::max_if_sound(line)?;
    line.iter().position(|x| *x == max).map(|at| at as u32)
}

/// The random numbers of one sample: the seed is the request's, the stream is the sample's index.
pub fn randomness(seed: u64, sample: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(sample as u64);
    rng
}

/// Draws a token; `None` where all are forbidden. One draw takes one random number, whatever the settings.
pub fn choose_at_random(
    params: &GenerationParams,
    line: &[f32],
    rng: &mut ChaCha8Rng,
    scratch: &mut Scratch,
) -> Option<u32> {
    /// Above this a sort of everything is cheaper than keeping the best in order.
    const BEST_MAX: usize = 256;
    let Scratch { best, ranked, .. } = scratch;
    ranked.clear();
    let k = if params.top_k == 0 {
        line.len()
    } else {
        params.top_k.min(line.len())
    };
    if k <= BEST_MAX {
        best.reset(k);
        let mut threshold = best.threshold();
        for (id, score) in line.iter().enumerate() {
            if *score > threshold {
                best.offer(*score, id as u32);
                threshold = best.threshold();
            }
        }
        ranked.extend_from_slice(best.items());
        if threshold > f32::NEG_INFINITY {
            // Equals of the last one stay too; `Best` has kept the first of them.
            let last = ranked.last().map_or(0, |(_, id)| *id);
            let ties = line
                .iter()
                .enumerate()
                .skip(last as usize + 1)
                .filter(|(_, score)| **score == threshold);
            ranked.extend(ties.map(|(id, score)| (*score, id as u32)));
        }
    } else {
        let allowed = line
            .iter()
            .enumerate()
            .filter(|(_, score)| **score > f32::NEG_INFINITY);
        ranked.extend(allowed.map(|(id, score)| (*score, id as u32)));
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < ranked.len() {
            let (_, last, _) = ranked.select_nth_unstable_by(k - 1, descending);
            let last = last.0;
            ranked.retain(|(score, _)| *score >= last);
        }
        // Without a nucleus any fixed order will do, and the order of ids is one.
        if params.top_p < 1.0 || k < line.len() {
            ranked.sort_unstable_by(descending);
        }
    }
    let max = ranked
        .iter()
        .map(|(score, _)| *score)
        .fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| f64::from((score - max) / params.temperature).exp();
    let mut total: f64 = ranked.iter().map(|(score, _)| weight(*score)).sum();
    if params.top_p < 1.0 {
        // A token stays while those likelier than it have less than top_p between them.
        let enough = f64::from(params.top_p) * total;
        let mut before = 0.0;
        let mut kept = 0;
        while kept < ranked.len() && (kept == 0 || before < enough) {
            before += weight(ranked[kept].0);
            kept += 1;
        }
        ranked.truncate(kept);
        total = before;
    }
    let mut at = rng.random::<f64>() * total;
    for (score, id) in ranked.iter() {
        at -= weight(*score);
        if at < 0.0 {
            return Some(*id);
        }
    }
    // Rounding may leave a crumb: it belongs to the last one.
    ranked.last().map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    fn ruled(params: &GenerationParams, ids: &[u32], line: &[f32]) -> Vec<f32> {
        let mut line = line.to_vec();
        apply_rules(params, ids, &mut line, &mut Scratch::default());
        line
    }

    fn plain() -> GenerationParams {
        GenerationParams::greedy(4, vec![1])
    }

    #[test]
    fn rules_match_the_reference() {
        let base = [1.0, 2.0, -3.0, 4.0, 5.0];
        let p = plain();
        // (what, params, ids, line after)
        let cases: Vec<(&str, GenerationParams, Vec<u32>, [f32; 5])> = vec![
            ("none", p.clone(), vec![0], base),
            (
                "repetition penalty counts the start id, each id once, and pushes negatives down",
                GenerationParams {
                    repetition_penalty: 2.0,
                    ..p.clone()
                },
                vec![0, 2, 2, 3],
                [0.5, 2.0, -6.0, 2.0, 5.0],
            ),
            (
                "a bigram does not come twice",
                GenerationParams {
                    no_repeat_ngram_size: 2,
                    ..p.clone()
                },
                vec![0, 3, 4, 3],
                [1.0, 2.0, -3.0, 4.0, NO],
            ),
            (
                "a unigram does not come twice",
                GenerationParams {
                    no_repeat_ngram_size: 1,
                    ..p.clone()
                },
                vec![0, 3],
                [NO, 2.0, -3.0, NO, 5.0],
            ),
            (
                "too short for an n-gram",
                GenerationParams {
                    no_repeat_ngram_size: 3,
                    ..p.clone()
                },
                vec![0, 3],
                base,
            ),
            (
                "bad words are not completed, and a lone EOS is no bad word",
                GenerationParams {
                    bad_words: vec![vec![3, 4], vec![2], vec![1], vec![4, 0]],
                    ..p.clone()
                },
                vec![0, 3],
                [1.0, 2.0, NO, 4.0, NO],
            ),
            (
                "min",
                GenerationParams {
                    min_new_tokens: 2,
                    ..p.clone()
                },
                vec![0, 3],
                [1.0, NO, -3.0, 4.0, 5.0],
            ),
            (
                "min reached",
                GenerationParams {
                    min_new_tokens: 2,
                    ..p.clone()
                },
                vec![0, 3, 3],
                base,
            ),
            (
                "forced BOS",
                GenerationParams {
                    forced_bos: Some(2),
                    ..p.clone()
                },
                vec![0],
                [NO, NO, 0.0, NO, NO],
            ),
            (
                "forced BOS is over",
                GenerationParams {
                    forced_bos: Some(2),
                    ..p.clone()
                },
                vec![0, 2],
                base,
            ),
            (
                "forced EOS at the limit",
                GenerationParams {
                    forced_eos: vec![1],
                    ..p.clone()
                },
                vec![0, 2, 2, 2],
                [NO, 0.0, NO, NO, NO],
            ),
            (
                "any of several forced EOS at the limit",
                GenerationParams {
                    forced_eos: vec![3, 1],
                    ..p.clone()
                },
                vec![0, 2, 2, 2],
                [NO, 0.0, NO, 0.0, NO],
            ),
            (
                "suppressed",
                GenerationParams {
                    suppress_tokens: vec![4],
                    ..p.clone()
                },
                vec![0, 2],
                [1.0, 2.0, -3.0, 4.0, NO],
            ),
            (
                "suppressed at the beginning, which is after a forced BOS",
                GenerationParams {
                    begin_suppress_tokens: vec![4],
                    forced_bos: Some(2),
                    ..p
                },
                vec![0, 2],
                [1.0, 2.0, -3.0, 4.0, NO],
            ),
        ];
        for (what, params, ids, want) in cases {
            assert_eq!(ruled(&params, &ids, &base), want, "{what}");
            // A device that tells of the best tokens alone, as many as can matter, must lead to the same token.
            let lowered = lowered_at_most(&params, ids.len()).expect("nothing is raised");
            let mut order = [0, 1, 2, 3, 4];
            order.sort_by(|a: &usize, b| base[*b].total_cmp(&base[*a]));
            let mut few = [NO; 5];
            for id in order.into_iter().take(1 + lowered) {
                few[id] = base[id];
            }
            let told = choose_greedily(&ruled(&params, &ids, &few));
            assert_eq!(told, choose_greedily(&want), "{what}");
        }
        let raises = GenerationParams {
            repetition_penalty: 0.9,
            ..plain()
        };
        assert_eq!(lowered_at_most(&raises, 3), None);
    }

    #[test]
    fn stops_are_seen_at_the_end_of_what_was_produced() {
        let params = GenerationParams {
            stop: vec![vec![7, 8]],
            ..plain()
        };
        assert!(is_stopped(&params, &[0, 5, 1]));
        assert!(is_stopped(&params, &[0, 7, 8]));
        assert!(!is_stopped(&params, &[7, 8, 5]));
        // The start id is no part of a stop run.
        assert!(!is_stopped(&params, &[7, 8]));
    }

    fn draws(params: &GenerationParams, line: &[f32], seed: u64, n: usize) -> Vec<u32> {
        let mut rng = randomness(seed, 0);
        let mut scratch = Scratch::default();
        (0..n)
            .map(|_| choose_at_random(params, line, &mut rng, &mut scratch).expect("a token"))
            .collect()
    }

    #[test]
    fn sampling_follows_the_distribution_and_its_cuts() {
        let line = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln(), NO];
        let p = GenerationParams {
            do_sample: true,
            top_k: 0,
            ..plain()
        };
        let share = |params: &GenerationParams| {
            let drawn = draws(params, &line, 7, 20_000);
            (0..5u32)
                .map(|id| drawn.iter().filter(|d| **d == id).count() as f64 / 2e4)
                .collect::<Vec<_>>()
        };
        let near = |got: Vec<f64>, want: [f64; 5]| {
            assert!(
                got.iter()
                    .zip(want)
                    .all(|(g, w)| (g - w).abs() < 0.015 && (w > 0.0 || *g == 0.0)),
                "{got:?}"
            );
        };
        near(share(&p), [0.5, 0.25, 0.125, 0.125, 0.0]);
        near(
            share(&GenerationParams {
                top_k: 2,
                ..p.clone()
            }),
            [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0],
        );
        // A tie with the last of the top k stays.
        near(
            share(&GenerationParams {
                top_k: 3,
                ..p.clone()
            }),
            [0.5, 0.25, 0.125, 0.125, 0.0],
        );
        near(
            share(&GenerationParams {
                top_p: 0.5,
                ..p.clone()
            }),
            [1.0, 0.0, 0.0, 0.0, 0.0],
        );
        near(
            share(&GenerationParams {
                top_p: 0.6,
                ..p.clone()
            }),
            [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0],
        );
        near(
            share(&GenerationParams {
                temperature: 0.5,
                ..p
            }),
            [
                0.25 / 0.34375,
                0.0625 / 0.34375,
                0.015625 / 0.34375,
                0.015625 / 0.34375,
                0.0,
            ],
        );
    }

    #[test]
    fn a_large_top_k_cuts_as_a_small_one_does() {
        let line: Vec<f32> = (0..2000).map(|i| ((i * 7919) % 2000) as f32 / 400.0).collect();
        let params = GenerationParams {
            do_sample: true,
            top_k: 300,
            top_p: 0.9,
            ..plain()
        };
        let mut order: Vec<u32> = (0..2000).collect();
        order.sort_by(|a, b| line[*b as usize].total_cmp(&line[*a as usize]));
        assert!(
            draws(&params, &line, 3, 2000)
                .iter()
                .all(|id| order[..300].contains(id))
        );
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let line: Vec<f32> = (0..100).map(|i| (i % 10) as f32 / 10.0).collect();
        let params = GenerationParams {
            do_sample: true,
            ..plain()
        };
        assert_eq!(draws(&params, &line, 1, 50), draws(&params, &line, 1, 50));
        assert_ne!(draws(&params, &line, 1, 50), draws(&params, &line, 2, 50));
    }

    #[test]
    fn nothing_allowed_is_nothing_chosen() {
        let params = GenerationParams {
            do_sample: true,
            ..plain()
        };
        let mut rng = randomness(0, 0);
        assert_eq!(choose_greedily(&[NO, NO]), None);
        assert_eq!(
            choose_at_random(&params, &[NO, NO], &mut rng, &mut Scratch::default()),
            None
        );
    }
}
