//! Who asks: what the memory of the loaded cluster then finds.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::schedule;

/// How often users come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Asking {
    /// By Zipf over all users of the data set: what real repetition looks like.
    #[default]
    Zipf,
    /// Every request is another user's, none asks twice: each item asks the Oracle.
    Cold,
    /// Sixteen users, each asked once before the counting: the Oracle has nothing to do.
    Warm,
}

/// Users of a warm run.
const WARM_USERS: usize = 16;

/// Hands out users, run after run.
#[derive(Debug)]
pub struct Askers {
    users: Vec<String>,
    asking: Asking,
    exponent: f64,
    /// Of a cold one: who has asked, counted in a drawn order.
    asked: usize,
}

impl Askers {
    /// `exponent` is of Zipf; `seed` says in which order users come.
    pub fn new(mut users: Vec<String>, asking: Asking, exponent: f64, seed: u64) -> Self {
        if asking != Asking::Zipf {
            let order = schedule::order(users.len(), seed);
            users = order.into_iter().map(|n| std::mem::take(&mut users[n])).collect();
        }
        if asking == Asking::Warm {
            users.truncate(WARM_USERS);
        }
        Self {
            users,
            asking,
            exponent,
            asked: 0,
        }
    }

    /// Who is to ask once before anything is counted.
    pub fn before(&self) -> &[String] {
        match self.asking {
            Asking::Warm => &self.users,
            Asking::Zipf | Asking::Cold => &[],
        }
    }

    /// For so many starts.
    ///
    /// # Errors
    /// No user is left who has not asked, of a cold one.
    pub fn take(&mut self, starts: usize, seed: u64) -> Result<Vec<String>> {
        let exponent = match self.asking {
            Asking::Zipf => self.exponent,
            Asking::Warm => 0.0,
            Asking::Cold => {
                let left = &self.users[self.asked..];
                ensure!(
                    starts <= left.len(),
                    "the data set has {} users left who have not asked, and {starts} are to ask: shorter runs, \
                     lower rates, or `--asking zipf --zipf 0`, where some come again",
                    left.len()
                );
                self.asked += starts;
                return Ok(left[..starts].to_vec());
            }
        };
        let numbers = schedule::askers(&self.users, exponent, starts, seed);
        Ok(numbers.into_iter().map(|n| self.users[n].clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn users() -> Vec<String> {
        (0..40).map(|n| format!("u{n}")).collect()
    }

    #[test]
    fn cold_users_ask_once_over_all_runs_and_then_there_are_none() {
        let mut askers = Askers::new(users(), Asking::Cold, 1.1, 7);
        let mut seen: HashSet<String> = askers.take(25, 1).unwrap().into_iter().collect();
        seen.extend(askers.take(15, 2).unwrap());
        assert_eq!(seen.len(), 40);
        let refused = askers.take(1, 3).unwrap_err().to_string();
        assert!(refused.starts_with("the data set has 0 users left"), "{refused}");
        assert!(askers.before().is_empty());
    }

    #[test]
    fn warm_users_are_few_and_all_were_asked_before() {
        let mut askers = Askers::new(users(), Asking::Warm, 1.1, 7);
        let before: HashSet<String> = askers.before().iter().cloned().collect();
        assert_eq!(before.len(), 16);
        assert!(
            askers
                .take(500, 1)
                .unwrap()
                .iter()
                .all(|user| before.contains(user))
        );
    }

    #[test]
    fn by_zipf_the_same_seed_draws_the_same_users_and_some_come_often() {
        let drawn = |seed| {
            Askers::new(users(), Asking::Zipf, 1.1, 7)
                .take(200, seed)
                .unwrap()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let one = &drawn(1);
        let most = users()
            .iter()
            .map(|u| one.iter().filter(|o| *o == u).count())
            .max();
        assert!(most > Some(20));
    }
}
