//! Drawing viewers: who sees what when, and how they rate it. All numbers of the taste model stand here.

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::films::{DAY_SECONDS, Film, Films, year_of};
use super::tastes::{Tastes, User};

/// A rating that is no opinion in particular.
const LEVEL: f64 = 5.9;
/// Rating points per unit of appeal; appeal is the sum of the weights of the traits that fit, at most [`APPEAL_MAX`].
const POINTS_PER_APPEAL: f64 = 0.8;
const APPEAL_MAX: f64 = 3.6;
/// A viewer put off by a trait sees its films this many times as often, and rates them by this appeal.
const AVERSION_CHANCE: f64 = 0.25;
const AVERSION: f64 = -2.4;
/// The share of films seen by fame alone, whatever the taste.
const CHANCE_FINDS: f64 = 0.18;
/// A trait's share of a viewer's films grows with how many films have it, to this power: a director of five films cannot
/// fill an evening a week.
const SIZE_POWER: f64 = 0.4;
/// Inside a trait fame counts less than outside: fans know the rarities. A power of pull.
const FAN_POWER: f64 = 0.75;
/// Viewers who share a circle, that is, traits of one of the demo's own users.
const CIRCLE_CHANCE: f64 = 0.75;
const NOISE: f64 = 1.25;
const LENIENCY_SPREAD: f64 = 0.5;
/// From this rating on a film may start a thread.
const THREAD_FROM: u8 = 8;
const THREAD_CHANCE: f64 = 0.4;
/// Ratings of a drawn viewer: e^N(ln 24, 0.55), within these.
const RATINGS_MEDIAN: f64 = 24.0;
const RATINGS_SPREAD: f64 = 0.55;
const RATINGS_MIN: f64 = 6.0;
const RATINGS_MAX: f64 = 90.0;

/// How much a trait of this kind appeals; also its share among a viewer's traits.
fn weight(kind: &str) -> f64 {
    match kind {
        "series" => 2.4,
        "director" => 2.2,
        "lead" => 1.9,
        "source" => 1.6,
        "country" | "genre" => 1.5,
        _ => 1.2,
    }
}

/// How many times as likely a film is as the next one that shares a trait of this kind with the one just liked.
fn thread(kind: &str) -> f64 {
    match kind {
        "series" => 40.0,
        "director" => 14.0,
        "source" => 8.0,
        "lead" => 7.0,
        _ => 1.0,
    }
}

/// What a drawn viewer may care for, with its share of the draws.
const FACETS: [(&str, f64); 6] = [
    ("director", 0.32),
    ("lead", 0.2),
    ("genre", 0.24),
    ("country", 0.1),
    ("decade", 0.09),
    ("series", 0.05),
];

/// One rating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) film: usize,
    pub(super) rating: u8,
    pub(super) at: i64,
}

/// Weighted traits; negative weights put off.
type Taste = Vec<(usize, f64)>;

#[derive(Debug)]
pub(super) struct Population<'a> {
    films: &'a Films,
    tastes: &'a Tastes,
    seed: u64,
    /// By facet kind: traits that enough films have, and the weight of each being cared for.
    facets: Vec<(f64, Vec<(usize, f64)>)>,
}

impl<'a> Population<'a> {
    pub(super) fn new(films: &'a Films, tastes: &'a Tastes, seed: u64) -> Self {
        let facets = FACETS.iter().map(|&(kind, share)| {
            let few = if kind == "series" { 2 } else { 3 };
            let worth = |t: &usize| films.kind(*t) == kind && films.having[*t].len() >= few;
            let fame = |t: usize| {
                films.having[t]
                    .iter()
                    .map(|&f| films.list[f].pull)
                    .sum::<f64>()
                    .sqrt()
            };
            (
                share,
                (0..films.traits.len())
                    .filter(worth)
                    .map(|t| (t, fame(t)))
                    .collect(),
            )
        });
        Self {
            films,
            tastes,
            seed,
            facets: facets
                .filter(|(_, traits): &(f64, Vec<_>)| !traits.is_empty())
                .collect(),
        }
    }

