//! `refract eval report`: one HTML page, whole in itself, from what other commands printed with `--json`.
//!
//! | line | becomes |
//! |---|---|
//! | `{"name", "value", "unit", "goal", "holds", "n", "low", "high"}` | a cell of a table; equal names stand side by side |
//! | `{"run", "step", "loss", "dev_loss" or "dev_loss_best"}` | a point of a plot |
//! | `{"sample": {…, "faults": […]}}` | an example: the worst first, then good ones |
//!
//! Other lines (a run's last word) are passed over and counted. The page needs no network and runs no script.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::EvalReport;
use crate::plot::{Series, Whisker, escape, lines, whiskers};

#[derive(Clone, Debug, Deserialize)]
struct Cell {
    name: String,
    value: f64,
    unit: String,
    goal: Option<f64>,
    holds: Option<bool>,
    n: Option<u64>,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Point {
    run: String,
    step: f64,
    loss: f64,
    #[serde(alias = "dev_loss_best")]
    dev_loss: Option<f64>,
}

/// What one command printed.
#[derive(Debug, Default)]
struct Source {
    name: String,
    cells: Vec<Cell>,
    points: Vec<Point>,
    samples: Vec<Value>,
    passed: usize,
}

pub(crate) fn run(args: &EvalReport) -> Result<()> {
    write(args)?;
    println!("written to {}", args.out.display());
    Ok(())
}

pub(crate) fn write(args: &EvalReport) -> Result<()> {
    let sources = args
        .results
        .iter()
        .map(|given| read(given))
        .collect::<Result<Vec<_>>>()?;
    let html = page(&args.title, &args.note, &sources, args.examples);
    // Beside and renamed, so that nobody opens half a page.
    let partial = args.out.with_extension("html.partial");
    if let Some(parent) = args.out.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    std::fs::write(&partial, html)
        .and_then(|()| std::fs::rename(&partial, &args.out))
        .with_context(|| format!("writing {}", args.out.display()))
}

fn read(given: &str) -> Result<Source> {
    let (name, path) = match given.split_once('=') {
        Some((name, path)) if !Path::new(given).exists() => (name.to_owned(), PathBuf::from(path)),
        _ => {
            let path = PathBuf::from(given);
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            (stem.unwrap_or_else(|| given.to_owned()), path)
        }
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut source = Source {
        name,
        ..Source::default()
    };
    for (n, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let value: Value = serde_json::from_str(line).map_err(|e| {
            anyhow::anyhow!(
                "{}:{}:{}: not a line of JSON ({e})",
                path.display(),
                n + 1,
                e.column()
            )
        })?;
        if let Some(sample) = value.get("sample") {
            source.samples.push(sample.clone());
        } else if let Ok(cell) = serde_json::from_value::<Cell>(value.clone()) {
            source.cells.push(cell);
        } else if let Ok(point) = serde_json::from_value::<Point>(value) {
            source.points.push(point);
        } else {
            source.passed += 1;
        }
    }
    if source.cells.is_empty() && source.points.is_empty() && source.samples.is_empty() {
        bail!("{}: holds no result, curve or sample", path.display());
    }
    Ok(source)
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
table{border-collapse:collapse;margin:.6rem 0 1.6rem}th,td{border-bottom:1px solid #ddd;padding:.25rem .7rem;text-align:left;\
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}small{color:#666}\
.bad{background:#fdecea}.good{background:#e9f5ec}section{margin-top:2rem}svg{max-width:44rem;display:block;margin:.5rem 0}\
.example{border:1px solid #ddd;border-radius:6px;padding:.6rem .9rem;margin:.6rem 0}.fault{color:#b00020}";

fn page(title: &str, notes: &[String], sources: &[Source], examples: usize) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escape(title)
    );
    for note in notes {
        let _ = writeln!(html, "<p>{}</p>", escape(note));
    }
    for group in groups(sources) {
        table(&mut html, &group, sources);
    }
    curves(&mut html, sources);
    for source in sources.iter().filter(|source| !source.samples.is_empty()) {
        samples(&mut html, source, examples);
    }
    html.push_str("<section><h2>From</h2><ul>\n");
    for source in sources {
        let _ = writeln!(
            html,
            "<li>{}: {} values, {} points, {} examples{}</li>",
            escape(&source.name),
            source.cells.len(),
            source.points.len(),
            source.samples.len(),
            if source.passed == 0 {
                String::new()
            } else {
                format!(", {} other lines", source.passed)
            }
        );
    }
    html.push_str("</ul></section>\n</body></html>\n");
    html
}

/// First parts of the values' names (`explanations`, `texts`), in the order of appearance.
fn groups(sources: &[Source]) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for cell in sources.iter().flat_map(|source| &source.cells) {
        let group = cell.name.split('/').next().unwrap_or_default();
        if !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups
}

fn table(html: &mut String, group: &str, sources: &[Source]) {
    let in_group = |cell: &&Cell| cell.name.split('/').next() == Some(group);
    let columns: Vec<&Source> = sources
        .iter()
        .filter(|source| source.cells.iter().any(|cell| in_group(&cell)))
        .collect();
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for cell in columns
        .iter()
        .flat_map(|source| source.cells.iter().filter(in_group))
    {
        if seen.insert(cell.name.as_str()) {
            names.push(&cell.name);
        }
    }
    let _ = write!(
        html,
        "<section><h2>{}</h2><table><tr><th>measure</th>",
        escape(group)
    );
    for source in &columns {
        let _ = write!(html, "<th>{}</th>", escape(&source.name));
    }
    html.push_str("<th>goal</th></tr>\n");
    for name in names {
        let own = name.strip_prefix(group).unwrap_or(name).trim_start_matches('/');
        let _ = write!(html, "<tr><td>{}</td>", escape(&own.replace('_', " ")));
        let mut goal = String::new();
        for source in &columns {
            let Some(cell) = source.cells.iter().find(|cell| cell.name == name) else {
                html.push_str("<td class=\"n\">–</td>");
                continue;
            };
            let class = match cell.holds {
                Some(true) => " good",
                Some(false) => " bad",
                None => "",
            };
            let _ = write!(html, "<td class=\"n{class}\">{}</td>", shown(cell));
            if let Some(wanted) = cell.goal {
                goal = number(wanted, &cell.unit);
            }
        }
        let _ = writeln!(html, "<td class=\"n\">{}</td></tr>", escape(&goal));
    }
    html.push_str("</table>\n");
    let rows: Vec<Whisker> = columns
        .iter()
        .enumerate()
        .flat_map(|(place, source)| {
            let shares = source
                .cells
                .iter()
                .filter(in_group)
                .filter(|cell| cell.unit == "share");
            shares.filter_map(move |cell| {
                let own = cell
                    .name
                    .strip_prefix(group)
                    .unwrap_or(&cell.name)
                    .trim_start_matches('/');
                Some(Whisker {
                    name: own.replace('_', " "),
                    group: place,
                    value: cell.value,
                    low: cell.low?,
                    high: cell.high?,
                })
            })
        })
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(html, "<p>Shares with their 95 % intervals:</p>");
        html.push_str(&whiskers(group, &rows));
    }
    html.push_str("</section>\n");
}

fn shown(cell: &Cell) -> String {
    let spread = match (cell.low, cell.high) {
        (Some(low), Some(high)) => format!(
            " <small>[{}, {}]</small>",
            escape(&number(low, &cell.unit)),
            escape(&number(high, &cell.unit))
        ),
        _ => String::new(),
    };
    let n = cell
        .n
        .map(|n| format!(" <small>n {n}</small>"))
        .unwrap_or_default();
    format!("{}{spread}{n}", escape(&number(cell.value, &cell.unit)))
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        unit if unit.starts_with("share") => format!("{:.2} %", value * 100.0),
        _ if value.fract() == 0.0 && value.abs() < 1e12 => format!("{value:.0} {unit}"),
        _ => format!("{value:.3} {unit}"),
    }
}

fn curves(html: &mut String, sources: &[Source]) {
    let mut runs: BTreeMap<(String, String), Vec<&Point>> = BTreeMap::new();
    for source in sources {
        for point in &source.points {
            let key = (source.name.clone(), point.run.clone());
            runs.entry(key).or_default().push(point);
        }
    }
    if runs.is_empty() {
        return;
    }
    html.push_str("<section><h2>training</h2>\n");
    for ((source, run), points) in runs {
        let training = points.iter().map(|p| (p.step, p.loss)).collect();
        let dev = points
            .iter()
            .filter_map(|p| Some((p.step, p.dev_loss?)))
            .collect();
        let series = [("training", training), ("dev", dev)].map(|(name, points)| Series {
            name: name.to_owned(),
            points,
        });
        let title = format!("{source}: {run}, loss per token");
        html.push_str(&lines(&title, "optimiser step", &series));
    }
    html.push_str("</section>\n");
}

fn samples(html: &mut String, source: &Source, count: usize) {
    let faults = |sample: &Value| sample["faults"].as_array().map_or(0, Vec::len);
    let before = |sample: &Value| {
        ["before_faults", "teacher_faults"]
            .iter()
            .filter_map(|key| sample[*key].as_array().map(Vec::len))
            .sum::<usize>()
    };
    let mut order: Vec<&Value> = source.samples.iter().collect();
    order.sort_by_key(|sample| std::cmp::Reverse((faults(sample), before(sample))));
    let bad = order
        .iter()
        .filter(|sample| faults(sample) + before(sample) > 0)
        .take(count);
    let good = source
        .samples
        .iter()
        .filter(|sample| faults(sample) + before(sample) == 0)
        .take(count);
    for (title, chosen) in [
        ("the worst", bad.copied().collect::<Vec<_>>()),
        ("good ones", good.collect()),
    ] {
        let _ = writeln!(
            html,
            "<section><h2>{}: {title}, {} of {}</h2>",
            escape(&source.name),
            chosen.len(),
            source.samples.len()
        );
        chosen.into_iter().for_each(|sample| example(html, sample));
        html.push_str("</section>\n");
    }
}

fn example(html: &mut String, sample: &Value) {
    let text = |key: &str| sample[key].as_str().filter(|text| !text.is_empty());
    let list = |key: &str| -> Vec<&str> {
        let values = sample[key].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).collect()
    };
    html.push_str("<div class=\"example\"><table>");
    let mut row = |label: &str, cell: String| {
        let _ = write!(html, "<tr><th>{label}</th><td>{cell}</td></tr>");
    };
    row("liked", escape(&list("liked").join(" · ")));
    row("item", escape(text("item").unwrap_or("–")));
    for (key, label, faults) in [
        ("before", "model's own text", "before_faults"),
        ("text", "what is served", "faults"),
        ("teacher", "teacher", "teacher_faults"),
        ("student", "student", "faults"),
    ] {
        if let Some(text) = text(key) {
            row(label, escape(text));
            let faults = list(faults);
            if !faults.is_empty() {
                row(
                    "",
                    format!("<span class=\"fault\">{}</span>", escape(&faults.join(" · "))),
                );
            }
        }
    }
    if let Some(rung) = text("rung") {
        row("rung", escape(rung));
    }
    html.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"name":"explanations/title/after","value":0.991,"unit":"share","goal":1.0,"holds":false,"n":5,"low":0.98,"high":1.0}
{"run":"prism","step":10,"loss":3.5,"dev_loss":3.1}
{"run":"prism","step":20,"loss":2.5,"dev_loss":2.1}
{"sample":{"liked":["Heat"],"item":"<b>Thief</b>","text":"Good.","before":"Bad one.","faults":[],"before_faults":["Title"],"rung":"FRESH"}}
{"sample":{"liked":[],"item":"Cats","teacher":"Fine.","student":"Fine too.","faults":[],"teacher_faults":[]}}
{"bundle":"x"}
"#;

