//! `refract population`: draws the demo's synthetic viewers again from their taste model, the same bytes for a seed.
//!
//! The films are real, the viewers are not, and no rating of a real person is involved. The recipe:
//!
//! 1. **Films** pull viewers by fame (given by hand, 1 to 5, in `fame.csv`), a factor 2 a step, and a seeded whim.
//! 2. **Tastes** are weighted *traits*: directors, leads, series, genres, countries, decades. The demo's own users have
//!    theirs written down in `tastes.toml`, with favourites, newest films and dislikes picked by hand. Three of four
//!    drawn viewers take some traits of one such user (they move in the same circle) and add one or two of their own;
//!    the others have only their own. A trait makes its films likelier to be seen and better rated. Half of the viewers
//!    are put off by a genre, and on the way one trait may give way to another: tastes drift.
//! 3. **Threads.** After a film that was liked a lot, viewers often follow its series, director or lead at once. That is
//!    what makes recent likes tell more than old ones.
//! 4. **Ratings** are 1 to 10: a common level, the viewer's leniency, the film's quality, the taste, and noise.
//! 5. **Dates** lie in the evenings of some years; nobody rates a film before the year after its release.
//!
//! Every user has a random stream of their own, so that one more drawn viewer leaves the others as they were.

mod draw;
mod films;
mod tastes;

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use draw::{Population, Row};
use films::Films;
use tastes::Tastes;

/// What was drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) films: usize,
    pub(crate) demo_users: usize,
    pub(crate) viewers: usize,
    pub(crate) ratings: usize,
    /// Shares of all ratings: 7 and up, 4 and down.
    pub(crate) liked: f64,
    pub(crate) disliked: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ratings of {} films by {} demo users and {} drawn viewers, all synthetic; {:.0} % liked, {:.0} % disliked",
            self.ratings,
            self.films,
            self.demo_users,
            self.viewers,
            100.0 * self.liked,
            100.0 * self.disliked
        )
    }
}

