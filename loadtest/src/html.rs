//! Reports as one HTML file that needs nothing beside it.

use std::fmt::Write as _;

use crate::asking::Asking;
use crate::plot::{Line, Plot, escape};
use crate::report::Report;
use crate::summary::METRICS;

/// What each curve shows, in the words of a reader.
fn meaning(metric: &str) -> &'static str {
    match metric {
        "schedule_delay" => {
            "How much later than intended requests were sent. Large values: the generator could not keep up."
        }
        "slate" => "From the intended start to the slate.",
        "first_text" => "From the intended start to the first word of an explanation.",
        "between_texts" => "Between pieces of one explanation. A piece is a checked sentence.",
        "per_token" => "Time from an explanation's first text to its end, over its tokens less one.",
        "item" => "From the intended start to the end of each explanation.",
        _ => "From the intended start to the end of the answer.",
    }
}

/// All reports on one page, their curves over each other.
pub fn page(reports: &[Report], share_min: f64) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Refract under load</title>\n<style>\
         body{font:15px/1.5 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}\
         table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}\
         td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:14px}\
         figure{margin:0;max-width:560px}figcaption{color:#555;font-size:13px}.bad{color:#b00;font-weight:bold}\
         </style></head><body>\n<h1>Refract under load</h1>\n\
         <p>Open loop: requests start when the schedule says, and every time counts from the intended start.</p>\n",
    );
    for report in reports {
        let _infallible = writeln!(
            html,
            "<h2>{}</h2>\n<p>{} Target {}, {} arrivals, {}, {} items a request, seed {}.{}</p>",
            escape(&report.title),
            escape(&report.note),
            escape(&report.target),
            format!("{:?}", report.arrivals).to_lowercase(),
            asking(report),
            report.limit,
            report.seed,
            objectives(report)
        );
        table(&mut html, report, share_min);
    }
    html.push_str("<h2>Curves</h2>\n<div class=\"plots\">\n");
    for metric in METRICS {
        let lines = labelled(reports)
            .filter_map(|(name, run)| {
                let curve = run.curves_ms.get(metric)?;
                let points = curve
                    .iter()
                    .enumerate()
                    .map(|(percent, value)| (*value, percent as f64));
                Some(Line {
                    name,
                    points: points.collect(),
                })
            })
            .collect();
        figure(
            &mut html,
            &Plot {
                title: metric.to_owned(),
                x: "ms".to_owned(),
                y: "% of all".to_owned(),
                lines,
                log_x: true,
                log_y: false,
            },
            meaning(metric),
        );
    }
    if reports.iter().any(|report| report.runs.len() > 1) {
        sweeps(&mut html, reports);
    }
    html.push_str("</div>\n</body></html>\n");
    html
}

fn asking(report: &Report) -> String {
    match report.asking {
        Asking::Zipf => format!("users by Zipf {}", report.zipf_exponent),
        Asking::Cold => "every request another user's".to_owned(),
        Asking::Warm => "sixteen users, all asked once before".to_owned(),
    }
}

fn objectives(report: &Report) -> String {
    let limits = [
        ("slate", report.objectives.slate),
        ("first text", report.objectives.first_text),
        ("complete", report.objectives.complete),
    ];
    let named: Vec<String> = limits
        .into_iter()
        .filter_map(|(name, limit)| Some(format!("{name} within {}", humantime::format_duration(limit?))))
        .collect();
    if named.is_empty() {
        " Every answer is good.".to_owned()
    } else {
        format!(" Good: {}.", named.join(", "))
    }
}

fn table(html: &mut String, report: &Report, share_min: f64) {
    html.push_str(
        "<table><tr><th>intended/s</th><th>ok/s</th><th>good/s</th><th>good</th><th>slate p99</th>\
         <th>first text p50</th><th>p99</th><th>complete p50</th><th>p99</th><th>delay p99</th><th>items/s by rung</th></tr>\n",
    );
    for run in &report.runs {
        let ms = |metric, percent| {
            run.quantile(metric, percent)
                .map_or("–".to_owned(), |value| format!("{value:.1} ms"))
        };
        let rungs: Vec<String> = run
            .items_per_second
            .iter()
            .map(|(rung, rate)| format!("{rung} {rate:.1}"))
            .collect();
        let class = if run.good_share() < share_min {
            " class=\"bad\""
        } else {
            ""
        };
        let _infallible = writeln!(
            html,
            "<tr><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td{class}>{:.1} %</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            run.intended_per_second,
            run.ok_per_second,
            run.good_per_second,
            100.0 * run.good_share(),
            ms("slate", 99),
            ms("first_text", 50),
            ms("first_text", 99),
            ms("complete", 50),
            ms("complete", 99),
            ms("schedule_delay", 99),
            escape(&rungs.join(", "))
        );
    }
    html.push_str("</table>\n");
}

/// What a growing rate does.
fn sweeps(html: &mut String, reports: &[Report]) {
    let over = |value: &dyn Fn(&crate::summary::Summary) -> Option<f64>| {
        reports
            .iter()
            .filter(|report| report.runs.len() > 1)
            .map(|report| Line {
                name: report.title.clone(),
                points: report
                    .runs
                    .iter()
                    .filter_map(|run| Some((run.intended_per_second, value(run)?)))
                    .collect(),
            })
            .collect::<Vec<_>>()
    };
    let plot = |title: &str, y: &str, lines, log_y| Plot {
        title: title.to_owned(),
        x: "intended requests a second".to_owned(),
        y: y.to_owned(),
        lines,
        log_x: false,
        log_y,
    };
    figure(
        html,
        &plot(
            "good requests",
            "good a second",
            over(&|run| Some(run.good_per_second)),
            false,
        ),
        "Where the line leaves the diagonal, the cluster is saturated.",
    );
    for metric in ["slate", "first_text", "complete"] {
        figure(
            html,
            &plot(
                &format!("{metric} p99"),
                "ms",
                over(&|run| run.quantile(metric, 99)),
                true,
            ),
            meaning(metric),
        );
    }
}

fn labelled(reports: &[Report]) -> impl Iterator<Item = (String, &crate::summary::Summary)> {
    reports.iter().flat_map(|report| {
        report
            .runs
            .iter()
            .map(move |run| (format!("{} {:.0}/s", report.title, run.intended_per_second), run))
    })
}

fn figure(html: &mut String, plot: &Plot, caption: &str) {
    if plot.lines.iter().any(|line| !line.points.is_empty()) {
        let _infallible = writeln!(
            html,
            "<figure>{}<figcaption>{}</figcaption></figure>",
            plot.svg(),
            escape(caption)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_page_stands_alone_and_shows_every_run() {
        let html = page(
            &[report(&[(10, 10, 5), (10, 40, 80)]), report(&[(3, 3, 7)])],
            0.95,
        );
        for outside in ["src=", "href=", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("a &lt;test&gt;"));
        assert_eq!(html.matches("<tr><td>").count(), 3);
        assert_eq!(html.matches("class=\"bad\"").count(), 1);
        assert!(html.contains("good requests"), "a sweep has its plot");
    }
}
