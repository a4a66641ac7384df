//! The way down: what is said when a better rung cannot be reached, and why, in constant phrases.

use refract_domain::{
    Claim, Error, ExplainQuery, Explanation, FinishReason, Grounding, NoneReason, Revision, Rung,
    StageTimings, TokenUsage, UnavailableReason,
};
use refract_truth as truth;

/// Why a better rung was not reached. Closed and constant: shown to callers, counted by operators, never a caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descent {
    NoRoom,
    EmptyHistory,
    NoOracle,
    NoTimeToConsult,
    OracleSilent,
    OracleSlow,
    OracleBusy,
    OracleUnreachable,
    OracleFailed,
    OracleTextRefused,
    NoPrism,
    NoTimeToWrite,
    PrismSlow,
    PrismBusy,
    PrismUnreachable,
    PrismFailed,
    PrismLost,
}

impl Descent {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "explanations are slow and there is no room for more to wait for them",
            Self::EmptyHistory => "the history is empty, so there is nothing to consult the Oracle about",
            Self::NoOracle => "no Oracle is configured",
            Self::NoTimeToConsult => "the deadline left no time to consult the Oracle",
            Self::OracleSilent => "the Oracle had nothing true to say",
            Self::OracleSlow => "the Oracle did not answer in its share of the deadline",
            Self::OracleBusy => "the Oracle is overloaded",
            Self::OracleUnreachable => "the Oracle is unreachable",
            Self::OracleFailed => "the Oracle failed",
            Self::OracleTextRefused => "the truth gate refused the Oracle's text",
            Self::NoPrism => "no Prism is configured",
            Self::NoTimeToWrite => "the deadline left no time to ask a Prism",
            Self::PrismSlow => "no Prism answered before the deadline",
            Self::PrismBusy => "the Prisms are overloaded",
            Self::PrismUnreachable => "no Prism is reachable",
            Self::PrismFailed => "the Prism failed",
            Self::PrismLost => "the Prism was lost in mid-text",
        }
    }

    pub(crate) fn from_oracle(error: &Error) -> Self {
        match error {
            Error::Unavailable {
                reason: UnavailableReason::Busy,
            }
            | Error::Overloaded { .. } => Self::OracleBusy,
            Error::Unavailable { .. } => Self::OracleUnreachable,
            Error::DeadlineExceeded | Error::Infeasible => Self::OracleSlow,
            _ => Self::OracleFailed,
        }
    }

    pub(crate) fn from_prism(error: &Error) -> Self {
        match error {
            Error::Unavailable {
                reason: UnavailableReason::Busy,
            }
            | Error::Overloaded { .. } => Self::PrismBusy,
            Error::Unavailable { .. } => Self::PrismUnreachable,
            Error::DeadlineExceeded | Error::Infeasible => Self::PrismSlow,
            _ => Self::PrismFailed,
        }
    }
}

/// By rule from the evidence: the last rung with a text, and the one that needs nobody else.
pub(crate) fn template(query: &ExplainQuery) -> Explanation {
    truth::template(&query.pair, &query.history, query.style)
        .unwrap_or_else(|| without_text(NoneReason::NoEvidence))
}

/// The Oracle's own text, each sentence through the gate; `None` when none passes.
pub(crate) fn oracle_text(query: &ExplainQuery) -> Option<Explanation> {
    let text = &query.knowledge.as_ref()?.text;
    gated(query, text).filter(|explanation| !explanation.text.is_empty())
}

/// What a Prism had written before it was lost. Every sentence had passed its gate; here it passes ours, for the claims.
pub(crate) fn cut_short(query: &ExplainQuery, sent: &str) -> Explanation {
    gated(query, sent)
        .filter(|explanation| explanation.text == sent.trim())
        .unwrap_or_else(|| Explanation {
            text: sent.to_owned(),
            ..with_grounding(query, Vec::new(), 0)
        })
}

/// A rung below what the caller accepts is no explanation for that caller.
pub(crate) fn withdrawn(explanation: Explanation) -> Explanation {
    let none = without_text(NoneReason::BelowMinimum);
    Explanation {
        text: String::new(),
        grounding: Grounding {
            rung: none.grounding.rung,
            claims: Vec::new(),
            ..explanation.grounding
        },
        ..explanation
    }
}

fn gated(query: &ExplainQuery, text: &str) -> Option<Explanation> {
    let mut gate = truth::Gate::new(
        truth::Vocabulary::standard(),
        &query.pair,
        &query.history,
        query.knowledge.as_ref(),
    );
    let mut cutter = gate.sentences();
    let mut sentences = cutter.push(text);
    sentences.extend(cutter.finish());
    let (mut kept, mut claims, mut refused) = (String::new(), Vec::new(), 0);
    for sentence in sentences {
        let Ok(found) = gate.check(&sentence, &[]) else {
            refused += 1;
            continue;
        };
        if !kept.is_empty() {
            kept.push(' ');
        }
        let offset = kept.len();
        kept.push_str(&sentence);
        claims.extend(found.into_iter().map(|claim| Claim {
            span: claim.span.start + offset..claim.span.end + offset,
            evidence: claim.evidence,
        }));
    }
    Some(Explanation {
        text: kept,
        ..with_grounding(query, claims, refused)
    })
}

fn with_grounding(query: &ExplainQuery, claims: Vec<Claim>, sentences_refused: u32) -> Explanation {
    let none = without_text(NoneReason::Internal);
    Explanation {
        grounding: Grounding {
            rung: query.rung(),
            claims,
            knowledge_age: query.knowledge_age(),
            sentences_refused,
            ..none.grounding
        },
        template_revision: query
            .knowledge
            .as_ref()
            .map(|k| k.template_revision.clone())
            .unwrap_or_default(),
        ..none
    }
}

/// There is no explanation, for this reason.
pub(crate) fn without_text(reason: NoneReason) -> Explanation {
    Explanation {
        text: String::new(),
        grounding: Grounding {
            rung: Rung::None(reason),
            claims: Vec::new(),
            descents: Vec::new(),
            knowledge_age: None,
            sentences_refused: 0,
        },
        finish: FinishReason::Rule,
        tokens: TokenUsage::default(),
        prism_revision: Revision::default(),
        template_revision: Revision::default(),
        history_truncated: 0,
        timings: StageTimings::default(),
    }
}
