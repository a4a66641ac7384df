//! MovieLens: `ratings.dat` and `movies.dat` with `::` between fields (1M, 10M), or `ratings.csv` and `movies.csv` (latest).
//!
//! Ages, sexes and post codes of 1M's `users.dat` are not read.

use std::path::Path;

use crate::error::{Error, Result};
use crate::intake::{About, Act, Intake, Options, Scale, Thing};
use crate::lines::{Decoded, Encoding, each_line};
use crate::report::Report;
use crate::table::rows::{Cell, Source, each_row};
use crate::title::Title;

/// Half a star to five in the later sets, one to five in the first.
const SCALE: Scale = Scale {
    min: 0.5,
    max: 5.0,
    liked_at: 4.0,
    disliked_at: 2.0,
};
const LICENCE: &str = "MovieLens (GroupLens Research): research use, no redistribution and no commercial use without \
                       permission; see the README that came with the data";
/// What MovieLens calls a genre, and what explanations do.
const GENRES: [(&str, &str); 3] = [
    ("sci-fi", "science fiction"),
    ("film-noir", "film noir"),
    ("children", "children's"),
];
const NO_GENRES: [&str; 2] = ["(no genres listed)", "imax"];

/// Imports the directory `from` into the new directory `out`.
pub fn movielens(from: &Path, out: &Path, options: &Options) -> Result<Report> {
    let (dat, csv) = (from.join("ratings.dat"), from.join("ratings.csv"));
    let name = from
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "movielens".to_owned());
    let intake = if dat.is_file() {
        by_colons(&dat, &from.join("movies.dat"))?
    } else if csv.is_file() {
        by_commas(&csv, &from.join("movies.csv"))?
    } else {
        return Err(Error::Absent {
            dir: from.to_owned(),
            looked_for: vec!["ratings.dat".to_owned(), "ratings.csv".to_owned()],
        });
    };
    let about = About {
        name,
        description: "MovieLens ratings".to_owned(),
        licence: LICENCE.to_owned(),
        synthetic: false,
        rating: Some(SCALE),
    };
    intake.finish(about, options, out)
}

fn by_colons(ratings: &Path, movies: &Path) -> Result<Intake> {
    let mut intake = Intake::new(ratings, movies, Some(SCALE), true);
    each_line(ratings, |line, bytes| {
        let act = bytes.and_then(|bytes| {
            let text = Encoding::Latin1.decode(bytes)?.text;
            let fields: Vec<&str> = text.split("::").collect();
            let [user, item, rating, at] = fields[..] else {
                return Err(format!("the row has {} fields, 4 are expected", fields.len()));
            };
            act(user, item, rating, at)
        });
        intake.act(line, act);
        Ok(())
    })?;
    each_line(movies, |line, bytes| {
        let place = format!("{}:{line}", movies.display());
        let decoded = bytes.and_then(|bytes| Ok(Encoding::Latin1.decode(bytes)?));
        let film = decoded.and_then(|Decoded { text, latin1 }| {
            // A title may hold `::`, an id and genres cannot.
            let (Some((id, rest)), true) = (text.split_once("::"), text.matches("::").count() >= 2) else {
                return Err("the row has too few fields, 3 are expected".to_owned());
            };
            let (title, genres) = rest.rsplit_once("::").unwrap_or((rest, ""));
            let film = thing(&mut intake, &place, id, title, genres);
            if latin1 {
                let said = &film.title;
                intake
                    .report
                    .changed_values
                    .add(|| format!("{place}: read as Latin-1: {said:?}"));
            }
            Ok(film)
        });
        intake.thing(line, film)
    })?;
    Ok(intake)
}

fn by_commas(ratings: &Path, movies: &Path) -> Result<Intake> {
    let mut intake = Intake::new(ratings, movies, Some(SCALE), true);
    let columns = ["userId", "movieId", "rating", "timestamp"];
    each_row(&Source::of(ratings)?, &columns.map(Some), |line, row| {
        let act = row.and_then(|cells| {
            let [user, item, rating, at] = &cells[..] else {
                return Err("the row is incomplete".to_owned());
            };
            act(&user.said(), &item.said(), &rating.said(), &at.said())
        });
        intake.act(line, act);
        Ok(())
    })?;
    let columns = ["movieId", "title", "genres"];
    each_row(&Source::of(movies)?, &columns.map(Some), |line, row| {
        let place = format!("{}:{line}", movies.display());
        let film = row.map(|cells| {
            let said = |n: usize| cells.get(n).map(Cell::said).unwrap_or_default();
            thing(&mut intake, &place, &said(0), &said(1), &said(2))
        });
        intake.thing(line, film)
    })?;
    Ok(intake)
}

fn act(user: &str, item: &str, rating: &str, at: &str) -> Result<Act, String> {
    let rating: f64 = rating
        .trim()
        .parse()
        .map_err(|_| format!("rating: {rating:?} is not a number"))?;
    let at = at
        .trim()
        .parse()
        .map_err(|_| format!("timestamp: {at:?} is not a whole number"))?;
    Ok(Act {
        user: user.trim().to_owned(),
        item: item.trim().to_owned(),
        rating: Some(rating),
        at,
    })
}

fn thing(intake: &mut Intake, place: &str, id: &str, title: &str, genres: &str) -> Thing {
    let parsed = Title::parse(title);
    let report = &mut intake.report;
    for other in &parsed.others {
        report
            .dropped_values
            .add(|| format!("{place}: second title {other:?}"));
    }
    let genres = genres
        .split('|')
        .map(|genre| genre.trim().to_lowercase())
        .filter(|genre| !genre.is_empty() && !NO_GENRES.contains(&genre.as_str()))
        .map(|genre| {
            let better = GENRES.iter().find(|(from, _)| *from == genre);
            better.map_or(genre, |(_, to)| (*to).to_owned())
        })
        .collect();
    let mut attributes = std::collections::BTreeMap::from([("genre".to_owned(), genres)]);
    attributes.extend(parsed.year.map(|year| ("year".to_owned(), vec![year])));
    Thing {
        id: id.trim().to_owned(),
        title: parsed.title,
        attributes,
        description: String::new(),
    }
}
