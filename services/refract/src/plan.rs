//! `refract plan`: how many machines of each kind, and what they cost; from measured times, checked against real processes.

mod at_work;
mod calibrate;
mod trial;
mod validate;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use refract_loadtest::plot::{Line, Plot};
use refract_plan::Plan;
use refract_plan::size::{Needed, size};

use crate::cli;

pub(crate) fn run(args: &cli::Plan) -> Result<()> {
    let mut plan = match &args.file {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            Plan::read(&text).with_context(|| file.display().to_string())?
        }
        None => Plan::default(),
    };
    if let Some(target) = args.calibrate.as_ref().or(args.validate.as_ref()) {
        let users = refract_loadtest::schedule::users(&crate::assets::data_and_ranker(&args.data)?.0)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(async {
            let rest = calibrate::measure(&mut plan, target, users).await?;
            if args.validate.is_some() {
                validate::compare(&plan, target, &rest, args).await
            } else {
                write!(std::io::stdout(), "{}", plan.to_text())?;
                Ok(())
            }
        });
    }
    if args.print {
        print!("{}", plan.to_text());
        return Ok(());
    }
    let needed: Vec<Needed> = args
        .rates
        .iter()
        .map(|rate| size(&plan, *rate, args.seed))
        .collect::<Result<_, _>>()?;
    show(&needed, args.json)?;
    if let Some(file) = &args.svg {
        std::fs::write(file, plots(&needed)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn show(needed: &[Needed], json: bool) -> Result<()> {
    if json {
        for at in needed {
            for (name, value, unit) in [
                ("ranker", at.ranker as f64, "nodes"),
                ("oracle", at.oracle as f64, "nodes"),
                ("prism", at.prism as f64, "nodes"),
                ("per_hour", at.per_hour, "price"),
                ("per_million", at.per_million, "price"),
                ("hit_share", at.hit_share, "share"),
                ("slate_p99", at.slate_p99_ms, "ms"),
                ("complete_p50", at.complete_p50_ms, "ms"),
                ("complete_p99", at.complete_p99_ms, "ms"),
                ("without_knowledge", at.without_knowledge_share, "share"),
            ] {
                let name = format!("plan.{name}@{}/s", at.rate);
                println!(
                    "{}",
                    serde_json::json!({"name": name, "value": value, "unit": unit, "goal": null, "holds": null, "n": 1})
                );
            }
        }
        return Ok(());
    }
    println!(
        "{:>10} {:>8} {:>8} {:>8} {:>12} {:>12} {:>7} {:>10} {:>12} {:>12}",
        "requests/s",
        "rankers",
        "oracles",
        "prisms",
        "price/h",
        "price/10^6",
        "hits",
        "slate p99",
        "all p50",
        "all p99"
    );
    for at in needed {
        println!(
            "{:>10} {:>8} {:>8} {:>8} {:>12.2} {:>12.2} {:>5.1} % {:>7.1} ms {:>9.0} ms {:>9.0} ms",
            at.rate,
            at.ranker,
            at.oracle,
            at.prism,
            at.per_hour,
            at.per_million,
            100.0 * at.hit_share,
            at.slate_p99_ms,
            at.complete_p50_ms,
            at.complete_p99_ms
        );
    }
    Ok(())
}

/// Machines, price and memory over the rate, under each other.
fn plots(needed: &[Needed]) -> String {
    let line = |name: &str, value: &dyn Fn(&Needed) -> f64| Line {
        name: name.to_owned(),
        points: needed.iter().map(|at| (at.rate, value(at))).collect(),
    };
    let plot = |title: &str, y: &str, lines, log_y| Plot {
        title: title.to_owned(),
        x: "requests a second".to_owned(),
        y: y.to_owned(),
        lines,
        log_x: true,
        log_y,
    };
    let plots = [
        plot(
            "machines",
            "machines",
            vec![
                line("rankers", &|at| at.ranker as f64),
                line("Oracles", &|at| at.oracle as f64),
                line("Prisms", &|at| at.prism as f64),
            ],
            true,
        ),
        plot(
            "price of a million requests",
            "price",
            vec![line("all", &|at| at.per_million)],
            true,
        ),
        plot(
            "found in memory",
            "share of pairs",
            vec![line("hits", &|at| at.hit_share)],
            false,
        ),
    ];
    stacked(&plots)
}

/// Plots under each other in one picture.
fn stacked(plots: &[Plot]) -> String {
    let height = 320 * plots.len();
    let mut all = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 560 {height}\" width=\"560\" height=\"{height}\">\n"
    );
    for (n, plot) in plots.iter().enumerate() {
        all.push_str(&format!(
            "<g transform=\"translate(0 {})\">{}</g>\n",
            320 * n,
            plot.svg()
        ));
    }
    all.push_str("</svg>\n");
    all
}
