//! Any endpoint that speaks `/v1/chat/completions`: vLLM and its like.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::error::Error;
use crate::prompt::{PROMPT_REVISION, prompt};
use crate::teacher::{Answer, Candidate, Fault, Identity, Manner, Teacher};

/// Doc comments are the manual.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Up to and with `/v1`: `http://127.0.0.1:8000/v1`.
    pub endpoint: String,
    /// As the endpoint names it.
    pub model: String,
    /// One request. Default 60 s.
    pub answer_max: Duration,
    /// Default 150, as published.
    pub new_tokens_max: u32,
    /// Of sampling. Default 0.8, as published; 0 in the second try.
    pub temperature: f64,
    /// Of sampling. Default 0.9, as published.
    pub top_p: f64,
    /// History items that a prompt shows. Default 50.
    pub history_items_max: usize,
    pub seed: u64,
}

impl Config {
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            model: model.into(),
            answer_max: Duration::from_secs(60),
            new_tokens_max: 150,
            temperature: 0.8,
            top_p: 0.9,
            history_items_max: 50,
            seed: 42,
        }
    }
}

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Longest wait that an endpoint may ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);
const CREDENTIAL_BYTES_MAX: u64 = 16 << 10;

/// A chat model somewhere else.
pub struct OpenAi {
    config: Config,
    url: String,
    credential: Option<String>,
    agent: ureq::Agent,
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAi")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl OpenAi {
    /// The credential comes from a file, so that it is in no process list and no shell history.
    pub fn new(config: Config, credential_file: Option<&Path>) -> Result<Self, Error> {
        let endpoint = config.endpoint.trim_end_matches('/');
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err(Error::Invalid {
                field: "endpoint",
                reason: "must begin with http:// or https://".to_owned(),
            });
        }
        if endpoint.contains('@') {
            return Err(Error::Invalid {
                field: "endpoint",
                reason: "must hold no credential; name a file with one".to_owned(),
            });
        }
        let credential = credential_file.map(read_credential).transpose()?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.answer_max))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        Ok(Self {
            url: format!("{endpoint}/chat/completions"),
            config,
            credential,
            agent,
        })
    }

    fn body(&self, ask: &Ask, manner: Manner) -> Value {
        let (candidates, temperature) = match manner {
            Manner::Sampled { candidates } => (candidates.max(1), self.config.temperature),
            Manner::Careful => (1, 0.0),
        };
        // The same ask is sampled alike by an endpoint that keeps to seeds.
        let own = u64::from_str_radix(&ask.id()[..8], 16).unwrap_or(0);
        json!({
            "model": self.config.model,
            "messages": [{"role": "user", "content": prompt(&ask.pair, &ask.history, self.config.history_items_max)}],
            "n": candidates,
            "temperature": temperature,
            "top_p": if temperature > 0.0 { self.config.top_p } else { 1.0 },
            "max_tokens": self.config.new_tokens_max,
            "seed": (self.config.seed ^ own) & 0x7fff_ffff,
        })
    }
}

fn read_credential(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CREDENTIAL_BYTES_MAX).read_to_string(&mut text))
        .map_err(Error::read(path))?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Error::Malformed {
            path: path.to_owned(),
            line: 1,
            reason: "expected one credential on one line".to_owned(),
        });
    }
    Ok(text.to_owned())
}

#[async_trait]
impl Teacher for OpenAi {
    fn identity(&self) -> Identity {
        let c = &self.config;
        Identity {
            name: format!("openai:{}", c.model),
            revision: String::new(),
            prompt: PROMPT_REVISION.to_owned(),
            settings: format!(
                "temperature {} top_p {} new_tokens_max {} history_items_max {} seed {}",
                c.temperature, c.top_p, c.new_tokens_max, c.history_items_max, c.seed
            ),
        }
    }

    fn has_second_manner(&self) -> bool {
        true
    }

