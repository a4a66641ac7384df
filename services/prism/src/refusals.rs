//! How often the truth gate refused a sentence, and why: an operator's first look at a new bundle.

use refract_truth::Refusal;

/// Counts refusals by their closed label; never by text.
pub(crate) fn count(refusals: &[Refusal]) {
    for refusal in refusals {
        metrics::counter!("refract_prism_sentences_refused_total", "reason" => refusal.as_str()).increment(1);
    }
}