/// Rewrites `interactions.csv` and `users.jsonl` of the data set directory `data` from its `items.jsonl`, `fame.csv` and
/// `tastes.toml`. Neither file is touched unless both could be made.
pub(crate) fn run(data: &Path, seed: u64) -> anyhow::Result<Summary> {
    let (interactions, users, summary) = remake(data, seed)?;
    let files = [("interactions.csv", interactions), ("users.jsonl", users)];
    for (name, bytes) in &files {
        let path = data.join(format!(".{name}.new"));
        let mut file =
            std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    for (name, _) in &files {
        let (from, to) = (data.join(format!(".{name}.new")), data.join(name));
        std::fs::rename(&from, &to).with_context(|| format!("cannot replace {}", to.display()))?;
    }
    Ok(summary)
}

/// The bytes of `interactions.csv` and `users.jsonl`.
fn remake(data: &Path, seed: u64) -> anyhow::Result<(Vec<u8>, Vec<u8>, Summary)> {
    let films = Films::read(data, seed)?;
    let tastes = Tastes::read(&data.join("tastes.toml"), &films)?;
    let population = Population::new(&films, &tastes, seed);
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["user_id", "item_id", "rating", "timestamp"])?;
    let (mut ratings, mut liked, mut disliked) = (0_usize, 0_usize, 0_usize);
    for (user, rows) in population.draw()? {
        for Row { film, rating, at } in rows {
            csv.write_record([&user, &films.list[film].id, &rating.to_string(), &at.to_string()])?;
            ratings += 1;
            liked += usize::from(rating >= 7);
            disliked += usize::from(rating <= 4);
        }
    }
    let mut users = Vec::new();
    for user in &tastes.users {
        serde_json::to_writer(
            &mut users,
            &serde_json::json!({ "id": user.id, "about": user.about }),
        )?;
        users.push(b'\n');
    }
    let share = |n: usize| n as f64 / ratings.max(1) as f64;
    let summary = Summary {
        films: films.list.len(),
        demo_users: tastes.users.len(),
        viewers: tastes.viewers,
        ratings,
        liked: share(liked),
        disliked: share(disliked),
    };
    Ok((csv.into_inner()?, users, summary))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::path::PathBuf;

    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data")
    }

    #[test]
    fn the_shipped_interactions_are_what_the_recipe_draws() {
        let (interactions, users, _) = remake(&shipped(), 42).unwrap();
        assert!(
            std::fs::read(shipped().join("users.jsonl")).unwrap() == users,
            "users.jsonl differs"
        );
        assert!(
            std::fs::read(shipped().join("interactions.csv")).unwrap() == interactions,
            "interactions.csv differs"
        );
    }

    #[test]
    fn another_seed_draws_other_viewers_of_the_same_shape() {
        let (one, _, a) = remake(&shipped(), 42).unwrap();
        let (other, _, b) = remake(&shipped(), 43).unwrap();
        assert!(one != other);
        assert_eq!((a.demo_users, a.viewers), (b.demo_users, b.viewers));
        assert!((a.liked - b.liked).abs() < 0.05, "{a} against {b}");
    }

    #[test]
    fn nobody_rates_twice_or_off_the_scale_or_too_early_and_all_are_listed_oldest_first() {
        let films = Films::read(&shipped(), 42).unwrap();
        let tastes = Tastes::read(&shipped().join("tastes.toml"), &films).unwrap();
        let drawn = Population::new(&films, &tastes, 42).draw().unwrap();
        let users: HashSet<&String> = drawn.iter().map(|(user, _)| user).collect();
        assert_eq!(users.len(), tastes.users.len() + tastes.viewers);
        for (user, rows) in &drawn {
            let seen: HashSet<usize> = rows.iter().map(|r| r.film).collect();
            assert_eq!(seen.len(), rows.len(), "{user} rates a film twice");
            assert!(
                rows.windows(2).all(|w| w[0].at < w[1].at),
                "{user} is not in order of time"
            );
            for row in rows {
                assert!((1..=10).contains(&row.rating), "{user} rates {}", row.rating);
                let film = &films.list[row.film];
                assert!(
                    films::year_of(row.at) > film.year,
                    "{user} rates {} at {}",
                    film.id,
                    row.at
                );
            }
        }
    }

    #[test]
    fn demo_users_have_the_films_picked_for_them_the_newest_last() {
        let films = Films::read(&shipped(), 42).unwrap();
        let tastes = Tastes::read(&shipped().join("tastes.toml"), &films).unwrap();
        let drawn: HashMap<String, Vec<Row>> = Population::new(&films, &tastes, 42)
            .draw()
            .unwrap()
            .into_iter()
            .collect();
        for user in &tastes.users {
            let rows = &drawn[&user.id];
            assert_eq!(rows.len(), user.ratings, "{}", user.id);
            let newest: Vec<usize> = rows[rows.len() - user.lately.len()..]
                .iter()
                .map(|r| r.film)
                .collect();
            assert_eq!(newest, user.lately, "{}", user.id);
            let rating = |film: &usize| rows.iter().find(|r| r.film == *film).unwrap().rating;
            assert!(user.favourites.iter().all(|f| rating(f) >= 8), "{}", user.id);
            assert!(user.dislikes.iter().all(|f| rating(f) <= 4), "{}", user.id);
        }
    }

    #[test]
    fn a_taste_that_names_something_unknown_is_refused_by_name() {
        let films = Films::read(&shipped(), 42).unwrap();
        let head = "[population]\nviewers = 1\nfirst_day = 2020-01-01\nlast_day = 2026-06-30\n[[user]]\nid = \"u\"\nabout = \"x\"\nratings = 9\n";
        for (line, said) in [
            (
                "favourites = [\"heat-1996\"]",
                "u: favourites: no film has the id \"heat-1996\"",
            ),
            (
                "taste = { genre = [\"noir\"] }",
                "u: taste: no film has the genre \"noir\"",
            ),
            (
                "lately = [\"heat-1995\"]\ndislikes = [\"heat-1995\"]",
                "u: \"heat-1995\" is picked twice",
            ),
            ("favorites = []", "unknown field `favorites`"),
        ] {
            let error = format!(
                "{:#}",
                Tastes::parse(&format!("{head}{line}\n"), &films).unwrap_err()
            );
            assert!(error.contains(said), "{error}");
        }
    }
}