    async fn answer(&self, ask: &Ask, manner: Manner) -> Result<Answer, Fault> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let credential = self.credential.clone();
        let body = self.body(ask, manner).to_string();
        let work = move || post(&agent, &url, credential.as_deref(), &body);
        match tokio::task::spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(stopped) => Err(Fault::Failed(stopped.to_string())),
        }
    }

    fn prompt_tokens(&self, ask: &Ask) -> u64 {
        let prompt = prompt(&ask.pair, &ask.history, self.config.history_items_max);
        (prompt.chars().count() as u64).div_ceil(4)
    }
}

fn post(agent: &ureq::Agent, url: &str, credential: Option<&str>, body: &str) -> Result<Answer, Fault> {
    let mut request = agent.post(url).header("content-type", "application/json");
    if let Some(credential) = credential {
        request = request.header("authorization", &format!("Bearer {credential}"));
    }
    let mut response = request.send(body).map_err(unreached)?;
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX));
    match status {
        200 => {}
        429 | 503 => return Err(Fault::Busy { after }),
        408 | 504 => return Err(Fault::Slow),
        400 | 413 | 422 => return Err(Fault::Refused(format!("status {status}"))),
        401 | 403 | 404 | 405 => {
            return Err(Fault::Hopeless(format!(
                "status {status}: check the endpoint, the model's name and the credential"
            )));
        }
        _ => return Err(Fault::Failed(format!("status {status}"))),
    }
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(unreached)?;
    read_answer(&text)
}

fn unreached(error: ureq::Error) -> Fault {
    match error {
        ureq::Error::Timeout(_) => Fault::Slow,
        ureq::Error::BodyExceedsLimit(limit) => {
            Fault::Garbage(format!("an answer of more than {limit} bytes"))
        }
        other => Fault::Unreachable(other.to_string()),
    }
}

fn read_answer(text: &str) -> Result<Answer, Fault> {
    let answer: Value = serde_json::from_str(text).map_err(|_| Fault::Garbage("no JSON".to_owned()))?;
    let choices = answer["choices"]
        .as_array()
        .filter(|choices| !choices.is_empty())
        .ok_or_else(|| Fault::Garbage("no choices".to_owned()))?;
    let candidates = choices
        .iter()
        .filter_map(|choice| choice["message"]["content"].as_str())
        .map(|text| Candidate {
            text: bare(text),
            facts: Vec::new(),
        })
        .collect::<Vec<_>>();
    if candidates.is_empty() {
        return Err(Fault::Garbage("no text in any choice".to_owned()));
    }
    let count = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
    Ok(Answer {
        candidates,
        prompt_tokens: count("prompt_tokens"),
        written_tokens: count("completion_tokens"),
    })
}

/// The sentences without what chat models put around them: thoughts, quotes, a repeated cue, line breaks.
fn bare(text: &str) -> String {
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = flat.as_str();
    for cue in ["The reason:", "Reason:", "Explanation:"] {
        rest = rest.strip_prefix(cue).unwrap_or(rest).trim_start();
    }
    for (open, close) in [('"', '"'), ('“', '”')] {
        let inner = rest.strip_prefix(open).and_then(|r| r.strip_suffix(close));
        rest = inner.filter(|r| !r.contains([open, close])).unwrap_or(rest);
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_wrapping_is_taken_off() {
        for (text, expected) in [
            ("\"You liked Heat.\"", "You liked Heat."),
            (
                "<think>hm</think>\n\nThe reason: You liked\nHeat.",
                "You liked Heat.",
            ),
            ("\"Heat\" and \"Thief\"", "\"Heat\" and \"Thief\""),
            ("", ""),
        ] {
            assert_eq!(bare(text), expected);
        }
    }

    #[test]
    fn answers_without_texts_are_garbage() {
        for text in [
            "",
            "<html>",
            "{}",
            "{\"choices\":[]}",
            "{\"choices\":[{\"message\":{}}]}",
        ] {
            assert!(matches!(read_answer(text), Err(Fault::Garbage(_))), "{text}");
        }
    }

    #[test]
    fn a_credential_in_the_address_is_refused() {
        for endpoint in ["http://me:word@host/v1", "ftp://host", "host:8000/v1"] {
            assert!(
                OpenAi::new(Config::new(endpoint, "m"), None).is_err(),
                "{endpoint}"
            );
        }
    }
}
