//! All interactions of a data set, compact: 16 bytes each, by user and by time.

/// One act of a user on an item (`u32` index into the catalogue).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Act {
    /// Seconds since the Unix epoch.
    pub at: i64,
    pub item: u32,
    /// Not a number where there is none; see [`Act::rating`].
    pub(crate) rating: f32,
}

impl Act {
    pub fn new(item: u32, at: i64, rating: Option<f32>) -> Self {
        Self {
            at,
            item,
            rating: rating.unwrap_or(f32::NAN),
        }
    }

    pub fn rating(&self) -> Option<f32> {
        (!self.rating.is_nan()).then_some(self.rating)
    }
}

/// Acts by user, each user's oldest first (equal times in the order of the file).
#[derive(Clone, Debug)]
pub struct Interactions {
    /// `ends[u]` is one past the last act of user `u`.
    ends: Vec<usize>,
    acts: Vec<Act>,
    item_counts: Vec<u32>,
    newest_at: i64,
}

impl Interactions {
    pub(crate) fn new(users: usize, items: usize, rows: Vec<(u32, Act)>) -> Self {
        let mut ends = vec![0usize; users];
        let mut item_counts = vec![0u32; items];
        for (user, act) in &rows {
            ends[*user as usize] += 1;
            item_counts[act.item as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        // A counting sort by user keeps the file's order within each user; the sort by time after it is stable.
        let mut acts = vec![Act::new(0, 0, None); rows.len()];
        let mut next: Vec<usize> = (0..users).map(|u| if u == 0 { 0 } else { ends[u - 1] }).collect();
        for (user, act) in rows {
            let slot = &mut next[user as usize];
            acts[*slot] = act;
            *slot += 1;
        }
        let mut begin = 0;
        for &end in &ends {
            let own = &mut acts[begin..end];
            if !own.is_sorted_by_key(|a| a.at) {
                own.sort_by_key(|a| a.at);
            }
            begin = end;
        }
        let newest_at = acts.iter().map(|a| a.at).max().unwrap_or(0);
        Self {
            ends,
            acts,
            item_counts,
            newest_at,
        }
    }

    pub fn users_len(&self) -> usize {
        self.ends.len()
    }

    pub fn len(&self) -> usize {
        self.acts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.acts.is_empty()
    }

    /// One user's acts, oldest first.
    pub fn of(&self, user: u32) -> &[Act] {
        let user = user as usize;
        let begin = if user == 0 { 0 } else { self.ends[user - 1] };
        &self.acts[begin..self.ends[user]]
    }

    /// Every act with its user.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Act)> {
        (0..self.ends.len() as u32).flat_map(|u| self.of(u).iter().map(move |a| (u, a)))
    }

    /// How many acts an item has had.
    pub fn item_count(&self, item: u32) -> u32 {
        self.item_counts[item as usize]
    }

    /// The time of the newest act; 0 when there is none.
    pub fn newest_at(&self) -> i64 {
        self.newest_at
    }
}
