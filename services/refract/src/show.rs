//! Events for people, as they come; or as lines of JSON for programs. Colour only on a terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use refract_domain::{Evidence, Explanation, History, Rung, Signal, Slate, SlateOrigin};
use refract_wire::convert::explanation::rung_name;
use refract_wire::recommend::{Event, Summary};
use serde_json::{Value, json};

/// Prints one stream of events.
pub(crate) struct Show {
    json: bool,
    colour: bool,
    slate: Option<Slate>,
    /// Text of items whose turn to be printed has not come: explanations interleave, people read one after the other.
    waiting: BTreeMap<u32, Waiting>,
    /// The item being printed.
    current: u32,
}

#[derive(Default)]
struct Waiting {
    text: String,
    done: Option<Explanation>,
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        let colour = !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            json,
            colour,
            slate: None,
            waiting: BTreeMap::new(),
            current: 1,
        }
    }

    pub(crate) fn history(&self, whose: &str, history: &History, shown_max: usize) -> Result<()> {
        if self.json {
            let items: Vec<Value> = history
                .interactions()
                .iter()
                .map(|i| json!({"item": i.item.id.as_str(), "title": i.item.title, "rating": i.rating, "signal": signal(i.signal)}))
                .collect();
            return line(&json!({"event": "history", "user": whose, "interactions": items}));
        }
        let mut out = std::io::stdout().lock();
        if history.is_empty() {
            writeln!(
                out,
                "{}",
                self.paint(Style::new().bold(), &format!("{whose} has no history yet"))
            )?;
            return Ok(());
        }
        writeln!(
            out,
            "{}  (newest first, {} in all)",
            self.paint(Style::new().bold(), whose),
            history.len()
        )?;
        for interaction in history.interactions().iter().rev().take(shown_max) {
            let mark = match interaction.signal {
                Signal::Liked => self.paint(green(), "+"),
                Signal::Seen => "·".to_owned(),
                Signal::Disliked => self.paint(AnsiColor::Red.on_default(), "-"),
            };
            let year = interaction
                .item
                .values("year")
                .first()
                .map_or(String::new(), |y| format!(" ({y})"));
            writeln!(out, "  {mark} {}{year}", interaction.item.title)?;
        }
        writeln!(out)?;
        Ok(())
    }

    pub(crate) fn event(&mut self, event: &Event) -> Result<()> {
        if self.json {
            return line(&as_json(event));
        }
        match event {
            Event::Slate(slate) => {
                self.print_slate(slate)?;
                self.slate = Some(slate.clone());
            }
            Event::Delta { position, text } => {
                self.waiting.entry(*position).or_default().text.push_str(text);
            }
            Event::Explained(explained) => {
                self.waiting.entry(explained.position).or_default().done =
                    Some(explained.explanation.clone());
            }
            Event::Summary(summary) => self.print_summary(summary)?,
        }
        self.advance()
    }

    /// Prints what has come for the current item, and goes on to the next ones that are complete.
    fn advance(&mut self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        while let Some(waiting) = self.waiting.get_mut(&self.current) {
            let Some(explanation) = waiting.done.take() else {
                break;
            };
            let title = self
                .slate
                .as_ref()
                .and_then(|s| s.items.iter().find(|i| i.position == self.current))
                .map_or(String::new(), |i| i.item.title.clone());
            let text = if waiting.text.is_empty() {
                "(no explanation)".to_owned()
            } else {
                waiting.text.clone()
            };
            let head = format!("{:>2}. {title}", self.current);
            writeln!(out, "{}", self.paint(Style::new().bold(), &head))?;
            for piece in wrap(&text, 92) {
                writeln!(out, "    {piece}")?;
            }
            writeln!(out, "    {}", self.paint(dim(), &footing(&explanation)))?;
            self.waiting.remove(&self.current);
            self.current += 1;
        }
        out.flush()?;
        Ok(())
    }

    fn print_slate(&self, slate: &Slate) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let origin = match slate.origin {
            SlateOrigin::Personal => "for this taste",
            SlateOrigin::Popular => "popular: there is no history to go by",
            SlateOrigin::Given => "as given",
        };
        let titles: Vec<&str> = slate.items.iter().map(|i| i.item.title.as_str()).collect();
        writeln!(
            out,
            "{} ({origin}): {}\n",
            self.paint(green().bold(), "Slate"),
            titles.join(" · ")
        )?;
        Ok(())
    }

    fn print_summary(&self, summary: &Summary) -> Result<()> {
        let rungs: Vec<String> = summary
            .rungs
            .iter()
            .map(|(rung, n)| format!("{} {n}", short(rung)))
            .collect();
        let first = summary.first_text_time.map_or("none".to_owned(), ms);
        println!(
            "\n{} slate {} · first text {first} · all {} · {}",
            self.paint(green().bold(), "Times"),
            ms(summary.rank_time),
            ms(summary.total_time),
            rungs.join(", ")
        );
        Ok(())
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// `RUNG_CACHED` as people say it.
fn short(rung: &str) -> &str {
    rung.strip_prefix("RUNG_").unwrap_or(rung)
}

fn green() -> Style {
    AnsiColor::Green.on_default()
}

fn dim() -> Style {
    Style::new().dimmed()
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// Rung, evidence and times in one line.
fn footing(explanation: &Explanation) -> String {
    let grounding = &explanation.grounding;
    let mut parts = vec![short(rung_name(grounding.rung)).to_owned()];
    if let Rung::None(reason) = grounding.rung {
        parts[0].push_str(&format!(" {reason:?}"));
    }
    if let Some(age) = grounding.knowledge_age {
        parts[0].push_str(&format!(" (knowledge {} s old)", age.as_secs()));
    }
    let mut rests: Vec<String> = Vec::new();
    for evidence in grounding.claims.iter().flat_map(|c| &c.evidence) {
        let text = match evidence {
            Evidence::History { item } => format!("history {item}"),
            Evidence::Attribute { name, value, .. } => format!("{name} {value}"),
            Evidence::Description { .. } => "description".to_owned(),
            Evidence::Affinity { item } => format!("others' likes of {item}"),
            Evidence::Fact { index } => format!("fact {}", index + 1),
        };
        if !rests.contains(&text) {
            rests.push(text);
        }
    }
    if !rests.is_empty() {
        parts.push(format!("rests on {}", rests.join(", ")));
    }
    let t = &explanation.timings;
    if !t.consult.is_zero() {
        parts.push(format!("consult {}", ms(t.consult)));
    }
    if !t.decode.is_zero() {
        parts.push(format!("write {}", ms(t.queue + t.encode + t.decode)));
    }
    parts.extend(grounding.descents.iter().cloned());
    parts.join(" · ")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty; this is a bug");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

fn line(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}

fn signal(signal: Signal) -> &'static str {
    match signal {
        Signal::Liked => "liked",
        Signal::Seen => "seen",
        Signal::Disliked => "disliked",
    }
}

fn evidence(evidence: &Evidence) -> Value {
    match evidence {
        Evidence::History { item } => json!({"history": item.as_str()}),
        Evidence::Attribute { item, name, value } => {
            json!({"attribute": {"item": item.as_str(), "name": name, "value": value}})
        }
        Evidence::Description { item } => json!({"description": item.as_str()}),
        Evidence::Affinity { item } => json!({"affinity": item.as_str()}),
        Evidence::Fact { index } => json!({"fact": index}),
    }
}

fn as_json(event: &Event) -> Value {
    let time = |t: Duration| t.as_secs_f64() * 1e3;
    match event {
        Event::Slate(slate) => json!({
            "event": "slate",
            "origin": format!("{:?}", slate.origin).to_lowercase(),
            "ranker_revision": slate.ranker_revision.0,
            "items": slate.items.iter().map(|i| json!({"position": i.position, "id": i.item.id.as_str(), "title": i.item.title, "score": i.score})).collect::<Vec<_>>(),
        }),
        Event::Delta { position, text } => json!({"event": "delta", "position": position, "text": text}),
        Event::Explained(explained) => {
            let e = &explained.explanation;
            json!({
                "event": "explained",
                "position": explained.position,
                "text": e.text,
                "rung": rung_name(e.grounding.rung),
                "claims": e.grounding.claims.iter().map(|c| json!({
                    "begin": c.span.start, "end": c.span.end, "evidence": c.evidence.iter().map(evidence).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "descents": e.grounding.descents,
                "sentences_refused": e.grounding.sentences_refused,
                "finish": format!("{:?}", e.finish).to_lowercase(),
                "prompt_tokens": e.tokens.prompt,
                "generated_tokens": e.tokens.generated,
                "prism_revision": e.prism_revision.0,
                "template_revision": e.template_revision.0,
                "consult_ms": time(e.timings.consult),
                "queue_ms": time(e.timings.queue),
                "encode_ms": time(e.timings.encode),
                "decode_ms": time(e.timings.decode),
                "prism_ms": time(e.timings.prism),
                "total_ms": time(e.timings.total),
            })
        }
        Event::Summary(s) => json!({
            "event": "summary",
            "request_id": s.request.0,
            "rank_ms": time(s.rank_time),
            "first_text_ms": s.first_text_time.map(time),
            "total_ms": time(s.total_time),
            "rungs": s.rungs,
            "oracle_revision": s.oracle_revision.0,
            "prism_revision": s.prism_revision.0,
        }),
    }
}