    /// Every user with their ratings, oldest first: the demo's own users, then the drawn viewers.
    pub(super) fn draw(&self) -> anyhow::Result<Vec<(String, Vec<Row>)>> {
        ensure!(
            !self.facets.is_empty(),
            "the films have too few directors, leads, genres and countries in common"
        );
        let mut all = Vec::with_capacity(self.tastes.users.len() + self.tastes.viewers);
        for user in &self.tastes.users {
            let rows = self.demo_user(user).with_context(|| user.id.clone())?;
            all.push((user.id.clone(), rows));
        }
        for n in 1..=self.tastes.viewers {
            let id = format!("s{n:04}");
            ensure!(
                self.tastes.users.iter().all(|u| u.id != id),
                "{id}: the id is that of a drawn viewer"
            );
            let rows = self.viewer(&id);
            all.push((id, rows));
        }
        Ok(all)
    }

    fn demo_user(&self, user: &User) -> anyhow::Result<Vec<Row>> {
        let mut stream = Stream::named(self.seed, &user.id);
        let likes = user.likes.iter().map(|&t| (t, weight(self.films.kind(t))));
        let taste: Taste = likes.chain(user.avoids.iter().map(|&t| (t, AVERSION))).collect();
        let until = self.tastes.until - stream.below(45) * DAY_SECONDS;
        let days = (20.0 * user.ratings as f64).min((until - self.tastes.from) as f64 / DAY_SECONDS as f64);
        let dates = evenings(
            &mut stream,
            until - days as i64 * DAY_SECONDS,
            until,
            user.ratings,
        );
        let mut viewing = Viewing::new(self.films, &taste, &taste, user.bias);
        // Picked films first: each a place among the dates that may hold it.
        let mut places: Vec<Option<(usize, u8)>> = vec![None; user.ratings];
        let last = user.ratings - user.lately.len();
        for (place, &film) in user.early.iter().enumerate().chain((last..).zip(&user.lately)) {
            places[place] = Some((film, 8 + stream.below(3) as u8));
        }
        let loved = user.favourites.iter().map(|&f| (f, 9, 2));
        for (film, least, steps) in loved.chain(user.dislikes.iter().map(|&f| (f, 2, 3))) {
            let free = |&p: &usize| places[p].is_none() && year_of(dates[p]) > self.films.list[film].year;
            let free: Vec<usize> = (user.early.len()..last).filter(free).collect();
            ensure!(
                !free.is_empty(),
                "no date is left that is late enough for {}",
                self.films.list[film].id
            );
            places[free[stream.below(free.len() as i64) as usize]] =
                Some((film, least + stream.below(steps) as u8));
        }
        places.iter().flatten().for_each(|&(film, _)| viewing.saw(film));
        let rows = dates.iter().zip(places).map(|(&at, place)| match place {
            Some((film, rating)) => {
                let row = Row { film, rating, at };
                viewing.remember(row);
                Some(row)
            }
            None => viewing.next(&mut stream, at, 0.0),
        });
        let rows: Option<Vec<Row>> = rows.collect();
        let rows = rows.context("no film is left to draw")?;
        let early = rows
            .iter()
            .find(|r| year_of(r.at) <= self.films.list[r.film].year);
        ensure!(
            early.is_none(),
            "{:?} is rated before the year after its release",
            early.map(|r| &self.films.list[r.film].id)
        );
        Ok(rows)
    }