    fn report(files: &[(&str, &str)]) -> Result<String> {
        let dir = tempfile::tempdir()?;
        let results = files
            .iter()
            .map(|(name, text)| {
                let path = dir.path().join(format!("{name}.jsonl"));
                std::fs::write(&path, text).unwrap();
                format!("{name} run={}", path.display())
            })
            .collect();
        let out = dir.path().join("made/page.html");
        run(&EvalReport {
            results,
            out: out.clone(),
            title: "A & B".to_owned(),
            note: vec!["On <one> core".to_owned()],
            examples: 3,
        })?;
        Ok(std::fs::read_to_string(out)?)
    }

    #[test]
    fn a_page_is_whole_in_itself_and_what_came_in_is_escaped() {
        let other = r#"{"name":"explanations/title/after","value":0.5,"unit":"share","n":7}"#;
        let html = report(&[("one", ONE), ("two", other)]).unwrap();
        for wanted in [
            "<h1>A &amp; B</h1>",
            "On &lt;one&gt; core",
            "<th>one run</th><th>two run</th>",
            "99.10 % <small>[98.00 %, 100.00 %]</small>",
            "class=\"n bad\"",
            "50.00 %",
            "<polyline",
            "<circle",
            "&lt;b&gt;Thief&lt;/b&gt;",
            "one run: the worst, 1 of 2",
            "one run: good ones, 1 of 2",
            "1 other lines",
        ] {
            assert!(html.contains(wanted), "{wanted} is not in {html}");
        }
        for unwanted in ["<script", "src=", "href=", "<b>Thief"] {
            assert!(!html.contains(unwanted), "{unwanted}");
        }
    }

    #[test]
    fn a_file_without_results_is_refused_by_name_and_line() {
        let error = report(&[("one", "{\"bundle\":1}\n")]).unwrap_err().to_string();
        assert!(error.contains("holds no result"), "{error}");
        let error = report(&[("one", "{}\nnonsense\n")]).unwrap_err().to_string();
        assert!(error.contains("one.jsonl:2:"), "{error}");
    }
}
