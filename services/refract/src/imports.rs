//! `refract import movielens|yelp|amazon|table`: the command's side of `refract-import`.

use anyhow::Result;
use refract_import::splits::Config;
use refract_import::{Options, Report};

use crate::cli::{ImportAmazon, ImportDir, ImportOptions, ImportTable};

pub(crate) fn movielens(args: &ImportDir) -> Result<Report> {
    Ok(refract_import::movielens(
        &args.from,
        &args.options.out,
        &options(&args.options),
    )?)
}

pub(crate) fn yelp(args: &ImportDir) -> Result<Report> {
    Ok(refract_import::yelp(
        &args.from,
        &args.options.out,
        &options(&args.options),
    )?)
}

pub(crate) fn amazon(args: &ImportAmazon) -> Result<Report> {
    let out = &args.options.out;
    Ok(refract_import::amazon(
        &args.reviews,
        &args.metadata,
        out,
        &options(&args.options),
    )?)
}

pub(crate) fn table(args: &ImportTable) -> Result<Report> {
    Ok(refract_import::table(
        &args.mapping,
        &args.options.out,
        &options(&args.options),
    )?)
}

fn options(args: &ImportOptions) -> Options {
    Options {
        bad_rows_max: args.bad_rows_max,
        user_interactions_min: args.user_interactions_min,
        splits: Config {
            test_share: args.test_share,
            dev_share: args.dev_share,
            held_out_share: args.held_out_share,
            seed: args.seed,
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use refract_ranker::Dataset;
    use refract_ranker::dataset::LoadOptions;

    use super::*;
    use crate::cli::{Cli, Command, Import};

    #[test]
    fn what_is_imported_is_read_by_the_strict_reader() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(
            dir.path().join("movies.dat"),
            b"1::Matrix, The (1999)::Action|Sci-Fi\n2::Am\xe9lie (2001)::Comedy\n",
        )?;
        std::fs::write(
            dir.path().join("ratings.dat"),
            "1::1::5::10\n1::2::1::20\n2::2::4::30\n",
        )?;
        let out = dir.path().join("out");
        let cli = Cli::try_parse_from([
            "refract".as_ref(),
            "import".as_ref(),
            "movielens".as_ref(),
            dir.path().as_os_str(),
            "--out".as_ref(),
            out.as_os_str(),
            "--bad-rows-max".as_ref(),
            "0.5%".as_ref(),
        ])?;
        let Command::Import(Import::Movielens(args)) = cli.command else {
            anyhow::bail!("another command was read");
        };
        assert!((args.options.bad_rows_max - 0.005).abs() < 1e-12);
        movielens(&args)?;
        let dataset = Dataset::load(&out, &LoadOptions::default())?;
        assert_eq!(dataset.interactions().iter().count(), 3);
        let history = dataset
            .history(&refract_domain::UserId::new("1"))
            .expect("user 1 was imported");
        let signals: Vec<_> = history.interactions().iter().map(|i| i.signal).collect();
        use refract_domain::Signal::{Disliked, Liked};
        assert_eq!(signals, [Liked, Disliked]);
        assert_eq!(history.interactions()[0].item.title, "The Matrix");
        Ok(())
    }
}