    fn viewer(&self, id: &str) -> Vec<Row> {
        let mut stream = Stream::named(self.seed, id);
        let mut early = self.circle(&mut stream);
        let own = if early.is_empty() { 3 } else { 1 } + stream.below(2);
        (0..own).for_each(|_| early.push(self.facet(&mut stream)));
        let mut late = early.clone();
        if stream.unit() < 0.6 {
            let changed = stream.below(late.len() as i64) as usize;
            late[changed] = self.facet(&mut stream);
        }
        if stream.unit() < 0.5 {
            let genres: Vec<usize> = (0..self.films.traits.len())
                .filter(|&t| self.films.kind(t) == "genre")
                .collect();
            let off = genres[stream.below(genres.len() as i64) as usize];
            if early.iter().chain(&late).all(|&(t, _)| t != off) {
                early.push((off, AVERSION));
                late.push((off, AVERSION));
            }
        }
        let leniency = LENIENCY_SPREAD * stream.normal();
        let count = (RATINGS_MEDIAN.ln() + RATINGS_SPREAD * stream.normal())
            .exp()
            .clamp(RATINGS_MIN, RATINGS_MAX);
        let count = count.min(self.films.list.len() as f64 / 2.0) as usize;
        let (from, until) = (self.tastes.from, self.tastes.until);
        let start = from + (stream.unit() * (until - from - 60 * DAY_SECONDS) as f64) as i64;
        let days = (count as f64 * (4.0 + 26.0 * stream.unit())).max(10.0) as i64;
        let dates = evenings(&mut stream, start, (start + days * DAY_SECONDS).min(until), count);
        let mut viewing = Viewing::new(self.films, &early, &late, leniency);
        let places = (count.max(2) - 1) as f64;
        let rows = dates
            .iter()
            .enumerate()
            .map_while(|(n, &at)| viewing.next(&mut stream, at, n as f64 / places));
        rows.collect()
    }

    /// Three to five traits of one of the demo's own users; none for viewers of their own mind.
    fn circle(&self, stream: &mut Stream) -> Taste {
        let circles: Vec<&User> = self.tastes.users.iter().filter(|u| u.likes.len() >= 3).collect();
        if circles.is_empty() || stream.unit() >= CIRCLE_CHANCE {
            return Taste::new();
        }
        let mut traits = circles[stream.below(circles.len() as i64) as usize].likes.clone();
        let keep = (3 + stream.below(3) as usize).min(traits.len());
        while traits.len() > keep {
            traits.swap_remove(stream.below(traits.len() as i64) as usize);
        }
        traits
            .into_iter()
            .map(|t| (t, weight(self.films.kind(t)) * (0.75 + 0.5 * stream.unit())))
            .collect()
    }

    fn facet(&self, stream: &mut Stream) -> (usize, f64) {
        let kind = stream.choose(self.facets.iter().map(|(share, _)| *share));
        let traits = &self.facets[kind].1;
        let (chosen, _) = traits[stream.choose(traits.iter().map(|(_, w)| *w))];
        (
            chosen,
            weight(self.films.kind(chosen)) * (0.75 + 0.5 * stream.unit()),
        )
    }
}

/// One viewer's way through the films.
struct Viewing<'a> {
    films: &'a Films,
    /// Appeal by film, at the beginning and at the end.
    early: Vec<f64>,
    late: Vec<f64>,
    /// Chance of being the next film, likewise; only ratios matter.
    early_pull: Vec<f64>,
    late_pull: Vec<f64>,
    leniency: f64,
    seen: Vec<bool>,
    last: Option<Row>,
}

impl<'a> Viewing<'a> {
    fn new(films: &'a Films, early: &Taste, late: &Taste, leniency: f64) -> Self {
        let appeal = |taste: &Taste| -> Vec<f64> {
            let of = |film: &Film| {
                taste
                    .iter()
                    .filter(|(t, _)| film.traits.contains(t))
                    .map(|(_, w)| w)
                    .sum::<f64>()
            };
            films
                .list
                .iter()
                .map(|film| of(film).clamp(-APPEAL_MAX, APPEAL_MAX))
                .collect()
        };
        let (early_pull, late_pull) = (chances(films, early), chances(films, late));
        let (early, late) = (appeal(early), appeal(late));
        Self {
            films,
            early,
            late,
            early_pull,
            late_pull,
            leniency,
            seen: vec![false; films.list.len()],
            last: None,
        }
    }

    fn saw(&mut self, film: usize) {
        self.seen[film] = true;
    }

    fn remember(&mut self, row: Row) {
        self.saw(row.film);
        self.last = Some(row);
    }

