//! The one command: see it work, serve, ask, import data, label, train, measure, reproduce, plan; `cli.rs` names each.

mod ask;
mod assets;
mod cli;
mod cluster;
mod compare;
mod corpus;
mod demo;
mod digest;
mod distill;
mod eval;
mod generate;
mod import;
mod imports;
mod plan;
mod plot;
mod population;
mod quantize;
mod rehearse;
mod reproduce;
mod serve;
mod show;
mod train;
mod users;

use std::io::IsTerminal;
use std::process::ExitCode;

use anstyle::AnsiColor;
use clap::Parser;
use refract_chassis::{config, telemetry};

use crate::cli::{Cli, Command, Eval, Import};

/// Requests are made of many small strings that one thread takes and another gives back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
            let red = AnsiColor::Red.on_default().bold();
            if plain {
                eprintln!("error: {error:#}")
            } else {
                eprintln!("{red}error:{red:#} {error:#}")
            }
            ExitCode::from(config::exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => quietly(demo::run(&args)),
        Command::Recommend(args) => quietly(ask::recommend(&args)),
        Command::Explain(args) => quietly(ask::explain(&args)),
        Command::Generate(args) => quietly(generate::run(&args)),
        Command::Quantize(args) => quantize::run(&args),
        Command::Rehearse(args) => quietly(rehearse::run(&args)),
        Command::Compare(args) => compare::run(&args),
        Command::Users(args) => users::run(&args),
        Command::Import(Import::Films(args)) => say(import::run(&args.from, &args.out, args.bad_rows_max)?),
        Command::Import(Import::Movielens(args)) => say(imports::movielens(&args)?),
        Command::Import(Import::Yelp(args)) => say(imports::yelp(&args)?),
        Command::Import(Import::Amazon(args)) => say(imports::amazon(&args)?),
        Command::Import(Import::Table(args)) => say(imports::table(&args)?),
        Command::Distill(args) => quietly(distill::run(&args)),
        Command::Train(what) => train::run(&what),
        Command::Eval(Eval::Ranker(args)) => eval::ranker(&args),
        Command::Eval(Eval::Explanations(args)) => quietly(eval::explanations(&args)),
        Command::Eval(Eval::Labels(args)) => quietly(eval::labels::run(&args)),
        Command::Eval(Eval::Speed(args)) => quietly(eval::speed::run(&args)),
        Command::Eval(Eval::Report(args)) => eval::page::run(&args),
        Command::Eval(Eval::Texts(args)) => eval::texts::run(&args, &mut std::io::stdout().lock()),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Population(args) => say(population::run(&args.data, args.seed)?),
    }
}

fn say(report: impl std::fmt::Display) -> anyhow::Result<()> {
    println!("{report}");
    Ok(())
}

/// On a runtime, with only warnings in the log: what these commands have to say goes to standard output.
fn quietly<F: Future<Output = anyhow::Result<()>>>(work: F) -> anyhow::Result<()> {
    let telemetry_config = telemetry::Config {
        level: "warn".to_owned(),
        ..telemetry::Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _telemetry = telemetry::install("refract", &telemetry_config)?;
        work.await
    })
}