    /// The next film and its rating, `along` of the way (0 to 1) from the early taste to the late one; nothing if no film
    /// is left that may be seen at this date.
    fn next(&mut self, stream: &mut Stream, at: i64, along: f64) -> Option<Row> {
        let year = year_of(at);
        let mut weights: Vec<f64> = (self.films.list.iter().enumerate())
            .map(|(f, film)| {
                let open = !self.seen[f] && film.year < year;
                if open {
                    (1.0 - along) * self.early_pull[f] + along * self.late_pull[f]
                } else {
                    0.0
                }
            })
            .collect();
        let follows = stream.unit() < THREAD_CHANCE;
        if let Some(last) = self.last.filter(|last| follows && last.rating >= THREAD_FROM) {
            for &shared in &self.films.list[last.film].traits {
                let factor = thread(self.films.kind(shared));
                self.films.having[shared]
                    .iter()
                    .for_each(|&f| weights[f] *= factor);
            }
        }
        if weights.iter().all(|w| *w == 0.0) {
            return None;
        }
        let film = stream.choose(weights.iter().copied());
        let appeal = (1.0 - along) * self.early[film] + along * self.late[film];
        let points = LEVEL + self.leniency + self.films.list[film].quality + POINTS_PER_APPEAL * appeal;
        let rating = (points + NOISE * stream.normal()).round().clamp(1.0, 10.0) as u8;
        let row = Row { film, rating, at };
        self.remember(row);
        Some(row)
    }
}

/// The chance of each film for a taste: a mixture of fame alone and, trait by trait, the films that have it.
fn chances(films: &Films, taste: &Taste) -> Vec<f64> {
    let total: f64 = films.list.iter().map(|film| film.pull).sum();
    let mut chances: Vec<f64> = films
        .list
        .iter()
        .map(|film| CHANCE_FINDS * film.pull / total)
        .collect();
    let share = |t: usize, weight: f64| weight * (films.having[t].len() as f64).powf(SIZE_POWER);
    let liked = || taste.iter().filter(|(_, weight)| *weight > 0.0);
    let shares: f64 = liked().map(|&(t, weight)| share(t, weight)).sum();
    for &(t, weight) in liked() {
        let fans = |f: usize| films.list[f].pull.powf(FAN_POWER);
        let total: f64 = films.having[t].iter().map(|&f| fans(f)).sum();
        let mass = (1.0 - CHANCE_FINDS) * share(t, weight) / shares;
        films.having[t]
            .iter()
            .for_each(|&f| chances[f] += mass * fans(f) / total);
    }
    for &(t, _) in taste.iter().filter(|(_, weight)| *weight < 0.0) {
        films.having[t]
            .iter()
            .for_each(|&f| chances[f] *= AVERSION_CHANCE);
    }
    chances
}

/// `count` ascending, distinct times between 18:00 and 24:00 of days between two times.
fn evenings(stream: &mut Stream, from: i64, until: i64, count: usize) -> Vec<i64> {
    let (first, days) = (
        from.div_euclid(DAY_SECONDS),
        ((until - from) / DAY_SECONDS).max(1),
    );
    let mut times: Vec<i64> = (0..count)
        .map(|_| (first + stream.below(days)) * DAY_SECONDS + 18 * 3_600 + stream.below(6 * 3_600))
        .collect();
    times.sort_unstable();
    for n in 1..times.len() {
        times[n] = times[n].max(times[n - 1] + 1);
    }
    times
}

/// A viewer's or film's own random numbers: ChaCha8, whose output is fixed by its definition, turned into numbers here
/// so that no library's choice of method can change the shipped bytes.
#[derive(Debug)]
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub(super) fn named(seed: u64, name: &str) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        // FNV-1a, 64 bits: tells names apart, nothing more is asked of it.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        key[8..16].copy_from_slice(&name.bytes().fold(0xcbf2_9ce4_8422_2325, fold).to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Within 0 and 1, 1 excluded.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to, but without, `bound`.
    fn below(&mut self, bound: i64) -> i64 {
        (self.unit() * bound as f64) as i64
    }

    /// Mean 0, variance 1, by twelve uniform numbers: bounded, and exact on every machine.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// The place of one weight, each as likely as it is heavy. At least one weight must be above 0.
    fn choose(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut chosen = 0;
        for (n, weight) in weights.enumerate().filter(|(_, w)| *w > 0.0) {
            chosen = n;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        chosen
    }
}
